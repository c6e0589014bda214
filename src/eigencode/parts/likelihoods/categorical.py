"""The categorical likelihood of one-hot columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods.base import Likelihood
from eigencode.parts.likelihoods.closed_forms import CategoricalExpansion


@dataclass(frozen=True)
class Categorical(Distribution):
    r"""One of d classes, written as a row with a 1 in the class's column and 0 in the others.

    .. math:: \log p(x) = \sum_j x_j \log p_j, \qquad p = \mathrm{softmax}(l)

    Only the sum over the columns is a log-probability.
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """Probabilities of the classes, shape (..., d)."""
        return self.logits.softmax(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """The term of each class, in nats, shape (..., d)."""
        return x * self.logits.log_softmax(-1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One class for each row, one-hot, shape (..., d)."""
        drawn = torch.multinomial(self.mean.flatten(0, -2), 1, generator=generator)
        return torch.zeros_like(self.logits).scatter_(-1, drawn.reshape(*self.logits.shape[:-1], 1), 1.0)


class CategoricalLikelihood(Likelihood):
    r"""One of several classes, with the decoder's outputs as logits: cross-entropy.

    .. math:: -\log p(x|z) = -\sum_j x_j \log p_j, \qquad p = \mathrm{softmax}(g(z))

    All columns together are one variable: one-hot, or shares that add up to 1.

    Examples
    --------
    >>> import torch
    >>> p = CategoricalLikelihood()(torch.tensor([[0.0, 0.0, 1000.0]]))
    >>> p.mean
    tensor([[0., 0., 1.]])
    >>> p.log_prob(torch.tensor([[0.0, 1.0, 0.0]])).sum()
    tensor(-1000.)
    """

    in_data_units = True
    support = "unit interval"

    expansion_type = CategoricalExpansion

    def _rounded(self, x: Tensor) -> Tensor:
        """The cells themselves: for a term linear in x their rounding errors do not matter."""
        return x

    def block_widths(self, n_features: int) -> tuple[int, ...]:
        """All columns are one variable."""
        return (n_features,)

    def forward(self, output: Tensor) -> Categorical:
        return Categorical(output)
