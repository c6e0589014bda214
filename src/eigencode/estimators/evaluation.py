"""Evaluation: a function of a fitted model at rows in the data's units, a chunk of them at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eigencode import fitting, training
from eigencode.batch import Batch
from eigencode.data.gaps import hide_gaps, refuse_infinite
from eigencode.data.memory import told_of_shortage
from eigencode.data.scaling import Scaler
from eigencode.data.sources import CHUNK_ROWS
from eigencode.errors import DataError, warn
from eigencode.estimators.inputs import float_type, read_rows
from eigencode.estimators.persistence import Saved
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.data.tables import Schema
    from eigencode.model import Composition
    from eigencode.training import Execution

    Question = Callable[[Composition, Batch, Batch], Tensor]
    """A function of the model, of scaled rows, and of these rows as the encoder sees them."""

    Finish = Callable[[Tensor], np.ndarray]
    """What makes an answer's part for a chunk of rows of what a question gave."""


FARTHEST_SQUARED = 1e100
"""Scaled cells of smaller size have squares that are numbers of float64, and so have sums of them."""

FARTHEST_OF_LINEAR = 1e4
"""Scaled cells up to this size are not clipped for a model that is the linear start."""

FAR_CELL = "Look for a wrong cell there: it is more than 1e100 times its column's spread away from the rows fitted"

LONGEST = 80
"""Letters of an answer that are shown."""

FAR_WEIGHTS = "Its weights are far from those that a fit gives: fit it again"
"""Why a model has no finite answer, where its columns are of usual sizes."""


UNSEEN_GAPS = "X has gaps (NaN), and the rows that the model was fitted to had none: answers may be poor."
"""The warning of a model that has not learned what a gap is."""


def to_array(found: Tensor) -> np.ndarray:
    """A tensor's numbers as they are."""
    return found.cpu().numpy()


def to_float64(found: Tensor) -> np.ndarray:
    """A tensor's numbers in float64."""
    return found.cpu().double().numpy()


class Evaluation(Saved):
    """Functions of a fitted composition at rows: the rows are checked, scaled and clipped, the results are finite."""

    composition_: Composition
    scaler_: Scaler
    execution_: Execution
    n_components_: int
    hidden_: tuple[int, ...]
    init_: str
    optimizer_: str
    seed_: int
    explained_variance_ratio_: list[float]
    history_: list[dict[str, float]]
    best_epoch_: int
    best_objective_: float
    n_validation_: int | None
    validation_fraction: float
    notes_: list[str]
    n_features_in_: int
    columns_: Schema | None
    image_shape: Any
    image_shape_: tuple[int, ...]
    pixel_range_: tuple[float, ...]

    @property
    def _n_cells(self) -> int:
        """Number of columns of the model's rows, which of a frame of mixed columns differs from that of its columns."""
        return self.n_features_in_ if self.columns_ is None else self.columns_.n_cells

    @property
    def _cell_names(self) -> list[str] | None:
        """The names of these columns, if they have any."""
        names = getattr(self, "feature_names_in_", None)
        return names if self.columns_ is None or self.columns_.is_plain else self.columns_.cell_names

    def _as_table(self, n_rows: int, blocks: Iterator[np.ndarray], like: Any = None, mean: bool = False) -> Any:
        """Rows in the data's units, or their means, as what was fitted: an array, or a frame with these cells.

        The rows are given a block at a time, and a frame's columns are made of one block after the other.
        """
        if self.columns_ is None:
            return filled(n_rows, checked(blocks))
        with torch.inference_mode():
            return self.columns_.decode(checked(blocks), like, mean)

    @property
    def _has_validation(self) -> bool:
        """Whether the fit's objectives are of validation rows; for files of format 1, by ``validation_fraction``."""
        n_rows = getattr(self, "n_validation_", None)
        return self.validation_fraction > 0 if n_rows is None else n_rows > 0

    def _answer(self, X: Any, function: Question, finish: Finish = to_array) -> np.ndarray:
        """Apply a function of the model, scaled rows, and these rows as the encoder sees them, a chunk at a time."""
        check_is_fitted(self)
        return numbers_only(self._answer_of(self._numbers(X, finite=False), function, finish))

    def _answer_of(self, array: np.ndarray, function: Question, finish: Finish = to_array) -> np.ndarray:
        """The same for an array of numbers; ``finish`` is applied to the result of each chunk.

        An array that has only the first columns is given to the function as it is.
        """
        return filled(len(array), self._answers(array, function, finish))

    def _answers(self, array: np.ndarray, function: Question, finish: Finish) -> Iterator[np.ndarray]:
        """The parts of an answer, one for each chunk of the rows."""
        dtype, scaler = float_type(array.dtype), self.scaler_.of_columns(slice(array.shape[1]))
        model, is_warned = self._model_in(dtype), False
        # It takes .2 ms to find out, as long as the answer for a few rows.
        share = training.own_share if len(array) > CHUNK_ROWS else nullcontext
        for chunk in scaler.chunks(array, dtype):
            with told_of_shortage(), share(), torch.no_grad():  # not while the caller works, or does not come back
                rows = hide_gaps(self._tensor(chunk))
                if rows.observed is not None and not (scaler.has_gaps or is_warned):
                    warn(UNSEEN_GAPS)
                    is_warned = True
                low, high = map(float, rows.x.aminmax())
                if not (math.isfinite(low) and math.isfinite(high)):
                    refuse_infinite(array, self._cell_names)
                limit, constant = self._limit, scaler.constant
                is_usual = -limit <= low and high <= limit and not (constant and rows.x[:, constant].any())
                seen = rows if is_usual else replace(rows, x=self._seen(rows.x))
                found = finish(function(model, rows, seen))
            yield found

    @property
    def _limit(self) -> float:
        """The size to which scaled cells are clipped for the encoder; far from all rows only a linear map is right."""
        is_start = self.init_ == "linear" and self.best_epoch_ == 0
        return max(self.scaler_.limit, FARTHEST_OF_LINEAR) if is_start else self.scaler_.limit

    def _seen(self, x: Tensor) -> Tensor:
        """Scaled rows as the encoder sees them: extreme cells clipped, and nothing in columns that were constant.

        The weights of such a column were never trained, so another value there would have a random effect.
        """
        limit = self._limit
        constant = [column for column in self.scaler_.constant if column < x.shape[-1]]
        seen = x.clamp(-limit, limit)
        return seen.index_fill(-1, torch.tensor(constant, device=x.device), 0) if constant else seen

    def _in_float64(self, array: np.ndarray, function: Question) -> np.ndarray:
        """A result as float64; rows far from those fitted, whose squares overflow float32, are computed in float64."""
        found = self._answer_of(array, function, to_float64)
        wild = ~np.isfinite(found.reshape(len(found), -1)).all(1)
        if wild.any() and float_type(array.dtype) == np.float32:
            found[wild] = self._answer_of(array[wild].astype(np.float64), function)
        with np.errstate(over="ignore"):
            far = np.fmax.reduce(np.abs(self.scaler_.transform(array[wild])), axis=None, initial=0.0)
        hint = FAR_CELL if far > FARTHEST_SQUARED else FAR_WEIGHTS
        _require_numbers(found[wild], np.flatnonzero(wild), hint)
        return found

    def _check_values(self, array: np.ndarray) -> None:
        """Raise an error for values outside the likelihood's support."""
        fitting.check_values(self.composition_.likelihood, array, self._cell_names)

    def _numbers(self, X: Any, reset: bool = False, finite: bool = True) -> np.ndarray:
        """Rows checked against what was fitted, in the numeric type they came in."""
        return read_rows(self, X, reset=reset, finite=finite).array

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.require(rows, requirements=("C", "W"))).to(self.execution_.device)

    def _model_in(self, dtype: np.dtype) -> Composition:
        """The composition in a precision: itself if it has it, else a copy."""
        wanted = torch.float64 if dtype == np.float64 else torch.float32
        if all(p.dtype == wanted for p in self.composition_.parameters()):
            return self.composition_
        return copy.deepcopy(self.composition_).to(wanted)

    @property
    def _has_own_units(self) -> np.ndarray:
        """Which columns the likelihood has in the data's units, shape (d,)."""
        cells = self.composition_.likelihood.cells(len(self.scaler_.center))
        return np.array([cell.in_data_units for cell in cells])

    def _in_data_units(self, means: Tensor) -> np.ndarray:
        """A mean or a draw of p(x|z) as rows in the data's units; no rounding takes a count or a share out of range.

        Those of a frame are float64, whatever the model's precision: differences of large numbers, as of times in
        seconds since 1970, are too small for float32, and each column has its own type in the end.
        """
        rows, own = means.cpu().numpy(), self._has_own_units
        rows = rows if self.columns_ is None else rows.astype(np.float64, copy=False)
        if not own.all():
            restored = self.scaler_.inverse_transform(rows, rows.dtype)
            return np.where(own, rows, restored) if own.any() else restored
        constant = self.scaler_.constant
        if constant:
            rows = rows.copy()
            rows[:, constant] = self.scaler_.constant_values
        return rows


def checked(blocks: Iterator[np.ndarray], hint: str = FAR_WEIGHTS) -> Iterator[np.ndarray]:
    """Blocks of shape (..., b, d), or an error for the first row that has no finite answer."""
    first = 0
    for block in blocks:
        for table in block.reshape(-1, *block.shape[-2:]):
            numbers_only(table, hint, first)
        first += block.shape[-2]
        yield block


def numbers_only(answers: np.ndarray, hint: str = FAR_WEIGHTS, first: int = 0) -> np.ndarray:
    """The results for rows that are counted from ``first``, or an error if they are not finite for all of them."""
    # A sum needs no further memory; it may overflow for the largest numbers, which are checked one by one.
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(answers.sum(dtype=np.float64))
    if not math.isfinite(total):
        _require_numbers(answers, first + np.arange(len(answers)), hint)
    return answers


def _require_numbers(answers: np.ndarray, rows: np.ndarray, hint: str) -> None:
    """Refuse answers that are no finite numbers; ``rows`` are the numbers of the rows that they belong to."""
    wild = ~np.isfinite(answers).all(tuple(range(1, answers.ndim)))
    if wild.any():
        raise DataError(
            "The model has no finite answer to some rows",
            got=f"{answers[wild][0]} for row {rows[wild][0]}"[:LONGEST],
            hint=hint,
        )


def filled(n_rows: int, blocks: Iterator[np.ndarray]) -> np.ndarray:
    """An array of so many rows, made once and filled a block at a time; the blocks are computed without gradients."""
    answer, n_done = np.empty(0), 0
    with torch.no_grad():
        for block in blocks:
            if not n_done:
                answer = np.empty((n_rows, *block.shape[1:]), block.dtype)
            answer[n_done : n_done + len(block)] = block
            n_done += len(block)
    return answer
