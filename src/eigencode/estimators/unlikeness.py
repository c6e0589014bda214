r"""Unlikeness: what an anomaly detector measures of a row, and how it is joined to one score.

With D(x) in nats (`RowNats`), the distance r(x) to the nearest row known, the mean distance g(x) to the nearest group
of them, the local measure l(x) (`eigencode.detection.neighbors`), and the tail t of each (`eigencode.detection.tails`),
the score is

.. math:: m \, \phi\left( \frac{t_D(D) + t_r(r) + 2 t_g(g) + t_l(l)}{m} \right) + m \, e(x)

where m is the largest sum of tails of a row fitted, :math:`\phi(u) = u` up to 1 and :math:`2 - 1 / u` beyond, and e
says how much farther from the centre the row is than those fitted (`eigencode.detection.extent`): by its scaled cells,
or by the numbers of a frame in their own units, where that is more. The first term is less than 2 m, and e is at least
4 more for a row at twice the distance. So it scores above that row, whatever their tails, in any direction, along what
the autoencoder reconstructs too; and still does where another scale makes less than twice of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from eigencode.batch import equal_parts
from eigencode.data.sources import chunk_rows
from eigencode.detection.extent import NumberExtent, beyond, reach_of
from eigencode.detection.neighbors import KnownRows
from eigencode.detection.tails import Tail
from eigencode.domains import NotNegative, Positive
from eigencode.estimators.cell_density import cell_density
from eigencode.estimators.row_nats import RowNats, numbers_of

if TYPE_CHECKING:
    from eigencode.data.containers import NamedArray
    from eigencode.estimators.base import BaseAutoencoder

MOST_MEASURED = 10_000
"""Rows fitted by which tails are known; of more, so many are drawn at random."""

USUAL = 0.95
"""Share of the rows fitted whose values have a usual D."""

DIGITS = 10
"""Digits of a score after the point: with more, a row by itself has another score than among others."""

SMALLEST_RADIUS = 1e-6
"""Smallest distance of the farthest row, beside the size of the center: differences below it may be rounding."""


@dataclass(frozen=True, eq=False)
class Unlikeness:
    """What is measured of a row, by the rows that were fitted.

    Attributes
    ----------
    row_nats : RowNats
        D.
    tail : Tail
        Of D.
    known : KnownRows or None
        Scaled rows, 0 in gaps, and the tails of the distances to them.
    radius : float
        The largest norm of a scaled row fitted.
    numbers : NumberExtent or None
        How far out the numbers of the frame fitted are, if the columns were mixed.
    highest : float
        m, the largest sum of the tails of a row fitted.
    usual : float
        D of the values of a row, without the states of columns, of which one row fitted in twenty has more.
    """

    row_nats: RowNats
    tail: Tail
    known: KnownRows | None
    radius: Positive
    numbers: NumberExtent | None
    highest: NotNegative
    usual: float

    @classmethod
    def of(cls, autoencoder: BaseAutoencoder, given: NamedArray, apart: np.ndarray, n_known: int, seed: int) -> Self:
        """What is known from the rows fitted, and from those held out, which new rows may be near to.

        Of both, ``n_known`` rows are kept at most, 0 for none.
        """
        rows, cells = given.array, scaled_cells(autoencoder, given.array)
        order = np.random.default_rng(seed).permutation(len(rows))
        some = order[:MOST_MEASURED]
        row_nats = RowNats.of(autoencoder, rows, cell_density(autoencoder, rows[some], seed), seed)
        of_values = row_nats.of_values(autoencoder, rows[some])
        nats = of_values + row_nats.of_states(autoencoder, given[some]).sum(1)
        tail = Tail.of(nats)
        sums, known = tail(nats), None
        scaler = autoencoder.scaler_
        if n_known:
            offset = float(np.linalg.norm(scaler.center / scaler.divisor))
            known = KnownRows.of(cells[order[:n_known]], scaled_cells(autoencoder, apart), offset, n_known)
            sums = sums + known.tails(cells[some])
        smallest = SMALLEST_RADIUS * max(1.0, float(np.abs(scaler.center / scaler.divisor).min(initial=0.0)))
        radius = max(float(np.linalg.norm(cells, axis=1).max()), smallest)
        numbers = numbers_of(autoencoder, given)
        extent = None if numbers is None else NumberExtent.of(numbers)
        usual = float(np.quantile(of_values, USUAL))
        return cls(row_nats, tail, known, radius, extent, float(sums.max()), usual)

    def parts(
        self, autoencoder: BaseAutoencoder, given: NamedArray, held_out: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """D of each row, and the terms of its score: the tails of D and of the distances, and what far rows get.

        ``held_out`` says which rows were held out of the fit, and are known.
        """
        blocks = equal_parts(len(given.array), chunk_rows(given.array.shape[1]))
        found = [self._parts(autoencoder, given[own], None if held_out is None else held_out[own]) for own in blocks]
        return {name: np.concatenate([parts[name] for parts in found]) for name in found[0]}

    def _parts(
        self, autoencoder: BaseAutoencoder, given: NamedArray, held_out: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """The same of a block of rows, of which several copies are made in float64."""
        cells, nats = scaled_cells(autoencoder, given.array), self.row_nats(autoencoder, given)
        of_nats = self.tail(nats)
        neighbors = np.zeros(len(cells)) if self.known is None else self.known.tails(cells, held_out)
        kept = _kept(of_nats + neighbors, self.highest)
        return {
            "nats": nats,
            "nats_tail": kept * of_nats,
            "neighbors": kept * neighbors,
            "beyond": self.highest * beyond(self._ratios(autoencoder, given, cells)),
        }

    def _ratios(self, autoencoder: BaseAutoencoder, given: NamedArray, cells: np.ndarray) -> np.ndarray:
        """The distance of each row from the centre beside that of the farthest row fitted, shape (n,)."""
        found: np.ndarray = np.linalg.norm(cells, axis=1) / self.radius
        numbers = None if self.numbers is None else numbers_of(autoencoder, given)
        return found if self.numbers is None or numbers is None else np.maximum(found, self.numbers.ratios(numbers))

    def scores(self, autoencoder: BaseAutoencoder, given: NamedArray, held_out: np.ndarray | None = None) -> np.ndarray:
        """The score of each row, shape (n,): higher for rows more unlike those fitted."""
        parts = self.parts(autoencoder, given, held_out)
        found: np.ndarray = np.round(parts["nats_tail"] + parts["neighbors"] + parts["beyond"], DIGITS)
        return found

    def fits(self, autoencoder: BaseAutoencoder) -> bool:
        """Whether it is of rows and codes of an autoencoder."""
        n_cells = len(autoencoder.scaler_.center)
        return (
            (self.numbers is None or self.numbers.is_sound)
            and self.row_nats.fits(autoencoder.columns_, n_cells, autoencoder.n_components_)
            and (self.known is None or self.known.is_sound(n_cells))
            and self.tail.is_sound
        )


def _kept(sums: np.ndarray, highest: float) -> np.ndarray:
    """The share of sums of tails that counts: all up to the highest; what is larger counts less than its double."""
    ratio = highest / np.maximum(sums, max(highest, np.finfo(np.float64).tiny))
    return np.where(sums <= highest, 1.0, ratio * (2 - ratio))


def scaled_cells(autoencoder: BaseAutoencoder, rows: np.ndarray) -> np.ndarray:
    """Scaled cells in float64, 0 in gaps."""
    return np.nan_to_num(autoencoder.scaler_.transform(rows.astype(np.float64)), nan=0.0)


def bounded(autoencoder: BaseAutoencoder, rows: Any) -> np.ndarray:
    """Rows as an array; numbers whose nats could not be computed are replaced by the farthest ones that can."""
    rows = np.asarray(rows)
    return rows.clip(*reach_of(autoencoder.scaler_)) if rows.dtype == np.float64 else rows
