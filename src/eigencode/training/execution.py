"""Execution: device, precision and threads, chosen by a fixed rule.

The rule uses the processor's features and the work of one step, and no measured time, so the choice is always the same
on the same machine. ``benchmarks/execution.py`` measures the thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Annotated

import torch

from eigencode.domains import Interval, OneOf
from eigencode.errors import OptionError
from eigencode.training.processors import processors

THREADS_FROM = 2e7
"""Multiply-adds per step from which more threads are faster, despite their synchronisation."""

BFLOAT16_FROM = 2.5e7
"""Multiply-adds per step from which bfloat16 matrix units are faster, despite the casts."""


MOST_THREADS = 4096
"""Largest number of threads in a file."""


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

    def of_loaded(self) -> Execution:
        """The same with no more threads than this machine has processors: more would only wait for each other."""
        return replace(self, n_threads=min(self.n_threads, processors()))

    def autocast(self) -> AbstractContextManager[object]:
        """The context of the networks in training."""
        if self.precision == "bfloat16":
            return torch.autocast(torch.device(self.device).type, torch.bfloat16)
        return nullcontext()

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Set the number of threads, and restore the caller's at the end."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.n_threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def weights_dtype(precision: str) -> torch.dtype:
    """Type of weights and rows for a precision: bfloat16 is used only for products in the networks."""
    return torch.float64 if precision == "float64" else torch.float32


def choose_execution(device: str, precision: str, work: float) -> Execution:
    """Apply the rule to the options, which may be 'auto', and to the multiply-adds of one step's forward pass."""
    device = resolve_device(device)
    kind = torch.device(device).type
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16_units(kind) and work >= BFLOAT16_FROM else "float32"
    return Execution(device, precision, threads_for(work))


def threads_for(work: float) -> int:
    """Threads of one operation for the multiply-adds of a step: one, or torch's, as far as there are processors."""
    return min(torch.get_num_threads(), processors()) if work >= THREADS_FROM else 1


@contextmanager
def own_share() -> Iterator[None]:
    """No more threads than processors, for work that a rule chooses no threads for; the caller's number at the end."""
    before = torch.get_num_threads()
    share = 1 if before == 1 else processors()  # which reads files
    if before <= share:
        yield
        return
    torch.set_num_threads(share)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resolve_device(device: str) -> str:
    """The torch device for the option; an error if it cannot be used."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros((), device=device).item()  # item() fails on the device 'meta', which has no numbers
    except (RuntimeError, AssertionError) as error:
        if "device type at start of device string" in str(error):  # and a list of all that torch has names for
            raise OptionError(
                f"There is no device {device!r}", hint="Try 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'"
            ) from error
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
