"""Likelihoods of real numbers: Gaussian, Laplace, Student's t, with a fixed or a learned spread."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.errors import OptionError
from eigencode.parts.base import Sizes
from eigencode.parts.distributions import DiagonalGaussian, Distribution, Gaussian, Laplace, StudentT
from eigencode.parts.likelihoods.base import SpreadLikelihood
from eigencode.parts.likelihoods.closed_forms import GaussianExpansion, LaplaceExpansion, StudentTExpansion
from eigencode.parts.likelihoods.observed import variance_of_one_cell


class GaussianLikelihood(SpreadLikelihood):
    r"""Normal around the decoder's output: squared error.

    .. math:: -\log p(x|z) = \sum_j \frac{(x_j - g_j(z))^2}{2 v_j} + \frac12 \log(2 \pi v_j)

    With v = 1/2, the default, it is the squared error plus a constant, so that weights of penalties are those of
    textbooks. A learned v is the variance that the code does not explain, as in probabilistic PCA (Tipping & Bishop,
    1999); it then determines the weight of the reconstruction relative to the penalties. One v for each feature is
    factor analysis.

    Parameters
    ----------
    variance : float, 'learned' or 'per_feature'
        v, in units of the scaled columns. A learned v is at least 1e-6, so that a constant or perfectly reconstructed
        cell adds at most 6 nats. With one v a column, and one unit for all columns, as pixels have, it is also at least
        what one further cell could add to the variance of a column whose variance comes from a few cells, or of a
        constant one (`variance_of_one_cell`): a pixel that is 0 in all rows but five may be anything in the next.

    Examples
    --------
    >>> import torch
    >>> p = GaussianLikelihood()(torch.tensor([[0.0]]))
    >>> (p.log_prob(torch.tensor([[0.0]])) - p.log_prob(torch.tensor([[3.0]]))).item()
    9.0
    """

    spread_name = "variance"
    numbers = ()  # math.log takes no tensor
    floor = 1e-6
    expansion_type = GaussianExpansion
    rare: Tensor
    """What one further cell could add to the variance of each column, shape (d,)."""

    def __init__(self, variance: float | str = 0.5) -> None:
        super().__init__()
        self.variance = variance

    def setup(self, sizes: Sizes) -> None:
        super().setup(sizes)
        if self.variance == "per_feature":
            self.register_buffer("rare", torch.zeros(sizes.n_features))
            divisor = sizes.units.divisor
            is_scaled = bool(divisor[0] != 1)  # columns that are not scaled may have any units
            self._share_a_unit = len(divisor) > 1 and is_scaled and bool((divisor == divisor[0]).all())

    def prepare(self, batch: Batch, n_rows: float) -> None:
        """Set the smallest variances of columns that share a unit, if each has its own."""
        if self.variance == "per_feature" and self._share_a_unit:
            self.rare.copy_(variance_of_one_cell(batch) * (len(batch) / n_rows))

    @property
    def smallest(self) -> float | Tensor:
        return self.floor + self.rare if self.variance == "per_feature" else self.floor

    def has_normal_residuals(self, n_features: int) -> tuple[bool, ...]:
        return (not self.is_learned,) * n_features

    @property
    def deviations(self) -> Tensor | None:
        return self.current_spread(self.log_excess).sqrt() if self.variance == "per_feature" else None

    def forward(self, output: Tensor) -> Distribution:
        return Gaussian(output, self.variance) if isinstance(self.variance, Real) else super().forward(output)

    def _around(self, output: Tensor, spread: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(output, spread)


class LaplaceLikelihood(SpreadLikelihood):
    r"""Laplace around the decoder's output: absolute error.

    .. math:: -\log p(x|z) = \sum_j \frac{|x_j - g_j(z)|}{b_j} + \log(2 b_j)

    The reconstruction is a median, which is robust to outlying cells.

    Parameters
    ----------
    scale : float, 'learned' or 'per_feature'
        b, in units of the scaled columns; 1 gives the absolute error plus a constant. A learned b is at least 1e-3.

    Examples
    --------
    >>> import torch
    >>> p = LaplaceLikelihood()(torch.tensor([[0.0]]))
    >>> (p.log_prob(torch.tensor([[0.0]])) - p.log_prob(torch.tensor([[3.0]]))).item()
    3.0
    """

    spread_name = "scale"
    numbers = ()  # math.log takes no tensor
    floor = 1e-3
    expansion_type = LaplaceExpansion

    def __init__(self, scale: float | str = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def _around(self, output: Tensor, spread: Tensor) -> Laplace:
        return Laplace(output, spread)


class StudentTLikelihood(SpreadLikelihood):
    r"""Student's t around the decoder's output: squared error for small residuals, its logarithm for large ones.

    .. math:: -\log p(x|z) = \sum_j \frac{\nu + 1}{2} \log\left(1 + \frac{(x_j - g_j(z))^2}{\nu s_j^2}\right)
        + \log s_j + \text{const}

    The gradient of a residual above a few s falls with its size, which makes it robust to outliers (Lange, Little &
    Taylor, 1989).

    Parameters
    ----------
    degrees : float
        nu, the degrees of freedom: 1 is Cauchy's density, infinitely many are normal, 4 is the usual choice.
    scale : float, 'learned' or 'per_feature'
        s, in units of the scaled columns. A learned s is at least 1e-3.

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
    numbers = ()  # math.log takes no tensor
    floor = 1e-3
    expansion_type = StudentTExpansion

    def __init__(self, degrees: float = 4.0, scale: float | str = "learned") -> None:
        super().__init__()
        self.degrees = degrees
        self.scale = scale

    def setup(self, sizes: Sizes) -> None:
        super().setup(sizes)
        if not (isinstance(self.degrees, Real) and 0 < self.degrees < math.inf):
            raise OptionError(
                "The 'degrees' parameter of StudentTLikelihood must be a positive number",
                got=f"{self.degrees!r} instead",
                hint="Use GaussianLikelihood for infinitely many" if self.degrees == math.inf else None,
            )

    def _around(self, output: Tensor, spread: Tensor) -> StudentT:
        return StudentT(output, spread, self.degrees)
