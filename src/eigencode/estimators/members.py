"""Members: the models of an anomaly detector, each fitted to some rows, and the rows held out of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from eigencode.checkpoint import Checkpoint
from eigencode.data.cells import column_labels
from eigencode.data.gaps import missing_values_of
from eigencode.detection import baselines, conformal
from eigencode.detection.calibration import Calibration
from eigencode.detection.index import MOST_EXACT, require_faiss
from eigencode.detection.neighbors import Groups
from eigencode.errors import DataError, OptionError
from eigencode.estimators.base import BaseAutoencoder
from eigencode.estimators.row_nats import cells_of
from eigencode.estimators.unlikeness import Unlikeness, bounded, scaled_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eigencode.data.containers import NamedArray
    from eigencode.data.tables import Schema

HELD_OUT = 0.2
"""Share of the rows that are held out of each model."""

FEWEST_COMPARED = 40
"""With fewer rows held out, the detector is not compared with simple methods."""

MOST_COMPARED = 1_000
"""Rows held out that are compared, at most."""

FEWEST_WINDOWS = 20
"""Windows to learn from, at least; where fewer do not overlap, all are measured."""

HELD = "Leave the column out, or give more rows that have a value"

LARGE = 1e100
"""Size of cells from which columns are divided by a power of two."""

FEWEST_TO_TRIM = 40
"""With fewer rows, none are left out as small groups."""

DRIFT_LEVEL = 0.01
"""Below this p-value, new normal rows are said to score otherwise than those held out."""


@dataclass(frozen=True, eq=False)
class Division:
    """A table, whose rows are divided for one model.

    Attributes
    ----------
    rows : NamedArray
        All its rows. Their cells are by the labels and ranges of those that are not held out, as those of new rows.
    learned : ndarray of int
        Rows that it learns from, ascending.
    measured : ndarray of int
        Those of them by which scores are measured: all, or windows that do not overlap.
    apart : ndarray of int of shape (m,)
        Rows that are held out of it.
    are_near : ndarray of bool of shape (m,)
        Which of these new rows may be near to.
    n_trimmed : int
        Number of rows that are neither, since they are in small groups apart from the bulk.
    """

    rows: NamedArray
    learned: np.ndarray
    measured: np.ndarray
    apart: np.ndarray
    are_near: np.ndarray
    n_trimmed: int

    @classmethod
    def of(cls, rows: NamedArray, apart: np.ndarray, kind: BaseAutoencoder, trim: bool, seed: int) -> Self:
        """Hold some rows out of an autoencoder, which may be fitted."""
        others = np.delete(np.arange(len(rows.array)), apart)
        if len(apart) and rows.frame is not None and rows.is_mixed and not kind.__sklearn_is_fitted__():
            rows = _as_learned(rows, others, kind)
        if not trim or len(others) < FEWEST_TO_TRIM:
            return cls(rows, others, others, apart, np.ones(len(apart), dtype=bool), 0)
        cells = _standardised(rows.array, others)
        groups = Groups(cells[np.random.default_rng(seed).permutation(others)])
        are_trimmed = groups.contain(cells[others])
        # A group is found from the rows learned from alone, so that those held out are like new ones.
        are_near = np.zeros(0, dtype=bool) if not len(apart) else ~groups.contain(cells[apart])
        learned = others[~are_trimmed]
        return cls(rows, learned, learned, apart, are_near, int(are_trimmed.sum()))

    @classmethod
    def of_windows(cls, rows: NamedArray, starts: np.ndarray, width: int, level: float) -> Self:
        """Hold the last windows of a series out, and the windows that overlap with them.

        Parameters
        ----------
        rows : NamedArray
            The windows.
        starts : ndarray of int of shape (n,)
            For each row, which is the last of its window, the first row of its series.
        width : int
            Rows of a window.
        level : float
            The rate of false alarms.
        """
        n = len(starts)
        ends = np.flatnonzero(np.arange(n) - starts >= width - 1)
        wanted = conformal.rows_near(max(round(HELD_OUT * len(ends) / width), conformal.rows_needed(level)), level)
        first = n - min(wanted * width, n // 2)
        learned, apart = ends[ends < first], ends[ends >= first + width - 1][::width]
        if len(learned) < FEWEST_WINDOWS or not len(apart):
            what = f"Windows of {width} rows take at least {4 * width + 2 * FEWEST_WINDOWS} rows without a gap in time"
            raise DataError(what, got=f"{len(ends)} windows in {n} rows")
        thinned = learned[::width]
        measured = thinned if len(thinned) >= FEWEST_WINDOWS else learned
        return cls(rows, learned, measured, apart, np.ones(len(apart), dtype=bool), 0)


def _as_learned(rows: NamedArray, learned: np.ndarray, kind: BaseAutoencoder) -> NamedArray:
    """Rows of a frame as cells by the labels and ranges of some of them: others are as new rows are."""
    _refuse_unknown(rows, learned)
    missing = missing_values_of(kind)
    schema = cast("Schema", rows.schema).learned_from(rows.frame, learned, kind.columns, missing)
    return replace(rows, array=schema.encode(rows.frame, missing), schema=schema)


def _standardised(rows: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Columns by mean and deviation of some rows, 0 in gaps."""
    largest = np.nan_to_num(np.abs(rows)).max(0)
    if float(largest.max()) > LARGE:  # then their squares are finite
        rows = rows / np.ldexp(1.0, np.frexp(largest)[1] - 1)
    known = np.ma.masked_invalid(rows[some])  # a column may have gaps only
    center, spread = np.ma.filled(known.mean(0), 0.0), np.ma.filled(known.std(0), 0.0)
    return np.nan_to_num((rows - center) / np.where(spread > 0, spread, 1.0))


def held_out(n_rows: int, level: float, seed: int) -> list[np.ndarray]:
    """The numbers of the rows that are held out of each model: of one, or of five, each about a fifth of the rows.

    Five models are for rows of which a fifth is too few for the level. Rows with which the level would not be used up
    are held out of none of them.
    """
    order = np.random.default_rng(seed).permutation(n_rows)
    if HELD_OUT * n_rows < conformal.rows_needed(level):
        apart = order[: conformal.rows_within(n_rows, level)]
        return np.array_split(apart, min(round(1 / HELD_OUT), len(apart)))
    return [order[: conformal.rows_near(round(HELD_OUT * n_rows), level)]]


@dataclass(frozen=True, eq=False)
class Member:
    """A fitted autoencoder, and what is measured by it."""

    autoencoder: BaseAutoencoder
    unlikeness: Unlikeness

    def scores(self, given: NamedArray, held_out: np.ndarray | None = None) -> np.ndarray:
        """The score of each row, shape (n,): higher for rows more unlike those fitted."""
        return self.unlikeness.scores(self.autoencoder, self._own(given), held_out)

    def is_of(self, schema: Schema | None, n_features: int) -> bool:
        """Whether it is of columns of these kinds; it may know other labels of them."""
        model = self.autoencoder
        kinds = [each and [(c.name, type(c.kind)) for c in each.columns] for each in (schema, model.columns_)]
        return kinds[0] == kinds[1] and model.n_features_in_ == n_features

    def _own(self, given: NamedArray) -> NamedArray:
        """Rows as cells by the labels and ranges that this model knows; those of other models have others."""
        schema, frame = self.autoencoder.columns_, given.frame
        if frame is None or schema is None or given.schema is None or schema.columns == given.schema.columns:
            return given
        cells = schema.encode(frame, missing_values_of(self.autoencoder))
        return replace(given, array=bounded(self.autoencoder, cells), schema=schema)


def fitted(
    models: Sequence[BaseAutoencoder],
    weights: np.ndarray | None,
    divisions: Sequence[Division],
    n_known: int,
    seed: int,
    folders: Checkpoint | None = None,
) -> list[Member]:
    """Fit a model to each division of a table, unless it is fitted, and measure its rows."""
    if n_known > MOST_EXACT:
        require_faiss()
    found = []
    for number, (model, division) in enumerate(zip(models, divisions, strict=True), 1):
        given = replace(division.rows[division.learned], frame=None)
        if not model.__sklearn_is_fitted__():
            _refuse_unknown(division.rows, division.learned)
            own, checkpoint = weights, folders and folders.within(f"model-{number}")
            model.fit(given, sample_weight=None if own is None else own[division.learned], checkpoint=checkpoint)
        found.append(Member(model, _measured(model, division, n_known, seed)))
    return found


def _refuse_unknown(rows: NamedArray, learned: np.ndarray) -> None:
    """Raise an error where all values of a column are in other rows than those learned from."""
    are_known = ~np.isnan(rows.array)
    are_held_out = np.flatnonzero(are_known.any(0) & ~are_known[learned].any(0))
    if len(are_held_out):
        labels: Any = column_labels(rows.names or range(are_known.shape[1]))
        if rows.schema is not None and rows.is_mixed:
            labels = np.repeat(column_labels(rows.schema.names), [c.kind.width for c in rows.schema.columns])
        n_known = are_known[:, are_held_out[0]].sum()
        found = f"{labels[are_held_out[0]]} with values in {n_known} of {len(are_known)} rows"
        raise DataError("All values of a column are in rows that are held out of the fit", got=found, hint=HELD)


def _measured(model: BaseAutoencoder, division: Division, n_known: int, seed: int) -> Unlikeness:
    rows, near = division.rows, division.apart[division.are_near]
    return Unlikeness.of(model, rows[division.measured], rows.array[near], n_known, seed)


def calibration(members: Sequence[Member], weights: np.ndarray | None, divisions: Sequence[Division]) -> Calibration:
    """The scores of the rows held out of each model, in ascending order."""
    scores = [m.scores(d.rows[d.apart], d.are_near) for m, d in zip(members, divisions, strict=True)]
    numbers = np.concatenate([division.apart for division in divisions])
    of = np.repeat(np.arange(len(members)), [len(division.apart) for division in divisions])
    found = np.concatenate(scores)
    order = np.argsort(found, kind="stable")
    return Calibration(found[order], np.ones(len(found)) if weights is None else weights[numbers][order], of[order])


def divisions_of(rows: NamedArray, kind: BaseAutoencoder, level: float, trim: bool, seed: int) -> list[Division]:
    """How rows are divided for each model, which is a copy of ``kind``; of several, the last one has all rows."""
    apart = held_out(len(rows.array), level, seed)
    found = [Division.of(rows, each, kind, trim, seed) for each in apart]
    # The last is for the answers that need no rows held out.
    return [*found, Division.of(rows, apart[0][:0], kind, trim, seed)] if len(found) > 1 else found


def notes_on(known: Calibration, asked: float, in_force: float, are_windows: bool) -> list[str]:
    """What the rows held out do not promise, in sentences; that they are too few is the first one."""
    notes, n = [], len(known.scores)
    if in_force > asked:
        is_weighted = bool((known.weights != known.weights[0]).any())
        why = "by their weights" if is_weighted else f"which takes {known.rows_needed(asked)}"
        few = f"{n} rows held out are too few for a rate of false alarms of {asked:g}"
        notes.append(f"{few}, {why}: the rate is {in_force:.2g}")
    if not known.is_split:
        why = f"A fifth of the rows is too few for a rate of {asked:g}, so {known.n_models} models are used"
        notes.append(f"{why}: {known.guarantee(in_force)}")
    if are_windows:
        note = f"Calibrated by {n} windows that do not overlap: the rate holds for such ones, where the series is"
        notes.append(f"{note} stationary; alarms of neighbouring rows go together")
    return notes


def drift_note(p_value: float, anomalies: float) -> str | None:
    """A sentence if the p-value of the hypothesis that new normal rows score as those held out is small."""
    if p_value >= DRIFT_LEVEL:
        return None
    rows = f"More than {100 * anomalies:g} % of the new rows" if anomalies else "New rows"
    what = f"{rows} score otherwise than those held out of the fit (p = {p_value:.2g})"
    return f"{what}: unless they are anomalies, the rate of false alarms no longer holds. Fit again."


def compared(member: Member, division: Division, seed: int) -> str | None:
    """A sentence if a simple method finds faults of one column, planted in copies of rows held out, better."""
    rows, apart = division.rows, division.apart[:MOST_COMPARED]
    if len(apart) < FEWEST_COMPARED:
        return None
    model, clean, near = member.autoencoder, rows.array[apart], division.are_near[:MOST_COMPARED]
    columns = [part for part in cells_of(model.columns_, rows.array.shape[1]) if part.stop > part.start]
    faulty = baselines.with_faults(clean, columns, np.random.default_rng(seed))
    is_new = ((faulty != clean) & ~(np.isnan(faulty) & np.isnan(clean))).any(1)
    both = np.concatenate([clean, faulty[is_new]])
    if not is_new.any():
        return None
    own = member.scores(replace(rows, array=both, frame=None), np.concatenate([near, near[is_new]]))
    cells = scaled_cells(model, both)
    train = scaled_cells(model, rows.array[division.measured[:: max(len(division.measured) // MOST_COMPARED, 1)]])
    others, are_odd = baselines.baseline_scores(train, cells, seed), np.arange(len(both)) >= len(clean)
    found = baselines.better(own, others, are_odd)
    area = baselines.areas({"own": own, **others}, are_odd)
    named = " and ".join(f"{name} ({area[name]:.3f})" for name in found)
    what = f"than this detector ({area['own']:.3f}), by the area under the ROC curve"
    return f"Held-out rows with a cell of another row are ranked better by {named} {what}" if found else None


def areas(
    model: BaseAutoencoder, unlikeness: Unlikeness, rows: NamedArray, own: np.ndarray, y: Any, seed: int
) -> dict[str, float]:
    """The area under the ROC curve of a detector's own scores and of simple methods, fitted to the rows it knows."""
    are_odd = np.asarray(y)
    if are_odd.shape != own.shape or not np.isin(are_odd, (0, 1)).all() or len(np.unique(are_odd)) < 2:
        raise DataError("y must be 1 (or True) for anomalies and 0 for other rows, of both kinds", got=f"{y!r}"[:80])
    if unlikeness.known is None:
        raise OptionError("Simple methods are fitted to the rows that a detector keeps", got="neighbors=False")
    others = baselines.baseline_scores(unlikeness.known.rows, scaled_cells(model, rows.array), seed)
    return baselines.areas({"detector": own, **others}, are_odd.astype(bool))
