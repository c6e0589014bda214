"""Columns of rows and of a model's answers, as numbers or labels, so that both can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eigencode.data.gaps import missing_values_of, with_gaps
from eigencode.data.tables import as_frame
from eigencode.data.tables.frames import columns_of
from eigencode.data.tables.labels import Boolean, Labels
from eigencode.words import figures

MISSING = "missing"
"""A gap, for a reader."""


@dataclass(frozen=True, eq=False)
class Column:
    """One column of some rows.

    Attributes
    ----------
    name : str
        Its name.
    is_number : bool
        Whether its values are numbers (a time is in seconds).
    values : ndarray of shape (n,)
        float64 with NaN for gaps, or objects with None for gaps.
    is_time : bool
        Whether the numbers are seconds since 1970.
    """

    name: str
    is_number: bool
    values: np.ndarray
    is_time: bool = False

    @cached_property
    def is_known(self) -> np.ndarray:
        """Which values are not gaps."""
        if self.is_number:
            return np.isfinite(self.values)
        return np.array([value is not None for value in self.values], dtype=bool)

    @property
    def usual(self) -> Any:
        """The mean of numbers, the most frequent of labels."""
        known = self.values[self.is_known]
        if not len(known):
            return np.nan if self.is_number else None
        if self.is_number:
            return known.mean()
        labels, counts = np.unique(known.astype(str), return_counts=True)
        return labels[counts.argmax()]

    @property
    def spread(self) -> float:
        """The standard deviation of known numbers, NaN without any."""
        known = self.values[~np.isnan(self.values)]
        return float(known.std()) if len(known) else float("nan")

    def explained(self, rebuilt: np.ndarray) -> float:
        """The share of the variance that is explained, or of the labels that are right."""
        if not self.is_known.any():
            return float("nan")
        values, others = self.values[self.is_known], rebuilt[self.is_known]
        if not self.is_number:
            return float(np.mean(values.astype(str) == others.astype(str)))
        variance = float(values.var())
        return float("nan") if variance == 0 else 1 - float(np.square(values - others).mean()) / variance

    def wrong(self, guess: Any, mask: np.ndarray) -> float:
        """The error of guesses of hidden values: in standard deviations, or the share of labels that are wrong."""
        values = self.values[mask]
        guesses = guess[mask] if isinstance(guess, np.ndarray) else np.full(len(values), guess)
        if not self.is_number:
            return float(np.mean(values.astype(str) != guesses.astype(str)))
        return float(np.sqrt(np.square(values - guesses).mean())) / (self.spread or 1.0)

    def text(self, number: int) -> str:
        """One value for a reader."""
        value = self.values[number]
        if not self.is_known[number]:
            return MISSING
        if self.is_time:
            return str(np.datetime64(round(float(value)), "s")).replace("T", " ").removesuffix(" 00:00:00")
        return figures(value, 4) if self.is_number else str(value)

    def __getitem__(self, rows: Any) -> Column:
        return Column(self.name, self.is_number, self.values[rows], self.is_time)


@dataclass(frozen=True, eq=False)
class ColumnError:
    """How well one column is rebuilt.

    Attributes
    ----------
    name : str
        The column.
    explained : float
        Of a number, the share of its variance that the reconstruction explains; of a label, the share that is right.
    usual : float
        The same of the mean, 0, or of the most frequent label.
    linear : float
        The same of the linear baseline; NaN where there is none.
    missing : float
        The share of gaps.
    is_number : bool
        Whether it is of numbers.
    """

    name: str
    explained: float
    usual: float
    linear: float
    missing: float
    is_number: bool


def columns(rows: Any, model: Any) -> list[Column]:
    """The columns of rows, or of a model's answer in their form, that the model uses."""
    frame, schema, missing_values = as_frame(rows), model.columns_, missing_values_of(model)
    if frame is None or schema is None:
        array = with_gaps(np.asarray(rows, dtype=np.float64).reshape(len(rows), -1), missing_values)
        names = getattr(model, "feature_names_in_", None) if frame is None else frame.columns
        names = [f"x{number}" for number in range(array.shape[1])] if names is None else names
        return [Column(str(name), True, values) for name, values in zip(names, array.T, strict=True)]
    kinds = {column.name: column.kind for column in schema.columns if column.kind.width}
    given = columns_of(frame, missing_values)
    return [_column(kinds[values.name], values) for values in given if values.name in kinds]


def _column(kind: Any, values: Any) -> Column:
    """One column of a frame."""
    if isinstance(kind, Labels | Boolean):
        codes, labels = values.coded
        return Column(str(values.name), False, np.array([*labels.to_pylist(), None], dtype=object)[codes])
    return Column(str(values.name), True, kind.numbers(values).astype(np.float64), kind.kind == "time")


def take(rows: Any, numbers: np.ndarray) -> Any:
    """Some rows of an array or a frame, in its own form."""
    frame = as_frame(rows)
    if frame is not None:
        return frame[numbers.tolist()].to_native()
    return rows[numbers] if hasattr(rows, "dtype") else np.asarray(rows)[numbers]


def labels_of(rows: Any, numbers: np.ndarray) -> list[str]:
    """What a reader calls some rows: their labels in a pandas index, or their numbers from 0."""
    return [str(label) for label in (rows.index[numbers] if hasattr(rows, "iloc") else numbers)]
