"""Graphs: the answers of a fitted model to rows in the data's units, as one torch module around its composition."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from eigencode.batch import Batch
from eigencode.data.containers import NamedArray
from eigencode.data.gaps import missing_values_of
from eigencode.data.scaling import Scaler
from eigencode.errors import OptionError, did_you_mean
from eigencode.export.columns import TableColumns
from eigencode.parts import Units

SPREADS_OF_FLOAT32 = 1e4
"""A column whose centre is more spreads from 0 is given in float64: float32 would keep fewer than three digits."""

N_ROWS = 64
"""Rows with which a graph is compared with its model."""


@dataclass(frozen=True)
class Asked:
    """Rows in the data's units, as cells, scaled, and as the encoder sees them."""

    X: Tensor
    cells: Tensor
    rows: Batch
    seen: Batch


class Graph(nn.Module):
    """A fitted model as a torch module: one tensor in, a tensor for each answer out.

    Parameters
    ----------
    estimator : estimator
        The fitted model; it is copied.
    methods : sequence of str
        Names of its methods whose answers are wanted.
    """

    composition_0: Any
    known: ClassVar[tuple[str, ...]]
    """Methods that can be exported."""

    input_name: ClassVar[str] = "X"

    sees_constants: ClassVar[bool] = False
    """Whether columns of one value are among those of a table."""

    precision: torch.dtype = torch.float32
    """The type of weights and of what networks compute."""

    with_steps: ClassVar[tuple[str, ...]] = ()
    """Methods whose answers change by steps, which rounding may move a row over."""

    of_rows: ClassVar[tuple[str, ...]] = ("reconstruct", "impute", "inverse_transform")
    """Methods whose answers are rows like those fitted."""

    def __init__(self, estimator: Any, methods: Sequence[str]) -> None:
        super().__init__()
        if unknown := [name for name in methods if name not in self.known]:
            raise OptionError(
                f"This method of {type(estimator).__name__} cannot be exported",
                got=f"{unknown[0]!r}",
                hint=did_you_mean(unknown[0], self.known),
            )
        self.methods = tuple(methods)
        self.estimator = copy.deepcopy(estimator)
        schema = estimator.columns_
        self.table = None if schema is None else TableColumns(schema, self.sees_constants)
        self.columns = None if schema is None or schema.is_plain else self.table  # of plain ones cells are the numbers
        self.missing = [value for value in missing_values_of(estimator) if isinstance(value, int | float)]
        for index, model in enumerate(self._autoencoders()):
            self.add_module(f"composition_{index}", model.composition_.cpu().eval().requires_grad_(False))
        self.compute_in(self.precision)

    def compute_in(self, precision: torch.dtype) -> None:
        """Have networks compute in another type."""
        self.precision = precision
        self.to(precision)

    def _autoencoders(self) -> Iterator[Any]:
        """The autoencoders whose weights answer."""
        yield self.model
        if self.model.baseline_ is not None:
            yield self.model.baseline_

    @property
    def model(self) -> Any:
        """The autoencoder."""
        return self.estimator

    @property
    def autoencoder(self) -> Any:
        """The autoencoder of the rows, without labels."""
        return self.model

    @property
    def n_columns(self) -> int:
        """Number of cells of a row."""
        return len(self.autoencoder.scaler_.center)

    @property
    def scaler(self) -> Scaler:
        """The scale of the cells."""
        return self.model.scaler_

    @property
    def dtype(self) -> torch.dtype:
        """The type of the input: float32, or float64 where it would lose digits that matter."""
        if self.columns is not None:
            return torch.float64
        scaler = self.autoencoder.scaler_
        sizes = np.delete(np.abs(scaler.center) / scaler.divisor, scaler.constant)
        return torch.float64 if sizes.max(initial=0) > SPREADS_OF_FLOAT32 else torch.float32

    def asked(self, X: Tensor, model: Any = None, columns: TableColumns | None = None) -> Asked:
        """Rows as the model takes them, or another autoencoder, of columns of the same kinds with other labels."""
        model = self.model if model is None else model
        for value in self.missing:
            X = X.masked_fill(X.eq(value), torch.nan)
        if columns is not None and self.columns is not None:
            X = columns.renumbered(X, self.columns)
        columns = columns or self.columns
        cells = self.bounded(X if columns is None else columns.cells(X), model.scaler_)
        scaled = self._scaled(cells.double(), model.scaler_).to(self.precision)
        rows = Batch(scaled, ~scaled.isnan())
        return Asked(X, cells, rows, replace(rows, x=model._seen(rows.x)))

    @staticmethod
    def bounded(cells: Tensor, scaler: Scaler) -> Tensor:
        """Cells that a model can take."""
        return cells

    @staticmethod
    def _scaled(cells: Tensor, scaler: Scaler) -> Tensor:
        """Scaled cells, in float64."""
        scaler = scaler.of_columns(slice(cells.shape[1]))
        low = np.where(scaler.logarithmic or np.zeros(cells.shape[1], bool), 0.0, -np.inf)
        return Units.of(scaler).scaled(cells.maximum(torch.from_numpy(low)))

    def in_data_units(self, means: Tensor, like: Tensor, highest: list[float] | None = None) -> Tensor:
        """Means of p(x|z) in the data's units, in the type of other rows; constant columns have their value.

        ``highest`` is the largest value of each cell.
        """
        own, means, scaler = self.model._has_own_units, means.double(), self.scaler
        found = torch.where(torch.from_numpy(own), means, Units.of(scaler).in_data_units(means))
        values = np.full(len(own), np.nan)
        values[scaler.constant] = scaler.constant_values
        values[own & (not own.all())] = np.nan
        found = torch.where(torch.from_numpy(np.isnan(values)), found, torch.from_numpy(values))
        found = found if highest is None else found.minimum(torch.tensor(highest, dtype=found.dtype))
        if self.table is not None:
            found = self.table.columns(found)
        if self.columns is not None:
            return found
        largest = torch.finfo(like.dtype).max
        return found.clamp(-largest, largest).to(like.dtype)

    def log_jacobian(self, model: Any, asked: Asked) -> Tensor:
        """What is added to a log-density of scaled cells, for one in the data's units, shape (n,)."""
        derivatives = np.where(model._has_own_units, 0.0, model.scaler_.log_jacobian)
        found = asked.rows.selected(torch.from_numpy(derivatives).expand(*asked.rows.x.shape)).sum(1)
        if self.columns is None:
            return found
        logarithms = torch.tensor(model.columns_.is_logarithm)  # columns that are modelled by theirs
        return found - asked.cells.nan_to_num(0.0).where(logarithms, 0.0).sum(1)

    def forward(self, X: Tensor) -> dict[str, Tensor]:
        """The answers, by the names of the methods."""
        asked = self.asked(X)
        return {name: getattr(self, name)(asked) for name in self.methods}

    def expected(self, name: str, rows: np.ndarray) -> np.ndarray:
        """The answer of the model itself, as numbers."""
        if self.columns is None or isinstance(self, DecoderGraph):
            given: Any = rows
        else:
            cells = self.columns.cells(torch.from_numpy(rows)).numpy()
            given = NamedArray(cells, None, schema=self.estimator.columns_)
        found = getattr(self.estimator, name)(given)
        return np.asarray(found) if isinstance(found, np.ndarray) or self.table is None else self.table.numbers(found)

    def example(self) -> np.ndarray:
        """Rows of all kinds, shape (n, d): usual ones, far ones, and with gaps."""
        rng, d = np.random.default_rng(0), self.n_columns
        scaled = rng.normal(size=(N_ROWS, d))
        scaled[::8] *= 10
        rows = self.scaler.of_columns(slice(d)).inverse_transform(scaled)
        for column, cell in enumerate(self.autoencoder.composition_.likelihood.cells(d)):
            if cell.support == "counts":
                rows[:, column] = rows[:, column].clip(0).round()
            elif cell.support == "unit interval":
                rows[:, column] = rows[:, column].clip(0, 1)
        if self.table is not None:
            rows = self.table.columns(torch.from_numpy(rows)).numpy()
        rows[rng.random(rows.shape) < 0.1] = np.nan
        return rows.astype(str(self.dtype).removeprefix("torch."))


class AutoencoderGraph(Graph):
    """The answers of an autoencoder to rows."""

    known = ("transform", "reconstruct", "score_samples", "impute")

    def transform(self, asked: Asked) -> Tensor:
        """Codes."""
        return self.composition_0.encode(*asked.seen.cells).mean

    def reconstruct(self, asked: Asked) -> Tensor:
        """Reconstructions."""
        return self.in_data_units(self.composition_0.reconstruct(*asked.seen.cells).mean, asked.X)

    def score_samples(self, asked: Asked) -> Tensor:
        """Nats, in float64."""
        found = self.model._score(self.composition_0, asked.rows, asked.seen).double()
        return found + self.log_jacobian(self.model, asked)

    def impute(self, asked: Asked) -> Tensor:
        """Rows with filled gaps."""
        means = self.model._expected(self.composition_0, asked.rows, asked.seen)
        schema = self.estimator.columns_  # as in the model, whose means are not beyond the largest values fitted
        filled = self.in_data_units(means, asked.X, None if schema is None else schema.highest)
        return torch.where(asked.X.isnan(), filled, asked.X)


class DecoderGraph(Graph):
    """The decoder: codes in, rows out."""

    known = ("inverse_transform",)
    input_name = "codes"

    def forward(self, X: Tensor) -> dict[str, Tensor]:
        """The rows of codes."""
        return {"inverse_transform": self.in_data_units(self.composition_0.decode(X.float()).mean, X)}

    def example(self) -> np.ndarray:
        """Codes of usual size, shape (n, k)."""
        rows = torch.from_numpy(np.random.default_rng(0).normal(size=(N_ROWS, len(self.scaler.center))))
        with torch.no_grad():
            codes = self.composition_0.encode(rows.float()).mean
        return codes.numpy().astype(str(self.dtype).removeprefix("torch."))


class LabelGraph(Graph):
    """The predictions of a classifier or a regressor."""

    known = ("predict", "predict_proba")

    @property
    def model(self) -> Any:
        """The autoencoder of rows and labels."""
        return self.estimator.model_

    @property
    def autoencoder(self) -> Any:
        """The autoencoder of the rows."""
        return self.estimator.autoencoder_

    def predict_proba(self, asked: Asked) -> Tensor:
        """The mean of p(y|z), in float32 for classes."""
        return self.composition_0.reconstruct(*asked.seen.cells).mean

    def predict(self, asked: Asked) -> Tensor:
        """The number of the most probable class in ``classes_``, or the predicted numbers in float64."""
        means = self.predict_proba(asked)
        if hasattr(self.estimator, "classes_"):
            return means.argmax(1)
        if not self.model.composition_.likelihood.in_data_units:
            means = Units.of(self.scaler.of_columns(slice(self.n_columns, None))).in_data_units(means.double())
        return means.double().squeeze(1) if self.estimator.n_outputs_ == 1 else means.double()
