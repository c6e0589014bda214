"""Counter-based random numbers: each draw has its own generator, seeded by (seed, purpose, counters).

A draw does not depend on earlier draws, nor on a global generator. So a resumed run, a run split among processes, and a
run that evaluates more often all have the same noise.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from eigencode import processes
from eigencode.errors import OptionError, is_int

RANDOM_LAYERS = (
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
    nn.RNNBase,
    nn.MultiheadAttention,
)
"""Torch's layers that may draw from its global generator in training."""


_GLOBAL_GENERATOR = threading.RLock()
"""Held while the state of torch's global generator is replaced."""


def generator(seed: int, purpose: str, *counters: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A new torch generator for one purpose and counters.

    Examples
    --------
    >>> a, b = (torch.rand(2, generator=generator(0, "shuffle", epoch)) for epoch in (1, 2))
    >>> bool((a == b).any())
    False
    >>> bool((a == torch.rand(2, generator=generator(0, "shuffle", 1))).all())
    True
    """
    return torch.Generator(device).manual_seed(_derived_seed(seed, purpose, *counters))


def _derived_seed(seed: int, purpose: str, *counters: int) -> int:
    """The seed for one purpose and counters."""
    entropy = [seed, int.from_bytes(purpose.encode(), "little"), *counters]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def has_random_layers(module: nn.Module) -> bool:
    """Whether a module has random layers of torch, such as dropout.

    Examples
    --------
    >>> (
    ...     has_random_layers(nn.Sequential(nn.Dropout(0.1))),
    ...     has_random_layers(nn.Sequential(nn.Tanh())),
    ... )
    (True, False)
    """
    return any(isinstance(layer, RANDOM_LAYERS) for layer in module.modules())


def may_draw_globally(module: nn.Module) -> bool:
    """Whether a pass may use torch's global generator: by a random layer, or by code of others.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> handle = layer.register_forward_hook(print)
    >>> may_draw_globally(nn.Linear(2, 2)), may_draw_globally(layer)
    (False, True)
    """
    return has_random_layers(module) or any(map(_runs_code_of_others, module.modules()))


def _runs_code_of_others(part: nn.Module) -> bool:
    """Whether the class of a module, a hook, or a function among its attributes is neither torch's nor of this package.

    Scripted and traced modules are code of others, too: what is in them cannot be seen.
    """
    functions = [value for value in attributes(part) if callable(value) and not isinstance(value, nn.Module | type)]
    names = [str(getattr(each, "__module__", None)) for each in (type(part), *functions)]
    return not all(name.startswith(("torch.nn.", "eigencode.")) for name in names)


def attributes(part: nn.Module) -> list[Any]:
    """All that a module has: tensors, modules, hooks, numbers and other attributes."""
    return [item for value in vars(part).values() for item in (value.values() if isinstance(value, dict) else [value])]


@contextmanager
def own_global_generator(device: torch.device, seed: int, purpose: str, *counters: int) -> Iterator[None]:
    """Seed torch's global generators for one purpose and counters, and restore their states at the end.

    It is for layers that take no generator as an argument, such as dropout. The global generator belongs to the whole
    process, so threads that fit such networks wait for each other.
    """
    accelerators = [] if device.type == "cpu" else [device]
    kind = "cuda" if device.type == "cpu" else device.type
    with _GLOBAL_GENERATOR, torch.random.fork_rng(accelerators, device_type=kind):
        derived = _derived_seed(seed, purpose, *counters)
        torch.default_generator.manual_seed(derived)
        for accelerator in accelerators:
            torch.get_device_module(accelerator).manual_seed(derived)
        yield


def seed_of_fit(random_state: object) -> int:
    """The seed of a fit: of several processes that train one model the first one's."""
    return processes.agreed(resolve_seed(random_state))


def resolve_seed(random_state: object) -> int:
    """The integer seed of a run: the given one, one drawn from a NumPy generator, or one from the operating system."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if is_int(random_state) and int(random_state) >= 0:
        return int(random_state)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**32))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**32, dtype=np.uint32))
    raise OptionError(
        "The 'random_state' must be None, a non-negative int or a NumPy random generator",
        got=f"{random_state!r} instead",
    )
