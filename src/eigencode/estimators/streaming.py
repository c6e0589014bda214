"""The blocks of rows of ``partial_fit``, and the iterator of ``iter_fit``."""

from __future__ import annotations

import atexit
from collections.abc import Generator
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from eigencode import fitting, training
from eigencode.batch import Batch
from eigencode.data.rows import ResidentRows
from eigencode.errors import EigencodeError, TrainingError, warn
from eigencode.estimators.inputs import read_weights
from eigencode.lazy import torch
from eigencode.options import check_options

if TYPE_CHECKING:
    from eigencode.data.rows import Rows
    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.estimators.persistence import SavedAutoencoder
    from eigencode.options import AutoencoderOptions
    from eigencode.training import TrainingRun


def learn_block(model: BaseAutoencoder, X: Any, sample_weight: Any) -> None:
    """Train a model on a block of rows; the first block determines what 'auto' means."""
    block = _later_block if model.__sklearn_is_fitted__() else _first_block
    rows = block(model, X, sample_weight)
    if rows.n_training:
        _one_pass(model, rows)


def _first_block(model: BaseAutoencoder, X: Any, sample_weight: Any) -> Rows:
    """The scaled rows of the first block, from which the model is made."""
    changes = {"validation_fraction": 0.0, "max_seconds": None, "optimizer": _optimizer_of(model)}
    run = model._begin(X, sample_weight, changes=changes)
    model.history_, model.baseline_ = [], None
    return run.rows


def _later_block(model: BaseAutoencoder, X: Any, sample_weight: Any) -> Rows:
    """The scaled rows of a later block, without those of weight 0."""
    check_options(model)
    array = model._numbers(X)
    model._check_values(array)
    weights = None if sample_weight is None else read_weights(sample_weight, len(array))
    table, _ = fitting.TrainingTable(array).weighted(weights, getattr(model, "mean_weight_", 1.0))
    model.scaler_ = model.scaler_.updated(table.array)
    return fitting.Data.of(table, model.scaler_, model.execution_.dtype).rows


def _one_pass(model: BaseAutoencoder, rows: Rows) -> None:
    """Train a copy of the model by one pass over a block, then replace the model by it."""
    saved = vars(model).get("stream_state_")
    if saved is None:
        model.optimizer_ = _optimizer_of(model)
    run = run_of_block(model, model, rows, saved)
    row, state = training.one_pass(run), run.state
    if not state.parameters.vector.isfinite().all():
        raise TrainingError(
            "The block left weights that are not finite",
            got=f"a mean objective of {row['training_objective']}",
            hint="Look for extreme rows, or try a smaller learning_rate",
        )
    model.stream_state_ = state.state_dict()
    state.parameters.release()
    model.composition_, model.history_ = state.composition, state.history
    model.best_epoch_, model.best_objective_ = state.epoch, row["training_objective"]
    model.notes_ = fitting.warnings_about(model.composition_)
    model._forget()


def run_of_block(
    model: SavedAutoencoder, options: AutoencoderOptions, rows: Rows, saved: dict[str, Any] | None
) -> TrainingRun:
    """The run of one pass over a block of scaled rows with a copy of a model; ``saved`` is the stream's state."""
    return fitting.make_stream_run(
        options,
        rows,
        composition=model.composition_,
        objective=model.objective_,
        execution=model.execution_,
        optimizer=model.optimizer_,
        seed=model.seed_,
        history=model.history_,
        saved=saved,
    )


def _optimizer_of(model: BaseAutoencoder) -> str:
    """The optimiser of blocks: L-BFGS would use the curvature of earlier blocks."""
    return "adam" if model.optimizer == "auto" else model.optimizer


def check_fit(model: SavedAutoencoder, saved: dict[str, Any]) -> None:
    """Raise an error if the state of a stream does not fit to a model."""
    rows = torch.zeros(1, model._n_cells, dtype=model.execution_.dtype)
    run_of_block(model, model, ResidentRows.of(Batch(rows)), saved)


_UNFINISHED: WeakSet[FitIterator] = WeakSet()


class FitIterator(Generator[dict[str, float]]):
    """Rows of history, for each of which the model is trained.

    An error in ending the fit is raised by ``close``. Where the iterator is dropped, as behind ``break``, Python raises
    none, so it is a warning.

    Parameters
    ----------
    rows : generator of dict
        What trains.
    """

    def __init__(self, rows: Generator[dict[str, float]]) -> None:
        self._rows = rows
        _UNFINISHED.add(self)

    def send(self, value: None) -> dict[str, float]:
        """The next row of history."""
        return self._rows.send(value)

    def throw(self, *error: Any) -> dict[str, float]:
        """Raise an error in the fit, as `KeyboardInterrupt` for one that is interrupted between two rows."""
        return self._rows.throw(*error)

    def close(self) -> None:
        """End the fit: the model has its best weights then."""
        self._rows.close()

    def __del__(self) -> None:
        try:
            self.close()
        except EigencodeError as error:
            warn(str(error))


@atexit.register
def _close_unfinished() -> None:
    """End unfinished iterators at exit while torch still works, so that their models have their best weights."""
    for rows in list(_UNFINISHED):
        rows.close()
