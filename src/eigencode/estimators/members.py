"""Members: the models of an anomaly detector, each fitted to some rows, and the rows held out of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from eigencode.detection import conformal
from eigencode.detection.calibration import Calibration
from eigencode.detection.neighbors import Groups
from eigencode.estimators.base import BaseAutoencoder
from eigencode.estimators.unlikeness import Unlikeness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eigencode.data.containers import NamedArray

HELD_OUT = 0.2
"""Share of the rows that are held out of each model."""

FEWEST_TO_TRIM = 40
"""With fewer rows, none are left out as small groups."""


@dataclass(frozen=True, eq=False)
class Division:
    """Row numbers of a table, divided for one model.

    Attributes
    ----------
    learned : ndarray of int
        Rows that it learns from, ascending.
    apart : ndarray of int of shape (m,)
        Rows that are held out of it.
    are_near : ndarray of bool of shape (m,)
        Which of these new rows may be near to.
    n_trimmed : int
        Number of rows that are neither, since they are in small groups apart from the bulk.
    """

    learned: np.ndarray
    apart: np.ndarray
    are_near: np.ndarray
    n_trimmed: int

    @classmethod
    def of(cls, rows: np.ndarray, apart: np.ndarray, trim: bool, seed: int) -> Self:
        """Hold some of the rows of shape (n, d) out."""
        others = np.delete(np.arange(len(rows)), apart)
        if not trim or len(others) < FEWEST_TO_TRIM:
            return cls(others, apart, np.ones(len(apart), dtype=bool), 0)
        cells = _standardised(rows, others)
        groups = Groups(cells[np.random.default_rng(seed).permutation(others)])
        are_trimmed = groups.contain(cells[others])
        # A group is judged by the rows learned from alone, so that those held out are like new ones.
        are_near = np.zeros(0, dtype=bool) if not len(apart) else ~groups.contain(cells[apart])
        return cls(others[~are_trimmed], apart, are_near, int(are_trimmed.sum()))


def _standardised(rows: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Columns by mean and deviation of some rows, 0 in gaps."""
    center, spread = np.nanmean(rows[some], axis=0), np.nanstd(rows[some], axis=0)
    return np.nan_to_num((rows - center) / np.where(spread > 0, spread, 1.0))


def held_out(n_rows: int, level: float, seed: int) -> list[np.ndarray]:
    """The numbers of the rows that are held out of each model: of one, or a fifth of the rows of each of five.

    Five models are for rows of which a fifth is too few for the level.
    """
    order = np.random.default_rng(seed).permutation(n_rows)
    if HELD_OUT * n_rows < conformal.rows_needed(level):
        return np.array_split(order, min(round(1 / HELD_OUT), n_rows))
    return [order[: conformal.rows_near(round(HELD_OUT * n_rows), level)]]


@dataclass(frozen=True, eq=False)
class Member:
    """A fitted autoencoder, and what is measured by it."""

    autoencoder: BaseAutoencoder
    unlikeness: Unlikeness

    def scores(self, given: NamedArray, held_out: np.ndarray | None = None) -> np.ndarray:
        """The score of each row, shape (n,): higher for rows more unlike those fitted."""
        return self.unlikeness.scores(self.autoencoder, given, held_out)


def fitted(
    models: Sequence[BaseAutoencoder],
    rows: NamedArray,
    weights: np.ndarray | None,
    divisions: Sequence[Division],
    neighbors: bool,
    seed: int,
) -> list[Member]:
    """Fit a model to each division of some rows, unless it is fitted, and measure these rows."""
    found = []
    for model, division in zip(models, divisions, strict=True):
        given = replace(rows[division.learned], frame=None)
        if not model.__sklearn_is_fitted__():
            model.fit(given, sample_weight=None if weights is None else weights[division.learned])
        found.append(Member(model, _measured(model, rows, division, neighbors, seed)))
    return found


def _measured(model: BaseAutoencoder, rows: NamedArray, division: Division, neighbors: bool, seed: int) -> Unlikeness:
    near = division.apart[division.are_near]
    return Unlikeness.of(model, rows[division.learned], rows.array[near], neighbors, seed)


def calibration(
    members: Sequence[Member], rows: NamedArray, weights: np.ndarray | None, divisions: Sequence[Division]
) -> Calibration:
    """The scores of the rows held out of each model, in ascending order."""
    scores = [m.scores(rows[d.apart], d.are_near) for m, d in zip(members, divisions, strict=True)]
    numbers = np.concatenate([division.apart for division in divisions])
    of = np.repeat(np.arange(len(members)), [len(division.apart) for division in divisions])
    found = np.concatenate(scores)
    order = np.argsort(found, kind="stable")
    return Calibration(found[order], np.ones(len(found)) if weights is None else weights[numbers][order], of[order])
