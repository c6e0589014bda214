"""Parts and estimators of the user's own: the modules that ``--parts`` names, imported because the user says so.

They are imported before the command line is read, since their estimators are kinds with flags of their own. Without
``--parts`` nothing is imported here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from cyclopts import Parameter

from eigencode.cli.flags import FILES, KINDS, set_own_kinds
from eigencode.errors import EigencodeError, OptionError

FLAG = "--parts"

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
    """What the modules of the present command have, by the words that name them."""

    modules: dict[str, ModuleType] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)

    def take(self, tokens: Sequence[str]) -> None:
        """Import the modules that a command line names, and let their estimators be kinds."""
        for word in _named(tokens):
            self.modules[word] = self._imported(word)
            if not list(_members(self.modules[word])):
                hint = "Define a subclass of a part or of an autoencoder in it"
                raise OptionError(f"There are no parts and no estimators in {word!r}", got="none", hint=hint)
        if self.modules:
            set_own_kinds(self._kinds())

    def forget(self) -> None:
        """Know no more of them."""
        for folder in self.folders:
            sys.path.remove(folder)
        self.folders.clear()
        if self.modules:
            self.modules.clear()
            set_own_kinds({})

    def _imported(self, word: str) -> ModuleType:
        """A module by its file or its name; those beside it can be imported as where Python runs a file."""
        is_file = word.endswith(".py") or "/" in word or "\\" in word
        if is_file and not Path(word).is_file():
            raise OptionError(f"{FLAG} names a file that is not there", got=repr(word))
        self.folders.append(str(Path(word).resolve().parent if is_file else Path.cwd()))
        sys.path.insert(0, self.folders[-1])
        try:
            return _run_file(Path(word), len(self.modules)) if is_file else importlib.import_module(word)
        except (Exception, SystemExit) as error:  # whatever code of the user's raises
            hint = None
            if isinstance(error, ModuleNotFoundError) and error.name == word.partition(".")[0]:
                hint = "Name a file that ends in .py, or a module in this folder or installed"
            raise OptionError(f"Cannot import {word!r} for {FLAG}", got=_said(error), hint=hint) from error

    @property
    def known(self) -> list[Any]:
        """Classes of parts and estimators, and torch modules, as `load` takes them."""
        return [member for module in self.modules.values() for member in _members(module)]

    @property
    def typed(self) -> list[str]:
        """The flags with which the same modules are named again."""
        return [word for name in self.modules for word in (FLAG, name)]

    def failure(self, error: Exception) -> EigencodeError | None:
        """An error that code of these modules raised, with its line; None for one that comes from elsewhere."""
        files = {module.__file__: word for word, module in self.modules.items()}
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.filename in files:
                line = f"{files[frame.filename]}, line {frame.lineno}, in {frame.name}"
                return OptionError(f"A part or estimator of your own failed: {line}", got=_said(error))
        return None

    def _kinds(self) -> dict[str, type]:
        """The estimators among them that are autoencoders, by the names of their kinds."""
        from eigencode.estimators.base import BaseAutoencoder

        found: dict[str, type] = {}
        for member in self.known:
            if isinstance(member, type) and issubclass(member, BaseAutoencoder):
                kind = (member.__name__.removesuffix("Autoencoder") or member.__name__).lower()
                if kind in KINDS:
                    got = f"the class {member.__name__} in {FLAG}"
                    raise OptionError(f"--kind {kind} is a kind of eigencode's own", got=got, hint="Rename the class")
                found[kind] = member
        return found


OWN = OwnParts()


def _named(tokens: Sequence[str]) -> Iterator[str]:
    """The words after the flag."""
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        flag, equals, value = token.partition("=")
        word = value if equals else following
        if flag == FLAG and word and not word.startswith("-"):
            yield word


def _run_file(path: Path, place: int) -> ModuleType:
    """A file as a module, under a name that no other module has; dataclasses look up their module by its name."""
    name = f"eigencode_parts_{place}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _members(module: ModuleType) -> Iterator[Any]:
    """The classes of parts and estimators that are not a library's, and the torch modules."""
    from sklearn.base import BaseEstimator
    from torch import nn

    for member in vars(module).values():
        is_kind = isinstance(member, type) and issubclass(member, nn.Module | BaseEstimator)
        is_own = is_kind and member.__module__.partition(".")[0] not in ("torch", "eigencode", "sklearn")
        if is_own or isinstance(member, nn.Module):
            yield member


def _said(error: BaseException) -> str:
    """An error in one line, with the line of the file where it was found by the parser."""
    place = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    first = (error.msg if isinstance(error, SyntaxError) else str(error)).strip().partition("\n")[0]
    return f"the error {type(error).__name__}: {first}{place}"
