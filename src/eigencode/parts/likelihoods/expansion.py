r"""What a start asks of a likelihood: its best constant, and the squared error that it is like near that.

Near the best constant c, -log p(x|c + o) is a quadratic function of the outputs o of each column. In working units,
scaled columns times a factor ``inward``, it is the squared error of outputs that are then times a factor ``outward``: a
linear autoencoder of working columns is PCA, and one Newton step from the constant (McCullagh & Nelder, 1989, call them
working responses).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.parts.likelihoods.observed import SETTLING_CELLS, evenly_sampled, mean, stride, variance

if TYPE_CHECKING:
    from eigencode.parts.likelihoods.base import Likelihood

RESOLUTION = 1e-3
"""Real cells are known to this much of a scaled unit, so that no density of one's own is infinitely narrow."""

STEP = 0.1
"""Of an output, in scaled units, over which its curvature is measured."""

BIAS = ""
"""What the bias is called beside a likelihood's own parameters, none of which has this name."""

FEW_CELLS = SETTLING_CELLS // 8
"""Cells by which a likelihood without closed forms is fitted, some ten times for a start."""

SMALLEST_MEAN = 1e-6
"""Mean at which the bias of a column of nothing but zeros (or ones) starts, since the best one is infinitely far."""


class Expansion:
    """A likelihood that is a squared error, as far as a start is concerned; subclasses say what is different."""

    is_exact: ClassVar[bool] = False
    """Whether PCA in working units is the linear optimum, or counts as it: models then have a closed form."""

    moves_means: ClassVar[bool] = False
    """Whether calibrating may move the means of cells, and not only how far these spread."""

    is_robust: ClassVar[bool] = False
    """Whether the pull of a residual grows no further with its size. A model may then start at the principal
    directions of rows without their outliers."""

    has_linear_start: bool = True
    """Whether the first outputs belong to the columns, one each."""

    reweights: bool = False
    """Whether a spread is settled by clean rows and whole codes, which is its optimum only without noise."""

    def __init__(self, likelihood: Any) -> None:
        self.likelihood = likelihood

    def target(self, batch: Batch) -> Batch:
        """Rows in the units that the distribution is over."""
        return Batch(self.likelihood.target(batch.x), batch.observed)

    def constant(self, batch: Batch) -> Tensor:
        """The decoder's best output that ignores the code, shape (n_outputs,): where its bias starts."""
        return mean(batch.x, batch.observed)

    def calibrate(self, batch: Batch, output: Tensor) -> None:
        """Set parameters of the likelihood's own, such as a variance, to their best for outputs of scaled rows."""

    def set_spread(self, spread: float) -> None:
        """Take a variance that a closed form has settled."""

    def intercept(self, batch: Batch, output: Tensor, bias: Tensor) -> Tensor:
        """The best bias beside outputs that have none, shape (n_outputs,), from one that may do."""
        return bias

    def working_units(self, batch: Batch) -> Sequence[tuple[Tensor, Tensor]]:
        """Factors inward and outward, each of shape (d,), in float64.

        Where there are several such pairs, the one that explains the rows best is taken.
        """
        ones = torch.ones(batch.x.shape[-1], dtype=torch.float64)
        return [(ones, ones)]

    @property
    def variance(self) -> float | None:
        """Of the squared error in working units: 1 for an expansion. None where it is learned."""
        return 1.0


class FittedExpansion(Expansion):
    """The expansion of any likelihood, from its density alone: fitted by L-BFGS, with derivatives from autograd."""

    likelihood: Likelihood

    moves_means = True

    def constant(self, batch: Batch) -> Tensor:
        """The best output of the likelihood with its own parameters at their best."""
        return self._constant(evenly_sampled(batch, FEW_CELLS))[0]

    def calibrate(self, batch: Batch, output: Tensor) -> None:
        """Set all parameters of the likelihood's own that leave the mean as it is."""
        if not self._own(batch):
            return
        few, output = evenly_sampled(batch, FEW_CELLS), output[:: stride(batch, FEW_CELLS)]
        _, found = self._fitted(few, output.detach(), None)
        with torch.no_grad():
            for name, value in found.items():
                self.likelihood.get_parameter(name).copy_(value)

    def intercept(self, batch: Batch, output: Tensor, bias: Tensor) -> Tensor:
        """The best bias, by a few steps."""
        few, output = evenly_sampled(batch, FEW_CELLS), output[:: stride(batch, FEW_CELLS)]
        return self._fitted(few, output.detach(), bias.detach(), n_steps=10)[0]

    def working_units(self, batch: Batch) -> Sequence[tuple[Tensor, Tensor]]:
        """A Newton step, with the mean curvature of each column; or PCA.

        Where the density has no curvature at the constant, it is the variance of the cells' pull, as for Fisher's.
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

    def _pull(self, batch: Batch, constant: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        """The derivative of each cell's log-density in the output."""
        with torch.enable_grad():
            output = constant.expand(len(batch), -1).clone().requires_grad_()
            (found,) = torch.autograd.grad(self._cells(batch, output, own).sum(), output)
        return found.double()

    def _constant(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The best constant and parameters, from the better of two guesses."""
        none = batch.x.new_zeros(1, 1).expand(len(batch), 1)
        return self._fitted(batch, none, max(self._guesses(batch), key=lambda guess: self._worth(batch, none + guess)))

    def _guesses(self, batch: Batch) -> list[Tensor]:
        """Outputs of zero, and the columns' means under the link that suits the support, with a few spreads."""
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
        """What one scaled unit of each column is for the distribution, shape (d,)."""
        is_apart = self.likelihood.in_data_units and self.likelihood.support == "real"
        return self.likelihood.divisor.to(like) if is_apart else torch.ones_like(like[0])

    def _own(self, batch: Batch) -> dict[str, Tensor]:
        """The likelihood's own parameters, as they are, but for those that move the mean: these are weights."""
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
        p = torch.func.functional_call(part, dict(own), (output,))
        target = part.target(batch.x, batch.observed)
        if part.support == "real":
            blur = RESOLUTION * self._scale(target)
            cells = (p.log_prob(target + blur) + p.log_prob(target - blur)) / 2
        else:
            cells = p.log_prob(target)
        return cells if batch.observed is None else cells.where(batch.observed, 0.0)

    def _mean(self, batch: Batch, output: Tensor, own: Mapping[str, Tensor]) -> Tensor:
        """Mean log-likelihood of rows."""
        return self._cells(batch, output, own).sum() / len(batch)

    def _worth(self, batch: Batch, output: Tensor) -> float:
        return float(self._mean(batch, output, self._own(batch)).detach().nan_to_num(-torch.inf))

    def _fitted(
        self, batch: Batch, output: Tensor, bias: Tensor | None, n_steps: int = 60
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The likeliest bias beside outputs, where one is given to begin with, and parameters; by L-BFGS."""
        first = self._own(batch) | ({} if bias is None else {BIAS: bias})
        sizes = {name: value.abs().clamp(min=1.0) for name, value in first.items()}
        if bias is not None and len(bias) >= batch.x.shape[-1]:
            sizes[BIAS][: batch.x.shape[-1]] = self._scale(batch.x)
        # Numbers are moved in steps of their size: those in the data's units may be of any.
        moves = {name: torch.zeros_like(value, requires_grad=True) for name, value in first.items()}
        optimizer = torch.optim.LBFGS(list(moves.values()), max_iter=n_steps, line_search_fn="strong_wolfe")

        def moved() -> dict[str, Tensor]:
            return {name: torch.addcmul(value, sizes[name], moves[name]) for name, value in first.items()}

        def cost(values: dict[str, Tensor]) -> Tensor:
            own = {name: value for name, value in values.items() if name != BIAS}
            return -self._mean(batch, output + values[BIAS] if BIAS in values else output, own)

        def closure() -> Tensor:
            optimizer.zero_grad()
            found = cost(moved())
            found.backward()
            return found

        with torch.enable_grad():
            optimizer.step(closure)
            is_better = bool(cost(moved()) <= cost(first))
        found = {name: value.detach() for name, value in (moved() if is_better else first).items()}
        return found.pop(BIAS, output), found
