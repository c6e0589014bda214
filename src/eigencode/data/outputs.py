"""Outputs: files that are refused before the work, or written whole."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from eigencode.errors import FileAccessError, FileError, FileIsFolderError, MissingFileError, as_path, did_you_mean
from eigencode.errors import file_error as system_error

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows, where a file that is open cannot be removed: no lock is needed
    flock = None  # type: ignore[assignment]

TEMPORARY_NAMES = 16
"""Names that an unfinished output may have: as many processes can write the same file at the same time."""

DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
"""Path of a file that this process has open already."""

STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
"""Other paths of such files."""


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place only once it is whole.

    A reader sees the old file or the new one, and a failure on the way leaves the old one. Until it is whole the new
    file has no name at all where the system can do that (Linux), else a name in the same folder. What a process that
    was killed left under such a name is removed by the next one that writes the same file.

    An existing file keeps its mode, and its owner where that is allowed. A symbolic link stays, and the file that it
    leads to is written. Other hard links keep the old file. What is no ordinary file, such as a named pipe, is written
    into.

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
    OptionError
        If the path is none.
    """
    path = as_path(path)
    with _said(path):
        write = _into_stream if is_stream(path) else _into_file
        with write(path) as file:
            yield file


@contextmanager
def _said(path: str) -> Iterator[None]:
    """Errors of the system as ours."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        got = f"the error {error.strerror or error}"
        raise system_error(error, f"Cannot write {path!r}", got=got) from error


# -- what is no ordinary file


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether what is written there goes on its way at once: into a pipe, a device, or a file that is open already."""
    path = as_path(path)
    try:
        return _descriptor(path) is not None or not _is_plain(os.stat(path).st_mode)
    except OSError:
        return False


def _is_plain(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _descriptor(path: str) -> int | None:
    """The number of an open file, where the path says one."""
    if os.name == "nt":
        return None
    found = DESCRIPTOR.fullmatch(path)
    return int(found[1]) if found else STANDARD.get(path)


@contextmanager
def _into_stream(path: str) -> Iterator[BinaryIO]:
    """Write at once all that there is, since a stream cannot be gone back in."""
    content = io.BytesIO()
    yield content
    number = _descriptor(path)
    with open(path if number is None else os.dup(number), "wb") as stream:
        stream.write(content.getbuffer())


# -- files


@contextmanager
def _into_file(path: str) -> Iterator[BinaryIO]:
    """Write beside the file, and put it in its place at the end."""
    target = os.path.realpath(path)
    before = _status(target)
    if path.endswith(("/", os.sep)) or (before is not None and stat.S_ISDIR(before.st_mode)):
        raise IsADirectoryError(errno.EISDIR, "It is a folder")
    if before is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "Permission denied")
    mode = 0o666 if before is None else 0o600  # nobody else may read a private file before its mode is set
    names = temporary_names(target)
    for name in names:
        _remove_left_behind(name)
    file = _unfinished(target, mode, names)
    try:
        yield file.binary
        file.binary.flush()
        if before is not None:
            _take_over(file.binary.fileno(), before)
        os.fsync(file.binary.fileno())
        file.finish(target, names)
    finally:
        file.clear()


def _status(path: str) -> os.stat_result | None:
    """What the system says of a file, None where there is none."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _take_over(descriptor: int, before: os.stat_result) -> None:
    """Give a new file the owner and the mode of the old one, as far as that is allowed."""
    if hasattr(os, "fchown"):
        with suppress(OSError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def temporary_names(target: str) -> list[str]:
    """The names that an unfinished output may have, which are the same for every process."""
    folder, name = os.path.split(target)
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return [os.path.join(folder, f".eigencode-{digest}-{number}.tmp") for number in range(TEMPORARY_NAMES)]


def _remove_left_behind(name: str) -> None:
    """Remove what a process that was killed left behind; whoever is still writing holds a lock on it."""
    with suppress(OSError):
        if flock is None:
            os.unlink(name)
            return
        descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
            if _leads_to(name, descriptor):  # else its writer has just come to its end, and the name may be another's
                os.unlink(name)
        finally:
            os.close(descriptor)


class _Unfinished(ABC):
    """An output that is being written.

    Parameters
    ----------
    descriptor : int
        Number of the open file, which is locked.
    """

    def __init__(self, descriptor: int) -> None:
        self.binary = os.fdopen(descriptor, "w+b")

    @abstractmethod
    def finish(self, target: str, names: Iterable[str]) -> None:
        """Take the whole file to its name."""

    def clear(self) -> None:
        """Remove what did not come to its end."""
        with suppress(OSError):  # what matters was flushed, or has failed already
            self.binary.close()


class _Unnamed(_Unfinished):
    """A file that has no name until it is whole: where its process ends, nothing is left of it."""

    def finish(self, target: str, names: Iterable[str]) -> None:
        """Link the file to its name, or rename it over the old file, for which it needs another name for a moment."""
        with suppress(FileExistsError):
            self._link(target)
            return
        name = _first_free(self._link, names)
        try:
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise

    def _link(self, name: str) -> None:
        number = self.binary.fileno()
        # The folder is there for its own sake: with one, Python makes the call that follows the link to the open file.
        os.link(f"/proc/self/fd/{number}", name, src_dir_fd=number, follow_symlinks=True)


class _Named(_Unfinished):
    """A file under a name of its own."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor)
        self._name: str | None = name

    def finish(self, target: str, names: Iterable[str]) -> None:
        """Rename the file over the old one."""
        assert self._name is not None
        if flock is None:
            self.binary.close()  # Windows moves closed files only
        os.replace(self._name, target)
        self._name = None

    def clear(self) -> None:
        """Remove what did not come to its end."""
        if flock is None:
            super().clear()  # and removes closed files only
        if self._name is not None:
            with suppress(OSError):
                os.unlink(self._name)
        super().clear()


def _first_free(use: Callable[[str], None], names: Iterable[str]) -> str:
    """The first name under which there is no file yet; where all usual ones are taken, one that nobody else has."""
    folder = os.path.dirname(next(iter(names)))
    for name in [*names, os.path.join(folder, f".eigencode-{uuid.uuid4().hex}.tmp")]:
        with suppress(FileExistsError):
            use(name)
            return name
    raise FileExistsError(errno.EEXIST, "Too many processes write it at the same time")


def _unfinished(target: str, mode: int, names: Iterable[str]) -> _Unfinished:
    """A new file in the target's folder, without a name where the system has such files."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        try:
            descriptor = os.open(os.path.dirname(target), os.O_TMPFILE | os.O_RDWR, mode)
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:  # not on this kind of disk
            pass
        else:
            _lock(descriptor)
            return _Unnamed(descriptor)
    made: list[int] = []
    name = _first_free(lambda name: made.append(_new(name, mode)), names)
    return _Named(made[0], name)


def _new(name: str, mode: int) -> int:
    """A new file under a name, locked."""
    descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), mode)
    _lock(descriptor)
    if _leads_to(name, descriptor):
        return descriptor
    os.close(descriptor)  # another process came before the lock, and took it for one left behind
    raise FileExistsError(errno.EEXIST, "Another process removed it")


def _lock(descriptor: int) -> None:
    if flock is not None:
        with suppress(OSError):  # not on this kind of disk, where nothing is ever taken for left behind either
            flock(descriptor, LOCK_EX)


def _leads_to(name: str, descriptor: int) -> bool:
    """Whether a name is that of an open file."""
    found = _status(name)
    return found is not None and os.path.samestat(found, os.fstat(descriptor))


# -- before the work


def check_output(
    path: str | os.PathLike[str], endings: Iterable[str], inputs: Iterable[str | int | os.PathLike[str]] = ()
) -> None:
    """Find out before the work, not after it, that its result could not be written.

    Parameters
    ----------
    path : path-like
        Where a result is to go.
    endings : iterable of str
        Endings of the formats that it may have.
    inputs : iterable of path-like or int
        What the work reads, which its result must not take the place of; a number is that of an open file.

    Raises
    ------
    FileError
        If the ending is unknown, the folder is missing or cannot be written to, or the file is an input.
    """
    text = as_path(path)
    path = Path(text)
    known_ending(path, endings)
    if is_stream(text):
        return
    target = Path(os.path.realpath(path))
    folder = target.parent if os.path.islink(path) else path.parent
    what = f"Cannot write {str(path)!r}"
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise NotADirectoryError
        os.stat(target)  # a name can be too long, or its folder closed to us
    except (FileNotFoundError, NotADirectoryError) as error:
        if not os.path.isdir(folder):
            raise MissingFileError(f"{what}: there is no folder {str(folder)!r}", hint="Make it first") from error
    except OSError as error:
        raise system_error(error, what, got=f"the error {error.strerror or error}") from error
    if os.path.isdir(path):
        raise FileIsFolderError(f"{what}: it is a folder", hint="Name a file in it")
    if any(_is_same(target, read) for read in inputs):
        raise FileError(f"{what}: it is what is read here", hint="Give the result another name")
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise FileAccessError(f"{what}: it is protected", hint="Give the result another name")
    try:
        # Permissions, quotas and read-only disks answer to an attempt, and to nothing less.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        got = f"the error {error.strerror}"
        raise system_error(error, f"Cannot write into the folder {str(folder)!r}", got=got) from error


def _is_same(path: Path, other: str | int | os.PathLike[str]) -> bool:
    """Whether two paths, or a path and an open file, are one file."""
    try:
        return os.path.samestat(os.stat(path), os.stat(other))
    except (OSError, ValueError, TypeError):  # one of them is not there
        return False


def check_apart(*paths: str | os.PathLike[str] | None) -> None:
    """Refuse results that would take each other's place; None is one that is not wanted."""
    real = [os.path.realpath(as_path(path)) for path in paths if path is not None and not is_stream(path)]
    for number, path in enumerate(real):
        if path in real[:number] or any(_is_same(Path(path), other) for other in real[:number]):
            raise FileError(f"Two results cannot be one file, {path!r}", hint="Give each a name of its own")


def known_ending(path: Path, endings: Iterable[str]) -> str:
    """The ending of a path, in lower case, checked to be one of some formats; a stream without one has the first."""
    endings = list(endings)
    ending = path.suffix.lower()
    if ending in endings:
        return ending
    if is_stream(path):
        return endings[0]
    raise FileError(
        f"The ending of {str(path)!r} does not name a format for this",
        got=repr(path.suffix) if ending else "no ending",
        hint=did_you_mean(ending, endings),
    )
