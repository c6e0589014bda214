"""Rows that are given by the name of a file, a folder or a pattern."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from eigencode.data.block_sources import BlockSource, dataset_source
from eigencode.data.containers import refuse_non_tables
from eigencode.data.contents import ending_of, list_files
from eigencode.data.file_source import FileSource
from eigencode.data.files import FileColumns, Table, columns_of_files, concatenated
from eigencode.data.formats import FOLDER_ENDINGS
from eigencode.data.image_files import ImageRows, mapped_array, read_images
from eigencode.data.image_paths import is_image, list_image_files
from eigencode.data.one_pass import OnePass, read_stream
from eigencode.data.rows_by_number import RowsByNumber
from eigencode.data.sources import joined_rows
from eigencode.errors import EigencodeError, FileError, warn

STREAMED_FROM = 2**26
"""Cells of a table from which it is read a block at a time, in each epoch anew; a smaller one is read once."""


def opened(X: Any) -> Any:
    """The table that names of files, or a source of rows, stand for; anything else as it is.

    Parameters
    ----------
    X : path-like, list of path-like, or rows
        Files of one format: Parquet, Arrow IPC, NPY, CSV or TSV; or of images. Or a sparse matrix, a dataset of torch
        or of Hugging Face, an Arrow stream, or an iterable of blocks of rows.

    Returns
    -------
    frame, array, BlockSource, RowsByNumber or OnePass
        The last three where the rows are many.
    """
    if not is_name(X):
        return _source(X)
    if (paths := _image_paths(X)) is not None:
        return image_rows(paths).frame
    files = list_files(X, FOLDER_ENDINGS)
    endings = {ending_of(Path(file))[0] for file in files}  # type: ignore[arg-type]
    if len(endings) > 1:
        raise FileError("The files have several formats", got=", ".join(sorted(endings)), hint="Choose one format")
    if endings == {".npy"} and len(files) == 1 and (array := mapped_array(Path(cast(str, files[0])))) is not None:
        return array
    with _without_flags():
        table = rows_of_files(partial(columns_of_files, files))
    for note in table.notes:
        warn(_for_python(note))
    return table.frame


@contextmanager
def _without_flags() -> Iterator[None]:
    """Errors whose advice is a flag of the command line say what to do in Python, too."""
    try:
        yield
    except EigencodeError as error:
        if error.hint is None or _for_python(error.hint) == error.hint:
            raise
        raise type(error)(error.what, got=error.got, hint=_for_python(error.hint)) from error


def _for_python(advice: str) -> str:
    if "--" not in advice:
        return advice
    return f"{advice.removesuffix('.')}; in Python, read the file with pandas and give the frame"


def _source(X: Any) -> Any:
    """Rows that are made when they are asked for, or read as a stream, in memory if they are few."""
    if isinstance(X, RowsByNumber | BlockSource | OnePass | np.ndarray | list | tuple):
        return X
    found = RowsByNumber.of(X)
    if found is not None:
        return found if found.size >= STREAMED_FROM else found[:]
    if (source := dataset_source(X)) is not None:
        is_small = len(source) * source.n_columns < STREAMED_FROM
        return joined_rows(list(source.blocks(len(source)))) if is_small else source
    if isinstance(X, Mapping):
        refuse_non_tables(X, "X")
    stream = read_stream(X, STREAMED_FROM)
    return X if stream is None else stream


def rows_of_files(columns: Callable[[], Iterable[FileColumns]], *, may_stay: bool = True) -> Table:
    """The rows of the columns of files, which stay there if they are many, and if they ``may_stay``."""
    found = list(columns())
    n_cells = sum(each.file.n_rows * len(each.positions) for each in found)
    if not may_stay or n_cells < STREAMED_FROM or not all(each.can_be_read_in_parts for each in found):
        return concatenated([each.read() for each in found])
    names, notes = found[0].names, tuple(dict.fromkeys(note for each in found for note in each.notes()))
    found.clear()  # open files take memory
    return Table(FileSource(columns()), names, notes)


def image_rows(
    paths: Sequence[str | os.PathLike[str]],
    size: tuple[int, int] | None = None,
    like: Sequence[int] = (),
    *,
    may_stay: bool = True,
) -> ImageRows:
    """The rows of image files, as `read_images`, which stay there if they are many, and if they ``may_stay``."""
    return read_images(paths, size=size, like=like, stay_from=STREAMED_FROM if may_stay else math.inf)


def files_named(X: Any) -> list[Any]:
    """The files that a path, a folder, a pattern or a list of these names; none for anything else."""
    if not is_name(X):
        return []
    paths = _image_paths(X)
    return list_files(X, FOLDER_ENDINGS) if paths is None else list_image_files(paths)[0]


def _image_paths(X: Any) -> Sequence[str | os.PathLike[str]] | None:
    """The paths of names that are of images; None for tables."""
    paths = [X] if isinstance(X, str | os.PathLike) else X
    return paths if any(map(is_image, paths)) else None


def is_name(X: Any) -> bool:
    """Whether rows are given by the names of files; in a list these are paths, since strings may be cells."""
    are_paths = isinstance(X, Sequence) and len(X) > 0 and all(isinstance(each, os.PathLike) for each in X)
    return isinstance(X, os.PathLike | str) or are_paths
