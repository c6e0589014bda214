"""Expansions of this package's likelihoods: best constants, spreads and working units, in closed form or nearly."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from eigencode.batch import Batch, equal_parts, selected
from eigencode.parts.distributions import NegativeBinomial
from eigencode.parts.likelihoods.expansion import SMALLEST_MEAN, Expansion
from eigencode.parts.likelihoods.observed import (
    SAMPLE_CELLS,
    cached_rows,
    evenly_sampled,
    mean,
    median,
    overall_mean,
    stride,
    variance,
)

if TYPE_CHECKING:
    from eigencode.parts.likelihoods.activated import ActivatedLikelihood
    from eigencode.parts.likelihoods.base import SpreadLikelihood
    from eigencode.parts.likelihoods.continuous import GaussianLikelihood, StudentTLikelihood

INTERCEPT_STEPS = 8
"""Newton steps for a bias, from the best one without a code."""

SMALLEST_GAIN = 1e-3
"""Twice the nats a row that a Newton step of the biases gains, for which it is the last one: the next one would gain
about the square of it."""

SMALLEST_CURVATURE = 0.5
"""Smallest curvature of a column, as a share of the largest; with less, a Newton step would be too long.

With 1, the expansion of a Bernoulli is an upper bound (Boehning & Lindsay, 1988), and no step is too long.
"""

SMALLEST_SHARE = 0.1
"""Smallest share of a class, relative to the largest, by which its cells are divided for a linear start."""

LARGEST_DISPERSION = 1e3
"""Largest dispersion of counts at a start."""

GRIDS, GRID_POINTS = 5, 12
"""Grids of the logarithm of a dispersion, each finer by a factor of about 6, and their points."""

FARTHEST = 8.0
"""Input at which bounded activations are within a thousandth of their bounds."""


class SpreadExpansion(Expansion):
    """The expansion of a likelihood with a spread, which may be learned."""

    likelihood: SpreadLikelihood

    @property
    def reweights(self) -> bool:  # type: ignore[override]
        """Whether the spread is learned."""
        return self.likelihood.is_learned

    @abstractmethod
    def best_spread(self, target: Batch, output: Tensor) -> Tensor:
        """The maximum-likelihood spread for rows in the distribution's units, shape (1,) or (d,)."""

    @torch.no_grad()
    def calibrate(self, batch: Batch, output: Tensor) -> None:
        """Set a learned spread to its best value for given outputs; it is 1 for a column without observed cells."""
        part = self.likelihood
        if not part.is_learned:
            return
        spread = self.best_spread(self.target(batch), output)
        if batch.observed is not None:
            spread = spread.where(self.pooled(batch.observed.to(spread), None) > 0, 1.0)
        part.log_excess.copy_((spread - part.smallest).clamp(min=part.floor).log())

    @torch.no_grad()
    def set_spread(self, spread: float | Tensor) -> None:
        part = self.likelihood
        if part.is_learned:
            spread = torch.as_tensor(spread, dtype=torch.float64)
            part.log_excess.copy_((spread - part.smallest).clamp(min=part.floor).log())

    def pooled(self, cells: Tensor, observed: Tensor | None) -> Tensor:
        """The mean of cells of shape (n, d) over all cells with one spread, shape (1,) or (d,)."""
        if self.likelihood.spread == "per_feature":
            return mean(cells, observed)
        return overall_mean(cells, observed).reshape(1)


class GaussianExpansion(SpreadExpansion):
    """The expansion of the squared error, which is exact."""

    is_exact = True
    likelihood: GaussianLikelihood

    def best_spread(self, target: Batch, output: Tensor) -> Tensor:
        """The mean squared residual."""
        return self.pooled((target.x - output).square(), target.observed)

    def working_units(self, batch: Batch) -> Sequence[tuple[Tensor, Tensor]]:
        """Columns divided by their standard deviations, if each has a learned variance."""
        if self.likelihood.variance != "per_feature":
            return super().working_units(batch)
        spread = variance(batch.x.double(), batch.observed).sqrt()
        spread = spread.where(spread > 0, 1.0)
        return [(1 / spread, spread)]

    @property
    def variance(self) -> float | None:
        """v, or None if it is learned."""
        given = self.likelihood.variance
        return None if given == "learned" else 1.0 if isinstance(given, str) else float(given)

    @property
    def has_variances(self) -> bool:  # type: ignore[override]
        """Whether the variance is learned, one a column."""
        return self.likelihood.variance == "per_feature"

    @property
    def smallest_variance(self) -> float | Tensor:  # type: ignore[override]
        """A little more than the likelihood's own, which a learned variance does not reach."""
        return self.likelihood.smallest + self.likelihood.floor


class LaplaceExpansion(SpreadExpansion):
    """The expansion of the Laplace likelihood, with medians and absolute residuals."""

    is_robust = True

    def best_spread(self, target: Batch, output: Tensor) -> Tensor:
        """The mean absolute residual."""
        return self.pooled((target.x - output).abs(), target.observed)

    def constant(self, batch: Batch) -> Tensor:
        """The columns' medians."""
        return median(batch.x, batch.observed)


class StudentTExpansion(SpreadExpansion):
    """The expansion of Student's t, by expectation-maximisation for its scale mixture (Kent, Tyler & Vardi, 1994)."""

    is_robust = True
    likelihood: StudentTLikelihood

    def best_spread(self, target: Batch, output: Tensor) -> Tensor:
        """The maximum-likelihood scale, by iterative reweighting."""
        *_, (_, scale) = self._reweighted(evenly_sampled(target), output[:: stride(target)], moving=False)
        return scale

    def constant(self, batch: Batch) -> Tensor:
        """The maximum-likelihood locations, jointly with a learned scale, by iterative reweighting from the medians."""
        rows = evenly_sampled(batch)
        *_, (location, _) = self._reweighted(rows, median(rows.x, rows.observed), moving=True)
        return location

    def _reweighted(self, batch: Batch, location: Tensor, moving: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Locations and scales after each iteration, until they converge."""
        part, x, observed = self.likelihood, batch.x, batch.observed
        nu, scale = part.degrees, x.new_ones(1)
        if part.is_learned:
            scale = self.pooled((x - location).abs(), observed).clamp(min=part.floor)
        else:
            scale = scale * float(part.spread)
        for _ in range(200):
            before = location, scale
            weight = (nu + 1) / (nu + ((x - location) / scale).square())
            if observed is not None:
                weight = weight.where(observed, 0.0)
            if moving:
                location = (weight * x).sum(0) / _not_none(weight.sum(0))
            if part.is_learned:
                square = self.pooled(weight * (x - location).square(), observed)
                square = square / _not_none(self.pooled(weight, observed))
                scale = square.sqrt().clamp(min=part.floor)
            yield location, scale
            moves = (((new - old) / scale).abs().max() for new, old in zip((location, scale), before, strict=True))
            if max(moves) < 8 * torch.finfo(x.dtype).eps:
                break


class BernoulliExpansion(Expansion):
    """The expansion of the Bernoulli in its logits."""

    is_exact = True

    def constant(self, batch: Batch) -> Tensor:
        """The logits of the columns' means."""
        return self._mean(batch).logit()

    def _mean(self, batch: Batch) -> Tensor:
        return self.likelihood.target(mean(batch.x, batch.observed)).clamp(SMALLEST_MEAN, 1 - SMALLEST_MEAN)

    def intercept(self, batch: Batch, output: Tensor, bias: Tensor) -> Tensor:
        """The bias of each logit with which the column has its mean, for given outputs; by Newton steps."""
        wanted = self._mean(batch)
        for _ in range(INTERCEPT_STEPS):
            found, squared = _sigmoid_moments(output, batch.observed, bias)
            curvature = (found - squared).clamp(min=SMALLEST_MEAN)
            newton = (wanted - found) / curvature
            # The logit of the mean rises less than the bias, so its difference is never too long a step.
            step = newton.where(newton.abs() < 1, wanted.logit() - found.logit(SMALLEST_MEAN))
            bias = bias + step
            if (curvature * step.square()).sum() < SMALLEST_GAIN:
                break
        return bias

    def explainable(self, batch: Batch) -> Tensor:
        """The entropy of the columns' means minus the mean entropy of their cells, which is 0 for 0 and 1."""
        x, p = self.target(batch).x.double(), self._mean(batch).double()
        return _entropy(p) - mean(_entropy(x), batch.observed)

    def working_units(self, batch: Batch) -> Sequence[tuple[Tensor, Tensor]]:
        """One Newton step; the curvature of a column in its logit is p (1 - p)."""
        p = self._mean(batch).double()
        return [_newton(self.likelihood.divisor, p * (1 - p), torch.ones_like(p))]


class BinaryCodeExpansion(BernoulliExpansion):
    """The expansion of bits that are one variable."""

    def explainable(self, batch: Batch) -> Tensor:
        """The sum over the bits, for each of them."""
        found = super().explainable(batch)
        return found.sum().expand_as(found)


class CountExpansion(Expansion):
    """The expansion of counts in the logarithms of their means."""

    is_exact = True
    is_overdispersed: ClassVar[bool] = False
    """Whether the variance may exceed the mean."""

    def constant(self, batch: Batch) -> Tensor:
        """The logarithms of the columns' means."""
        return self._mean(batch).log()

    def _mean(self, batch: Batch) -> Tensor:
        return mean(self.target(batch).x, batch.observed).clamp(min=SMALLEST_MEAN)

    def intercept(self, batch: Batch, output: Tensor, bias: Tensor) -> Tensor:
        """The bias of each log-mean with which the column has its mean, for given outputs."""
        wanted = self._mean(batch).log()
        if batch.observed is None:
            return wanted - output.logsumexp(0) + math.log(len(output))
        count = batch.observed.sum(0)
        found = wanted - output.where(batch.observed, -torch.inf).logsumexp(0) + count.log()
        return found.where(count > 0, wanted)

    def explainable(self, batch: Batch) -> Tensor:
        """The deviance of the best constant of a Poisson, m log m against x log x; overdispersed ones have less."""
        x, m = self.target(batch).x.double(), self._mean(batch).double()
        deviance = (mean(torch.xlogy(x, x), batch.observed) - m * m.log()).clamp(min=0)
        return deviance / (1 + self._excess(batch) * m)

    def working_units(self, batch: Batch) -> Sequence[tuple[Tensor, Tensor]]:
        """The curvature of a column in its log-mean is m / (1 + a m), with the dispersion a estimated from the rows.

        Columns scaled by logarithms are used as working responses, once weighted by this curvature and once without
        weights. For other columns there is one Newton step.
        """
        part, observed = self.likelihood, batch.observed
        m = mean(part.target(batch.x.double()), observed).clamp(min=SMALLEST_MEAN)
        inflation = 1 + self._excess(batch) * m
        newton = _newton(part.divisor, m / inflation, 1 / inflation)
        if part.logarithmic is None:
            return [newton]
        root = (m / inflation).sqrt()
        inward = (torch.where(part.logarithmic, weight * part.divisor, newton[0]) for weight in (root, 1.0))
        outward = (torch.where(part.logarithmic, 1 / weight, newton[1]) for weight in (root, torch.ones_like(root)))
        return list(zip(inward, outward, strict=True))

    def _excess(self, batch: Batch) -> Tensor:
        """The dispersion a of each column by its mean and variance; 0 if the variance may not exceed the mean."""
        counts = self.likelihood.target(batch.x.double())
        m = mean(counts, batch.observed).clamp(min=SMALLEST_MEAN)
        return self.is_overdispersed * (variance(counts, batch.observed) - m).clamp(min=0) / m.square()


class NegativeBinomialExpansion(CountExpansion, SpreadExpansion):
    """The expansion of the negative binomial."""

    is_overdispersed = True

    @property
    def rough(self) -> Expansion:
        """The same with the dispersion by moments."""
        return RoughNegativeBinomialExpansion(self.likelihood)

    def best_spread(self, target: Batch, output: Tensor) -> Tensor:
        """The maximum-likelihood dispersion, by the best of a grid of its logarithm that becomes finer."""
        # Each evaluation takes two log-gammas per cell, so fewer cells are used; training improves the value further.
        few = SAMPLE_CELLS // 32
        rows, outputs = evenly_sampled(target, few), output[:: stride(target, few)]
        counts, log_mean = rows.x.double(), self.likelihood(outputs).log_mean.double()
        width = counts.shape[1] if self.likelihood.spread == "per_feature" else 1
        low, high = math.log(self.likelihood.floor), math.log(LARGEST_DISPERSION)
        best, reach = counts.new_full((width,), (low + high) / 2), (high - low) / 2
        for _ in range(GRIDS):
            grid = (best + torch.linspace(-reach, reach, GRID_POINTS).to(best)[:, None]).clamp(low, high)
            cells = NegativeBinomial(log_mean, grid.exp()[:, None]).log_prob(counts)
            worths = torch.stack([self.pooled(worth, rows.observed) for worth in cells])
            best, reach = grid.gather(0, worths.argmax(0, keepdim=True))[0], 2 * reach / (GRID_POINTS - 1)
        return best.exp().to(output.dtype)


class RoughNegativeBinomialExpansion(NegativeBinomialExpansion):
    """The same with the dispersion by moments, to choose one of many starts."""

    def best_spread(self, target: Batch, output: Tensor) -> Tensor:
        """The excess of the squared residuals over the means, beside the squared means."""
        means = self.likelihood(output).mean
        excess = self.pooled((target.x - means).square() - means, target.observed)
        found = excess / self.pooled(means.square(), target.observed).clamp(min=SMALLEST_MEAN)
        return found.clamp(self.likelihood.floor, LARGEST_DISPERSION)


class ClassesExpansion(Expansion):
    """The expansion of a likelihood of one-hot columns."""

    def shares(self, batch: Batch) -> Tensor:
        """The share of each class, at least a little, shape (d,)."""
        return mean(self.target(batch).x, batch.observed).clamp(min=SMALLEST_MEAN)

    def explainable(self, batch: Batch) -> Tensor:
        """The entropy of the classes, the same for each column."""
        p = self.shares(batch).double()
        return -(p * p.log()).sum().expand_as(p)

    def bounded(self, p: Tensor) -> Tensor:
        """Shares without small ones, for which a Newton step would be too long and their distance all that counts."""
        return p.clamp(min=SMALLEST_SHARE * p.max())


class CategoricalExpansion(ClassesExpansion):
    """The expansion of the categorical likelihood in its logits."""

    is_exact = True

    def constant(self, batch: Batch) -> Tensor:
        """The logarithms of the classes' shares."""
        return self.shares(batch).log()

    def intercept(self, batch: Batch, output: Tensor, bias: Tensor) -> Tensor:
        """The bias of each logit with which the classes have their shares, for given outputs, by iterative scaling."""
        wanted = self.shares(batch)
        bias = wanted.log()
        for _ in range(INTERCEPT_STEPS):
            found = mean((output + bias).softmax(-1), batch.observed).clamp(min=SMALLEST_MEAN)
            bias = bias + (wanted / found).log()
        return bias

    def working_units(self, batch: Batch) -> Sequence[tuple[Tensor, Tensor]]:
        r"""One Newton step from the shares p, and PCA of the columns.

        With residuals r of the columns, which add up to 0, the outputs r / p are the step, and the quadratic expansion
        is the chi-squared distance sum_j r_j^2 / p_j: PCA in these units is multiple correspondence analysis
        (Greenacre, 1984).
        """
        p, divisor = self.bounded(self.shares(batch).double()), self.likelihood.divisor
        return [(divisor / p.sqrt(), p.rsqrt()), (torch.ones_like(p), divisor / p)]


class ActivatedExpansion(Expansion):
    """The expansion of an activated output, for the codes of a stack's layers."""

    has_linear_start = False
    likelihood: ActivatedLikelihood

    def constant(self, batch: Batch) -> Tensor:
        """The output at which the activation equals the column's mean, by bisection: activations are increasing."""
        wanted = mean(self.target(batch).x, batch.observed)
        low, high = torch.full_like(wanted, -FARTHEST), torch.maximum(wanted, wanted.new_tensor(FARTHEST))
        for _ in range(60):
            middle = (low + high) / 2
            is_below = self.likelihood.nonlinearity(middle) < wanted
            low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
        return (low + high) / 2


def _sigmoid_moments(output: Tensor, observed: Tensor | None, bias: Tensor) -> Tensor:
    """Means and mean squares of the sigmoids of outputs with a bias over the observed cells of columns, (2, d)."""
    totals = torch.zeros(2, len(bias), dtype=torch.float64, device=bias.device)
    for rows in equal_parts(len(output), cached_rows(len(bias))):
        p = (output[rows] + bias).sigmoid_()
        p = selected(p, None if observed is None else observed[rows])
        ones = p.new_ones(len(p))
        totals += torch.stack([ones @ p, ones @ p.square_()])  # products take half the time of sums over rows
    n_cells = len(output) if observed is None else observed.sum(0).clamp(min=1)
    return (totals / n_cells).to(bias)


def _entropy(p: Tensor) -> Tensor:
    """Entropy of a share, in nats."""
    return -torch.xlogy(p, p) - torch.xlogy(1 - p, 1 - p)


def _not_none(total: Tensor) -> Tensor:
    """Sums of weights, with 0 replaced by a positive number for division."""
    return total.clamp(min=torch.finfo(total.dtype).tiny)


def _newton(divisor: Tensor, curvature: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Working units for a given curvature, and for a gradient of slope times the residual in the data's units."""
    root = curvature.clamp(min=SMALLEST_CURVATURE * curvature.max().clamp(min=1e-12)).sqrt()
    return divisor * slope / root, 1 / root
