"""Answers to questions about rows, written to a file a block at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa

from eigencode.data.block_sources import answers_of
from eigencode.data.files import table_writer
from eigencode.data.formats import FORMATS
from eigencode.data.named_files import files_named, opened
from eigencode.data.tables import as_table
from eigencode.data.writing import check_output


def write_answers(
    output: str | os.PathLike[str],
    X: Any,
    n_columns: int,
    ask: Callable[[Any, int], Any],
    names: Sequence[str] | None = None,
) -> None:
    """Write the answers to a question about rows, as for `answers_of`; the file is there when it is complete.

    Parameters
    ----------
    output : path-like
        The file, whose ending names its format; it must not be one of those read.
    X, n_columns, ask
        As for `answers_of`; X may name files.
    names : sequence of str, optional
        Names of the columns of answers that are arrays; 'x0', 'x1' and so on without.
    """
    check_output(output, FORMATS, files_named(X))
    with table_writer(output) as write:
        for answer in answers_of(opened(X), n_columns, ask):
            write(columns_of(answer, names))


def columns_of(answer: Any, names: Sequence[str] | None = None) -> pa.Table | Mapping[str, np.ndarray]:
    """An array, with names for its columns, or a frame of any library, as columns that can be written."""
    if isinstance(answer, np.ndarray):
        names = [f"x{j}" for j in range(answer.shape[1])] if names is None else list(names)
        return dict(zip(names, answer.T, strict=True))
    return as_table(nw.from_native(answer, eager_only=True))
