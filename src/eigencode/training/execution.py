"""Where and how the arithmetic runs: device, precision and threads, by a written rule.

No clock is read: the rule looks at the processor's units and the work of one step, so the same machine always
chooses the same. ``benchmarks/execution.py`` measures what the thresholds rest on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated

import torch

from eigencode.domains import Interval, OneOf
from eigencode.errors import OptionError

THREADS_FROM = 2e7
"""Multiply-adds a step from which a second thread pays for its synchronisation."""

BFLOAT16_FROM = 5e7
"""Multiply-adds a step from which bfloat16 matrix units outrun the casts they need."""


MOST_THREADS = 4096
"""More than any machine has."""


@dataclass(frozen=True)
class Execution:
    """The choices for one run.

    Attributes
    ----------
    device : str
        A torch device.
    precision : str
        'float32', 'bfloat16' (networks only; weights and densities stay in float32) or 'float64'.
    n_threads : int
        Threads of one operation on the processor.
    """

    device: str
    precision: Annotated[str, OneOf(["float32", "bfloat16", "float64"])]
    n_threads: Annotated[int, Interval(1, MOST_THREADS)]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights and of the rows."""
        return weights_dtype(self.precision)

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the networks run in training."""
        if self.precision == "bfloat16":
            return torch.autocast(torch.device(self.device).type, torch.bfloat16)
        return nullcontext()

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Set the number of threads, and put the caller's number back."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.n_threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def weights_dtype(precision: str) -> torch.dtype:
    """Type of weights and rows under a precision: bfloat16 is for products inside the networks only."""
    return torch.float64 if precision == "float64" else torch.float32


def choose_execution(device: str, precision: str, work: float) -> Execution:
    """Apply the rule.

    Parameters
    ----------
    device, precision : str
        What was asked for, 'auto' among it.
    work : float
        Multiply-adds of one step's forward pass: rows a batch times weights.
    """
    device = resolve_device(device)
    kind = torch.device(device).type
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16_units(kind) and work >= BFLOAT16_FROM else "float32"
    return Execution(device, precision, threads_for(work))


def threads_for(work: float) -> int:
    """Threads of one operation in steps of so many multiply-adds: all or one."""
    return torch.get_num_threads() if work >= THREADS_FROM else 1


def resolve_device(device: str) -> str:
    """The torch device meant, checked to be usable."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros((), device=device).item()  # the device 'meta' makes tensors, but holds no numbers
    except (RuntimeError, AssertionError) as error:
        raise OptionError(
            f"The device {device!r} cannot be used", got=f"the error {error}", hint="Try 'cpu', or 'auto'"
        ) from error
    return device


def has_bfloat16_units(kind: str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    units = torch.cpu.get_capabilities()
    return bool(units.get("amx_bf16") or units.get("avx512_bf16"))
