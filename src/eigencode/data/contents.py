"""Contents of files: which files a path, folder or pattern names, and their bytes, decompressed."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

import pyarrow as pa

from eigencode.data.memory import available_memory, require_memory_to_decompress
from eigencode.errors import (
    DataError,
    EigencodeError,
    FileError,
    as_path,
    did_you_mean,
    file_error,
    missing_file,
)

PathOrFile = str | os.PathLike[str] | BinaryIO
"""A path, or an open binary file."""

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
"""Names of compressions by the endings of their files."""

MAGICS = {b"\x1f\x8b": ".gz", b"BZh91AY&SY": ".bz2", b"\x28\xb5\x2f\xfd": ".zst", b"\x04\x22\x4d\x18": ".lz4"}
"""Endings of compressed files by the first bytes of these."""

BLOCK = 1 << 22
"""Bytes that are read or decompressed at a time."""

TEXT_AT_MOST = 24e6
"""Bytes that a small compressed file may decompress to; as numbers, they can take eight times as many."""


@dataclass(frozen=True)
class Content:
    """The bytes of one file, a memory map if it is an ordinary one.

    Messages use its name in quotes. ``ending`` names its format, in lower case, and ``compression`` is the ending of
    its compression; both may be ''.
    """

    name: str
    ending: str
    buffer: pa.Buffer
    compression: str = ""

    def starts_with(self, magic: bytes) -> bool:
        """Whether the content starts with these bytes."""
        return self.buffer.slice(0, min(len(magic), self.buffer.size)).to_pybytes() == magic

    @property
    def is_plain_text(self) -> bool:
        """Whether the first 200 bytes are printable ASCII characters and ends of lines only."""
        head = self.buffer.slice(0, min(200, self.buffer.size)).to_pybytes()
        return all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)


# -- which files


def list_files(source: PathOrFile | Sequence[PathOrFile], endings: Iterable[str]) -> list[PathOrFile]:
    """List the files that paths, folders and patterns name; those of a folder or pattern are sorted by name.

    Patterns have ``*``, ``?``, ``[...]``, or ``**`` for folders at any depth. The files in a folder that are tables
    have one of these endings.
    """
    sources: Sequence[Any] = source if isinstance(source, list | tuple) else [source]
    found = [file for each in sources for file in _list_files(each, endings)]
    if not found:
        raise FileError("No file is named")
    return found


def _list_files(source: PathOrFile, endings: Iterable[str]) -> list[PathOrFile]:
    if hasattr(source, "read"):
        return [source]
    path = as_path(cast(str, source))
    if os.path.isdir(path):
        return _in_folder(Path(path), endings)
    if os.path.lexists(path) or not glob.has_magic(path):
        if _is_missing(path) and ending_of(Path(path))[0] in set(endings):
            raise missing_file(path)
        return [source]
    found = sorted(item for item in glob.glob(path, recursive=True) if not os.path.isdir(item))
    if not found:
        raise FileError(f"No file matches {path!r}")
    return list(found)


def _is_missing(path: str) -> bool:
    """Whether there is no such file; of one that cannot be reached for another reason what reads it says why."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _in_folder(folder: Path, endings: Iterable[str]) -> list[PathOrFile]:
    """The tables in a folder, which must have one format: copies in another format would be read as more rows."""
    try:
        items = sorted(item for item in folder.iterdir() if not item.name.startswith("."))
    except OSError as error:
        raise cannot_read(folder, error) from error
    known = set(endings)
    found = [item for item in items if ending_of(item)[0] in known and os.path.isfile(item)]
    if not found:
        raise FileError(f"The folder {str(folder)!r} has no table and no image", hint=did_you_mean("", known))
    if len(several := sorted({"".join(ending_of(item)) for item in found})) > 1:
        raise FileError(
            f"The folder {str(folder)!r} has tables in several formats",
            got=", ".join(map(repr, several)),
            hint=f"Choose one format with a pattern, such as '{folder / ('*' + several[0])}'",
        )
    return list(found)


def ending_of(path: PurePath) -> tuple[str, str]:
    """The ending that names the format, and the ending of a compression after it, both in lower case or ''."""
    last = path.suffix.lower()
    return (PurePath(path.stem).suffix.lower(), last) if last in COMPRESSIONS else (last, "")


# -- their bytes


def read_content(source: PathOrFile) -> Content:
    """Read or map a file, and decompress it."""
    content = _read_stream(cast(BinaryIO, source)) if hasattr(source, "read") else _read_file(Path(cast(str, source)))
    compression = next((ending for magic, ending in MAGICS.items() if content.starts_with(magic)), "")
    if content.compression and content.buffer.size and not compression:
        hint = "If the file is correct, give it a name without this ending"
        raise FileError(f"{content.name} is not compressed, but its name ends in {content.compression!r}", hint=hint)
    return _decompressed(content, compression) if compression else content


def _read_stream(stream: BinaryIO) -> Content:
    name = getattr(stream, "name", "<stream>")
    shown = repr("standard input" if name in ("<stdin>", 0) else str(name))
    try:
        buffer = _read_all(iter(lambda: stream.read(BLOCK), b""), shown)
    except EigencodeError:
        raise
    except (OSError, ValueError) as error:
        raise FileError(f"Cannot read {shown}", got=f"the error {error}") from error
    return Content(shown, "", buffer)


def _read_file(path: Path) -> Content:
    """Map an ordinary file; read a pipe or another special file."""
    ending, compression = ending_of(path)
    name = repr(str(path))
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode) and status.st_size:
            with open(path, "rb"):  # if this fails, Python's error is shorter than pyarrow's
                buffer = pa.memory_map(os.fsencode(path)).read_buffer()
        else:
            # A pipe can be read only once, and some system files have content but the size 0.
            with open(path, "rb") as file:
                buffer = _read_all(iter(lambda: file.read(BLOCK), b""), name)
    except EigencodeError:
        raise
    except FileNotFoundError as error:
        raise missing_file(path) from error
    except OSError as error:
        raise cannot_read(path, error) from error
    return Content(name, ending, buffer, compression)


def cannot_read(path: Path, error: OSError) -> FileError:
    """The error for a path that the operating system does not let us read."""
    return file_error(error, f"Cannot read {str(path)!r}", got=f"the error {error.strerror or error}")


def status_of(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Size, time of the last change, and number of a file, by which a change is noticed."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise cannot_read(Path(path), error) from error
    return found.st_size, found.st_mtime_ns, found.st_ino


def refuse_changed(path: str | os.PathLike[str], status: Sequence[int]) -> None:
    """Raise `FileError` for a file that has changed since it had this status."""
    if status_of(path) != tuple(status):
        raise changed(path)


def changed(path: str | os.PathLike[str]) -> FileError:
    """The error for a file that has changed since it was opened."""
    hint = "Files are read several times: write new ones under new names, and begin again"
    return FileError(f"{str(path)!r} has changed since it was opened", hint=hint)


def _decompressed(content: Content, compression: str) -> Content:
    try:
        stream = pa.CompressedInputStream(pa.BufferReader(content.buffer), COMPRESSIONS[compression])
        buffer = _read_all(iter(lambda: stream.read(BLOCK), b""), content.name, content.buffer.size)
    except (OSError, pa.ArrowException, MemoryError) as error:
        raise FileError(
            f"{content.name} cannot be decompressed as {compression}",
            got=f"the error {str(error).rstrip('.')}",
            hint="It may be damaged or cut off",
        ) from error
    return replace(content, buffer=buffer, compression="")


def _read_all(blocks: Iterator[bytes], name: str, n_compressed: int | None = None) -> pa.Buffer:
    """Read all blocks and join them; an error if they do not fit into memory.

    ``n_compressed`` is the size of the compressed file from which they come, if they come from one.
    """

    def checked() -> Iterator[bytes]:
        size = 0
        for block in blocks:
            yield block
            size += len(block)
            if n_compressed is not None:
                require_memory_to_decompress(size, n_compressed, name, TEXT_AT_MOST)
            if size > available_memory():
                raise DataError(f"{name} does not fit into memory", got=f"more than {size / 1e9:.1f} GB")

    return in_arrow_memory(checked())


def in_arrow_memory(blocks: Iterable[bytes]) -> pa.Buffer:
    """A copy of bytes in memory of Arrow.

    Arrow's threads may be the last to use a buffer, also when the interpreter is ending: then the process is aborted if
    they have to release an object of Python.
    """
    stream = pa.BufferOutputStream()
    for block in blocks:
        stream.write(block)
    return stream.getvalue()
