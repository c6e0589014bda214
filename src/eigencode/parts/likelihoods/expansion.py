r"""Expansion: a likelihood's best constant, and the squared error that approximates it near that, for starts.

Near the best constant c, -log p(x|c + o) is a quadratic function of the outputs o of each column. In working units,
scaled columns times a factor ``inward``, it is the squared error of outputs that are then times a factor ``outward``: a
linear autoencoder of working columns is PCA, and one Newton step from the constant (McCullagh & Nelder, 1989, call them
working responses).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from eigencode.batch import Batch
from eigencode.parts.likelihoods.observed import SAMPLE_CELLS, evenly_sampled, mean, stride, variance

if TYPE_CHECKING:
    from eigencode.parts.likelihoods.base import Likelihood

RESOLUTION = 1e-3
"""Assumed precision of real cells, in scaled units, so that a user's density is not fitted infinitely narrow."""

STEP = 0.1
"""Step of an output, in scaled units, for the finite difference of its curvature."""

BIAS = ""
"""The name of the bias among the likelihood's own parameters, none of which has this name."""

FEW_CELLS = SAMPLE_CELLS // 8
"""Cells from which a likelihood without closed forms is fitted."""

ROUGH_CELLS, ROUGH_ROWS = 2**13, 256
"""Cells, and at least so many rows, from which it is fitted roughly, to choose one of about a hundred starts."""

ROUNDS = 20
"""Rounds of L-BFGS at most; two are enough for most likelihoods, and a rough fit takes one."""

LBFGS_OPTIONS: Mapping[str, Any] = {"maxiter": 50, "gtol": 1e-6, "ftol": 1e-10}
"""Arguments of one round of L-BFGS, in which numbers have about equal curvature."""

ROUGH_OPTIONS: Mapping[str, Any] = {"maxiter": 30, "gtol": 1e-4, "ftol": 1e-7}
"""The same of a rough fit."""

LEAST_GAIN = 1e-7
"""Gain of the mean log-likelihood of a row, in nats, for which there is another round."""

SMALLEST_MEAN = 1e-6
"""Mean for which the bias of a column of only zeros (or ones) starts, since the best bias is infinite."""


class Expansion:
    """The expansion of a likelihood that is a squared error; subclasses override what is different."""

    is_exact: ClassVar[bool] = False
    """Whether PCA in working units is, or is regarded as, the linear optimum; models then have a closed form."""

    moves_means: ClassVar[bool] = False
    """Whether ``calibrate`` may change the means of cells, and not only their spread."""

    is_robust: ClassVar[bool] = False
    """Whether the gradient of a residual is bounded. A model may then start at the principal directions of rows with
    clipped outliers."""

    has_linear_start: bool = True
    """Whether the first outputs are the locations of the columns, one each."""

    reweights: bool = False
    """Whether a learned spread is estimated from clean rows and whole codes, which is optimal only without noise."""

    has_variances: bool = False
    """Whether it is a squared error with one learned variance a column, as in factor analysis."""

    smallest_variance: float | Tensor = 0.0
    """The smallest that such a variance can be, in scaled units; a number, or one a column."""

    def __init__(self, likelihood: Any) -> None:
        self.likelihood = likelihood

    @property
    def rough(self) -> Expansion:
        """An expansion that is quicker where this one takes long, to choose one of many starts."""
        return self

    def few(self, batch: Batch) -> Batch:
        """The rows that suffice to choose a start: all, but of many columns fewer."""
        return batch.thinned(max(SAMPLE_CELLS // batch.x.shape[-1], 4 * ROUGH_ROWS))

    def target(self, batch: Batch) -> Batch:
        """Rows in the units of the distribution."""
        return Batch(self.likelihood.target(batch.x), batch.observed)

    def constant(self, batch: Batch) -> Tensor:
        """The decoder's best constant output, shape (n_outputs,), where its bias starts."""
        return mean(batch.x, batch.observed)

    def calibrate(self, batch: Batch, output: Tensor) -> None:
        """Set the likelihood's own parameters, such as a variance, to their best values for given outputs."""

    def set_spread(self, spread: float | Tensor) -> None:
        """Set a learned variance, or one a column, to the value of a closed form."""

    def intercept(self, batch: Batch, output: Tensor, bias: Tensor) -> Tensor:
        """The best bias for outputs without one, shape (n_outputs,), with ``bias`` as the initial value."""
        return bias

    def working_units(self, batch: Batch) -> Sequence[tuple[Tensor, Tensor]]:
        """Factors inward and outward, each of shape (d,), in float64.

        If there are several pairs, the one with the best likelihood of the rows is used.
        """
        ones = torch.ones(batch.x.shape[-1], dtype=torch.float64)
        return [(ones, ones)]

    @property
    def variance(self) -> float | None:
        """Variance of the squared error in working units, 1 for a Newton step; None if it is learned."""
        return 1.0

    def unit_variance(self, batch: Batch) -> Sequence[tuple[Tensor, Tensor]]:
        """Working units in which the variance of the squared error is 1, so that those of several blocks compare."""
        given = self.variance
        spread = math.sqrt(float(variance(batch.x.double(), batch.observed).mean()) if given is None else given) or 1.0
        return [(inward / spread, outward * spread) for inward, outward in self.working_units(batch)]

    def explainable(self, batch: Batch) -> Tensor:
        """Nats a row between the best constant and an exact reconstruction of a column (or block), shape (d,).

        For a squared error it is half the variance of the column in units with variance 1.
        """
        inward, _ = self.unit_variance(batch)[0]
        return variance(batch.x.double(), batch.observed) * inward.square() / 2


class FittedExpansion(Expansion):
    """The expansion of any likelihood, from its density only: fitted by L-BFGS, with derivatives from autograd."""

    likelihood: Likelihood

    moves_means = True

    is_rough = False
    """Whether fits are on fewer cells and end early."""

    @property
    def rough(self) -> FittedExpansion:
        """An expansion whose fits take about a twentieth of the time."""
        found = FittedExpansion(self.likelihood)
        found.is_rough = True
        return found

    def _few(self, batch: Batch, output: Tensor) -> tuple[Batch, Tensor]:
        """Every m-th row, of which a fit is made, and its output."""
        n_cells = _rough_cells(batch) if self.is_rough else FEW_CELLS
        return evenly_sampled(batch, n_cells), output[:: stride(batch, n_cells)].detach()

    def constant(self, batch: Batch) -> Tensor:
        """The best constant output, jointly with the likelihood's own parameters."""
        return self._constant(evenly_sampled(batch, FEW_CELLS))[0]

    def calibrate(self, batch: Batch, output: Tensor) -> None:
        """Set the likelihood's own parameters that do not change the mean."""
        if not self._own(batch):
            return
        few, output = self._few(batch, output)
        _, found = self._fitted(few, output, None)
        with torch.no_grad():
            for name, value in found.items():
                self.likelihood.get_parameter(name).copy_(value)

    def intercept(self, batch: Batch, output: Tensor, bias: Tensor) -> Tensor:
        """The best bias, jointly with the likelihood's own parameters."""
        few, output = self._few(batch, output)
        return self._fitted(few, output, bias.detach())[0]

    def working_units(self, batch: Batch) -> Sequence[tuple[Tensor, Tensor]]:
        """A Newton step, with the mean curvature of each column; or PCA.

        If the curvature of the density is not positive, the variance of the score is used, as in Fisher scoring.
        """
        batch = evenly_sampled(batch, FEW_CELLS)
        x, observed = batch.x.double(), batch.observed
        n_features, (constant, own) = x.shape[-1], self._constant(batch)
        step = torch.zeros_like(constant)
        step[:n_features] = STEP * self._scale(batch.x)
        below, pull, above = (self._pull(batch, constant + side * step, own)[..., :n_features] for side in (-1, 0, 1))
        curvature = mean(below - above, observed) / (2 * step[:n_features])
        curvature = curvature.where(curvature > 0, variance(pull, observed))
        covariance, spread = mean(pull * (x - mean(x, observed)), observed), variance(x, observed)
        slope = torch.where(spread > 0, covariance / spread, 0.0).clamp(min=0)
        root = curvature.where(curvature > 0, 1.0).sqrt()
        found = [(slope / root, 1 / root)]
        return found if self.likelihood.in_data_units else [*found, *super().working_units(batch)]

    def _pull(self, batch: Batch, outputs: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        """The derivative of each row's log-density in its outputs, which may be a constant."""
        with torch.enable_grad():
            output = outputs.expand(len(batch), -1).detach().clone().requires_grad_()
            (found,) = torch.autograd.grad(self._cells(batch, output, own).sum(), output)
        return found.double()

    def _constant(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The best constant and parameters, from the better of two initial values."""
        none = batch.x.new_zeros(1, 1).expand(len(batch), 1)
        return self._fitted(batch, none, max(self._guesses(batch), key=lambda guess: self._worth(batch, none + guess)))

    def _guesses(self, batch: Batch) -> list[Tensor]:
        """Initial outputs: zeros, and the columns' means under the link for the support, with a few spreads."""
        part, target = self.likelihood, self.likelihood.target(batch.x)
        means, n_features = mean(target, batch.observed), target.shape[-1]
        zeros = means.new_zeros(part.n_outputs(n_features))
        if len(zeros) < n_features:
            return [zeros]
        if part.support == "counts":
            means = means.clamp(min=SMALLEST_MEAN).log()
        elif part.support == "unit interval":
            means = means.clamp(SMALLEST_MEAN, 1 - SMALLEST_MEAN).logit()
        more, scale = zeros[n_features:], self._scale(target)
        spreads = [more]
        if part.support == "real" and len(more) == n_features:
            spreads += [scale, scale.square(), scale.log(), 2 * scale.log()]
        return [zeros, *(torch.cat([means, spread]) for spread in spreads)]

    def _scale(self, like: Tensor) -> Tensor:
        """One scaled unit of each column in the distribution's units, shape (d,)."""
        is_rescaled = self.likelihood.in_data_units and self.likelihood.support == "real"
        return self.likelihood.divisor.to(like) if is_rescaled else torch.ones_like(like[0])

    def _own(self, batch: Batch) -> dict[str, Tensor]:
        """The likelihood's own parameters with their values, without those that change the mean, which are weights."""
        part, like = self.likelihood, batch.x
        own = {name: value for name, value in part.named_parameters() if value.requires_grad}
        output = torch.linspace(-1, 1, part.n_outputs(like.shape[-1])).to(like)[None]
        with torch.enable_grad():
            total = part(output).mean.sum()
        if own and total.requires_grad:
            slopes = torch.autograd.grad(total, list(own.values()), allow_unused=True)
            own = {name: own[name] for name, slope in zip(own, slopes, strict=True) if slope is None or not slope.any()}
        return {name: value.detach().clone() for name, value in own.items()}

    def _cells(self, batch: Batch, output: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        """Log-densities of observed cells, and 0 in hidden ones."""
        part = self.likelihood
        p = torch.func.functional_call(part, self._tensors(own, output), (output,))
        target = part.target(batch.x, batch.observed)
        if part.support == "real":
            blur = RESOLUTION * self._scale(target)
            cells = (p.log_prob(target + blur) + p.log_prob(target - blur)) / 2
        else:
            cells = p.log_prob(target)
        return cells if batch.observed is None else cells.where(batch.observed, 0.0)

    def _tensors(self, own: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
        """All parameters and buffers, with given values of the own ones; in float64 if ``like`` is."""
        part = self.likelihood
        kept = {name: value.detach() for name, value in (*part.named_parameters(), *part.named_buffers())} | dict(own)
        is_exact = like.dtype == torch.float64
        return {name: v.double() if is_exact and v.is_floating_point() else v for name, v in kept.items()}

    def _mean(self, batch: Batch, output: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        """Mean log-likelihood of rows."""
        return self._cells(batch, output, own).sum() / len(batch)

    def _worth(self, batch: Batch, output: Tensor) -> float:
        return float(self._mean(batch, output, self._own(batch)).detach().nan_to_num(-torch.inf))

    def _fitted(self, batch: Batch, output: Tensor, bias: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Maximum likelihood over the own parameters, and over the bias if an initial one is given.

        It is found in float64, by L-BFGS in rounds: until one gains next to nothing, first on few of the rows.
        """
        given = self._own(batch) | ({} if bias is None else {BIAS: bias})
        best: Mapping[str, Tensor] = {name: value.double() for name, value in given.items()}
        batch, exact = Batch(batch.x.double(), batch.observed), output.double()
        for step in sorted({stride(batch, _rough_cells(batch)), 1}, reverse=True):
            rows, least = batch.map(itemgetter(slice(None, None, step))), math.inf
            for _ in range(1 if self.is_rough else ROUNDS):
                before = least
                best, least = self._improved(rows, exact[::step], best)
                if not least < before - LEAST_GAIN:
                    break
        found = {name: value.to(given[name]) for name, value in best.items()}
        return found.pop(BIAS, output), found

    def _improved(
        self, batch: Batch, output: Tensor, first: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Tensor], float]:
        """The values after some steps of L-BFGS if they are better, and minus the mean log-likelihood at them."""
        sizes, lengths = self._sizes(batch, output, first), [value.numel() for value in first.values()]

        def moved(steps: Tensor) -> dict[str, Tensor]:
            parts = zip(first.items(), steps.split(lengths), strict=True)
            return {name: torch.addcmul(value, sizes[name], part.view_as(value)) for (name, value), part in parts}

        def cost(steps: Tensor) -> Tensor:
            own = moved(steps)
            bias = own.pop(BIAS, None)
            return -self._mean(batch, output if bias is None else output + bias, own)

        def cost_and_gradient(steps: np.ndarray) -> tuple[float, np.ndarray]:
            at = torch.tensor(steps, requires_grad=True)
            found = cost(at)
            (gradient,) = torch.autograd.grad(found, at)
            return float(found.detach()), gradient.numpy()

        options, start = ROUGH_OPTIONS if self.is_rough else LBFGS_OPTIONS, np.zeros(sum(lengths))
        with torch.enable_grad():
            last = minimize(cost_and_gradient, start, jac=True, method="L-BFGS-B", options=dict(options)).x
        ends = [torch.from_numpy(steps) for steps in (last, start)]
        costs = [float(cost(steps).detach().nan_to_num(math.inf, math.inf)) for steps in ends]
        best = int(costs[0] > costs[1])
        return moved(ends[best]), costs[best]

    def _sizes(self, batch: Batch, output: Tensor, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The unit of each number for the optimiser, since numbers in the data's units may have any size.

        That of a bias is the standard error from one row, by the gradients of rows, as in Fisher scoring: means of
        columns with little noise and their variances then take equally many steps.
        """
        sizes = {name: value.abs().clamp(min=1.0) for name, value in values.items()}
        if BIAS in values:
            own = {name: value for name, value in values.items() if name != BIAS}
            error = self._pull(batch, output + values[BIAS], own).square().mean(0).rsqrt()
            sizes[BIAS] = error.where(error.isfinite() & (error > 0), sizes[BIAS])
        return sizes


def _rough_cells(batch: Batch) -> int:
    """Most cells of a rough fit."""
    return max(ROUGH_CELLS, ROUGH_ROWS * batch.x.shape[-1])
