"""Errors and warnings. Each message says what was wrong, what was found, and what to try."""

from __future__ import annotations

import difflib
import glob
import inspect
import os
import traceback
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import Self, TypeGuard

OWN_COLUMNS = "Its columns are"
"""Before the names that a table has itself."""

LISTED_AT_MOST = 20
"""Known names that a hint lists; it only counts the others, since a table may have thousands of columns."""


class EigencodeError(Exception):
    """Base of all errors raised on purpose by this package.

    Parameters
    ----------
    what : str
        What was wrong, as a sentence without its full stop.
    got : object, optional
        What was found instead.
    hint : str, optional
        What to try next, as a sentence without its full stop.
    """

    def __init__(self, what: str, *, got: object = None, hint: str | None = None) -> None:
        self.what, self.got, self.hint = what, got, hint
        got_text = str(got)
        # The message of another library may end with its own full stop.
        got_text = got_text if got_text.endswith("...") else got_text.removesuffix(".")
        found = "" if got is None else f" Got {got_text}."
        advice = "" if hint is None else f" {hint}" if hint.endswith("?") else f" {hint}."
        super().__init__(f"{what}.{found}{advice}")


class OptionError(EigencodeError, ValueError, TypeError):
    """An option has a value outside its domain, or two options contradict each other."""


class DataError(EigencodeError, ValueError):
    """The rows given cannot be used: shape, type, or values outside the model's support."""


class CellTypeError(DataError, TypeError):
    """Cells have a type that cannot be converted to numbers: text, dates, objects."""


class FileError(EigencodeError, OSError):
    """A file cannot be read or written."""


class MissingFileError(FileError, FileNotFoundError):
    """The file, or the folder that it should be in, does not exist."""


class FileAccessError(FileError, PermissionError):
    """The operating system does not allow the file to be read or written."""


class FileIsFolderError(FileError, IsADirectoryError):
    """The path of a file is that of a folder."""


class StorageError(FileError, ValueError):
    """A model file is damaged, was written by another program, or by a newer version."""


class TrainingError(EigencodeError, RuntimeError):
    """Training failed, and there are no usable earlier weights to return to."""


class NetworkError(EigencodeError, RuntimeError):
    """A user's module fails as a network, or its output is not one row of numbers for each row; keeps the cause."""


class NotEnoughMemoryError(EigencodeError, MemoryError):
    """Work needs more memory than there is; keeps the cause, such as torch's RuntimeError."""


class ResultWarning(UserWarning):
    """The fitted model may be unreliable; the message says why and what to try."""


class InterruptedWarning(ResultWarning):
    """Training was interrupted, as by Ctrl-C; the model has the best weights found before that."""

    @classmethod
    def of_fit(cls, has_checkpoint: bool = False) -> Self:
        """What is said of a fit; with a checkpoint, the same fit can go on."""
        goes_on = " The same fit again goes on from its checkpoint." if has_checkpoint else ""
        return cls(f"Training was interrupted; the best weights so far are kept.{goes_on}")


def warn(message: str | Warning, category: type[Warning] = ResultWarning) -> None:
    """Warn of what the user's program asked for: with its line that called this package."""
    callers = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_stack(inspect.currentframe())]
    own = [level for level, module in enumerate(callers, 1) if module.split(".")[0] == "eigencode"]
    is_inherited = callers[own[-1] : own[-1] + 1] == ["sklearn.base"]  # as fit_predict, which calls our fit
    warnings.warn(message, category, stacklevel=own[-1] + 1 + is_inherited)


def file_error(cause: OSError, what: str, *, got: object = None, hint: str | None = None) -> FileError:
    """Convert an `OSError` to a `FileError` that is also a FileNotFoundError, PermissionError or IsADirectoryError.

    Examples
    --------
    >>> error = file_error(
    ...     FileNotFoundError(2, "No such file or directory"), "Cannot read 'x.csv'"
    ... )
    >>> isinstance(error, FileError), isinstance(error, FileNotFoundError), error.errno
    (True, True, 2)
    """
    common = {kind.__bases__[1]: kind for kind in (MissingFileError, FileAccessError, FileIsFolderError)}
    error = common.get(type(cause), FileError)(what, got=got, hint=hint)
    error.errno = cause.errno
    return error


def link_of(path: str | os.PathLike[str]) -> str | None:
    """What to say of a link to a file that does not exist; None for other paths."""
    if not os.path.islink(path) or os.path.exists(path):
        return None
    return f"{os.fsdecode(path)!r}, a link to {os.readlink(os.fsdecode(path))!r}, which does not exist"


def missing_file(path: str | os.PathLike[str], what: str = "file", ending: str = "") -> MissingFileError:
    """The error for a file that does not exist, with the file of its folder and ending that has the nearest name.

    ``ending`` is that of such files, for a path without one.
    """
    path = Path(path)
    near: list[str] = []
    with suppress(OSError):
        alike = path.parent.glob("*" + glob.escape(path.suffix or ending))
        near = sorted(item.name for item in alike if os.path.isfile(item))
    link = link_of(path)
    hint = did_you_mean(path.name, near) if near and link is None else None
    return MissingFileError(f"There is no {what} {str(path)!r}", got=link, hint=hint)


def as_path(path: str | os.PathLike[str]) -> str:
    """Convert a path to a string, and check that the system could have such a file.

    Raises
    ------
    OptionError
        If it is not a path.
    FileError
        If it is empty, or has a character that no path can have.

    Examples
    --------
    >>> as_path("rows.csv")
    'rows.csv'
    """
    try:
        found = os.fsdecode(path)
    except TypeError as error:
        raise OptionError("The path of a file must be a string or a path", got=f"{path!r}") from error
    except UnicodeError as error:
        raise FileError("The path of a file has characters that this system cannot use", got=f"{path!r}") from error
    if not found or "\0" in found:
        raise FileError(
            "The path of a file cannot be empty" if not found else "The path of a file cannot have a null character",
            got=f"{found!r}",
            hint="Name a file",
        )
    return found


def enumerated(items: Sequence[str], at_most: int = 5, n_items: int | None = None) -> str:
    """The first items with commas between them, and how many more there are; ``n_items`` in all.

    Examples
    --------
    >>> enumerated(["a", "b", "c"], at_most=2)
    'a, b and 1 more'
    """
    n_items = n_items or len(items)
    more = f" and {n_items - at_most} more" if n_items > at_most else ""
    return ", ".join(items[:at_most]) + more


def is_int(value: object) -> TypeGuard[int]:
    """Whether a value is an int, of Python or of NumPy; True and False are none, though Python counts them as ints.

    Examples
    --------
    >>> is_int(3), is_int(3.0), is_int(True)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def positive_int(what: str, number: object) -> int:
    """A positive number of something, or an error that says what it is."""
    if not is_int(number) or int(number) < 1:
        raise OptionError(f"{what} must be a positive int", got=f"{number!r}")
    return int(number)


def known_length(n_rows: int | None, needed_by: str) -> int:
    """The number of training rows; `DataError` if it is None, as of rows that are read once."""
    if n_rows is None:
        raise DataError(
            f"{needed_by} needs the number of training rows",
            got="rows whose number is not known before they are read",
            hint="Leave it out, or give rows of a known number",
        )
    return n_rows


def did_you_mean(name: object, known: Iterable[str], listed: str = "Known are") -> str | None:
    """Return "Did you mean 'x'?" for the known name nearest to ``name``, or a list of the known names in their order.

    Examples
    --------
    >>> did_you_mean("gausian", ["gaussian", "poisson"])
    "Did you mean 'gaussian'?"
    """
    known = sorted(known) if isinstance(known, set | frozenset) else list(known)
    by_lower_case = {each.lower(): each for each in known}
    if near := difflib.get_close_matches(str(name).lower(), by_lower_case, n=1):
        return f"Did you mean {by_lower_case[near[0]]!r}?"
    return f"{listed}: {enumerated([repr(each) for each in known], LISTED_AT_MOST)}" if known else None
