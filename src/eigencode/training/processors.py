"""The processors that this process may use: those of its affinity, and the quota of its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def processors(root: Path = Path("/")) -> int:
    """How many processors this process may keep busy, at least 1; nothing is measured.

    ``root`` is the folder of the files of Linux's kernel, ``proc`` and ``sys``.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(int(min([allowed, *_quotas(root)])), 1)


def _quotas(root: Path) -> Iterator[float]:
    """The processors that each control group of this process may use, its own and those above it."""
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        folders = [PurePosixPath(group), *PurePosixPath(group).parents]
        for folder in (str(one).lstrip("/") for one in folders):
            if not controllers:  # version 2
                yield from _quota(*_text(mounts / folder / "cpu.max").split())
            elif "cpu" in controllers.split(","):
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                yield from _quota(*" ".join(_text(mounts / "cpu" / folder / name) for name in names).split())


def _quota(*numbers: str) -> Iterator[float]:
    """The quota of two texts, microseconds in each period; nothing if there is none."""
    if len(numbers) == 2 and numbers[0].isdigit() and int(numbers[1]) > 0:
        yield int(numbers[0]) / int(numbers[1])


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
