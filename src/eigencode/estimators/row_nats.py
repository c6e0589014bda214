r"""RowNats: minus the logarithm of how likely a row is to a fitted autoencoder, in nats.

.. math:: D(x) = \sum_j \frac{(x_j - \hat x_j)^2}{2 s_j^2} - \sum_b \log p(x_b | z) - \log p(z) - \sum_c \log p(o_c)

with the code z, the scaled numbers j beside their reconstructions, the labels and counts b by the likelihood of their
column, and o_c for whether the value of a column is known, missing, or one that the column cannot have. A number is
compared with an exact reconstruction, so that nats do not depend on units. For a variational model
:math:`\log p(x | \mu) - KL(q(z|x), p(z))`, its bound on log p(x) at the mean of the code, replaces all terms but the
last: it takes one pass, and finds anomalies as well as the mean over 64 codes does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from eigencode import model
from eigencode.batch import Batch
from eigencode.data.containers import NamedArray
from eigencode.data.gaps import missing_values_of
from eigencode.detection.neighbors import ROUNDING
from eigencode.detection.suspicion import CellDensity
from eigencode.detection.tails import ColumnTails
from eigencode.estimators.cell_density import cell_density
from eigencode.estimators.variational import VariationalAutoencoder
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.data import Scaler
    from eigencode.data.tables import Schema
    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.model import Composition

SMALLEST_NOISE = 1e-6
"""Smallest variance of the residuals, beside that of the scaled rows."""

FLAT_NOISE = 1e-100
"""Variance of the residuals of rows that are all the same; squares of the nats of other rows are finite."""

MOST_SURPRISES = 1_000
"""Rows fitted by which it is known how surprising each column usually is."""

FOLDS = 5
"""Parts of few rows, whose surprises are by a density of the other parts: rows are less surprising to their own."""

FEWEST_FOLDED = 20
"""Rows that are divided into parts, at least."""

FEWEST = 0.5
"""Rows that a label, a gap or an impossible value counts as if it had, where no row fitted has it."""


@dataclass(frozen=True, eq=False)
class RowNats:
    """D, by the rows that were fitted.

    Attributes
    ----------
    mixture : Mixture
        The density of the codes.
    noise : ndarray of shape (d,)
        Variance s^2 of the residual of each scaled cell; the same for all where all are numbers.
    gaps : ndarray of shape (c,)
        The share of rows in which each column is missing.
    impossible : float
        The probability of a value that no row fitted could have.
    constant : ndarray of int
        The cells that have one value in all rows fitted; their columns can have no other.
    density : CellDensity
        A density of scaled cells: it fills gaps for an encoder that has not learned what a gap is, and says how
        surprising each column is given the others.
    surprise_tails : ColumnTails
        How often columns are as surprising.
    """

    mixture: model.Mixture
    noise: np.ndarray
    gaps: np.ndarray
    impossible: float
    constant: np.ndarray
    density: CellDensity
    surprise_tails: ColumnTails

    @classmethod
    def of(cls, autoencoder: BaseAutoencoder, rows: np.ndarray, density: CellDensity, seed: int) -> Self:
        """By the rows fitted, of shape (n, d)."""
        residuals, _, codes = _answers(autoencoder, rows, rows.astype(np.float64))
        total = len(rows) + 3 * FEWEST
        is_gap = _is_gap(autoencoder.columns_, rows)
        mixture, noise = model.fit_mixture(codes, seed), _noise(autoencoder, rows, residuals)
        tails = ColumnTails.of(_known_surprise(autoencoder, density, rows, seed))
        constant = np.array(autoencoder.scaler_.constant, dtype=np.int64)
        constant = constant[~_differ(autoencoder.scaler_, rows, constant).any(0)]
        return cls(mixture, noise, (is_gap.sum(0) + FEWEST) / total, FEWEST / total, constant, density, tails)

    def of_values(self, autoencoder: BaseAutoencoder, rows: np.ndarray) -> np.ndarray:
        """The terms of the values and of the code, for each row, shape (n,)."""
        filled = self._filled(autoencoder, rows)
        if isinstance(autoencoder, VariationalAutoencoder):
            return -autoencoder._bound_at_mean(filled)
        residuals, labels, codes = _answers(autoencoder, rows, filled)
        found: np.ndarray = (np.square(residuals) / (2 * self.noise)).sum(1) + labels - self.mixture.log_prob(codes)
        return found

    def of_states(self, autoencoder: BaseAutoencoder, given: NamedArray) -> np.ndarray:
        """The term of each column's state, shape (n, c)."""
        is_gap = _is_gap(autoencoder.columns_, given.array)
        shares = np.where(is_gap, self.gaps, 1 - self.gaps - self.impossible)
        differ = _differ(autoencoder.scaler_, given.array, self.constant)
        is_other = (differ @ _owners(autoencoder.columns_, self.constant, given.array.shape[1])) > 0
        return -np.log(np.where(is_allowed(autoencoder, given) & ~is_other, shares, self.impossible))

    @property
    def usual_states(self) -> np.ndarray:
        """The term of the commoner state of each column, known or missing, shape (c,)."""
        found: np.ndarray = -np.log(np.maximum(self.gaps, 1 - self.gaps - self.impossible))
        return found

    def surprise(self, autoencoder: BaseAutoencoder, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How rarely some column is as surprising as each is, shape (n, c); the expected scaled cells, (n, d)."""
        found, expected = _surprise(autoencoder, self.density, rows)
        return self.surprise_tails(found), expected

    def __call__(self, autoencoder: BaseAutoencoder, given: NamedArray) -> np.ndarray:
        """D of each row, shape (n,)."""
        return self.of_values(autoencoder, given.array) + self.of_states(autoencoder, given).sum(1)

    def fits(self, schema: Schema | None, n_cells: int, n_components: int) -> bool:
        """Whether it is of rows of these columns and of codes of so many components."""
        n_columns = n_cells if schema is None else len(used_columns(schema))
        return (
            self.mixture.means.shape[1] == n_components
            and self.noise.shape == (n_cells,)
            and self.gaps.shape == (n_columns,)
            and bool((self.gaps > 0).all() and (self.gaps + self.impossible < 1).all() and self.impossible > 0)
            and bool(np.isin(self.constant, np.arange(n_cells)).all())
            and len(self.surprise_tails.own) == n_columns
            and all(tail.is_sound for tail in (*self.surprise_tails.own, self.surprise_tails.joint))
            and self.density.is_sound
            and self.density.means.shape[1] == n_cells
        )

    def _filled(self, autoencoder: BaseAutoencoder, rows: np.ndarray) -> np.ndarray:
        """Rows in float64, whose gaps are filled if the autoencoder has not learned what a gap is.

        In float32 the score of a row would depend on the rows beside it, whose number decides how matrices are added.
        """
        scaler, filled, has_gap = autoencoder.scaler_, rows.astype(np.float64), np.isnan(rows).any(1)
        if scaler.has_gaps or not has_gap.any():
            return filled
        own = filled[has_gap]
        expected = scaler.inverse_transform(self.density.completed(scaler.transform(own)))
        filled[has_gap] = np.where(np.isnan(own), expected, own)
        return filled


def used_columns(schema: Schema) -> np.ndarray:
    """The numbers of the columns that a row can be unlikely for: those with cells, and those of one value."""
    return np.flatnonzero([column.kind.width > 0 or column.kind.kind == "constant" for column in schema.columns])


def is_allowed(autoencoder: BaseAutoencoder, given: NamedArray) -> np.ndarray:
    """Whether each value is one that its column can have, shape (n, c); the cells of an array say nothing of it."""
    schema = autoencoder.columns_
    if schema is None or given.frame is None:
        return np.ones((1, 1), dtype=bool)
    return schema.allows(given.frame, missing_values_of(autoencoder))[:, used_columns(schema)]


def numbers_of(autoencoder: BaseAutoencoder, given: NamedArray) -> np.ndarray | None:
    """The numbers of a frame of mixed columns in their own units, shape (n, k), NaN in gaps; None for other rows."""
    schema = autoencoder.columns_
    if schema is None or schema.is_plain or given.frame is None:
        return None
    return schema.numbers(given.frame, missing_values_of(autoencoder))


def cells_of(schema: Schema | None, n_cells: int) -> list[slice]:
    """The cells of each of these columns."""
    if schema is None:
        return [slice(j, j + 1) for j in range(n_cells)]
    ends = np.cumsum([column.kind.width for column in schema.columns]).tolist()
    return [slice(ends[j] - schema.columns[j].kind.width, ends[j]) for j in used_columns(schema)]


def _known_surprise(autoencoder: BaseAutoencoder, density: CellDensity, rows: np.ndarray, seed: int) -> np.ndarray:
    """How surprising each column is in some of the rows fitted, shape (m, c)."""
    order = np.random.default_rng(seed).permutation(len(rows))
    if not FEWEST_FOLDED <= len(rows) <= MOST_SURPRISES:
        return _surprise(autoencoder, density, rows[order[:MOST_SURPRISES]])[0]
    parts = np.array_split(order, FOLDS)
    others = [np.concatenate([*parts[:i], *parts[i + 1 :]]) for i in range(FOLDS)]
    return np.concatenate(
        [
            _surprise(autoencoder, cell_density(autoencoder, rows[other], seed), rows[part])[0]
            for part, other in zip(parts, others, strict=True)
        ]
    )


def _owners(schema: Schema | None, cells: np.ndarray, n_cells: int) -> np.ndarray:
    """1 where one of some cells is of a column, shape (k, c)."""
    first, last = np.array([(part.start, part.stop) for part in cells_of(schema, n_cells)]).T
    return ((cells[:, None] >= first) & (cells[:, None] < last)).astype(np.float64)


def _differ(scaler: Scaler, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Which rows have another value in some constant cells, but for the rounding of 32-bit numbers, shape (n, k)."""
    if not len(cells):
        return np.zeros((len(rows), 0), dtype=bool)
    scaled = scaler.transform(np.asarray(rows).astype(np.float64))[:, cells]
    found: np.ndarray = np.abs(scaled) > ROUNDING * np.abs(scaler.center / scaler.divisor)[cells]
    return found


def _surprise(autoencoder: BaseAutoencoder, density: CellDensity, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How surprising each column is given those that are not suspicious, in nats, and the expected scaled cells."""
    found = density.suspicion(autoencoder.scaler_.transform(rows.astype(np.float64)))
    surprise = np.zeros(rows.shape)
    surprise[:, density.firsts] = found.surprise
    parts = cells_of(autoencoder.columns_, rows.shape[1])
    return np.stack([surprise[:, part].sum(1) for part in parts], axis=1), found.expected


def _answers(
    autoencoder: BaseAutoencoder, rows: np.ndarray, filled: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row: residuals of the scaled numbers, 0 in gaps and labels, shape (n, d); nats of labels; the code."""
    number = _is_number(autoencoder.columns_, rows.shape[1])

    def ask(composition: Composition, clean: Batch, seen: Batch) -> Tensor:
        z = composition.encode(*seen.cells).mean
        p, is_number = composition.decode(z), torch.from_numpy(number).to(z.device)
        residuals = autoencoder._difference(composition, clean, p, True).where(is_number, 0.0)
        if number.all():
            return torch.cat([residuals, z], dim=1)
        labels = clean.selected(-p.log_prob(composition.likelihood.target(*clean.cells))).where(~is_number, 0.0)
        return torch.cat([residuals + labels, z], dim=1)

    d = len(number)
    found = autoencoder._in_float64(filled, ask)
    cells = np.where(np.isnan(rows), 0.0, found[:, :d])
    return np.where(number, cells, 0.0), np.where(number, 0.0, cells).sum(1), found[:, d:]


def _is_number(schema: Schema | None, n_cells: int) -> np.ndarray:
    """Which cells are numbers, that are compared with their reconstructions; the others have a likelihood of theirs."""
    return np.ones(n_cells, dtype=bool) if schema is None else schema.are_real


def _is_gap(schema: Schema | None, rows: np.ndarray) -> np.ndarray:
    """Whether the value of each used column is missing, shape (n, c); its first cell says so."""
    slices = cells_of(schema, rows.shape[1])
    first = np.minimum([part.start for part in slices], rows.shape[1] - 1)
    return np.isnan(rows[:, first]) & np.array([part.stop > part.start for part in slices])


def _noise(autoencoder: BaseAutoencoder, rows: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """The variance of a residual of each cell; a code of k numbers takes k of the d directions of the residuals."""
    n, d = residuals.shape
    share = d / max(d - autoencoder.n_components_, 1)
    number, squares = _is_number(autoencoder.columns_, d), np.square(residuals)
    cells = np.nan_to_num(autoencoder.scaler_.transform(rows.astype(np.float64)), nan=0.0)
    smallest = max(SMALLEST_NOISE * float(cells.var()), FLAT_NOISE)
    if number.all():
        return np.full(d, max(float(squares.sum()) / (n * d) * share, smallest))
    n_known = np.maximum((~np.isnan(rows)).sum(0), 1)
    return np.where(number, np.maximum(squares.sum(0) / n_known * share, smallest), 1.0)
