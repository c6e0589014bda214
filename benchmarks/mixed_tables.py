"""Tables for imputation.py and sampling.py: read from files or from scikit-learn, as one matrix, and as standardised
cells.

In the matrix a number is itself, a category is the index of its value, and a gap is NaN. As cells, numbers are
standardised and a category is a block of indicators.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets

MANY = 100
"""Columns of text with more different values than this are left out."""


@dataclass(frozen=True)
class Table:
    """A frame, and the sorted values of each category (None for a column of numbers)."""

    name: str
    frame: pd.DataFrame
    values: list
    is_array: bool = False

    @property
    def is_number(self):
        """Which columns are numbers; (d,)."""
        return np.array([values is None for values in self.values])

    def matrix(self, frame):
        """A frame with these columns as an array (n, d)."""
        columns = zip(self.frame.columns, self.values, strict=True)
        return np.column_stack([indices(frame[name], values) for name, values in columns])


def keys(column):
    """Numbers as floats, other values as text; a gap is NaN."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.astype(float)
    return column.astype(object).map(str, na_action="ignore")


def indices(column, values):
    """Numbers as they are; categories as their indices; values that are no category as NaN."""
    if values is None:
        return column.to_numpy(dtype=float, na_value=np.nan)
    found = pd.Index(values).get_indexer(keys(column)).astype(float)
    return np.where(found < 0, np.nan, found)


def values_of(column):
    """The values of a category: of what is no number, or of two values; None for other numbers."""
    found = keys(column).dropna()
    is_number = pd.api.types.is_float_dtype(found.dtype) and found.nunique() > 2
    return None if is_number else sorted(found.unique())


def tables(names, folder=None, rows=None):
    """scikit-learn's sets or CSV files, and all CSV files of a folder; at most `rows` rows of each, drawn at random."""
    paths = [] if folder is None else sorted(Path(folder).glob("*.csv"))
    for name in [*names, *map(str, paths)]:
        table = from_file(Path(name), rows) if name.endswith(".csv") else from_sklearn(name, rows)
        print(f"\n{table.name}: {len(table.frame)} rows, {table.is_number.sum()} columns of numbers, "
              f"{(~table.is_number).sum()} categories", flush=True)  # fmt: skip
        yield table


def some_rows(frame, rows):
    return frame if rows is None or rows >= len(frame) else frame.sample(rows, random_state=0).reset_index(drop=True)


def from_sklearn(name, rows):
    """An array, standardised with all of its values."""
    X = getattr(datasets, f"load_{name}")().data
    X = X[:, X.std(0) > 0]
    frame = some_rows(pd.DataFrame((X - X.mean(0)) / X.std(0)).rename(columns=str), rows)
    return Table(name, frame, [None] * frame.shape[1], is_array=True)


def from_file(path, rows):
    """A CSV file. If its first line has a number, it is a row. Gaps are empty cells, "NA" and "?"."""
    with path.open(newline="") as lines:
        first = next(csv.reader(lines, skipinitialspace=True))
    has_header = pd.to_numeric(pd.Series(first), errors="coerce").isna().all()
    frame = pd.read_csv(path, header=0 if has_header else None, skipinitialspace=True, na_values="?")
    frame = some_rows(frame.rename(columns=str), rows)
    values = {name: values_of(frame[name]) for name in frame}
    kept = [name for name in frame if frame[name].nunique() > 1 and len(values[name] or ()) <= MANY]
    if left_out := sorted(set(frame) - set(kept)):
        print(f"left out, of one value or of more than {MANY} categories: {', '.join(left_out)}")
    return Table(path.stem, frame[kept], [values[name] for name in kept])


class Cells:
    """The cells of a matrix: means and standard deviations are those of the observed numbers."""

    def __init__(self, table, matrix):
        self.values = table.values
        self.widths = [1 if values is None else len(values) for values in table.values]
        self.mean, self.scale = np.zeros(matrix.shape[1]), np.ones(matrix.shape[1])
        numbers = table.is_number
        self.mean[numbers], spread = np.nanmean(matrix[:, numbers], 0), np.nanstd(matrix[:, numbers], 0)
        self.scale[numbers] = np.where(spread > 0, spread, 1)

    def standardised(self, matrix):
        """Numbers in units of their standard deviation; categories as they are."""
        return (matrix - self.mean) / self.scale

    def raw(self, standardised):
        """Back from standardised numbers; categories as the nearest index."""
        matrix = standardised * self.scale + self.mean
        for j, values in enumerate(self.values):
            if values is not None:
                matrix[:, j] = matrix[:, j].round().clip(0, len(values) - 1)
        return matrix

    def encode(self, matrix):
        """Standardised numbers, and indicators of categories; (n, n_cells)."""
        blocks = []
        for column, values in zip(self.standardised(matrix).T, self.values, strict=True):
            block = column[:, None] if values is None else column[:, None] == np.arange(len(values))
            blocks.append(np.where(np.isnan(column)[:, None], np.nan, block))
        return np.hstack(blocks)

    def blocks(self, cells):
        """The cells of each column."""
        return np.split(cells, np.cumsum(self.widths)[:-1], axis=1)

    def decode(self, cells):
        """The matrix: each category is that of its largest cell."""
        columns = [b[:, 0] if v is None else b.argmax(1) for b, v in zip(self.blocks(cells), self.values, strict=True)]
        return np.column_stack(columns) * self.scale + self.mean

    def shares(self, cells):
        """Probabilities of each category, from cells that are about probabilities; {column: (n, n_values)}."""
        found = {j: b.clip(1e-12) for j, b in enumerate(self.blocks(cells)) if self.values[j] is not None}
        return {j: block / block.sum(1, keepdims=True) for j, block in found.items()}
