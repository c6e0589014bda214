"""Lazy imports: pages whose names are imported when they are first asked for, and torch itself.

torch takes seconds to import. A module that can be imported without it takes torch from here, and what needs torch to
be defined (parts, models) from the pages ``eigencode.parts``, ``eigencode.model`` and so on, as ``parts.TopK``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

__all__ = ["page", "torch"]


def page(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The ``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports its names when they are asked for.

    The names and their modules are those of the ``__init__.pyi`` beside the package's ``__init__.py``, which type
    checkers read too.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    """
    found = dict(_names(package))

    def get(name: str) -> Any:
        if name not in found:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(found[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    names = sorted(found)
    return get, lambda: names, names


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
    """The module torch, imported when something of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)


if TYPE_CHECKING:
    import torch as torch
else:
    torch = _Torch()
