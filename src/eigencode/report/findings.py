"""Findings: what a report says of a model, as numbers and sentences, from the model and some rows."""

from __future__ import annotations

import copy
import math
import re
import warnings
from functools import cached_property
from typing import Any

import narwhals as nw
import numpy as np

from eigencode import model as models
from eigencode.data import BlockSource, fingerprint, fingerprint_of, hide_gaps, opened
from eigencode.data.cells import is_missing
from eigencode.data.containers import as_array
from eigencode.data.images import rows_to_images
from eigencode.data.one_pass import OnePass
from eigencode.data.tables import as_frame
from eigencode.errors import DataError, EigencodeError, ResultWarning
from eigencode.lazy import torch
from eigencode.report.columns import Column, ColumnError, columns, labels_of, take
from eigencode.report.subjects import autoencoder_of
from eigencode.words import percent

MOST_ROWS = 20_000
"""Rows that are measured; of more, so many are drawn at random, always the same."""

MOST_POINTS = 2_000
"""Points of a chart."""

MOST_LOCAL = 100
"""Rows at which the Jacobian is computed."""

HIDDEN = 0.1
"""Share of the known cells that are hidden to see how well gaps are filled."""

LEAST_SHARE = 0.01
"""Share of a row's error from which a column is listed as one that makes it."""

LABELS = (["category"], ["boolean"])
"""Blocks of cells of a column of labels, each label with a probability of its own."""

PIXEL = re.compile(r"(pixel|px)[ _.-]?\d+([ _.x-]\d+)?", re.IGNORECASE)
"""Names of columns that are the pixels of an image, as scikit-learn and OpenML have them."""

DEAD = 1e-6
"""A component is dead if its spread is below this share of the largest one's."""


class Findings:
    """What a model does with some rows.

    Parameters
    ----------
    fitted : estimator
        A fitted model; of a detector or of a model with labels, its autoencoder is measured.
    X : array-like or frame of shape (n, d)
        Rows like those fitted, preferably others.
    y : array-like of shape (n,), optional
        Their labels, for a model that predicts labels.
    """

    def __init__(self, fitted: Any, X: Any, y: Any = None) -> None:
        self.fitted, self.model = fitted, autoencoder_of(fitted)
        self._given = X = opened(X)
        if isinstance(X, OnePass):
            what = "A report needs rows that can be read again"
            raise DataError(what, got="rows that can be read once", hint="Write them to a Parquet file first")
        self.n_given = len(X)
        X, sampled = (X.sample(), X.sample_numbers()) if isinstance(X, BlockSource) else (X, None)
        self.are_windows = getattr(fitted, "window", None) is not None
        if self.are_windows:  # rows are compared together with those before them
            self.numbers = np.arange(len(X))[:MOST_ROWS]
            self.asked = take(X, self.numbers)
            self.rows = np.asarray(fitted._rows(self.asked)[0].array)
        else:
            self.numbers = np.sort(np.random.default_rng(0).permutation(len(X))[:MOST_ROWS])
            self.rows = self.asked = self._like_answers(take(X, self.numbers))
        chosen = self.numbers if sampled is None else sampled[self.numbers]
        self.y = None if y is None else _labels(y, self.n_given)[chosen]
        self.labels = labels_of(X, chosen)

    def _like_answers(self, rows: Any) -> Any:
        """Rows in the form of the model's answers: a frame also for an array, if columns were fitted."""
        if self.model.columns_ is None or as_frame(rows) is not None:
            return rows
        self._quietly(self.model._numbers, rows, finite=False)  # which checks them
        return self.model.columns_.frame_of(as_array(rows))

    @cached_property
    def codes(self) -> np.ndarray:
        """The codes of the rows, shape (n, k)."""
        return np.asarray(self._quietly(self.model.transform, self.rows), dtype=np.float64)

    @cached_property
    def rebuilt(self) -> Any:
        """Their reconstructions, in their form."""
        return self._quietly(self.model.reconstruct, self.rows)

    @cached_property
    def errors(self) -> np.ndarray:
        """The squared error of each row, in scaled units."""
        found: np.ndarray = self._quietly(self.model.reconstruction_error, self.rows, scaled=True)
        return found

    @cached_property
    def expected_cells(self) -> np.ndarray:
        """The cells that the decoder expects: of a label, probabilities."""
        return self._cells_of(self.codes)

    def _cells_of(self, codes: np.ndarray) -> np.ndarray:
        """The cells that the decoder expects of some codes."""
        model = self.model._model_in(np.dtype(np.float64))
        with torch.inference_mode():
            means = model.decode(self.model._tensor(codes)).mean
        return np.asarray(self.model._in_data_units(means))

    def chance(self, number: int, row: int) -> float | None:
        """The probability of the label observed, given the code; None for numbers, gaps and coded labels."""
        column, own = self.given[number], self._cells_of_columns[number]
        kinds = {} if self.model.columns_ is None else {each.name: each.kind for each in self.model.columns_.columns}
        if column.name not in kinds or not column.is_known[row]:
            return None
        if [name for name, _ in kinds[column.name].blocks] not in LABELS:
            return None
        observed, expected = self.cells[row, own], self.expected_cells[row, own]
        return float(observed @ expected if len(observed) > 1 else abs(1 - observed - expected)[0])

    @cached_property
    def _cells_of_columns(self) -> list[slice]:
        """The cells of each column."""
        schema = self.model.columns_
        if schema is None:
            return [slice(number, number + 1) for number in range(len(self.given))]
        ends = np.cumsum([column.kind.width for column in schema.columns]).tolist()
        own = {
            column.name: slice(end - column.kind.width, end) for column, end in zip(schema.columns, ends, strict=True)
        }
        return [own[column.name] for column in self.given]

    @cached_property
    def errors_by_column(self) -> np.ndarray:
        """What each column adds to the squared errors of the rows, shape (n, d); nothing in gaps."""
        scaler = self.model.scaler_
        observed, expected = (scaler.transform(cells.astype(float)) for cells in (self.cells, self.expected_cells))
        squares = np.square(np.nan_to_num(observed - expected, nan=0.0))
        return np.column_stack([squares[:, own].sum(1) for own in self._cells_of_columns])

    @cached_property
    def are_those_fitted(self) -> bool | None:
        """Whether these are the rows that were fitted, all of them; None where that is not known."""
        fitted = getattr(self.fitted, "fingerprint_", None)
        return None if None in (fitted, self.fingerprint) else fitted == self.fingerprint

    def images(self, rows: Any) -> np.ndarray:
        """Rows of a model of images as images, shape (n, h, w) or (n, h, w, c)."""
        array = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
        return rows_to_images(self.image_shape, array)

    @cached_property
    def image_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of the images, () if rows are none; columns may be named as a square's pixels."""
        names = getattr(self.model, "feature_names_in_", ())
        side = math.isqrt(len(names))
        are_pixels = side**2 == len(names) and all(map(PIXEL.fullmatch, names))
        return (1, side, side) if side > 1 and are_pixels else tuple(self.model.image_shape_)

    @cached_property
    def pixel_range(self) -> tuple[float, float]:
        """The values shown as black and as white."""
        return tuple(self.model.pixel_range_) or (float(np.nanmin(self.cells)), float(np.nanmax(self.cells)))

    @cached_property
    def given(self) -> list[Column]:
        """The columns of the rows."""
        return columns(self.rows, self.model)

    @cached_property
    def expected(self) -> list[Column]:
        """The columns of their reconstructions."""
        return columns(self.rebuilt, self.model)

    @cached_property
    def cells(self) -> np.ndarray:
        """The cells of the rows, as the model takes them."""
        found: np.ndarray = self._quietly(self.model._numbers, self.rows, finite=False)
        return found

    @cached_property
    def is_image(self) -> bool:
        """Whether rows are images."""
        return bool(self.image_shape)

    @cached_property
    def by_column(self) -> list[ColumnError]:
        """How well each column is rebuilt."""
        linear: list[Column | None] = [None] * len(self.given)
        if self.model.baseline_ is not None:
            linear = [*columns(self._quietly(self.model.baseline_.reconstruct, self.rows), self.model)]
        return [
            ColumnError(
                own.name,
                own.explained(rebuilt.values),
                own.explained(np.full(len(own.values), own.usual, dtype=own.values.dtype)),
                np.nan if by_line is None else own.explained(by_line.values),
                1 - float(own.is_known.mean()),
                own.is_number,
            )
            for own, rebuilt, by_line in zip(self.given, self.expected, linear, strict=True)
        ]

    @cached_property
    def linear_errors(self) -> np.ndarray | None:
        """The linear baseline's squared error of each row, in scaled units."""
        if self.model.baseline_ is None:
            return None
        found: np.ndarray = self._quietly(self.model.baseline_.reconstruction_error, self.rows, scaled=True)
        return found

    @cached_property
    def worst(self) -> np.ndarray:
        """Positions of the rows, those with the largest error first."""
        return np.argsort(-self.errors, kind="stable")

    def suspects(self, row: int, n: int = 3) -> list[int]:
        """The columns of a row that add most to its error, each at least a hundredth of it."""
        shares = self.errors_by_column[row] / max(float(self.errors[row]), np.finfo(float).tiny)
        return [int(number) for number in np.argsort(-shares, kind="stable")[:n] if shares[number] >= LEAST_SHARE]

    @cached_property
    def spreads(self) -> np.ndarray:
        """The standard deviation of each component, shape (k,)."""
        return self.codes.std(0)

    @cached_property
    def dead(self) -> np.ndarray:
        """Which components do not change, shape (k,)."""
        return self.spreads <= DEAD * max(self.spreads.max(initial=0.0), 1e-30)

    @cached_property
    def ranked(self) -> np.ndarray:
        """The components that change, those with the largest effect on the rows first."""
        effects = np.nan_to_num(self.effects).sum(0)
        return np.array([j for j in np.argsort(-effects, kind="stable") if not self.dead[j]], dtype=int)

    @cached_property
    def plane(self) -> tuple[np.ndarray, list[str]]:
        """Codes in a plane, shape (n, 2), and what its axes are."""
        if self.codes.shape[1] == 1:
            return np.column_stack([self.codes[:, 0], self.errors]), ["component 1", "error"]
        return plane_of(self.codes)

    @cached_property
    def correlations(self) -> np.ndarray:
        """The correlation of each column of numbers with each component, shape (d, k); NaN for labels."""
        found = np.full((len(self.given), self.codes.shape[1]), np.nan)
        for number, column in enumerate(self.given):
            known = column.is_known
            if column.is_number and known.sum() > 2:
                with np.errstate(invalid="ignore", divide="ignore"):
                    x = column.values[known] - column.values[known].mean()
                    z = self.codes[known] - self.codes[known].mean(0)
                    found[number] = x @ z / np.sqrt((x @ x) * (z * z).sum(0))
        return found

    @cached_property
    def effects(self) -> np.ndarray:
        """How far each column moves when a component goes from one deviation below its mean to one above, shape (d, k).

        Of numbers, in standard deviations of the column, at the mean code; of labels, 1 if it is another.
        """
        center, k = self.codes.mean(0), self.codes.shape[1]
        ends = np.concatenate([center - np.diag(self.spreads), center + np.diag(self.spreads)])
        decoded = columns(self.decoded(ends), self.model)
        found = np.zeros((len(decoded), k))
        for number, (column, own) in enumerate(zip(decoded, self.given, strict=True)):
            low, high = column.values[:k], column.values[k:]
            if column.is_number:
                spread = own.spread  # 0 of a constant, which has no unit to move in
                found[number] = np.abs(high - low) / spread if spread > 0 else 0.0
            else:
                found[number] = low != high
        return found

    def decoded(self, codes: np.ndarray) -> Any:
        """Rows of some codes."""
        return self._quietly(self.model.inverse_transform, codes)

    def possible(self, codes: np.ndarray) -> Any:
        """Rows of some codes, as rows can be: in a frame, whole numbers and ranges are those of the rows fitted."""
        rows, schema = self.decoded(codes), self.model.columns_
        return rows if schema is None else schema.decode(self._cells_of(codes))

    @cached_property
    def p_values(self) -> tuple[np.ndarray, np.ndarray]:
        """The scores and the p-values that a detector gives the rows."""
        scores, p = self.fitted.score_and_p_values(self.asked)
        return scores, p

    def drift(self, anomalies: float) -> str:
        """A sentence if rows not fitted score otherwise than those held out, a share of anomalies apart; else ""."""
        if self.are_those_fitted:
            return ""
        p_values = self.p_values[1]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", ResultWarning)
            self.fitted.drift_from(p_values, anomalies)
        return " ".join(str(warning.message) for warning in said)

    @cached_property
    def drawn(self) -> tuple[Any, str]:
        """New rows from the model, and a sentence where there are none."""
        try:
            model = self.model
            if model is not self.fitted:  # a part of it, which is left as it is
                model, some = copy.copy(model), np.random.default_rng(0).permutation(len(self.rows))[:MOST_POINTS]
                self._quietly(model.fit_density, take(self.rows, np.sort(some)))
            return self._quietly(model.sample, 16, random_state=0), ""
        except EigencodeError as error:
            return None, str(error)

    @cached_property
    def singular_values(self) -> np.ndarray | None:
        """The singular values of the encoder's Jacobian at some rows, shape (m, r); None for rows with gaps only."""
        scaled = self.model.scaler_.transform(self.cells[:MOST_LOCAL])
        complete = np.isfinite(scaled).all(1)
        if not complete.any() or scaled.shape[1] * self.codes.shape[1] > 10**6:
            return None
        x = torch.from_numpy(np.ascontiguousarray(scaled[complete], dtype=np.float64))
        composition = self.model._model_in(np.dtype(np.float64))
        found: np.ndarray = models.singular_values(composition.cpu(), x).detach().numpy()
        return found

    @cached_property
    def terms(self) -> dict[str, float]:
        """The mean of each term of the objective over some rows, at the mean code and without damage, in nats."""
        scaled = np.asarray(self.model.scaler_.transform(self.cells[:MOST_POINTS]), dtype=np.float64)
        composition = self.model._model_in(scaled.dtype)
        with torch.no_grad():
            trace = composition(hide_gaps(self.model._tensor(scaled)))
            terms = self.model.objective_.terms(composition, trace)
        return {name.replace("_", " "): float(term.mean()) for name, term in terms.items()}

    @cached_property
    def by_size(self) -> tuple[np.ndarray, np.ndarray]:
        """PCA's squared error a row for 0, 1, 2, ... components, in scaled units, and the errors of ordered codes."""
        scaled = np.nan_to_num(self.model.scaler_.transform(self.cells))
        values = np.linalg.svd(scaled - scaled.mean(0), compute_uv=False) ** 2 / len(scaled)
        errors = values.sum() - np.concatenate([[0.0], np.cumsum(values)])
        own = np.zeros(0)
        if getattr(self.model, "ordered", False):
            own = self._quietly(self.model.reconstruction_error_by_size, self.rows, scaled=True)
        return errors.clip(0), own

    @cached_property
    def filling(self) -> list[tuple[str, float, float]]:
        """For each column of which cells were hidden: the error when they are filled, and that of the usual value.

        Of numbers, the root mean squared error in standard deviations; of labels, the share that is wrong.
        """
        if not self.model.scaler_.has_gaps:
            return []
        rng = np.random.default_rng(0)
        some = np.sort(rng.permutation(len(self.rows))[:MOST_POINTS])
        rows = take(self.rows, some)
        hidden, masks = _with_hidden(rows, [column[some] for column in self.given], rng)
        if hidden is None:
            return []
        filled = columns(self._quietly(self.model.impute, hidden), self.model)
        found = []
        for own, guess, mask in zip((column[some] for column in self.given), filled, masks, strict=True):
            if mask.sum() < 5:
                continue
            usual = own[~mask].usual
            found.append((own.name, own.wrong(guess.values, mask), own.wrong(usual, mask)))
        return found

    @cached_property
    def fingerprint(self) -> str | None:
        """The fingerprint of all rows; None for rows that stay in files, and for windows if not all are measured."""
        if len(self.cells) == self.n_given:
            return fingerprint(self.cells)
        if self.are_windows or isinstance(self._given, BlockSource):
            return None
        parts = np.array_split(np.arange(self.n_given), self.n_given // MOST_ROWS + 1)
        blocks = (self._quietly(self.model._numbers, take(self._given, part), finite=False) for part in parts)
        return fingerprint_of(blocks, (self.n_given, self.cells.shape[1]))

    @staticmethod
    def _quietly(function: Any, *args: Any, **options: Any) -> Any:
        """A function's answer without warnings, which the report has as notes."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **options)


def _labels(y: Any, n_rows: int) -> np.ndarray:
    """Labels as an array; `DataError` unless there is one for each row."""
    labels = np.asarray(y) if hasattr(y, "columns") else as_array(y, "y")
    if n_gaps := sum(map(is_missing, labels.ravel())):
        raise DataError("y has gaps", got=str(n_gaps), hint="Drop their rows")
    if len(labels) != n_rows:
        raise DataError("There must be one label for each row", got=f"{len(labels)} for {n_rows} rows")
    return labels


def plane_of(points: np.ndarray, what: str = "component") -> tuple[np.ndarray, list[str]]:
    """Points of shape (n, k) in the plane of their first two principal axes, and the names of its axes."""
    if points.shape[1] == 2:
        return points, [f"{what} 1", f"{what} 2"]
    centred = points - points.mean(0)
    # One row has one direction only; a second row at the centre adds one, and changes nothing.
    _, singular, directions = np.linalg.svd(np.pad(centred, [(0, len(points) == 1), (0, 0)]), full_matrices=False)
    shares = singular[:2] ** 2 / max(float((singular**2).sum()), 1e-300)
    # The largest entry of each axis is positive, so that the plane is the same on every machine.
    signs = np.where(directions[[0, 1], np.abs(directions[:2]).argmax(1)] < 0, -1.0, 1.0)
    names = [
        f"{nth} principal axis of the {points.shape[1]} {what}s ({percent(share)})"
        for nth, share in zip(("first", "second"), shares, strict=True)
    ]
    return centred @ (directions[:2] * signs[:, None]).T, names


def _with_hidden(rows: Any, own: list[Column], rng: np.random.Generator) -> tuple[Any, list[np.ndarray]]:
    """Rows of which some known cells are hidden, and which; None where the rows' form has no gaps."""
    masks = [column.is_known & (rng.random(len(column.values)) < HIDDEN) for column in own]
    frame = as_frame(rows)
    if frame is None:
        hidden = np.array(rows, dtype=np.float64)
        flat = hidden.reshape(len(hidden), -1)
        flat[np.stack(masks, axis=1)] = np.nan
        return hidden, masks
    keep = {column.name: ~mask for column, mask in zip(own, masks, strict=True)}
    series = [nw.new_series(name, mask, nw.Boolean, backend=frame.implementation) for name, mask in keep.items()]
    # Without another value, a cell is a gap.
    changed = [nw.when(mask).then(nw.col(mask.name)).alias(mask.name) for mask in series]
    return frame.with_columns(*changed).to_native(), masks
