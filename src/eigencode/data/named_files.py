"""Rows that are given by the name of a file, a folder or a pattern."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eigencode.data.block_sources import ParquetSource
from eigencode.data.contents import ending_of, list_files
from eigencode.data.files import read_table
from eigencode.data.formats import FOLDER_ENDINGS
from eigencode.errors import FileError

STREAMED_FROM = 2**26
"""Cells of a table from which it is read a block at a time, in each epoch anew; a smaller one is read once."""


def opened(X: Any) -> Any:
    """The table that a path, a folder, a pattern or a list of these names; anything else as it is.

    Parameters
    ----------
    X : path-like, list of path-like, or rows
        Files of one format: Parquet, Arrow IPC, NPY, CSV or TSV.

    Returns
    -------
    frame, array or BlockSource
        A `BlockSource` where files of Parquet are large.
    """
    if not is_name(X):
        return X
    files = list_files(X, FOLDER_ENDINGS)
    endings = {ending_of(Path(file))[0] for file in files}  # type: ignore[arg-type]
    if len(endings) > 1:
        raise FileError("The files have several formats", got=", ".join(sorted(endings)), hint="Choose one format")
    if endings <= {".parquet", ".pq"}:
        source = ParquetSource(files)
        if len(source) * len(source.names) >= STREAMED_FROM:
            return source
    if endings == {".npy"} and len(files) == 1:
        return np.load(files[0], mmap_mode="r")
    return read_table(files).frame


def is_name(X: Any) -> bool:
    """Whether rows are given by the names of files; in a list these are paths, since strings may be cells."""
    are_paths = isinstance(X, Sequence) and len(X) > 0 and all(isinstance(each, os.PathLike) for each in X)
    return isinstance(X, os.PathLike | str) or are_paths
