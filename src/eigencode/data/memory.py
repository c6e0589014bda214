"""Memory: work that would not fit is refused before anything is allocated for it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from eigencode.errors import DataError

SMALL_FILE = 2**20
"""Bytes of a file that is small: what it unpacks to is bounded, however much memory there is."""

UNPACKED_AT_MOST = 80e6
"""Bytes of numbers that a small file may unpack to."""

CONTAINER = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""


def available_memory() -> float:
    """Bytes that this process can still allocate: of the machine, of its container, and under its own limit."""
    return max(min(psutil.virtual_memory().available, _left_in_container(), _left_under_limit()), 0.0)


def require_memory(n_bytes: float, purpose: str, hint: str) -> None:
    """Refuse work that would not fit into the machine's memory, before anything is allocated for it.

    Parameters
    ----------
    n_bytes : float
        An estimate of what is needed.
    purpose : str
        Whose need it is, as the beginning of a sentence.
    hint : str
        What to try instead.
    """
    available = available_memory()
    if n_bytes > available:
        raise DataError(f"{purpose} needs about {_size(n_bytes)}", got=f"{_size(available)} of memory", hint=hint)


def require_room(n_bytes: float, n_packed: int, name: str, at_most: float = UNPACKED_AT_MOST) -> None:
    """Refuse to unpack a file that would not fit into memory, or a small one that grows out of all proportion.

    Parameters
    ----------
    n_bytes : float
        An estimate of what the file unpacks to.
    n_packed : int
        Bytes of the file.
    name : str
        What to call the file.
    at_most : float
        Bytes that a small file may unpack to.
    """
    if n_packed < SMALL_FILE and n_bytes > at_most:
        raise DataError(
            f"{name} is too small a file for what it unpacks to",
            got=f"{_size(n_packed)} that become {_size(n_bytes)} or more",
            hint="If the file is as it should be, unpack it with another program, and give the result",
        )
    require_memory(n_bytes, f"Reading {name}", "Read fewer columns, or a part of the rows")


def _left_under_limit() -> float:
    """Bytes of address space left under the limit that a shell's ulimit sets, where the system has one."""
    try:
        import resource
    except ImportError:
        return float("inf")
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    return limit - psutil.Process().memory_info().vms


def _left_in_container() -> float:
    """Bytes left of what the container may use, where there is a container with a limit."""
    with suppress(OSError, ValueError):
        limit = int((CONTAINER / "memory.max").read_text())
        return limit - int((CONTAINER / "memory.current").read_text()) + _reclaimable()
    return float("inf")


def _reclaimable() -> int:
    """Bytes of files' pages that the container's use counts, and that the system gives up when asked for memory."""
    facts = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
    return int(facts.get("inactive_file", 0)) + int(facts.get("active_file", 0))


def _size(n_bytes: float) -> str:
    """A number of bytes in words."""
    unit, name = next(
        (unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if n_bytes >= unit or unit == 1e3
    )
    return f"{n_bytes / unit:.1f} {name}"
