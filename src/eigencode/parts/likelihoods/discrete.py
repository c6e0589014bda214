r"""Likelihoods of shares and counts, which are always in the data's units."""

from __future__ import annotations

from torch import Tensor

from eigencode.parts.distributions import Bernoulli, NegativeBinomial, Poisson
from eigencode.parts.likelihoods.base import Cell, Likelihood, SpreadLikelihood
from eigencode.parts.likelihoods.closed_forms import (
    BernoulliExpansion,
    BinaryCodeExpansion,
    CountExpansion,
    NegativeBinomialExpansion,
)

LARGEST_EXPONENT = 30.0
"""Above this output, the mean of a count grows linearly and not as exp(output), so that it is finite."""


class BernoulliLikelihood(Likelihood):
    r"""Bernoulli with the decoder's output as its logit: cross-entropy.

    .. math:: -\log p(x|z) = -\sum_j x_j \log p_j + (1 - x_j) \log(1 - p_j), \qquad p = \frac{1}{1 + e^{-g(z)}}

    Columns have zeros and ones, or shares between them, such as pixels. For shares the sum has its minimum at p = x,
    but it is not the logarithm of a normalised density: scores can then only be compared between models of the same
    rows.

    Examples
    --------
    >>> import torch
    >>> p = BernoulliLikelihood()(torch.tensor([[0.0, 1000.0]]))
    >>> p.mean
    tensor([[0.5000, 1.0000]])
    >>> p.log_prob(torch.tensor([[1.0, 0.0]]))
    tensor([[-6.9315e-01, -1.0000e+03]])
    """

    in_data_units = True
    support = "unit interval"

    expansion_type = BernoulliExpansion

    def forward(self, output: Tensor) -> Bernoulli:
        return Bernoulli(output)


class BinaryCodeLikelihood(BernoulliLikelihood):
    """Independent bits that together are the code of one value, of which all or none are known.

    Examples
    --------
    >>> BinaryCodeLikelihood().block_widths(5)
    (5,)
    """

    expansion_type = BinaryCodeExpansion

    def cells(self, n_features: int) -> tuple[Cell, ...]:
        """Bits."""
        return (Cell(self.support, self.in_data_units, is_bit=True),) * n_features

    def block_widths(self, n_features: int) -> tuple[int, ...]:
        """All bits are one variable."""
        return (n_features,)


class CountLikelihood(Likelihood):
    """A likelihood of counts with the decoder's output as the logarithm of their mean."""

    in_data_units = True
    support = "counts"


class PoissonLikelihood(CountLikelihood):
    r"""Poisson with the decoder's output as its log rate.

    .. math:: -\log p(x|z) = \sum_j \lambda_j - x_j \log \lambda_j + \log x_j!, \qquad \lambda = e^{g(z)}

    Columns are counts of events whose variance equals their mean. Above an output of 30 the rate grows linearly, so
    that it is finite.

    Examples
    --------
    >>> import torch
    >>> p = PoissonLikelihood()(torch.tensor([[0.0, 1.0]]))
    >>> p.mean
    tensor([[1.0000, 2.7183]])
    >>> p.log_prob(torch.tensor([[0.0, 2.0]]))
    tensor([[-1.0000, -1.4114]])
    """

    expansion_type = CountExpansion

    def forward(self, output: Tensor) -> Poisson:
        return Poisson(_bounded(output))


class NegativeBinomialLikelihood(CountLikelihood, SpreadLikelihood):
    r"""Negative binomial with the decoder's output as its log mean: counts that vary more than a Poisson's.

    .. math:: E\,x_j = m_j = e^{g_j(z)}, \qquad \mathrm{Var}\,x_j = m_j + a_j m_j^2

    For overdispersed counts, such as molecules in cells, or purchases; with dispersion a = 0 it is the Poisson. Above
    an output of 30 the mean grows linearly, so that it is finite.

    Parameters
    ----------
    dispersion : float, 'learned' or 'per_feature'
        a. A learned a is at least 1e-6, which is practically the Poisson.

    Examples
    --------
    >>> import torch
    >>> part = NegativeBinomialLikelihood(dispersion=0.5)
    >>> p = part(torch.full((100_000, 1), 2.0).log())
    >>> draws = p.sample(torch.Generator().manual_seed(0))
    >>> round(draws.mean().item(), 1), round(draws.var().item(), 1)  # 2 and 2 + 0.5 * 2^2
    (2.0, 4.0)
    """

    spread_name = "dispersion"
    numbers = ()  # math.log takes no tensor
    floor = 1e-6
    expansion_type = NegativeBinomialExpansion

    def __init__(self, dispersion: float | str = "per_feature") -> None:
        super().__init__()
        self.dispersion = dispersion

    def _around(self, output: Tensor, spread: Tensor) -> NegativeBinomial:
        return NegativeBinomial(_bounded(output), spread)


def _bounded(log_mean: Tensor) -> Tensor:
    """The logarithm of a mean that is exp(output) up to a bound, and linear above it."""
    beyond = (log_mean - LARGEST_EXPONENT).relu()
    return log_mean - beyond + beyond.log1p()
