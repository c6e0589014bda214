r"""The objective: one number a row for each term, and their mean over the batch, taken once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from eigencode.batch import selected
from eigencode.domains import Count, NotNegative
from eigencode.errors import OptionError
from eigencode.model.composition import Composition, Trace
from eigencode.parts.penalties.base import Penalty


@dataclass(frozen=True)
class Objective:
    r"""The sum of the formula's terms.

    .. math:: -\log p(x|z) + \beta D(q(z|\tilde x), p(z)) + \sum_j \Omega_j - \frac1n \log p(w)

    Each term is summed over its own axes, which gives one number for each row, in nats for the densities. A statistic
    of the whole batch is a scalar that broadcasts.

    Parameters
    ----------
    beta : float
        Weight of the divergence.
    n_rows : int
        n, the number of training rows: a prior on the weights counts once for all of them.
    """

    beta: NotNegative = 1.0
    n_rows: Count = 1

    def terms(self, composition: Composition, trace: Trace) -> dict[str, Tensor]:
        """The terms by name, each of shape (n,) or a scalar."""
        if trace.n_draws > 1:
            terms = {"importance_weighted_bound": -self.importance_weighted_bound(composition, trace)}
        else:
            terms = {"reconstruction": negative_log_likelihood(trace, composition.likelihood.column_weights)}
            if composition.prior is not None:
                terms["divergence"] = self.beta * composition.prior.divergence(trace.q, trace.z)
        drawn = trace.noise.penalties or (None,) * len(composition.penalties)
        draws = trace.each_draw(composition) if composition.penalties else []
        for index, (penalty, noise) in enumerate(zip(composition.penalties, drawn, strict=True)):
            name = type(penalty).__name__
            terms[f"{name}_{index}" if name in terms else name] = penalty_term(penalty, draws, composition, noise)
        if composition.weight_prior is not None:
            terms["weights"] = composition.weight_prior.cost(composition) / self.n_rows
        _require_shapes(terms, len(trace.x))
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
        return total(self.terms(composition, trace))

    def mean(self, composition: Composition, trace: Trace, weight: Tensor | None = None) -> Tensor:
        """The mean over a batch, a scalar.

        Weights have mean 1 over all rows, so that the gradient of each batch is unbiased.
        """
        per_row = self(composition, trace)
        return per_row.mean() if weight is None else (per_row * weight).mean()


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of the terms."""
    first, *others = terms.values()
    return sum(others, start=first)


def penalty_term(
    penalty: Penalty, draws: Sequence[Trace], composition: Composition, noise: Tensor | None = None
) -> Tensor:
    """A penalty's mean over the codes drawn for each row, one trace for each; shape (n,), or a scalar."""
    given = () if noise is None else (noise,)
    first, *others = (penalty(draw, composition, *given) for draw in (draws if penalty.sees_draws else draws[:1]))
    return sum(others, start=first) / (1 + len(others)) if others else first


def _require_shapes(terms: Mapping[str, Tensor], n_rows: int) -> None:
    """Raise an error for a term that is neither of shape (n,) nor a scalar: broadcasting would mix rows."""
    for name, term in terms.items():
        shape = tuple(term.shape) if isinstance(term, Tensor) else None
        if shape not in ((n_rows,), ()):
            raise OptionError(
                f"{name} must give one number a row, of shape (n,), or a scalar",
                got=f"{type(term).__name__} instead" if shape is None else f"shape {shape} for {n_rows} rows",
                hint="Sum over the last axis, as in .sum(-1)",
            )


def negative_log_likelihood(trace: Trace, weights: Tensor | None = None) -> Tensor:
    """-log p(x|z) of each row, in nats, over its observed cells; shape (n,), or (m, n) for m draws a row.

    With weights of the columns, shape (d,), it is the weighted sum.
    """
    of_rows = getattr(trace.p, "row_log_prob", None)  # a distribution of others may lack it
    if of_rows is not None and weights is None and trace.observed is None:
        return -of_rows(trace.target)
    cells = trace.p.log_prob(trace.target)
    if weights is not None:
        cells = cells * weights
    if trace.observed is None:
        return -cells.sum(-1)
    # A likelihood of the last columns only, such as labels, needs the mask of these columns.
    return -selected(cells, trace.observed[..., -cells.shape[-1] :]).sum(-1)


def logmeanexp(values: Tensor) -> Tensor:
    """Log of the mean of exponentials over the first axis."""
    return values.logsumexp(0) - math.log(len(values))
