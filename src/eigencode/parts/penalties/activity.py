"""Penalties on the mean activity of units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencode import processes
from eigencode.parts.base import Sizes
from eigencode.parts.codes.sparse import require_share
from eigencode.parts.penalties.base import Penalty

if TYPE_CHECKING:
    from eigencode.model.composition import Composition, Trace


MEMORY = 20
"""Number of batches in a running activity."""


class MeanActivity(Penalty):
    """A penalty on each unit's mean activity over the rows; a running mean, since one batch is too small a sample.

    Rows without any known cell do not count.
    """

    running: Tensor
    n_seen: Tensor

    def setup(self, sizes: Sizes) -> None:
        """Check the activity, and make the running mean of no rows."""
        require_share(self, "activity")
        self.register_buffer("running", torch.zeros(sizes.n_components))
        self.register_buffer("n_seen", torch.zeros(()))

    def mean_activity(self, z: Tensor, observed: Tensor | None = None) -> Tensor:
        """rho_j of each unit, shape (k,).

        In training it is the running mean including this batch, with the derivative of the batch's mean, which is an
        unbiased estimate of the derivative of the mean over all rows. In evaluation it is the mean over the given rows.
        """
        n_rows: Tensor | int = len(z) if observed is None else observed.any(-1).sum()
        batch = z.mean(0) if isinstance(n_rows, int) else known_rows(z, observed).sum(0) / n_rows.clamp(min=1)
        if not self.training:
            return batch
        batch, n_rows = processes.joint_mean(batch, n_rows)
        share = n_rows / self._seen_after(n_rows).clamp(min=1)
        mixed = torch.lerp(self.running, batch, share)
        return mixed + (1 - share) * (batch - batch.detach())

    def statistics(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """The sum of each unit's activity, shape (k,), and the number of known rows if cells are hidden."""
        z = trace.z.mean(0) if trace.n_draws > 1 else trace.z
        return {"code": known_rows(z, trace.observed).sum(0), **n_known(trace)}

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> Mapping[str, Tensor]:
        """The running mean including this batch."""
        mean, known = mean_of("code", statistics, n_rows), statistics.get("n_known", n_rows)
        n_seen = self._seen_after(known)
        return {"running": torch.lerp(self.running, mean, known / n_seen.clamp(min=1)), "n_seen": n_seen}

    def _seen_after(self, n_rows: Tensor | int) -> Tensor:
        """Number of rows in the running mean including ``n_rows`` more, at most that of a few batches."""
        return (self.n_seen + n_rows).clamp(max=MEMORY * n_rows)


def known_rows(values: Tensor, observed: Tensor | None) -> Tensor:
    """Values of shape (n, ...), with 0 for rows without any known cell."""
    if observed is None:
        return values
    return values.where(observed.any(-1).view(-1, *[1] * (values.dim() - 1)), 0.0)


def n_known(trace: Trace) -> dict[str, Tensor]:
    """The number of rows with a known cell, as a statistic of a term; empty if all cells are known."""
    return {} if trace.observed is None else {"n_known": trace.observed.any(-1).sum()}


def mean_of(name: str, statistics: Mapping[str, Tensor], n_rows: int) -> Tensor:
    """The mean over rows of a sum in the statistics; 0 without any rows."""
    known = statistics.get("n_known")
    return statistics[name] / (n_rows if known is None else known.clamp(min=1))


def bernoulli_divergence(p: Tensor | float, q: Tensor) -> Tensor:
    """KL(p, q) of Bernoulli variables with these probabilities, in nats; q is clamped off 0 and 1 by its rounding."""
    p = p.to(q) if isinstance(p, Tensor) else q.new_full((), p)
    q = q.clamp(torch.finfo(q.dtype).tiny, 1 - torch.finfo(q.dtype).eps)
    return torch.xlogy(p, p / q) + torch.xlogy(1 - p, (1 - p) / (1 - q))


class KLSparsity(MeanActivity):
    r"""The KL sparsity of sigmoid units (Ng, 2011): a target for the mean activity of each unit.

    .. math:: \Omega = \beta \sum_j \rho \log \frac{\rho}{\rho_j} + (1 - \rho) \log \frac{1 - \rho}{1 - \rho_j}

    with rho_j the mean activity of unit j, a running mean in training.

    Parameters
    ----------
    activity : float
        rho, above 0 and below 1.
    weight : float
        beta, in nats per row.

    Examples
    --------
    >>> import torch
    >>> from eigencode import Composition
    >>> from eigencode.parts import MLP, Sigmoid
    >>> penalty = KLSparsity(activity=0.1, weight=3.0)
    >>> model = Composition(MLP(), MLP(), code=Sigmoid(0.1), penalties=[penalty])
    >>> model.setup(
    ...     n_features=4, n_components=2, generator=torch.Generator().manual_seed(0)
    ... )
    >>> trace = model(torch.zeros(5, 4))  # at rest, both units are as active as asked
    >>> bool(penalty(trace, model) < 1e-6)
    True
    """

    numbers = ("activity", "weight")

    def __init__(self, activity: float = 0.05, weight: float = 1.0) -> None:
        super().__init__()
        self.activity = activity
        self.weight = weight

    def setup(self, sizes: Sizes) -> None:
        super().setup(sizes)
        self.require_number("weight", closed=True)

    def forward(self, trace: Trace, composition: Composition) -> Tensor:
        """Beta times the divergence summed over the units, a scalar."""
        return self.weight * bernoulli_divergence(self.activity, self.mean_activity(trace.z, trace.observed)).sum()
