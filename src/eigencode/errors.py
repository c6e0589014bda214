"""Every failure a user can meet, in three sentences: what was wrong, what was found, what to try."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

LISTED_AT_MOST = 20
"""Known words that a hint lists before it only counts: the columns of a table may be thousands."""


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
        said = str(got)
        # What another library said may end with its own full stop.
        said = said if said.endswith("...") else said.removesuffix(".")
        found = "" if got is None else f" Got {said}."
        advice = "" if hint is None else f" {hint}" if hint.endswith("?") else f" {hint}."
        super().__init__(f"{what}.{found}{advice}")


class OptionError(EigencodeError, ValueError, TypeError):
    """An option has a value outside its domain, or two options contradict each other."""


class DataError(EigencodeError, ValueError):
    """The rows given cannot be used: shape, type, or values outside the model's support."""


class CellTypeError(DataError, TypeError):
    """Cells are of a type that no number can be made of: text, dates, objects."""


class FileError(EigencodeError, OSError):
    """A file cannot be read or written."""


class MissingFileError(FileError, FileNotFoundError):
    """There is no such file, or no such folder for it."""


class FileAccessError(FileError, PermissionError):
    """The system does not allow a file to be read or written."""


class FileIsFolderError(FileError, IsADirectoryError):
    """There is a folder where a file is needed."""


class StorageError(FileError, ValueError):
    """A model file is damaged, foreign, or from a newer version."""


class TrainingError(EigencodeError, RuntimeError):
    """Training cannot go on, and no usable weights exist to fall back on."""


class NetworkError(EigencodeError, RuntimeError):
    """A module given as a network fails, or returns what is no row of numbers for each row; the cause is kept."""


class ResultWarning(UserWarning):
    """The fitted model is usable only with care; the message says why and what to try."""


class InterruptedWarning(ResultWarning):
    """Training was ended by Ctrl-C; the model has the best weights found until then."""


def file_error(cause: OSError, what: str, *, got: object = None, hint: str | None = None) -> FileError:
    """The error of this package for one of the system's, which is also of the system's own class where that is common.

    Examples
    --------
    >>> error = file_error(FileNotFoundError(2, "No such file or directory"), "Cannot read 'x.csv'")
    >>> isinstance(error, FileError), isinstance(error, FileNotFoundError), error.errno
    (True, True, 2)
    """
    common = {kind.__bases__[1]: kind for kind in (MissingFileError, FileAccessError, FileIsFolderError)}
    error = common.get(type(cause), FileError)(what, got=got, hint=hint)
    error.errno = cause.errno
    return error


def as_path(path: str | os.PathLike[str]) -> str:
    """The path of a file as a text, refused where the system could have no such file.

    Raises
    ------
    OptionError
        If it is no path.
    FileError
        If it is empty or has a character that no path can have.

    Examples
    --------
    >>> as_path("rows.csv")
    'rows.csv'
    """
    try:
        found = os.fsdecode(path)
    except TypeError as error:
        raise OptionError("The path of a file must be a text or a path", got=f"{path!r}") from error
    except UnicodeError as error:
        raise FileError("The path of a file has letters that this system cannot use", got=f"{path!r}") from error
    if not found or "\0" in found:
        raise FileError(
            "The path of a file cannot be empty" if not found else "The path of a file cannot have a zero character",
            got=f"{found!r}",
            hint="Name a file",
        )
    return found


def did_you_mean(word: object, known: Iterable[str]) -> str | None:
    """Return "Did you mean 'x'?" for the nearest known word, or a list of what is known, in the order given.

    Examples
    --------
    >>> did_you_mean("gausian", ["gaussian", "poisson"])
    "Did you mean 'gaussian'?"
    """
    known = sorted(known) if isinstance(known, set | frozenset) else list(known)
    by_letters = {name.lower(): name for name in known}
    near = difflib.get_close_matches(str(word).lower(), by_letters, n=1)
    if near:
        return f"Did you mean {by_letters[near[0]]!r}?"
    more = f" and {len(known) - LISTED_AT_MOST} more" if len(known) > LISTED_AT_MOST else ""
    return f"Known are: {', '.join(map(repr, known[:LISTED_AT_MOST]))}{more}" if known else None
