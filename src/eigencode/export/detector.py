"""Detectors of anomalies as graphs: the score of rows by each model, distances to known rows, and calibration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigencode.data.scaling import Scaler
from eigencode.data.tables.numeric import Number
from eigencode.detection import neighbors
from eigencode.detection.extent import LARGEST, STEEPNESS, reach_of
from eigencode.detection.index import MOST_EXACT
from eigencode.detection.tails import TIES
from eigencode.errors import OptionError
from eigencode.export.columns import TableColumns
from eigencode.export.graph import Asked, Graph

ROUNDING = 1e-5
"""Scores whose difference is below this share are equal: networks are computed in float32."""


class DetectorGraph(Graph):
    """The answers of a detector, in float64. A row with gaps has none if the rows fitted had no gaps."""

    known = ("score_samples", "decision_function", "predict", "p_values")

    with_steps = ("predict", "p_values")

    sees_constants = True

    precision = torch.float64

    def __init__(self, estimator: Any, methods: Sequence[str]) -> None:
        known = [member.unlikeness.known for member in estimator._members]
        n_known = max((len(each.rows) for each in known if each is not None), default=0)
        if n_known > MOST_EXACT:
            what = (
                f"This {type(estimator).__name__} cannot be exported: an index finds the nearest of the rows it keeps"
            )
            hint = f"Fit it with known_rows={MOST_EXACT:_} or fewer, or with neighbors=False"
            raise OptionError(what, got=f"{n_known:,} rows", hint=hint)
        super().__init__(estimator, methods)
        self.estimator.time = None  # rows of a graph are one series
        schema = estimator.columns_
        self.states = None if schema is None else TableColumns(schema, constants=True)

    @property
    def model(self) -> Any:
        """The autoencoder of all rows, whose columns the graph has; models of some rows may know fewer labels."""
        return self.estimator.autoencoder_

    def _autoencoders(self) -> Iterator[Any]:
        return (member.autoencoder for member in self.estimator._members)

    @property
    def dtype(self) -> torch.dtype:
        """Float64: the rounding of float32 would be a distance between equal rows."""
        return torch.float64

    @staticmethod
    def bounded(cells: Tensor, scaler: Scaler) -> Tensor:
        """Cells, of which very far ones are less far, as in the model."""
        low, high = (torch.from_numpy(each) for each in reach_of(scaler))
        return cells.maximum(low).minimum(high)

    def forward(self, X: Tensor) -> dict[str, Tensor]:
        """The answers, by the names of the methods."""
        X = X if self.estimator.window is None else as_windows(X, self.estimator.window)
        found = torch.stack([self._score_by(number, X) for number in range(len(self.estimator._members))], dim=1)
        scores = self._scores(found)
        decisions = scores - in_float64(self.estimator.offset_)
        sign = torch.where(decisions < 0, -1, 1)
        answers = {
            "score_samples": scores,
            "decision_function": decisions,
            "predict": torch.where(decisions.isnan(), 0, sign),
            "p_values": self._p_values(found),
        }
        return {name: answers[name] for name in self.methods}

    def example(self) -> np.ndarray:
        """Rows of all kinds, without gaps if a model was fitted to rows without any, and one of the known rows."""
        rows = super().example()
        if not all(model.scaler_.has_gaps for model in self._autoencoders()):
            first = (~np.isnan(rows)).argmax(0)
            rows = np.where(np.isnan(rows), rows[first, np.arange(rows.shape[1])], rows)
        member = self.estimator._members[0]
        if member.unlikeness.known is not None and self.columns is None:
            rows[1] = member.autoencoder.scaler_.inverse_transform(member.unlikeness.known.rows[:1])[0]
        for number, (column, _) in enumerate(self.states.parts if self.states else ()):
            rows[:, number] = rows[:, number].clip(0, 1) if column.kind.kind == "share" else rows[:, number]
        rows = self._within_extents(rows) if self.states else rows
        if self.columns is not None and self.estimator.folds_:
            rows = self.columns.numbers(self._framed(rows))
        return rows[:, -self.estimator.n_features_in_ :].copy() if self.estimator.window else rows

    def expected(self, name: str, rows: np.ndarray) -> np.ndarray:
        """The answer of the model itself; several models have cells of their own, which are made of a frame."""
        if self.columns is None or not self.estimator.folds_:
            return super().expected(name, rows)
        return np.asarray(getattr(self.estimator, name)(self._framed(rows)))

    def _framed(self, rows: np.ndarray) -> Any:
        """The frame of rows."""
        columns = TableColumns(schema := self.estimator.columns_, constants=True)
        return schema.decode(columns.cells(torch.from_numpy(rows)).numpy(), mean=True)

    def _within_extents(self, rows: np.ndarray) -> np.ndarray:
        """Rows whose numbers are no farther than those fitted: the model is asked by cells, which do not have them."""
        for extent in (member.unlikeness.numbers for member in self.estimator._members):
            if extent is not None:
                numbers = rows[:, self._are_raw_numbers]
                ratios = np.maximum(1.1 * extent.ratios(numbers), 1.0)[:, None]
                nearer = extent.center + (numbers - extent.center) / ratios
                rows[:, self._are_raw_numbers] = np.where(numbers == np.round(numbers), np.round(nearer), nearer)
        return rows

    @property
    def _are_raw_numbers(self) -> np.ndarray:
        """Which columns of the graph's rows are numbers in their own units."""
        parts = [] if self.states is None else self.states.parts
        return np.array([isinstance(column.kind, Number) for column, _ in parts])

    def _score_by(self, number: int, X: Tensor) -> Tensor:
        """The score of rows by one member, shape (n,)."""
        member, composition = self.estimator._members[number], getattr(self, f"composition_{number}")
        model, measured, schema = member.autoencoder, member.unlikeness, member.autoencoder.columns_
        asked = self.asked(X, model, None if self.columns is None else TableColumns(schema, constants=True))
        nats = self._nats(composition, model, measured.row_nats, asked)
        cells = self._scaled(asked.cells.double(), model.scaler_).nan_to_num(0.0)
        sums = tail(measured.tail, nats)
        if measured.known is not None:
            sums = sums + tails_of_distances(measured.known, cells)
        highest = in_float64(measured.highest)
        ratio = highest / sums.maximum(in_float64(max(measured.highest, np.finfo(np.float64).tiny)))
        kept = sums * torch.where(sums <= highest, 1.0, ratio * (2 - ratio))
        ratios = cells.square().sum(1).sqrt() / in_float64(measured.radius)
        if measured.numbers is not None:
            ratios = ratios.maximum(self._ratios(measured.numbers, asked.X))
        score = kept + highest * beyond(ratios)
        score = (score * 1e10).round() / 1e10
        return score if model.scaler_.has_gaps else score.where(~asked.cells.isnan().any(1), math.nan)

    def _nats(self, composition: Any, model: Any, nats: Any, asked: Asked) -> Tensor:
        """D, shape (n,)."""
        of_states = _of_states(model, nats, asked)
        if hasattr(model, "elbo"):
            bound = model._at_mean(composition, asked.rows, asked.seen).double()
            return of_states - bound - self.log_jacobian(model, asked)
        z, rows = composition.encode(*asked.seen.cells).mean, asked.rows
        p = composition.decode(z)
        residuals = model._difference(composition, rows, p, True).double()
        found = residuals.square() / (2 * torch.from_numpy(nats.noise))
        if model.columns_ is not None and not model.columns_.is_real:
            target = composition.likelihood.target(*rows.cells)
            are_numbers = torch.from_numpy(model.columns_.are_real)
            found = found.where(are_numbers, rows.selected(-p.log_prob(target)).double())
        return of_states + rows.selected(found).sum(1) - log_prob(nats.mixture, z.double())

    def _ratios(self, extent: Any, X: Tensor) -> Tensor:
        """`eigencode.detection.extent.NumberExtent.ratios` of the columns of numbers."""
        center, divisor = torch.from_numpy(extent.center), torch.from_numpy(extent.divisor)
        standardised = ((X[:, torch.from_numpy(self._are_raw_numbers)].double() - center) / divisor).nan_to_num(0.0)
        return standardised.clamp(-LARGEST, LARGEST).square().sum(1).sqrt() / in_float64(extent.radius)

    def _scores(self, found: Tensor) -> Tensor:
        """``score_samples``, from the scores by each member, shape (n, K)."""
        known, level = self.estimator.calibration_, self.estimator.false_alarms_
        if known.is_split:
            return -found[:, 0]
        weights = torch.from_numpy(known.weights)
        differences = found[:, torch.from_numpy(known.models)] - torch.from_numpy(known.scores)
        ascending, order = differences.sort(dim=1)
        own, total = weights.max(), weights.max() + weights.sum()
        n_allowed = ((own + weights[order].cumsum(1)) / total <= in_float64(level)).sum(1, keepdim=True)
        return -ascending.gather(1, n_allowed).squeeze(1)

    def _p_values(self, found: Tensor) -> Tensor:
        """The p-values, from the scores by each member."""
        known = self.estimator.calibration_
        weights, scores = torch.from_numpy(known.weights), torch.from_numpy(known.scores)
        own = found[:, torch.from_numpy(known.models)]
        is_above = scores >= own - in_float64(ROUNDING) * (1 + own.abs())
        above = torch.where(is_above, weights, 0.0).sum(1)
        shares = (weights.max() + above) / (weights.max() + weights.sum())
        return shares.where(~found.isnan().any(1), math.nan)


def _of_states(model: Any, nats: Any, asked: Asked) -> Tensor:
    """Nats of what each column has: a value, a gap, or a value that it cannot have, shape (n,)."""
    n_cells, schema = asked.cells.shape[1], model.columns_
    columns = None if schema is None else TableColumns(schema, constants=True)
    parts = [slice(j, j + 1) for j in range(n_cells)] if columns is None else [part for _, part in columns.parts]
    first = torch.tensor([min(part.start, n_cells - 1) for part in parts])
    is_gap = asked.cells[:, first].isnan() & torch.tensor([part.stop > part.start for part in parts])
    of_gaps, of_values = torch.from_numpy(np.log([nats.gaps, 1 - nats.gaps - nats.impossible]))
    found = torch.where(is_gap, of_gaps, of_values)
    if columns is not None:
        found = found.where(columns.allowed(asked.X), in_float64(math.log(nats.impossible)))
    if len(nats.constant):
        found = found.where(~_is_other(model, nats.constant, asked.cells), in_float64(math.log(nats.impossible)))
    return -found.sum(1)


def _is_other(model: Any, constant: np.ndarray, cells: Tensor) -> Tensor:
    """Whether each column has another value than the one of all rows fitted, shape (n, c)."""
    schema, scaler, n_cells = model.columns_, model.scaler_, cells.shape[1]
    columns = None if schema is None else TableColumns(schema, constants=True)
    parts = [slice(j, j + 1) for j in range(n_cells)] if columns is None else [part for _, part in columns.parts]
    owners = torch.tensor([[float(part.start <= cell < part.stop) for part in parts] for cell in constant])
    scaled = Graph._scaled(cells.double(), scaler)[:, torch.from_numpy(constant)]
    sizes = torch.from_numpy(np.abs(scaler.center / scaler.divisor)[constant])
    return (scaled.abs() > in_float64(neighbors.ROUNDING) * sizes).double() @ owners.double() > 0


def in_float64(number: float) -> Tensor:
    """A number as a tensor: of a float the exporter makes one of 32 bits."""
    return torch.from_numpy(np.array(number, np.float64))


def as_windows(X: Tensor, width: int) -> Tensor:
    """`eigencode.data.windows.as_windows` of one series."""
    numbers = torch.arange(X.shape[0])
    ends = numbers.clamp(min=width - 1).clamp(max=X.shape[0] - 1)
    return X[(ends[:, None] - torch.arange(width - 1, -1, -1)).clamp(min=0)].flatten(1)


def tail(known: Any, x: Tensor) -> Tensor:
    """`eigencode.detection.tails.Tail` of values, shape (n,)."""
    scores, logarithms = torch.from_numpy(known.scores), torch.from_numpy(known.logarithms)
    found = logarithms[:1]
    if len(scores) > 1:
        at = ((x[:, None] >= scores).sum(1) - 1).clamp(0, len(scores) - 2)
        share = ((x - scores[at]) / (scores[at + 1] - scores[at])).clamp(0, 1)
        found = logarithms[at] + share * (logarithms[at + 1] - logarithms[at])
    return found + _hazard(known, x.maximum(scores[-1:])) - _hazard(known, scores[-1:])


def _hazard(known: Any, x: Tensor) -> Tensor:
    excess, shape = (x - in_float64(known.start)) / in_float64(known.scale), in_float64(known.shape)
    return (shape * excess).log1p() / shape if known.shape else excess


def beyond(ratios: Tensor) -> Tensor:
    """`eigencode.detection.extent.beyond`."""
    doublings = ratios.clamp(min=1.0).log() / in_float64(math.log(2))
    return STEEPNESS * torch.where(doublings < 1, doublings.square(), 2 * doublings - 1)


def log_prob(mixture: Any, codes: Tensor) -> Tensor:
    """`eigencode.model.density.Mixture.log_prob`."""
    k, parts = codes.shape[1], []
    for own, root in mixture._groups_and_roots():
        inverse = np.linalg.inv(root)
        means = torch.from_numpy((mixture.means[own] - mixture.means[own[0]]) @ inverse.T)
        from_center = (codes - torch.from_numpy(mixture.means[own[0]])) @ torch.from_numpy(inverse.T)
        volume = math.log(2 * math.pi) * 0.5 * k + float(np.log(np.diagonal(root)).sum())
        weights = torch.from_numpy(np.log(np.maximum(mixture.weights[own], 1e-300)))
        parts.append(weights - in_float64(volume) - 0.5 * squared_distances(from_center, means))
    joint = torch.cat(parts, dim=1)
    largest = joint.amax(1, keepdim=True)
    return (joint - largest).exp().sum(1).log() + largest.squeeze(1)


def squared_distances(x: Tensor, rows: Tensor) -> Tensor:
    """Of each of some rows to each of others, shape (n, m)."""
    found: Tensor = x.square().sum(1, keepdim=True) + rows.square().sum(1) - 2 * x @ rows.T
    return found.clamp(min=0.0)


def tails_of_distances(known: Any, cells: Tensor) -> Tensor:
    """`eigencode.detection.neighbors.KnownRows.tails`."""
    spacings = torch.from_numpy(known.spacings)
    everything, numbers = nearest(known._fitted, cells)
    distances = without_equal(known._fitted, everything, numbers)[0]
    first = distances[:, :1]
    if known._held_out is not None:
        others, _ = nearest(known._held_out, cells)
        joined = torch.cat([everything, others], dim=1).sort(dim=1).values
        first = torch.where(joined[:, :1] == 0, joined[:, 1:2], joined[:, :1])
    group = without_equal(known._groups, *nearest(known._groups, cells))[0].mean(1)
    least = in_float64(max(neighbors.TIGHTEST * float(known.spacings.mean()), np.finfo(np.float64).tiny))
    about = mean_about(known._fitted, spacings, cells, everything, numbers)
    local = (distances.mean(1) + least).log() - (about + least).log()
    return (
        tail(known.nearest_tail, first.squeeze(1)) + 2 * tail(known.group_tail, group) + tail(known.local_tail, local)
    )


def nearest(index: Any, cells: Tensor) -> tuple[Tensor, Tensor]:
    """`eigencode.detection.neighbors.Neighbors.all`, by comparison with all rows."""
    rows = torch.from_numpy(np.ascontiguousarray(index.rows))
    numbers = squared_distances(cells, rows).topk(min(index.k + 2, len(rows)), dim=1, largest=False).indices
    exact = (cells[:, None] - rows[numbers]).square().sum(2).sqrt()
    exact = torch.where(exact < _rounded(index, cells), 0.0, exact)
    ascending, order = exact.sort(dim=1)
    return ascending, numbers.gather(1, order)


def _rounded(index: Any, cells: Tensor) -> Tensor:
    """Distances of each row below which another one is equal to it, shape (n, 1)."""
    norms = cells.square().sum(1, keepdim=True).sqrt()
    return in_float64(neighbors.ROUNDING) * norms + in_float64(index.rounding)


def mean_about(index: Any, values: Tensor, cells: Tensor, distances: Tensor, numbers: Tensor) -> Tensor:
    """`eigencode.detection.neighbors.Neighbors.mean_about`."""
    is_equal = (distances[:, :1] == 0).double()
    last = without_equal(index, distances, numbers)[0][:, -1:]
    reach = last + in_float64(TIES) * last  # the exporter drops a factor as near to 1 as 1 + TIES
    about = (distances <= reach).double()
    about = torch.cat([about[:, :1] - is_equal, about[:, 1:]], dim=1)
    squares = squared_distances(cells, torch.from_numpy(np.ascontiguousarray(index.rows)))
    everywhere = (squares <= reach.maximum(_rounded(index, cells)).square()).double()
    is_equal = is_equal.squeeze(1)
    of_all = (everywhere @ values - is_equal * values[numbers[:, 0]]) / (everywhere.sum(1) - is_equal)
    found: Tensor = torch.where(about[:, -1] > 0, of_all, (about * values[numbers]).sum(1) / about.sum(1))
    return found


def without_equal(index: Any, distances: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The k nearest of these, without the first where its distance is 0."""
    is_equal = distances[:, :1] == 0
    kept = [torch.where(is_equal, torch.cat([each[:, 1:], each[:, -1:]], 1), each) for each in (distances, numbers)]
    return kept[0][:, : index.k], kept[1][:, : index.k]
