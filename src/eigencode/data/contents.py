"""Contents: the bytes of files, folders, pipes and streams, each read once, unpacked where they are compressed."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

import pyarrow as pa

from eigencode.data.memory import available_memory, require_room
from eigencode.errors import DataError, EigencodeError, FileError, MissingFileError, as_path, did_you_mean, file_error

Source = str | os.PathLike[str] | BinaryIO
"""What a table can be read from: a path, or a binary file that is open."""

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
"""Compressions by the ending that they add to a file's own."""

MAGICS = {b"\x1f\x8b": ".gz", b"BZh91AY&SY": ".bz2", b"\x28\xb5\x2f\xfd": ".zst", b"\x04\x22\x4d\x18": ".lz4"}
"""Compressions by a content's first bytes."""

BLOCK = 1 << 22
"""Bytes that are read, or unpacked, at a time."""

TEXT_AT_MOST = 24e6
"""Bytes that a small compressed file may unpack to: as numbers they can be eight times as many."""


@dataclass(frozen=True)
class Content:
    """The bytes of one file.

    Attributes
    ----------
    name : str
        What messages call it, quoted.
    ending : str
        The ending that names its format, in lower case; '' where it has none.
    buffer : pa.Buffer
        Its bytes, mapped from disk where they lie there as they are.
    packing : str
        The ending of the compression, where it is compressed.
    """

    name: str
    ending: str
    buffer: pa.Buffer
    packing: str = ""

    def starts_with(self, magic: bytes) -> bool:
        """Whether these are the first bytes."""
        return self.buffer.slice(0, min(len(magic), self.buffer.size)).to_pybytes() == magic

    @property
    def is_plain_text(self) -> bool:
        """Whether it begins as plain text does, with letters, spaces and ends of lines alone."""
        head = self.buffer.slice(0, min(200, self.buffer.size)).to_pybytes()
        return all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)


# -- which files


def expanded(source: Source | Sequence[Source], endings: Iterable[str]) -> list[Source]:
    """The files that are meant: paths as they are given; those of a folder or a pattern in sorted order.

    Parameters
    ----------
    source : path-like, binary file, or a sequence of these
        Files, folders, or patterns with ``*``, ``?`` or ``[...]``, of which ``**`` goes through folders.
    endings : iterable of str
        Endings of the files of a folder that are tables.
    """
    sources: Sequence[Any] = source if isinstance(source, list | tuple) else [source]
    found = [file for one in sources for file in _expanded(one, endings)]
    if not found:
        raise FileError("No file is named")
    return found


def _expanded(source: Source, endings: Iterable[str]) -> list[Source]:
    if hasattr(source, "read"):
        return [source]
    path = as_path(cast(str, source))
    if os.path.isdir(path):
        return _in_folder(Path(path), endings)
    if os.path.lexists(path) or not glob.has_magic(path):
        return [source]
    found = sorted(item for item in glob.glob(path, recursive=True) if not os.path.isdir(item))
    if not found:
        raise FileError(f"No file matches {path!r}")
    return list(found)


def _in_folder(folder: Path, endings: Iterable[str]) -> list[Source]:
    """The tables of a folder, which have to be of one format: copies in another would count twice."""
    try:
        items = sorted(item for item in folder.iterdir() if not item.name.startswith("."))
    except OSError as error:
        raise cannot_read(folder, error) from error
    known = set(endings)
    found = [item for item in items if ending_of(item)[0] in known and os.path.isfile(item)]
    if not found:
        raise FileError(f"The folder {str(folder)!r} holds no table, and no image", hint=did_you_mean("", known))
    if len(several := sorted({"".join(ending_of(item)) for item in found})) > 1:
        raise FileError(
            f"The folder {str(folder)!r} holds tables in several formats",
            got=", ".join(map(repr, several)),
            hint=f"Name those that are meant, as '{folder / ('*' + several[0])}'",
        )
    return list(found)


def ending_of(path: PurePath) -> tuple[str, str]:
    """The ending that names a format, and that of a compression after it, in lower case."""
    last = path.suffix.lower()
    return (PurePath(path.stem).suffix.lower(), last) if last in COMPRESSIONS else (last, "")


# -- their bytes


def content_of(source: Source) -> Content:
    """Read a file, or map it, and unpack it.

    Raises
    ------
    FileError
        If it cannot be read.
    DataError
        If it does not fit into memory.
    """
    content = _stream(cast(BinaryIO, source)) if hasattr(source, "read") else _file(Path(cast(str, source)))
    packing = next((ending for magic, ending in MAGICS.items() if content.starts_with(magic)), "")
    if content.packing and content.buffer.size and not packing:
        hint = "Give it a name without that ending, if it is as it should be"
        raise FileError(f"{content.name} is not compressed, though its name ends in {content.packing!r}", hint=hint)
    return _unpacked(content, packing) if packing else content


def _stream(stream: BinaryIO) -> Content:
    name = getattr(stream, "name", "<stream>")
    shown = repr("standard input" if name in ("<stdin>", 0) else str(name))
    try:
        buffer = _gathered(iter(lambda: stream.read(BLOCK), b""), shown)
    except EigencodeError:
        raise
    except (OSError, ValueError) as error:
        raise FileError(f"Cannot read {shown}", got=f"the error {error}") from error
    return Content(shown, "", buffer)


def _file(path: Path) -> Content:
    """A file's content, as it lies there."""
    ending, packing = ending_of(path)
    name = repr(str(path))
    try:
        facts = os.stat(path)
        if stat.S_ISREG(facts.st_mode) and facts.st_size:
            with open(path, "rb"):  # Python says in fewer words why that cannot be done
                buffer = pa.memory_map(str(path)).read_buffer()
        else:
            # A pipe can be read only once, and some files of the system say that they are empty.
            with open(path, "rb") as file:
                buffer = _gathered(iter(lambda: file.read(BLOCK), b""), name)
    except EigencodeError:
        raise
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise cannot_read(path, error) from error
    return Content(name, ending, buffer, packing)


def _missing(path: Path) -> FileError:
    try:
        neighbours = sorted(
            item.name for item in path.parent.glob("*") if os.path.isfile(item) and item.suffix == path.suffix
        )
    except OSError:
        neighbours = []
    return MissingFileError(f"There is no file {str(path)!r}", hint=did_you_mean(path.name, neighbours))


def cannot_read(path: Path, error: OSError) -> FileError:
    """The error for a path that the system does not let us read."""
    return file_error(error, f"Cannot read {str(path)!r}", got=f"the error {error.strerror or error}")


def _unpacked(content: Content, packing: str) -> Content:
    """What a compressed file holds."""
    try:
        stream = pa.CompressedInputStream(pa.BufferReader(content.buffer), COMPRESSIONS[packing])
        buffer = _gathered(iter(lambda: stream.read(BLOCK), b""), content.name, content.buffer.size)
    except (OSError, pa.ArrowException, MemoryError) as error:
        raise FileError(
            f"{content.name} cannot be unpacked as {packing}",
            got=f"the error {str(error).rstrip('.')}",
            hint="It may be damaged, or cut off",
        ) from error
    return replace(content, buffer=buffer, packing="")


def _gathered(blocks: Iterator[bytes], name: str, n_packed: int | None = None) -> pa.Buffer:
    """All blocks of a stream, as long as memory for them lasts: twice of it, while they are put together."""
    found: list[bytes] = []
    size = 0
    for block in blocks:
        found.append(block)
        size += len(block)
        if n_packed is not None:
            require_room(size, n_packed, name, TEXT_AT_MOST)
        if size > available_memory():
            raise DataError(f"{name} does not fit into memory", got=f"more than {size / 1e9:.1f} GB")
    return pa.py_buffer(found[0] if len(found) == 1 else b"".join(found))
