"""Counter-based randomness: every draw has its own generator, named by what it is for.

A draw depends on (seed, purpose, counters) alone, never on what was drawn before it, and never on a global
generator. So a resumed run, a run split among processes, and a run that evaluates more often all see the same noise.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral

import numpy as np
import torch
from torch import nn

from eigencode.errors import OptionError

RANDOM_LAYERS = (
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
    nn.RNNBase,
    nn.MultiheadAttention,
)
"""Torch's layers that draw, or may, from its global generator in training."""


_GLOBAL_GENERATOR = threading.RLock()
"""Held while torch's global generator stands elsewhere than where its other users left it."""


def generator(seed: int, purpose: str, *counters: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh torch generator for one purpose at one place of the run.

    Examples
    --------
    >>> a, b = (torch.rand(2, generator=generator(0, "shuffle", epoch)) for epoch in (1, 2))
    >>> bool((a == b).any())
    False
    >>> bool((a == torch.rand(2, generator=generator(0, "shuffle", 1))).all())
    True
    """
    return torch.Generator(device).manual_seed(_place(seed, purpose, *counters))


def _place(seed: int, purpose: str, *counters: int) -> int:
    """The number that names one place of a run."""
    words = [seed, int.from_bytes(purpose.encode(), "little"), *counters]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def has_random_layers(module: nn.Module) -> bool:
    """Whether a pass in training mode is random by layers of torch's own, as dropout is.

    Examples
    --------
    >>> has_random_layers(nn.Sequential(nn.Dropout(0.1))), has_random_layers(nn.Sequential(nn.Tanh()))
    (True, False)
    """
    return any(isinstance(layer, RANDOM_LAYERS) for layer in module.modules())


def may_draw_globally(module: nn.Module) -> bool:
    """Whether a pass may read torch's global generator: by a random layer, or by code that is not ours nor torch's."""
    foreign = any(type(part).__module__.partition(".")[0] not in ("torch", "eigencode") for part in module.modules())
    return foreign or has_random_layers(module)


@contextmanager
def own_global_generator(device: torch.device, seed: int, purpose: str, *counters: int) -> Iterator[None]:
    """Let torch's global generators stand at one place of the run, and put them back where they were.

    Dropout takes no generator as an argument; this gives it noise of its own all the same. The generator is one for
    the whole process, so threads that fit such networks take turns.
    """
    accelerators = [] if device.type == "cpu" else [device]
    kind = "cuda" if device.type == "cpu" else device.type
    with _GLOBAL_GENERATOR, torch.random.fork_rng(accelerators, device_type=kind):
        place = _place(seed, purpose, *counters)
        torch.default_generator.manual_seed(place)
        for accelerator in accelerators:
            torch.get_device_module(accelerator).manual_seed(place)
        yield


def resolve_seed(random_state: object) -> int:
    """The integer seed of a run: the one given, one drawn from a NumPy generator, or fresh entropy."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, Integral) and not isinstance(random_state, bool) and int(random_state) >= 0:
        return int(random_state)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**32))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**32, dtype=np.uint32))
    raise OptionError(
        "The 'random_state' must be None, a non-negative int or a NumPy random generator",
        got=f"{random_state!r} instead",
    )
