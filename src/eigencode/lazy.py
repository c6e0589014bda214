"""Lazy imports: packages whose names are imported at their first use, and torch itself.

torch takes seconds to import. A module that must be importable without it imports torch from here, and uses classes
that need torch (parts, models) as attributes of the packages ``eigencode.parts``, ``eigencode.model`` and so on:
``parts.TopK``.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

__all__ = ["let_waiting_threads_sleep", "page", "torch"]

SPINS = 10_000
"""Turns of an empty loop after which a thread that waits for others sleeps. GNU's OpenMP has 300,000, about a
millisecond: fast where each thread has a processor, and many times slower where other programs use one of them. With
this number both are fast (``benchmarks/threads.py``)."""


def let_waiting_threads_sleep() -> None:
    """Set how long threads of GNU's OpenMP, which torch has on Linux, wait busily for each other.

    It holds in this process and in those that it starts. It is read when torch is imported, so nothing is set after
    that, nor where the user has chosen how threads wait.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def page(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The ``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports its names at their first use.

    The names and their modules are read from the stub ``__init__.pyi`` of the package, which type checkers read too.
    """
    found = dict(_names(package))

    def get(name: str) -> Any:
        if name not in found:
            # Python says which of the names is near, if the error has the module.
            what = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(what, name=name, obj=sys.modules[package])
        value = getattr(import_module(found[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    names = sorted(found)
    return get, lambda: names, names


def file_of(package: str, name: str) -> Path:
    """The file of the module that defines one of a package's names; the module is not imported."""
    spec = find_spec(dict(_names(package))[name])
    return Path(str(spec and spec.origin))


def _names(package: str) -> Iterator[tuple[str, str]]:
    """The names of a package's stub, each with its module; ``import *`` stands for all names of another stub."""
    stub = Path(str(sys.modules[package].__file__)).with_suffix(".pyi")
    for line in ast.parse(stub.read_text()).body:
        if isinstance(line, ast.ImportFrom) and line.module:
            for alias in line.names:
                star = alias.name == "*"
                yield from (_names_of(line.module) if star else [(alias.name, line.module)])


def _names_of(package: str) -> Iterator[tuple[str, str]]:
    import_module(package)
    yield from _names(package)


class _Torch:
    """The module torch, imported at its first use."""

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)


if TYPE_CHECKING:
    import torch as torch
else:
    torch = _Torch()
