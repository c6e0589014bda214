r"""The objective: one number a row for each term, and their mean over the batch, taken once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from eigencode.composition import Composition, Trace
from eigencode.domains import Count, NotNegative


@dataclass(frozen=True)
class Objective:
    r"""The sum of the formula's terms.

    .. math:: -\log p(x|z) + \beta D(q(z|\tilde x), p(z)) + \sum_j \Omega_j - \frac1n \log p(w)

    Each term is summed over its own axes and so is one number a row, in nats for the densities; a statistic of the
    whole batch is a scalar that broadcasts.

    Parameters
    ----------
    beta : float
        Weight of the divergence.
    n_rows : int
        n, the number of rows fitted: a prior on the weights counts once for all of them.
    """

    beta: NotNegative = 1.0
    n_rows: Count = 1

    def terms(self, composition: Composition, trace: Trace) -> dict[str, Tensor]:
        """Every term by name, each of shape (n,) or a scalar."""
        if trace.n_draws > 1:
            terms = {"importance_weighted_bound": -self.importance_weighted_bound(composition, trace)}
        else:
            terms = {"reconstruction": negative_log_likelihood(trace)}
            if composition.prior is not None:
                terms["divergence"] = self.beta * composition.prior.divergence(trace.q, trace.z)
        drawn = trace.noise.penalties or (None,) * len(composition.penalties)
        for place, (penalty, noise) in enumerate(zip(composition.penalties, drawn, strict=True)):
            name = type(penalty).__name__
            given = () if noise is None else (noise,)
            terms[f"{name}_{place}" if name in terms else name] = penalty(trace, composition, *given)
        if composition.weight_prior is not None:
            terms["weights"] = composition.weight_prior.cost(composition) / self.n_rows
        return terms

    def importance_weighted_bound(self, composition: Composition, trace: Trace) -> Tensor:
        r"""The bound of Burda et al. (2016) on log p(x) from m draws a row, in nats, shape (n,).

        .. math:: \log \frac1m \sum_{j=1}^m p(x|z_j) \left( \frac{p(z_j)}{q(z_j|x)} \right)^\beta
        """
        divergence = trace.q.log_prob(trace.z)
        if composition.prior is not None:
            divergence = divergence - composition.prior.log_prob(trace.z)
        return logmeanexp(-negative_log_likelihood(trace) - self.beta * divergence)

    def __call__(self, composition: Composition, trace: Trace) -> Tensor:
        """The sum of all terms of each row, shape (n,)."""
        first, *others = self.terms(composition, trace).values()
        return sum(others, start=first)


def negative_log_likelihood(trace: Trace) -> Tensor:
    """-log p(x|z) of each row, in nats, over its observed cells; shape (n,), or (m, n) for m draws a row."""
    cells = trace.p.log_prob(trace.target)
    if trace.observed is not None:
        cells = cells * trace.observed
    return -cells.sum(-1)


def logmeanexp(values: Tensor) -> Tensor:
    """Log of the mean of exponentials over the first axis."""
    return values.logsumexp(0) - math.log(len(values))
