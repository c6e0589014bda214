"""Checks that work fits into memory, before anything is allocated for it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import psutil

from eigencode.errors import DataError

SMALL_WORK = 2**20
"""Work that needs fewer bytes is not checked: reading what the system has left takes .1 ms."""

SMALL_FILE = 2**20
"""Bytes of a small file. What it may decompress to is limited even if there is more memory."""

DECOMPRESSED_AT_MOST = 80e6
"""Bytes of numbers that a small file may decompress to."""

CONTAINER = Path("/sys/fs/cgroup")
"""Linux's files about the memory of a container."""


def available_memory() -> float:
    """Bytes that this process can still allocate, by the machine, by its container and by its own limit."""
    return max(min(psutil.virtual_memory().available, _left_in_container(), _left_under_limit()), 0.0)


def require_memory(n_bytes: float, purpose: str, hint: str) -> None:
    """Raise `DataError` if work needs more bytes than are available.

    ``purpose`` is what needs them, as the beginning of a sentence; ``hint`` is what to try instead.
    """
    if n_bytes >= SMALL_WORK and n_bytes > (available := available_memory()):
        raise DataError(f"{purpose} needs about {_size(n_bytes)}", got=f"{_size(available)} of memory", hint=hint)


def require_disk(n_bytes: float, path: str | os.PathLike[str], purpose: str, hint: str) -> None:
    """Raise `DataError` if a file of so many bytes does not fit on the disk of its folder; as `require_memory`."""
    free = shutil.disk_usage(os.path.dirname(os.path.realpath(path))).free
    if n_bytes > free:
        raise DataError(f"{purpose} needs about {_size(n_bytes)}", got=f"{_size(free)} on the disk", hint=hint)


def require_memory_to_decompress(
    n_bytes: float, n_compressed: int, name: str, at_most: float = DECOMPRESSED_AT_MOST
) -> None:
    """Raise `DataError` if a file would not fit into memory, or if a small file would become suspiciously large.

    ``n_bytes`` is an estimate of the bytes that a file of ``n_compressed`` bytes decompresses to; a small one may
    decompress to ``at_most``.
    """
    if n_compressed < SMALL_FILE and n_bytes > at_most:
        raise DataError(
            f"{name} is too small a file for what it decompresses to",
            got=f"{_size(n_compressed)} that become {_size(n_bytes)} or more",
            hint="If the file is correct, decompress it with another program, and read the result",
        )
    require_memory(n_bytes, f"Reading {name}", "Read fewer columns, or a part of the rows")


def _left_under_limit() -> float:
    """Bytes of address space left under the limit that a shell's ulimit sets, infinite if there is none."""
    try:
        import resource
    except ImportError:
        return float("inf")
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    return limit - psutil.Process().memory_info().vms


def _left_in_container() -> float:
    """Bytes left under the limit of the container, infinite if there is none."""
    with suppress(OSError, ValueError):
        limit = int((CONTAINER / "memory.max").read_text())
        return limit - int((CONTAINER / "memory.current").read_text()) + _reclaimable()
    return float("inf")


def _reclaimable() -> int:
    """Bytes of cached file pages, which count as used by the container, but which the system frees on demand."""
    statistics = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
    return int(statistics.get("inactive_file", 0)) + int(statistics.get("active_file", 0))


def _size(n_bytes: float) -> str:
    """A number of bytes with its unit."""
    unit, name = (1e9, "GB") if n_bytes >= 1e9 else (1e6, "MB") if n_bytes >= 1e6 else (1e3, "kB")
    return f"{n_bytes / unit:.1f} {name}"
