"""Formats of table files, by the ending of the name or by the first bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from eigencode.data.binary_files import Arrow, Npy, Parquet
from eigencode.data.contents import Content, PathOrFile, ending_of, read_content
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
"""Formats that can be written, by the ending of their files."""

READABLE: dict[str, type[TableFile]] = {
    **FORMATS,
    **dict.fromkeys((".txt", ".dat", ".data"), Csv),
    ".tab": Tsv,
    ".pq": Parquet,
    **dict.fromkeys((".ipc", ".arrows"), Arrow),
}
"""Formats that can be read, by the ending of their files."""

FOLDER_ENDINGS = tuple(ending for ending in READABLE if ending not in (".txt", ".dat", ".data"))
"""Endings of the files that are read from a folder; text files in a folder may not be tables."""

MAGICS: dict[bytes, type[TableFile]] = {
    b"PAR1": Parquet,
    b"ARROW1": Arrow,
    b"\xff\xff\xff\xff": Arrow,
    b"\x93NUMPY": Npy,
}
"""Formats by the first bytes, for files without an ending."""

ELSEWHERE = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), "Save the sheet as CSV"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson", ".xml", ".html"), "Save it as CSV, or as Parquet with pandas"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "Pickles can run programs: save it as Parquet, or with numpy.save"),
    ".safetensors": "It is that of a model, which is given before the rows, or alone",
    ".npz": "Save one of its arrays with numpy.save",
    **dict.fromkeys((".mat", ".h5", ".hdf5", ".nc"), "Save one of its arrays with numpy.save"),
    **dict.fromkeys((".sav", ".dta", ".sas7bdat", ".xpt", ".rds", ".rdata"), "Save it as CSV or Parquet"),
    **dict.fromkeys((".db", ".sqlite", ".orc", ".avro"), "Save the table as CSV or Parquet"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar", ".xz"), "Unpack it first"),
}
"""Hints for files of other formats."""


def open_table(source: PathOrFile, options: TextOptions = DEFAULT) -> TableFile:
    """Open a file of any format, and read its header.

    Raises
    ------
    FileError
        If it cannot be read, or not in its format.
    """
    if not hasattr(source, "read"):
        check_ending(Path(as_path(cast(str, source))))
    content = read_content(source)
    if not content.buffer.size:
        raise DataError(f"{content.name} is empty", hint="A table needs names of its columns, and rows")
    return _format_of(content)(content, options)


def check_ending(path: Path) -> None:
    """Raise `FileError` if the ending is not that of a format; a pipe may have any ending."""
    ending, compression = ending_of(path)
    if ending in READABLE or (compression and not ending) or (os.path.exists(path) and not os.path.isfile(path)):
        return
    if not ending and not os.path.exists(path):
        raise MissingFileError(f"There is no file or folder {str(path)!r}")
    raise FileError(
        f"The ending of {str(path)!r} does not name a format of tables",
        got=repr(ending + compression) if ending else "no ending",
        hint=ELSEWHERE.get(ending) or did_you_mean(ending, FORMATS),
    )


def _format_of(content: Content) -> type[TableFile]:
    """The format by the ending, else by the first bytes, else text."""
    found = next((format_ for magic, format_ in MAGICS.items() if content.starts_with(magic)), Csv)
    if content.ending not in READABLE:
        return found
    named = READABLE[content.ending]
    if not issubclass(named, Csv) and found is not named and (found is not Csv or content.is_plain_text):
        got = "text" if found is Csv else "NPY" if found is Npy else found.__name__
        hint = f"Give it the ending of its format{', as .csv' if found is Csv else ''}"
        raise FileError(f"{content.name} is not in the format of its ending, {content.ending!r}", got=got, hint=hint)
    return named
