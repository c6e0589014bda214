"""Formats: which kind of table file a name or a content speaks of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from eigencode.data.binary_files import Arrow, Npy, Parquet
from eigencode.data.contents import Content, Source, content_of, ending_of
from eigencode.data.delimited import Csv, Tsv
from eigencode.data.table_files import DEFAULT, TableFile, TextOptions
from eigencode.errors import DataError, FileError, MissingFileError, as_path, did_you_mean

__all__ = ["FOLDER_ENDINGS", "FORMATS", "READABLE", "Csv", "TableFile", "TextOptions", "open_table"]

FORMATS: dict[str, type[TableFile]] = {
    ".csv": Csv,
    ".tsv": Tsv,
    ".parquet": Parquet,
    ".arrow": Arrow,
    ".feather": Arrow,
    ".npy": Npy,
}
"""Formats that are written, by the ending of their files."""

READABLE: dict[str, type[TableFile]] = {
    **FORMATS,
    **dict.fromkeys((".txt", ".dat", ".data"), Csv),
    ".tab": Tsv,
    ".pq": Parquet,
    **dict.fromkeys((".ipc", ".arrows"), Arrow),
}
"""Formats that are read, by the ending of their files."""

FOLDER_ENDINGS = tuple(ending for ending in READABLE if ending not in (".txt", ".dat", ".data"))
"""Endings of what a folder is read for: text in it may be no table."""

MAGICS: dict[bytes, type[TableFile]] = {
    b"PAR1": Parquet,
    b"ARROW1": Arrow,
    b"\xff\xff\xff\xff": Arrow,
    b"\x93NUMPY": Npy,
}
"""Formats by the first bytes of what has no name."""

ELSEWHERE = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), "Save the sheet as CSV"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson", ".xml", ".html"), "Save it as CSV, or as Parquet with pandas"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "Pickles can run programs: save it as Parquet, or with numpy.save"),
    ".npz": "Save one of its arrays with numpy.save",
    **dict.fromkeys((".mat", ".h5", ".hdf5", ".nc"), "Save one of its arrays with numpy.save"),
    **dict.fromkeys((".sav", ".dta", ".sas7bdat", ".xpt", ".rds", ".rdata"), "Save it as CSV or Parquet"),
    **dict.fromkeys((".db", ".sqlite", ".orc", ".avro"), "Save the table as CSV or Parquet"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar", ".xz"), "Unpack it first"),
}
"""What to do about files of other kinds."""


def open_table(source: Source, options: TextOptions = DEFAULT) -> TableFile:
    """Open a file, and read its header.

    Raises
    ------
    FileError
        If it cannot be read, or not as what it seems to be.
    """
    if not hasattr(source, "read"):
        check_ending(Path(as_path(cast(str, source))))
    content = content_of(source)
    if not content.buffer.size:
        raise DataError(f"{content.name} is empty", hint="A table needs names of its columns, and rows")
    return _kind(content)(content, options)


def check_ending(path: Path) -> None:
    """Refuse a file whose ending names none of the formats; a pipe may have any."""
    ending, packing = ending_of(path)
    if ending in READABLE or (packing and not ending) or (os.path.exists(path) and not os.path.isfile(path)):
        return
    if not ending and not os.path.exists(path):
        raise MissingFileError(f"There is no file or folder {str(path)!r}")
    raise FileError(
        f"The ending of {str(path)!r} does not name a format for this",
        got=repr(ending + packing) if ending else "no ending",
        hint=ELSEWHERE.get(ending) or did_you_mean(ending, FORMATS),
    )


def _kind(content: Content) -> type[TableFile]:
    """The format that the ending names, else that which the first bytes show, else text."""
    found = next((kind for magic, kind in MAGICS.items() if content.starts_with(magic)), Csv)
    if content.ending not in READABLE:
        return found
    kind = READABLE[content.ending]
    if not issubclass(kind, Csv) and found is not kind and (found is not Csv or content.is_plain_text):
        got = "text" if found is Csv else "NPY" if found is Npy else found.__name__
        hint = "Give it the ending of its format, as .csv" if found is Csv else "Give it the ending of its format"
        raise FileError(f"{content.name} is not what its ending says, {content.ending!r}", got=got, hint=hint)
    return kind
