"""The likelihood of ordered classes: cumulative logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from eigencode.batch import Batch
from eigencode.errors import OptionError
from eigencode.parts.base import Sizes
from eigencode.parts.likelihoods.base import Likelihood
from eigencode.parts.likelihoods.categorical import Categorical
from eigencode.parts.likelihoods.closed_forms import ClassesExpansion

SMALLEST_STEP = 1e-3
"""Smallest difference of two thresholds, so that each class has a positive probability."""

FARTHEST_THRESHOLD = 1e3
"""Thresholds for given scores are searched for between the scores, and this far beyond them."""


class OrdinalExpansion(ClassesExpansion):
    """The expansion of cumulative logits in the score."""

    likelihood: OrdinalLikelihood
    is_exact = True
    moves_means = True

    def constant(self, batch: Batch) -> Tensor:
        """Zeros: thresholds give the classes their shares."""
        return torch.zeros_like(self.shares(batch))

    @torch.no_grad()
    def calibrate(self, batch: Batch, output: Tensor) -> None:
        """Set the thresholds with which each class has its share in the mean, for given outputs; by bisection."""
        wanted, scores = self._cumulative(self.shares(batch))[:-1], self.likelihood.score(output)
        known = None if batch.observed is None else batch.observed[:, :1]
        scores = scores if known is None else scores[known[:, 0]]
        low = wanted.new_full(wanted.shape, -FARTHEST_THRESHOLD) + (scores.min() if len(scores) else 0)
        high = wanted.new_full(wanted.shape, FARTHEST_THRESHOLD) + (scores.max() if len(scores) else 0)
        for _ in range(60):
            middle = (low + high) / 2
            found = (middle - scores).sigmoid().mean(0) if len(scores) else middle.sigmoid()
            low, high = torch.where(found < wanted, middle, low), torch.where(found < wanted, high, middle)
        self.likelihood.set_thresholds((low + high) / 2)

    def working_units(self, batch: Batch) -> Sequence[tuple[Tensor, Tensor]]:
        """One Newton step of the score from the shares: the sum over the classes of their residuals times g / h.

        g, the derivative of a class's log-probability in the score, is F_j + F_(j-1) - 1 for cumulative shares F.
        """
        p, divisor = self.shares(batch).double(), self.likelihood.divisor
        slope = 2 * self._cumulative(p) - p - 1
        step = slope / (p * slope.square()).sum().clamp(min=torch.finfo(p.dtype).tiny)
        outward = step * self.likelihood.sign
        return [(divisor * a, outward / a) for a in (self.bounded(p).rsqrt(), 1 / divisor)]

    def _cumulative(self, shares: Tensor) -> Tensor:
        """Shares of the classes up to each one."""
        return shares.cumsum(0) / shares.sum()


class OrdinalLikelihood(Likelihood):
    r"""One of several ordered classes by one score: cumulative logits.

    .. math:: P(x \le j) = \frac{1}{1 + e^{s - \theta_j}}, \qquad s = \sum_j \pm g_j(z)

    McCullagh's (1980) proportional odds. All columns together are one variable, one-hot in the order of the classes;
    the thresholds are learned with the networks. The score is the sum of the decoder's outputs for the upper half of
    the classes minus that for the lower half, so that outputs, like columns, are larger for the classes they stand for.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import Sizes
    >>> likelihood = OrdinalLikelihood()
    >>> likelihood.setup(Sizes(n_features=3, n_components=1))
    >>> likelihood.set_thresholds(torch.tensor([-1.0, 1.0]))
    >>> likelihood(torch.tensor([[0.0, 0.0, 0.0], [-0.5, 0.0, 1.0]])).mean.detach().round(
    ...     decimals=3
    ... )
    tensor([[0.2690, 0.4620, 0.2690],
            [0.0760, 0.3020, 0.6220]])
    """

    in_data_units = True
    support = "unit interval"
    expansion_type = OrdinalExpansion
    sign: Tensor

    def setup(self, sizes: Sizes) -> None:
        super().setup(sizes)
        if sizes.n_features < 2:
            raise OptionError("Ordered classes need two columns or more", got=f"{sizes.n_features}")
        is_lower = torch.arange(sizes.n_features) < sizes.n_features // 2
        self.register_buffer("sign", torch.where(is_lower, -1.0, 1.0), persistent=False)
        self.first = nn.Parameter(torch.zeros(1))
        self.log_steps = nn.Parameter(torch.zeros(sizes.n_features - 2))
        self.set_thresholds((torch.arange(1, sizes.n_features) / sizes.n_features).logit())

    @torch.no_grad()
    def set_thresholds(self, thresholds: Tensor) -> None:
        """Set the thresholds, which increase, of shape (d - 1,)."""
        self.first.copy_(thresholds[:1])
        self.log_steps.copy_((thresholds.diff() - SMALLEST_STEP).clamp(min=SMALLEST_STEP).log())

    def score(self, output: Tensor) -> Tensor:
        """The score s of outputs of shape (..., d), shape (..., 1)."""
        return (output * self.sign).sum(-1, keepdim=True)

    def block_widths(self, n_features: int) -> tuple[int, ...]:
        """All columns are one variable."""
        return (n_features,)

    def _rounded(self, x: Tensor) -> Tensor:
        """The cells themselves: for a term linear in x their rounding errors do not matter."""
        return x

    def forward(self, output: Tensor) -> Categorical:
        steps = self.log_steps.exp() + SMALLEST_STEP
        edges = torch.cat([self.first, self.first + steps.cumsum(0)]) - self.score(output)
        below, beyond = logsigmoid(edges), logsigmoid(-edges)
        # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)) for the sigmoid s: no difference of nearly equal numbers.
        between = below[..., 1:] + beyond[..., :-1] + (-(-steps).expm1()).log()
        return Categorical(torch.cat([below[..., :1], between, beyond[..., -1:]], dim=-1))
