"""The user's own parts and estimators, from the modules that ``--parts`` names.

The modules are imported before the command line is parsed, since their estimators are kinds with their own flags.
Without ``--parts``, nothing is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from cyclopts import Parameter

from eigencode import progress
from eigencode.cli.flags import FILES, KINDS, set_own_kinds
from eigencode.errors import EigencodeError, OptionError
from eigencode.lazy import torch
from eigencode.options import AutoencoderOptions

FLAG = "--parts"

NAMES = "Name a file that ends in .py, or a module in this folder or installed"
"""The hint on what the flag takes."""

Parts = Annotated[
    tuple[str, ...],
    Parameter(
        name=FLAG,
        help="Python file, or module, with parts and estimators of your own: a class MineAutoencoder is --kind mine. "
        "It is run, so name only what you trust. Give the flag once for each.",
        negative_iterable=(),
        show_default=False,
        group=FILES,
    ),
]


@dataclass
class OwnParts:
    """The modules of the current command, by their names as typed, and the folders added to ``sys.path``."""

    modules: dict[str, ModuleType] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)

    def take(self, tokens: Sequence[str]) -> None:
        """Import the modules that a command line names, and add their estimators to the kinds."""
        is_quiet = not {"--quiet", "-q"}.isdisjoint(tokens)
        for name in _named(tokens):
            with nullcontext() if is_quiet else progress.stage(f"importing {name}"):
                self.modules[name] = self._imported(name)
            if not list(_members(self.modules[name])):
                hint = "Define a subclass of a part or of an autoencoder in it"
                raise OptionError(f"There are no parts and no estimators in {name!r}", hint=hint)
        if self.modules:
            set_own_kinds(self._kinds())

    def forget(self) -> None:
        """Remove the modules, their folders and their kinds."""
        for folder in self.folders:
            if folder in sys.path:  # the module may have changed it
                sys.path.remove(folder)
        self.folders.clear()
        if self.modules:
            self.modules.clear()
            set_own_kinds({})

    def _imported(self, name: str) -> ModuleType:
        """Import a module by its file or its name; it can import modules in its folder, as if Python ran the file."""
        is_file = name.endswith(".py") or "/" in name or "\\" in name
        if not is_file and (not name or name.startswith(".")):
            raise OptionError(f"{FLAG} takes a Python file or a module", got=repr(name), hint=NAMES)
        if is_file and not Path(name).is_file():
            raise OptionError(f"{FLAG} names a file that does not exist", got=repr(name))
        self.folders.append(str(Path(name).resolve().parent if is_file else Path.cwd()))
        sys.path.insert(0, self.folders[-1])
        try:
            return _run_file(Path(name), len(self.modules)) if is_file else importlib.import_module(name)
        except (Exception, SystemExit) as error:  # the user's code can raise anything
            is_lost = isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]
            hint = NAMES if is_lost else None
            raise OptionError(f"Cannot import {name!r} for {FLAG}", got=_described(error), hint=hint) from error

    @property
    def known(self) -> list[Any]:
        """Classes of parts and estimators, and torch modules, for the argument ``parts`` of `load`."""
        return [member for module in self.modules.values() for member in _members(module)]

    @property
    def typed(self) -> list[str]:
        """The flags that name the same modules."""
        return [text for name in self.modules for text in (FLAG, name)]

    def failure(self, error: Exception) -> EigencodeError | None:
        """The error for one that code of these modules raised, with its line; None for other errors."""
        files = {module.__file__: name for name, module in self.modules.items()}
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.filename in files:
                line = f"{files[frame.filename]}, line {frame.lineno}, in {frame.name}"
                return OptionError(f"A part or estimator of your own failed: {line}", got=_described(error))
        return None

    def _kinds(self) -> dict[str, type]:
        """The modules' autoencoders, by the names of their kinds."""
        found: dict[str, type] = {}
        for member in self.known:
            if isinstance(member, type) and issubclass(member, AutoencoderOptions):
                kind = (member.__name__.removesuffix("Autoencoder") or member.__name__).lower()
                if kind in KINDS:
                    got = f"the class {member.__name__} in {FLAG}"
                    raise OptionError(f"--kind {kind} is a kind of eigencode", got=got, hint="Rename the class")
                found[kind] = member
        return found


OWN = OwnParts()


def _named(tokens: Sequence[str]) -> Iterator[str]:
    """The values of the flag."""
    for token, following in pairwise([*tokens, "-"]):  # a last flag has no value
        flag, equals, value = token.partition("=")
        name = value if equals else following
        if flag == FLAG and not name.startswith("-"):
            yield name


def _run_file(path: Path, number: int) -> ModuleType:
    """Import a file as a module with a unique name, by which dataclasses look it up."""
    name = f"eigencode_parts_{number}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _members(module: ModuleType) -> Iterator[Any]:
    """The classes of parts and estimators that are not of a library, and the torch modules."""
    from sklearn.base import BaseEstimator

    for member in vars(module).values():
        is_kind = isinstance(member, type) and issubclass(member, torch.nn.Module | BaseEstimator)
        is_own = is_kind and member.__module__.partition(".")[0] not in ("torch", "eigencode", "sklearn")
        if is_own or isinstance(member, torch.nn.Module):
            yield member


def _described(error: BaseException) -> str:
    """An error in one line, with the line number of a syntax error."""
    line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    first = (error.msg if isinstance(error, SyntaxError) else str(error)).strip().partition("\n")[0]
    return f"the error {type(error).__name__}: {first}{line}"
