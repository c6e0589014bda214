"""Likelihoods of real numbers: Gaussian, Laplace, Student's t, with a fixed or a learned spread."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Real

import torch
from torch import Tensor

from eigencode.errors import OptionError
from eigencode.parts.base import Sizes
from eigencode.parts.distributions import DiagonalGaussian, Gaussian, Laplace, StudentT
from eigencode.parts.likelihoods.base import SpreadLikelihood, evenly_sampled


class GaussianLikelihood(SpreadLikelihood):
    r"""Normal around the decoder's output: squared error.

    .. math:: -\log p(x|z) = \sum_j \frac{(x_j - g_j(z))^2}{2 v_j} + \frac12 \log(2 \pi v_j)

    With v = 1/2, the default, it is the squared error plus a constant, so that every penalty's weight is the
    textbook's. A learned v is the noise that the code cannot explain: the reconstruction then weighs against the
    penalties as the data's own noise says, as in probabilistic PCA (Tipping & Bishop, 1999), or with one for each
    feature as in factor analysis.

    Parameters
    ----------
    variance : float, 'learned' or 'per_feature'
        v, in units of the scaled columns. A learned one never falls below 1e-6, so that a constant or perfectly
        rebuilt cell adds no more than 6 nats.

    Examples
    --------
    >>> import torch
    >>> p = GaussianLikelihood()(torch.tensor([[0.0]]))
    >>> (p.log_prob(torch.tensor([[0.0]])) - p.log_prob(torch.tensor([[3.0]]))).item()
    9.0
    """

    spread_name = "variance"
    floor = 1e-6

    def __init__(self, variance: float | str = 0.5) -> None:
        super().__init__()
        self.variance = variance

    def forward(self, output: Tensor) -> Gaussian | DiagonalGaussian:
        """A normal around each cell of the output."""
        if isinstance(self.variance, str):
            return DiagonalGaussian(output, self.current_spread(output))
        return Gaussian(output, self.variance)

    def best_spread(self, x: Tensor, output: Tensor) -> Tensor:
        """The mean squared residual."""
        return self.pooled((x - output).square())

    def working_units(self, x: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
        """Columns by their own spread where each has a variance to learn, which the best constant leaves at that."""
        if self.variance != "per_feature":
            return super().working_units(x)
        spread = x.double().std(0, correction=0)
        spread = spread.where(spread > 0, 1.0)
        return [(1 / spread, spread)]

    @property
    def working_variance(self) -> float | None:
        """v, where it is fixed."""
        return None if self.variance == "learned" else 1.0 if isinstance(self.variance, str) else float(self.variance)

    def shrinkage(self, eigenvalues: Tensor) -> Tensor:
        """All of every direction, whatever the variance."""
        return torch.ones_like(eigenvalues)


class LaplaceLikelihood(SpreadLikelihood):
    r"""Laplace around the decoder's output: absolute error.

    .. math:: -\log p(x|z) = \sum_j \frac{|x_j - g_j(z)|}{b_j} + \log(2 b_j)

    The reconstruction is a median, which a few wild cells do not move.

    Parameters
    ----------
    scale : float, 'learned' or 'per_feature'
        b, in units of the scaled columns; 1 gives the absolute error plus a constant. A learned one never falls
        below 1e-3.

    Examples
    --------
    >>> import torch
    >>> p = LaplaceLikelihood()(torch.tensor([[0.0]]))
    >>> (p.log_prob(torch.tensor([[0.0]])) - p.log_prob(torch.tensor([[3.0]]))).item()
    3.0
    """

    spread_name = "scale"
    floor = 1e-3
    lets_outliers_go = True

    def __init__(self, scale: float | str = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, output: Tensor) -> Laplace:
        """A Laplace density around each cell of the output."""
        return Laplace(output, self.current_spread(output))

    def best_spread(self, x: Tensor, output: Tensor) -> Tensor:
        """The mean absolute residual."""
        return self.pooled((x - output).abs())

    def constant(self, x: Tensor) -> Tensor:
        """The columns' medians."""
        return x.median(0).values


class StudentTLikelihood(SpreadLikelihood):
    r"""Student's t around the decoder's output: squared error for small residuals, its logarithm for large ones.

    .. math:: -\log p(x|z) = \sum_j \frac{\nu + 1}{2} \log\left(1 + \frac{(x_j - g_j(z))^2}{\nu s_j^2}\right)
        + \log s_j + \text{const}

    A residual past a few s pulls less the larger it is, so that outliers are let go (Lange, Little & Taylor, 1989).

    Parameters
    ----------
    degrees : float
        nu, the degrees of freedom: 1 is Cauchy's density, infinitely many are normal, 4 is the usual choice.
    scale : float, 'learned' or 'per_feature'
        s, in units of the scaled columns. A learned one never falls below 1e-3.

    Examples
    --------
    >>> import torch
    >>> part = StudentTLikelihood(degrees=3.0, scale=1.0)
    >>> x = torch.tensor([[1.0, 100.0]], requires_grad=True)
    >>> part(torch.zeros(1, 2)).log_prob(x).sum().backward()
    >>> x.grad
    tensor([[-1.0000, -0.0400]])
    """

    spread_name = "scale"
    floor = 1e-3
    lets_outliers_go = True

    def __init__(self, degrees: float = 4.0, scale: float | str = "learned") -> None:
        super().__init__()
        self.degrees = degrees
        self.scale = scale

    def setup(self, sizes: Sizes) -> None:
        """Make the tensors."""
        super().setup(sizes)
        if not (isinstance(self.degrees, Real) and 0 < self.degrees < math.inf):
            raise OptionError(
                "The 'degrees' parameter of StudentTLikelihood must be a positive number",
                got=f"{self.degrees!r} instead",
                hint="Use GaussianLikelihood for infinitely many" if self.degrees == math.inf else None,
            )

    def forward(self, output: Tensor) -> StudentT:
        """A Student's t around each cell of the output."""
        return StudentT(output, self.current_spread(output), self.degrees)

    def best_spread(self, x: Tensor, output: Tensor) -> Tensor:
        """The likeliest scale, by reweighting."""
        *_, (_, scale) = self._reweighted(evenly_sampled(x), evenly_sampled(output), moving=False)
        return scale

    def constant(self, x: Tensor) -> Tensor:
        """The likeliest locations, together with the scale where that is learned, by reweighting from the medians."""
        rows = evenly_sampled(x)
        *_, (location, _) = self._reweighted(rows, rows.median(0).values, moving=True)
        return location

    def _reweighted(self, x: Tensor, location: Tensor, moving: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Expectation-maximisation with the normal's hidden variances (Kent, Tyler & Vardi, 1994), until it rests."""
        nu, scale = self.degrees, x.new_ones(1)
        if self.is_learned:
            scale = self.pooled((x - location).abs()).clamp(min=self.floor)
        else:
            scale = scale * float(self.spread)
        for _ in range(200):
            before = location, scale
            weight = (nu + 1) / (nu + ((x - location) / scale).square())
            if moving:
                location = (weight * x).sum(0) / weight.sum(0)
            if self.is_learned:
                square = self.pooled(weight * (x - location).square()) / self.pooled(weight)
                scale = square.sqrt().clamp(min=self.floor)
            yield location, scale
            moves = (((new - old) / scale).abs().max() for new, old in zip((location, scale), before, strict=True))
            if max(moves) < 8 * torch.finfo(x.dtype).eps:
                break
