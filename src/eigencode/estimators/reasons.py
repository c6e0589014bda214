r"""Reasons: how much each column of a row adds to what an anomaly detector measures of it.

The suspicious cells of a row are found by a normal density of rows (`eigencode.detection.suspicion`), and replaced one
after the other, the most suspicious first, by their means given the cells that are not suspicious. A suspicious cell
adds what its replacement takes from D. The rest, of the row with all of them replaced, is divided: each column has its
squared residual; the columns share the code's :math:`-\log p(z)`, what the commonest code has equally, and what is
above it in proportion to the squares of their cells' distances from their means. So the contributions add up to D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from eigencode.data.cells import is_missing
from eigencode.estimators.unlikeness import answers

if TYPE_CHECKING:
    from eigencode.data.tables import Column, Schema
    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.estimators.unlikeness import Unlikeness


@dataclass(frozen=True, eq=False)
class Reasons:
    """What each cell of some rows adds, in nats, and what was expected of it.

    Attributes
    ----------
    contributions, expected : ndarray of shape (n, d)
        The contributions, in nats, and the mean of each cell given the cells of its row that are not suspicious, in
        the data's units.
    """

    contributions: np.ndarray
    expected: np.ndarray

    def of_columns(self, model: BaseAutoencoder, rows: np.ndarray, frame: Any) -> Reasoned:
        """The same for columns, of mixed ones too, each of which may have several cells."""
        schema = model.columns_
        if schema is None or schema.is_plain:
            known = model._cell_names
            names = [f"x{j}" for j in range(rows.shape[1])] if known is None else list(known)
            return Reasoned(np.array(names, dtype=object), self.contributions, rows, self.expected)
        used = [(column, part) for column, part in _parts(schema) if column.kind.width]
        contributions = np.stack([self.contributions[:, part].sum(1) for _, part in used], axis=1)
        observed, expected = (
            _by_row([column.kind.decode(cells[:, part], column.arrow).to_pylist() for column, part in used])
            for cells in (rows, self.expected)
        )
        if frame is not None:
            observed = _by_row([frame[column.name].to_list() for column, _ in used])
        return Reasoned(np.array([column.name for column, _ in used], dtype=object), contributions, observed, expected)

    @classmethod
    def of(cls, unlikeness: Unlikeness, autoencoder: BaseAutoencoder, rows: np.ndarray) -> Reasons:
        """The reasons of rows of shape (n, d), in the data's units."""
        scaler, everyone = autoencoder.scaler_, np.arange(len(rows))
        given = rows.astype(np.float64)
        scaled = scaler.transform(_without_gaps(autoencoder, given))
        found = unlikeness.density.suspicious_cells(scaled)
        expected = scaler.inverse_transform(found.expected)
        contributions, before = np.zeros_like(scaled), unlikeness.nats(autoencoder, given)
        for columns in found.hidden.T:
            some = everyone[columns >= 0]
            column = columns[some]
            given[some, column], scaled[some, column] = expected[some, column], found.expected[some, column]
            after = unlikeness.nats(autoencoder, given[some])
            contributions[some, column] += before[some] - after
            before[some] = after
        for part in _blocks(autoencoder.columns_):  # the cells of a label tell each other, and not what to expect
            found.expected[:, part] = unlikeness.density.expected_without(scaled, part)
        expected = scaler.inverse_transform(found.expected)
        residuals, codes = answers(autoencoder, given)
        contributions += np.square(residuals) / (2 * unlikeness.noise) + _of_codes(unlikeness, codes, scaled)
        return cls(contributions, expected)


def _parts(schema: Schema) -> list[tuple[Column, slice]]:
    """The columns of a frame, each with the numbers of its cells."""
    ends = np.cumsum([column.kind.width for column in schema.columns]).tolist()
    return [(column, slice(end - column.kind.width, end)) for column, end in zip(schema.columns, ends, strict=True)]


def _blocks(schema: Schema | None) -> list[slice]:
    """The cells of columns that have several."""
    return [] if schema is None else [part for column, part in _parts(schema) if column.kind.width > 1]


@dataclass(frozen=True, eq=False)
class Reasoned:
    """Columns of some rows: names, and the contribution, the value and the expected value of each, shape (n, c)."""

    names: np.ndarray
    contributions: np.ndarray
    observed: np.ndarray
    expected: np.ndarray

    def ranked(self, labels: ArrayLike, n_columns: int | None) -> dict[str, np.ndarray]:
        """A table with a line for each row and column, the columns of a row by their contributions."""
        order = np.argsort(-self.contributions, axis=1, kind="stable")[:, :n_columns]
        n, n_kept = order.shape
        contributions, observed, expected = (
            np.take_along_axis(values, order, 1).ravel()
            for values in (self.contributions, self.observed, self.expected)
        )
        return {
            "row": np.repeat(np.asarray(labels), n_kept),
            "rank": np.tile(np.arange(1, n_kept + 1), n),
            "column": self.names[order.ravel()],
            "contribution": contributions,
            "observed": observed,
            "expected": expected,
            "direction": _directions(observed, expected),
        }


def _by_row(columns: list[list[Any]]) -> np.ndarray:
    """The values of columns as objects, shape (n, c)."""
    found = np.empty((len(columns[0]), len(columns)), dtype=object)
    for index, values in enumerate(columns):
        found[:, index] = values
    return found


def _directions(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How values differ from what is expected."""
    if observed.dtype != object:
        return np.where(np.isnan(observed), "missing", np.where(observed > expected, "above", "below"))
    return np.array([_direction(*pair) for pair in zip(observed, expected, strict=True)])


def _direction(observed: Any, expected: Any) -> str:
    if is_missing(observed):
        return "missing"
    if observed == expected:
        return "equal"
    is_label = isinstance(observed, str | bool) or isinstance(expected, str | bool) or expected is None
    return "other" if is_label else "above" if observed > expected else "below"


def _of_codes(unlikeness: Unlikeness, codes: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """The share of each column in minus the log-density of a code, shape (n, d)."""
    density = unlikeness.density
    squares = np.square(scaled - density.center) / np.diag(density.covariance) + np.finfo(np.float64).tiny
    excess = -unlikeness.mixture.log_prob(codes) - unlikeness.commonest
    shares = squares / squares.sum(1, keepdims=True)
    found: np.ndarray = unlikeness.commonest / scaled.shape[1] + excess[:, None] * shares
    return found


def _without_gaps(autoencoder: BaseAutoencoder, rows: np.ndarray) -> np.ndarray:
    """Rows whose gaps are filled by their means given the known cells."""
    has_gaps = np.isnan(rows).any(1)
    if not has_gaps.any():
        return rows
    filled = rows.copy()
    imputed = autoencoder._answer_of(rows[has_gaps], autoencoder._expected, autoencoder._in_data_units)
    filled[has_gaps] = np.where(np.isnan(rows[has_gaps]), imputed, rows[has_gaps])
    return filled
