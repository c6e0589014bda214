"""Writing files: checked before the work that they can be written, and written completely or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from eigencode.errors import (
    FileAccessError,
    FileError,
    FileIsFolderError,
    MissingFileError,
    as_path,
    did_you_mean,
    link_of,
)
from eigencode.errors import file_error as system_error

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows does not remove files that are open, so no lock is needed
    flock = None  # type: ignore[assignment]

TEMPORARY_NAMES = 16
"""Names for unfinished files, and so the number of processes that can write the same file at the same time."""

DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
"""Paths of files that this process has already opened, and their descriptors."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing; it replaces an existing file only when it is complete.

    Readers see the old file or the new one, and an error keeps the old one. On Linux, the unfinished file has no name;
    on other systems it has a temporary name in the same folder. If a process is killed, the file under its temporary
    name is removed by the next process that writes the same file.

    An existing file keeps its mode, and its owner if that is allowed. If the path is a symbolic link, the file it
    points to is written. Other hard links keep the old file. Pipes, devices and other special files are written to
    directly. If the file cannot be written, a `FileError` is raised.
    """
    path = as_path(path)
    try:
        with (_write_stream if is_stream(path) else _write_file)(path) as file:
            yield file
    except FileError:
        raise
    except OSError as error:
        raise system_error(error, f"Cannot write {path!r}", got=f"the error {error.strerror or error}") from error


# -- special files


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a pipe, a device or an open file, which cannot be replaced but only written to."""
    path = as_path(path)
    try:
        mode = os.stat(path).st_mode
        return _descriptor(path) is not None or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    except OSError:
        return _descriptor(path) is not None


def _descriptor(path: str) -> int | None:
    """The descriptor of an open file, None for other paths."""
    if os.name == "nt":
        return None
    found = DESCRIPTOR.fullmatch(path)
    return int(found[1]) if found else STANDARD.get(path)


@contextmanager
def _write_stream(path: str) -> Iterator[BinaryIO]:
    """Write everything at the end, since writers of files may need to go back, which a stream cannot."""
    content = io.BytesIO()
    yield content
    number = _descriptor(path)
    with open(path if number is None else os.dup(number), "wb") as stream:
        stream.write(content.getbuffer())


# -- files


@contextmanager
def _write_file(path: str) -> Iterator[BinaryIO]:
    """Write a new file in the same folder, and replace the old one with it at the end."""
    target = os.path.realpath(path)
    before = _status(target)
    if path.endswith(("/", os.sep)) or (before is not None and stat.S_ISDIR(before.st_mode)):
        raise IsADirectoryError(errno.EISDIR, "It is a folder")
    if before is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "Permission denied")
    mode = 0o666 if before is None else 0o600  # other users must not read a private file before its mode is set
    names = temporary_names(target)
    for name in names:
        _remove_abandoned(name)
    with _unfinished(target, mode, names) as (file, finish):
        yield file
        file.flush()
        if before is not None:
            _copy_owner_and_mode(file.fileno(), before)
        os.fsync(file.fileno())
        finish()


def _status(path: str) -> os.stat_result | None:
    """The status of a file, None if it does not exist."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _copy_owner_and_mode(descriptor: int, before: os.stat_result) -> None:
    """Give a new file the owner and the mode of the old one, if that is allowed."""
    if hasattr(os, "fchown"):
        with suppress(OSError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def temporary_names(target: str) -> list[str]:
    """Names for the unfinished file, which are the same in every process."""
    folder, name = os.path.split(target)
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return [os.path.join(folder, f".eigencode-{digest}-{number}.tmp") for number in range(TEMPORARY_NAMES)]


def _remove_abandoned(name: str) -> None:
    """Remove the unfinished file of a process that was killed; a process that is still writing holds a lock on it."""
    with suppress(OSError):
        if flock is None:
            os.unlink(name)
            return
        descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
            if _is_name_of(name, descriptor):  # else its writer has just finished, and the name may be in use again
                os.unlink(name)
        finally:
            os.close(descriptor)


@contextmanager
def _unfinished(target: str, mode: int, names: list[str]) -> Iterator[tuple[BinaryIO, Callable[[], None]]]:
    """Open a file in the target's folder, without a name if the system supports that, and a function to name it."""
    descriptor = _open_unnamed(os.path.dirname(target), mode)
    if descriptor is None:
        opened: list[int] = []
        name = _first_free(lambda name: opened.append(_create(name, mode)), names)
        with _removed_on_failure(name), os.fdopen(opened[0], "w+b") as file:
            yield file, lambda: _rename(file, name, target)
    else:
        with os.fdopen(descriptor, "w+b") as file:
            yield file, lambda: _link(file, target, names)


def _open_unnamed(folder: str, mode: int) -> int | None:
    """The descriptor of a locked file without a name, None if the file system does not support that."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        try:
            return _locked(os.open(folder, os.O_TMPFILE | os.O_RDWR, mode))
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            pass
    return None


def _link(file: BinaryIO, target: str, names: list[str]) -> None:
    """Link an open file to its name; if that exists, link it to a temporary name and rename it over the old file."""

    def link(name: str) -> None:
        number = file.fileno()
        # With any src_dir_fd, Python uses linkat, which can follow the symbolic link to the open file.
        os.link(f"/proc/self/fd/{number}", name, src_dir_fd=number, follow_symlinks=True)

    try:
        link(target)
    except FileExistsError:
        name = _first_free(link, names)
        with _removed_on_failure(name):
            os.replace(name, target)


def _rename(file: BinaryIO, name: str, target: str) -> None:
    """Rename an open file over the old one."""
    if flock is None:
        file.close()  # Windows renames closed files only
    os.replace(name, target)


@contextmanager
def _removed_on_failure(name: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _first_free(use: Callable[[str], None], names: list[str]) -> str:
    """Use the first name under which no file exists, else a random one; return the name."""
    for name in [*names, os.path.join(os.path.dirname(names[0]), f".eigencode-{uuid.uuid4().hex}.tmp")]:
        with suppress(FileExistsError):
            use(name)
            return name
    raise FileExistsError(errno.EEXIST, "Too many processes write it at the same time")


def _create(name: str, mode: int) -> int:
    """Create and lock a file with this name; return its descriptor."""
    descriptor = _locked(os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), mode))
    if _is_name_of(name, descriptor):
        return descriptor
    os.close(descriptor)  # another process removed it before it was locked, as if it were abandoned
    raise FileExistsError(errno.EEXIST, "Another process removed it")


def _locked(descriptor: int) -> int:
    if flock is not None:
        with suppress(OSError):  # this file system has no locks; then no file is ever removed as abandoned either
            flock(descriptor, LOCK_EX)
    return descriptor


def is_lockable(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed or the process ends; return False if another process has locked it."""
    if flock is None:
        return True
    try:
        flock(file.fileno(), LOCK_EX | LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # else this file system has no locks
    return True


def _is_name_of(name: str, descriptor: int) -> bool:
    """Whether the name is that of the open file with this descriptor."""
    found = _status(name)
    return found is not None and os.path.samestat(found, os.fstat(descriptor))


# -- checks


def check_output(
    path: str | os.PathLike[str], endings: Iterable[str], inputs: Iterable[str | int | os.PathLike[str]] = ()
) -> None:
    """Raise a `FileError`, before other work is done, if its result could not be written.

    Parameters
    ----------
    path : path-like
        The file for the result.
    endings : iterable of str
        Endings of the formats that it may have.
    inputs : iterable of path-like or int
        Files that are read, and so must not be overwritten; a number is the descriptor of an open file.
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
        os.stat(target)  # fails if the name is too long, or the folder cannot be read
    except (FileNotFoundError, NotADirectoryError) as error:
        if not os.path.isdir(folder):
            raise MissingFileError(f"{what}: there is no folder {str(folder)!r}", hint="Create it first") from error
    except OSError as error:
        raise system_error(error, what, got=f"the error {error.strerror or error}") from error
    if os.path.isdir(path):
        raise FileIsFolderError(f"{what}: it is a folder", hint="Name a file in it")
    if any(_is_same(target, read) for read in inputs):
        raise FileError(f"{what}: it is an input", hint="Give the result another name")
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise FileAccessError(f"{what}: it is write-protected", hint="Give the result another name")
    try:
        # Only an attempt shows whether permissions, quotas or a read-only disk prevent writing.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        got = f"the error {error.strerror}"
        raise system_error(error, f"Cannot write into the folder {str(folder)!r}", got=got) from error


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder, unless it exists, and raise a `FileError` if no file can be written into it."""
    path = as_path(path)
    if os.path.lexists(path) and not os.path.isdir(path):
        got = link_of(path) or f"the file {path!r}"
        raise FileError("A folder is wanted", got=got, hint="Name a new folder, or an empty one")
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        what = f"The folder {path!r} cannot be used"
        raise system_error(error, what, got=f"the error {error.strerror or error}") from error


def _is_same(path: str | os.PathLike[str], other: str | int | os.PathLike[str]) -> bool:
    """Whether two paths, or a path and an open file, are one file."""
    try:
        return os.path.samestat(os.stat(path), os.stat(other))
    except (OSError, ValueError, TypeError):  # one of them does not exist
        return False


def check_distinct(*paths: str | os.PathLike[str] | None) -> None:
    """Raise `FileError` if two results would be written to the same file; None is a result that is not written."""
    real = [os.path.realpath(as_path(path)) for path in paths if path is not None and not is_stream(path)]
    for number, path in enumerate(real):
        if path in real[:number] or any(_is_same(path, other) for other in real[:number]):
            raise FileError(f"Two results cannot be one file, {path!r}", hint="Give each a name of its own")


def known_ending(path: Path, endings: Iterable[str]) -> str:
    """The ending of a path in lower case, checked to be one of ``endings``; a stream without one gets the first."""
    endings, ending = list(endings), path.suffix.lower()
    if ending in endings:
        return ending
    if is_stream(path):
        return endings[0]
    raise FileError(
        f"The ending of {str(path)!r} does not name a format that can be written here",
        got=repr(path.suffix) if ending else "no ending",
        hint=did_you_mean(ending, endings),
    )
