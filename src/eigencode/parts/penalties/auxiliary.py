"""The auxiliary loss that makes dead units active again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call

from eigencode.errors import OptionError, known_length, positive_int
from eigencode.parts.base import Sizes
from eigencode.parts.codes.sparse import SparseDelta
from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods.continuous import GaussianLikelihood
from eigencode.parts.penalties.base import Penalty

if TYPE_CHECKING:
    from eigencode.batch import Batch
    from eigencode.model.composition import Composition, Trace


class AuxiliaryLoss(Penalty):
    r"""The auxiliary loss for dead units (Gao et al., 2024): they learn to reconstruct the residual of the active ones.

    .. math:: \alpha \lVert e - D z' \rVert^2, \qquad e = x - \hat x \text{ (a constant here)}

    where z' has the largest inputs of dead units, a few in each row and not rectified, so that their encoders have a
    gradient for all inputs, and D z' is the decoder's output without its bias. For likelihoods other than the Gaussian
    it is the change of the reconstruction term by this change of the decoder's output,

    .. math:: \alpha \left[ \log p(x | g(z)) - \log p(x | g(z) + D z') \right], \qquad g(z) \text{ a constant here}

    With one layer in encoder and decoder, active units and the bias have no gradient of it, so its weight need not be
    small; deeper networks share layers. A unit is dead if it was in no code during ``window``; before the first step
    all units are. Hidden cells do not count. In evaluation the loss is 0.

    Parameters
    ----------
    weight : float
        alpha, relative to the squared error, or nats, of a row.
    n_units : int
        Dead units per row that reconstruct the residual. One is best if many are dead: each of them then learns from
        different rows. Units that share the residual of a row learn small parts of it, and do not become active.
    window : float
        A unit is dead if it was inactive during this many passes over the rows.

    Raises
    ------
    OptionError
        If the code does not keep its units' inputs, as `TopK` and `ThresholdedReLU` do.

    Examples
    --------
    >>> from eigencode import Autoencoder
    >>> from eigencode.parts import Dictionary, TopK
    >>> model = Autoencoder(
    ...     200, hidden=(), code=TopK(5), decoder=Dictionary(), penalties=[AuxiliaryLoss()]
    ... )
    """

    numbers = ("weight", "window")

    idle: Tensor
    patience: Tensor

    def __init__(self, weight: float = 1.0, n_units: int = 1, window: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.n_units = n_units
        self.window = window

    def setup(self, sizes: Sizes) -> None:
        """Check the arguments; all units start as dead."""
        self.require_number("weight", closed=True)
        self.require_number("window")
        positive_int("The 'n_units' parameter of AuxiliaryLoss", self.n_units)
        patience = float(self.window) * known_length(sizes.n_rows, "AuxiliaryLoss")
        self.register_buffer("patience", torch.tensor(patience))
        self.register_buffer("idle", torch.full((sizes.n_components,), patience))

    def first_state(self, batch: Batch, composition: Composition) -> Mapping[str, Tensor]:
        """Check the code; there is no state from the rows."""
        if not isinstance(composition.encode(batch.x[:1]), SparseDelta):
            raise OptionError(
                "AuxiliaryLoss needs a code that keeps the inputs of its units",
                got=f"{composition.code!r}",
                hint="Use TopK or ThresholdedReLU",
            )
        return {}

    @property
    def dead(self) -> Tensor:
        """1 for dead units and 0 for the others, shape (k,)."""
        return (self.idle >= self.patience).to(self.idle.dtype)

    def statistics(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """The number of rows in which each unit was active, shape (k,)."""
        return {"uses": (trace.z != 0).flatten(0, -2).sum(0)}

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> Mapping[str, Tensor]:
        """Rows since each unit was active, at most the window."""
        idle = torch.minimum(self.idle + n_rows, self.patience)
        return {"idle": torch.where(statistics["uses"] > 0, torch.zeros_like(idle), idle)}

    def forward(self, trace: Trace, composition: Composition) -> Tensor:
        """The loss of the dead units' reconstruction of the residual in training, else 0; shape (n,)."""
        if not self.training:
            return trace.x.new_zeros(len(trace.x))
        assert isinstance(trace.q, SparseDelta)
        dead, output = self.dead.to(trace.z), trace.q.output
        idle = output.detach().masked_fill(dead == 0, -torch.inf)
        n_units = min(int(self.n_units), output.shape[-1])
        indices = idle.argmax(-1, keepdim=True) if n_units == 1 else idle.topk(n_units, dim=-1).indices
        values = output.gather(-1, indices) * dead[indices]
        rebuilt = composition.decoder.change_by(indices, values, output.shape[-1])
        cells = _squared_error if type(composition.likelihood) is GaussianLikelihood else _added_nats
        missed = cells(trace, composition, rebuilt)
        if trace.observed is not None:
            missed = missed.masked_fill(~trace.observed, 0.0)
        # The loss is 0 if no unit is dead.
        return self.weight * dead.amax() * missed.sum(-1)


def _squared_error(trace: Trace, composition: Composition, rebuilt: Tensor) -> Tensor:
    """The squared error of each cell, in scaled units: the decoder's output is the normal's mean."""
    return ((trace.x - trace.p.mean).detach() - rebuilt).square()


def _added_nats(trace: Trace, composition: Composition, rebuilt: Tensor) -> Tensor:
    """The increase of -log p(x|z) of each cell by a change of the decoder's output; only the change has a gradient."""
    with torch.no_grad():
        before = composition.decoder(trace.z).to(trace.z)
    likelihood = composition.likelihood
    constants = {name: parameter.detach() for name, parameter in likelihood.named_parameters()}

    def log_prob(output: Tensor) -> Tensor:
        p: Distribution = functional_call(likelihood, constants, (output,))
        return p.log_prob(trace.target)

    return log_prob(before) - log_prob(before + rebuilt.to(before))
