"""The auxiliary loss that brings dead units back."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call

from eigencode.errors import OptionError
from eigencode.parts.base import Sizes
from eigencode.parts.codes.sparse import SparseDelta
from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods.continuous import GaussianLikelihood
from eigencode.parts.penalties.base import Penalty

if TYPE_CHECKING:
    from eigencode.batch import Batch
    from eigencode.model.composition import Composition, Trace


class AuxiliaryLoss(Penalty):
    r"""The auxiliary loss that brings dead units back (Gao et al., 2024): they learn what the living ones leave over.

    .. math:: \alpha \lVert e - D z' \rVert^2, \qquad e = x - \hat x \text{ (a constant here)}

    where z' holds the largest inputs of dead units, a few in each row and unrectified, so that a gradient reaches
    their encoders whatever their inputs are, and D z' is the decoder's output without its bias. For likelihoods other
    than the Gaussian it is what that change of the decoder's output adds to the reconstruction term,

    .. math:: \alpha \left[ \log p(x | g(z)) - \log p(x | g(z) + D z') \right], \qquad g(z) \text{ a constant here}

    With one layer on each side the active units and the bias have no gradient of it, so its weight need not be small;
    deeper networks share layers. A unit is dead if it was in no row's code for a while; before the first step all are.
    Hidden cells do not count. In evaluation the loss is 0.

    Parameters
    ----------
    weight : float
        alpha, against the squared error, or nats, of a row.
    n_units : int
        Dead units a row that take up what is left over. One is best where many are dead: each of them then looks for
        rows of its own, and units that share a row's leavings never win a place among the living.
    window : float
        Passes over the rows after which a unit is dead.

    Raises
    ------
    OptionError
        If the code does not say what it selected from, as `TopK` and `ThresholdedReLU` do.

    Examples
    --------
    >>> from eigencode import Autoencoder
    >>> from eigencode.parts import Dictionary, TopK
    >>> model = Autoencoder(200, hidden=(), code=TopK(5), decoder=Dictionary(), penalties=[AuxiliaryLoss()])
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
        """Check the arguments, and take all units for dead."""
        self.require_number("weight", closed=True)
        self.require_number("window")
        if not isinstance(self.n_units, Integral) or isinstance(self.n_units, bool) or self.n_units < 1:
            raise OptionError(
                "The 'n_units' parameter of AuxiliaryLoss must be a positive int", got=f"{self.n_units!r}"
            )
        patience = float(self.window) * sizes.n_rows
        self.register_buffer("patience", torch.tensor(patience))
        self.register_buffer("idle", torch.full((sizes.n_components,), patience))

    def first_state(self, batch: Batch, composition: Composition) -> Mapping[str, Tensor]:
        """Nothing but a check of the code."""
        if not isinstance(composition.encode(batch.x[:1]), SparseDelta):
            raise OptionError(
                "AuxiliaryLoss needs a code that says what it selected from",
                got=f"{composition.code!r}",
                hint="Use TopK or ThresholdedReLU",
            )
        return {}

    @property
    def dead(self) -> Tensor:
        """1 for dead units and 0 for the others, shape (k,)."""
        return (self.idle >= self.patience).to(self.idle.dtype)

    def statistics(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """How often each unit was active, shape (k,)."""
        return {"uses": (trace.z != 0).flatten(0, -2).sum(0)}

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> Mapping[str, Tensor]:
        """Rows since each unit was active, as far as that matters."""
        idle = torch.minimum(self.idle + n_rows, self.patience)
        return {"idle": torch.where(statistics["uses"] > 0, torch.zeros_like(idle), idle)}

    def forward(self, trace: Trace, composition: Composition) -> Tensor:
        """What the dead units' reconstruction of the residual costs in training, else 0; shape (n,)."""
        if not self.training:
            return trace.x.new_zeros(len(trace.x))
        assert isinstance(trace.q, SparseDelta)
        dead, output = self.dead.to(trace.z), trace.q.output
        idle = output.detach().masked_fill(dead == 0, -torch.inf)
        n_units = min(int(self.n_units), output.shape[-1])
        places = idle.argmax(-1, keepdim=True) if n_units == 1 else idle.topk(n_units, dim=-1).indices
        values = output.gather(-1, places) * dead[places]
        rebuilt = composition.decoder.change_by(places, values, output.shape[-1])
        cells = _squared_error if type(composition.likelihood) is GaussianLikelihood else _added_nats
        missed = cells(trace, composition, rebuilt)
        if trace.observed is not None:
            missed = torch.where(trace.observed, missed, 0.0)
        # Where no unit is dead there is nothing to rebuild, and nothing to pay.
        return self.weight * dead.amax() * missed.sum(-1)


def _squared_error(trace: Trace, composition: Composition, rebuilt: Tensor) -> Tensor:
    """The squared error of each cell, in scaled units: the decoder's output is the normal's mean."""
    return ((trace.x - trace.p.mean).detach() - rebuilt).square()


def _added_nats(trace: Trace, composition: Composition, rebuilt: Tensor) -> Tensor:
    """What a change of the decoder's output adds to -log p(x|z), a number a cell; nothing else has a gradient."""
    with torch.no_grad():
        before = composition.decoder(trace.z).to(trace.z)
    likelihood = composition.likelihood
    constants = {name: parameter.detach() for name, parameter in likelihood.named_parameters()}

    def log_prob(output: Tensor) -> Tensor:
        p: Distribution = functional_call(likelihood, constants, (output,))
        return p.log_prob(trace.target)

    return log_prob(before) - log_prob(before + rebuilt.to(before))
