r"""The objective: one number a row for each term, and their mean over the batch, taken once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from eigencode.composition import Composition, Trace
from eigencode.parts.base import Part
from eigencode.parts.penalties import Penalty


@dataclass(frozen=True)
class Objective:
    r"""The sum of the formula's terms.

    .. math:: -\log p(x|z) + \beta D(q(z|\tilde x), p(z)) + \sum_j \Omega_j

    Each term is summed over its own axes and so is one number a row, in nats for the densities; a statistic of the
    whole batch is a scalar that broadcasts.

    Parameters
    ----------
    beta : float
        Weight of the divergence.
    penalties : tuple of Penalty
        Further terms.
    """

    beta: float = 1.0
    penalties: tuple[Penalty, ...] = ()

    def terms(self, composition: Composition, trace: Trace) -> dict[str, Tensor]:
        """Every term by name, each of shape (n,) or a scalar."""
        terms = {"reconstruction": negative_log_likelihood(trace)}
        if composition.prior is not None:
            terms["divergence"] = self.beta * composition.prior.divergence(trace.q, trace.z)
        for place, penalty in enumerate(self.penalties):
            name = type(penalty).__name__
            terms[f"{name}_{place}" if name in terms else name] = penalty(trace, composition)
        return terms

    def __call__(self, composition: Composition, trace: Trace) -> Tensor:
        """The sum of all terms of each row, shape (n,)."""
        first, *others = self.terms(composition, trace).values()
        return sum(others, start=first)

    def words(self, composition: Composition) -> list[Part]:
        """The parts whose linear optimum the whole objective has."""
        return [*composition.words, *self.penalties]


def negative_log_likelihood(trace: Trace) -> Tensor:
    """-log p(x|z) of each row, in nats, over its observed cells; shape (n,)."""
    cells = trace.p.log_prob(trace.target)
    if trace.observed is not None:
        cells = cells * trace.observed
    return -cells.sum(1)
