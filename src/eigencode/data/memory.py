"""Checks that work fits into memory, before anything is allocated for it."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

from eigencode.errors import DataError, NotEnoughMemoryError

SMALL_WORK = 2**20
"""Work that needs fewer bytes is not checked: reading what the system has left takes .1 ms."""

SMALL_FILE = 2**20
"""Bytes of a small file. What it may decompress to is limited even if there is more memory."""

DECOMPRESSED_AT_MOST = 80e6
"""Bytes of numbers that a small file may decompress to."""

CONTAINER = Path("/sys/fs/cgroup")
"""Linux's files about groups of processes that share a limit of memory: containers, jobs, services."""

OWN_GROUPS = Path("/proc/self/cgroup")
"""The groups of this process: a line for each kind of group."""


SHORTAGES = ("can't allocate memory", "not enough memory", "out of memory")
"""Texts in torch's errors for a lack of memory: on a processor, there on Windows, on a GPU."""


SHELLS = {"RLIMIT_AS": "ulimit -v", **({"RLIMIT_DATA": "ulimit -d"} if sys.platform == "linux" else {})}
"""Limits of a process, and the commands of a shell that set them; only Linux says what is used of the second."""

ROOM_OF_LIBRARIES = {"RLIMIT_AS": 2.4e9, "RLIMIT_DATA": 1.5e9}
"""Bytes that PyTorch, pyarrow and others reserve when they are imported, by the limit."""


@dataclass(frozen=True)
class _Limits:
    """The names of the files about a group's memory, and of cached pages of files in its statistics."""

    limit: str
    used: str
    cached: tuple[str, str]


LIMITS = {
    "": _Limits("memory.max", "memory.current", ("inactive_file", "active_file")),
    "memory": _Limits("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
}
"""By the name of what controls the group: the second version of these files has one for all, the first one each."""


def available_memory() -> float:
    """Bytes that this process can still allocate, by the machine, its container or job, and its own limit."""
    return max(min(psutil.virtual_memory().available, _left_in_container(), *map(_left_under, SHELLS)), 0.0)


def shortage(error: BaseException) -> NotEnoughMemoryError | None:
    """The error of this package for a lack of memory, of which torch has no class on a processor; None for others."""
    is_torchs = isinstance(error, RuntimeError) and any(text in str(error) for text in SHORTAGES)
    if isinstance(error, NotEnoughMemoryError) or not (isinstance(error, MemoryError) or is_torchs):
        return None
    return NotEnoughMemoryError("This needs more memory than there is", hint="Use fewer rows or columns")


@contextmanager
def told_of_shortage() -> Iterator[None]:
    """Raise `NotEnoughMemoryError` for a lack of memory in the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if (told := shortage(error)) is not None:
            raise told from error
        raise


def require_memory(n_bytes: float, purpose: str, hint: str) -> None:
    """Raise `DataError` if work needs more bytes than are available.

    ``purpose`` is what needs them, as the beginning of a sentence; ``hint`` is what to try instead.
    """
    if n_bytes >= SMALL_WORK and n_bytes > (available := available_memory()):
        raise DataError(f"{purpose} needs about {_size(n_bytes)}", got=f"{_size(available)} of memory", hint=hint)


def require_reserve(needed: Mapping[str, float], purpose: str, hint: str) -> None:
    """Raise `DataError` if limits of the process leave less than a library reserves, by the names of the limits."""
    for name, shell in SHELLS.items():
        if needed[name] > (left := _left_under(name)):
            what = f"{purpose} needs addresses for {_size(needed[name])}, of which it uses few"
            raise DataError(what, got=f"{_size(left)} left by the limit of {shell}", hint=hint)


def require_room_for_libraries() -> None:
    """Raise `DataError` under a limit of the process with which the libraries end it when imported, or never return."""
    for name, shell in SHELLS.items() if sys.platform == "linux" else ():
        if (limit := _limit(name)) < ROOM_OF_LIBRARIES[name]:
            what = f"PyTorch and the other libraries need {_size(ROOM_OF_LIBRARIES[name])} before any rows"
            raise DataError(what, got=f"a limit of {_size(limit)} by {shell}", hint="Raise the limit")


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


def _left_under(name: str) -> float:
    """Bytes that a limit of the process leaves, infinite if there is none."""
    if math.isinf(limit := _limit(name)):
        return limit
    used = psutil.Process().memory_info()
    return limit - (used.vms if name == "RLIMIT_AS" else used.data)


def _limit(name: str) -> float:
    """A limit of the process in bytes, infinite if there is none."""
    try:
        import resource
    except ImportError:
        return math.inf
    limit = resource.getrlimit(getattr(resource, name))[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _left_in_container() -> float:
    """Bytes left under the limits of the container, the job or the service that the process is in; infinite if none."""
    return min((_left_in(folder, LIMITS[kind]) for kind, folder in _groups()), default=math.inf)


def _groups() -> Iterator[tuple[str, Path]]:
    """The groups of this process, each of which is within the one after it, and what controls them.

    In a container the group's name may be that outside; then only the last one is there, which is the container.
    """
    with suppress(OSError, ValueError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, kinds, name = line.split(":", 2)
            for kind in {"", "memory"}.intersection(kinds.split(",")):
                path = PurePosixPath(name.lstrip("/"))
                yield from ((kind, CONTAINER / kind / each) for each in (path, *path.parents))


def _left_in(folder: Path, names: _Limits) -> float:
    """Bytes left under a group's limit. The system frees cached pages of files on demand, but counts them as used."""
    with suppress(OSError, ValueError):
        limit = int((folder / names.limit).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cached = sum(int(statistics.get(name, 0)) for name in names.cached)
        return limit - int((folder / names.used).read_text()) + cached
    return math.inf


def _size(n_bytes: float) -> str:
    """A number of bytes with its unit."""
    unit, name = (1e9, "GB") if n_bytes >= 1e9 else (1e6, "MB") if n_bytes >= 1e6 else (1e3, "kB")
    return f"{n_bytes / unit:.1f} {name}"
