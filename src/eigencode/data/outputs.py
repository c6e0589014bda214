"""Outputs: files that are refused before the work, or written whole."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from eigencode.errors import FileError, did_you_mean


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place only once it is whole.

    It is written under another name in the same folder and renamed at the end, so that a reader sees the old file or
    the new one, and a failure on the way leaves the old one.

    Parameters
    ----------
    path : path-like
        Where to.

    Yields
    ------
    binary file
        Open for writing.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(f"Cannot write {str(path)!r}", got=f"the error {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def check_output(
    path: str | os.PathLike[str], endings: Iterable[str], inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Find out before the work, not after it, that its result could not be written.

    Parameters
    ----------
    path : path-like
        Where a result is to go.
    endings : iterable of str
        Endings of the formats that it may have.
    inputs : iterable of path-like
        What the work reads, which its result must not take the place of.

    Raises
    ------
    FileError
        If the ending is unknown, the folder is missing or cannot be written to, or the file is an input.
    """
    path = Path(path)
    known_ending(path, endings)
    folder = path.parent
    if not folder.is_dir():
        raise FileError(f"Cannot write {str(path)!r}: there is no folder {str(folder)!r}", hint="Make it first")
    if path.is_dir():
        raise FileError(f"Cannot write {str(path)!r}: it is a folder", hint="Name a file in it")
    if path.exists() and any(os.path.exists(read) and os.path.samefile(path, read) for read in inputs):
        raise FileError(f"Cannot write {str(path)!r}: it is what is read here", hint="Give the result another name")
    try:
        # Permissions, quotas and read-only disks answer to an attempt, and to nothing less.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(f"Cannot write into the folder {str(folder)!r}", got=f"the error {error.strerror}") from error


def known_ending(path: Path, endings: Iterable[str]) -> str:
    """The ending of a path, in lower case, checked to be one of some formats."""
    ending = path.suffix.lower()
    if ending not in endings:
        raise FileError(
            f"The ending of {str(path)!r} does not name a format for this",
            got=repr(path.suffix) if ending else "no ending",
            hint=did_you_mean(ending, endings),
        )
    return ending
