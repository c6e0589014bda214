"""Sparse codes: few active units a row, by selection, by a prior or by a penalty.

The sparse autoencoder is the formula with a word changed: a code that keeps the k largest units of each row, a Laplace
prior on rectified units (the L1 penalty), or a penalty on the mean activity of sigmoid ones.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from eigencode.errors import OptionError
from eigencode.parts.base import Sizes, Word
from eigencode.parts.codes import Code, Posterior
from eigencode.parts.distributions import Delta
from eigencode.parts.penalties import Penalty

if TYPE_CHECKING:
    from eigencode.composition import Composition, Trace

MEMORY = 20
"""Batches that a running activity looks back on."""

SMALLEST_SPREAD = 1e-20
"""Spread of the input of a unit that sees nothing."""

NEWTON_STEPS = 12
"""Steps that find a shift to the rounding."""


@dataclass(frozen=True)
class Selection(Delta):
    """A point, and the units' inputs that it was selected from, shape (n, k)."""

    output: Tensor


class TopK(Code):
    r"""The k largest units of each row, the others zero (Makhzani & Frey, 2014).

    .. math:: h_j = \max(a_j, 0) \text{ for the } k \text{ largest } a_j, \quad a = f(x)

    Signed codes keep the k outputs of largest size, as they are: for an orthonormal dictionary that is the best code
    with k active units. A row has fewer than k active units only where fewer of its outputs are positive.

    Parameters
    ----------
    k : int
        Active units a row, at most as many as there are.
    signed : bool, default False
        Select by size and keep the sign, instead of the largest positive outputs.

    Examples
    --------
    >>> import torch
    >>> output = torch.tensor([[3.0, -4.0, 1.0]])
    >>> TopK(2)(output).mean, TopK(2, signed=True)(output).mean
    (tensor([[3., 0., 1.]]), tensor([[ 3., -4.,  0.]]))
    """

    def __init__(self, k: int = 1, signed: bool = False) -> None:
        super().__init__()
        self.k = k
        self.signed = signed

    def setup(self, sizes: Sizes) -> None:
        """Check the number of units."""
        is_whole = isinstance(self.k, Integral) and not isinstance(self.k, bool)
        if not is_whole or not 1 <= self.k <= sizes.n_components:
            raise OptionError(
                f"The 'k' parameter of TopK must be an int from 1 to the {sizes.n_components} components",
                got=f"{self.k!r} instead",
            )

    def forward(self, output: Tensor) -> Selection:
        """The point with all but the k largest numbers set to zero, for an output of shape (n, k)."""
        return Selection(self.proximal(output), output)

    def proximal(self, z: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """The nearest code with k active units, of shape (n, k), whatever the step."""
        places = (z.abs() if self.signed else z).topk(int(self.k), dim=-1).indices
        values = z.gather(-1, places)
        return torch.zeros_like(z).scatter(-1, places, values if self.signed else values.relu())


@runtime_checkable
class Steering(Protocol):
    """A word that moves the thresholds of a code, as `eigencode.parts.steering.Steered` ones do."""

    threshold_shift: Tensor
    """How far all thresholds are moved, in spreads of the units' inputs."""


class Shifted(Code):
    """A code with thresholds that a steering word moves; without such a word they stay where they are."""

    _steering: tuple[Steering, ...] = ()

    def join(self, composition: Composition) -> None:
        """Keep the word in sight that moves the thresholds."""
        # In a tuple, or torch would take it for a part of this one.
        self._steering = tuple(word for word in composition.words if isinstance(word, Steering))[:1]

    @property
    def shift(self) -> Tensor | float:
        """How far the thresholds are moved."""
        return self._steering[0].threshold_shift if self._steering else 0.0

    @abstractmethod
    def shift_for(self, q: Posterior, activity: Tensor | float) -> Tensor:
        """How much further to move all thresholds for the codes q of some rows to have a mean activity; a scalar."""


class Rectified(Shifted):
    r"""Rectified units whose thresholds are moved together until the wanted number is active.

    .. math:: h_j = \max(f_j(x) - \theta_j - c s_j, 0)

    The optimal code of an orthonormal dictionary is a soft threshold at lambda / 2, which answers a change of lambda
    at once; an encoder with thresholds of its own would answer when it has learned to (compare Gregor & LeCun, 2010).
    The rows settle the thresholds theta, at which each unit has its share of the active ones, and the spread s of each
    unit's input. The shift c is `AdaptiveLaplace`'s.

    Parameters
    ----------
    active : float
        Mean number of active units a row at the start.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import Sizes
    >>> code = Rectified(active=1.0)
    >>> code.setup(Sizes(n_features=3, n_components=2))
    >>> code(torch.tensor([[1.5, -1.0]])).mean
    tensor([[1.5000, 0.0000]])
    """

    is_elementwise = True

    threshold: Tensor
    spread: Tensor

    def __init__(self, active: float = 1.0) -> None:
        super().__init__()
        self.active = active

    def setup(self, sizes: Sizes) -> None:
        """Check the number of units, and stand at zero."""
        self.require_number("active", high=sizes.n_components)
        self.register_buffer("threshold", torch.zeros(sizes.n_components))
        self.register_buffer("spread", torch.ones(sizes.n_components))

    def first_state(self, x: Tensor, composition: Composition) -> Mapping[str, Tensor]:
        """Thresholds that each unit passes equally often, and the spread of each unit's input."""
        if not self._steering:
            raise OptionError(
                "A Rectified code needs a word that moves its thresholds",
                got=f"prior={composition.prior!r}",
                hint="Use an AdaptiveLaplace prior, or Point('relu')",
            )
        output = composition.encoder(x)
        threshold = exceeded_by(output, self.active / output.shape[1] * len(x))
        return {"threshold": threshold, "spread": output.std(0, correction=0).clamp(min=SMALLEST_SPREAD)}

    def forward(self, output: Tensor) -> Selection:
        """A point mass at what passes the thresholds, for an output of shape (n, k)."""
        above = output - (self.threshold + self.spread * self.shift)
        return Selection(above.relu(), above)

    def shift_for(self, q: Posterior, activity: Tensor | float) -> Tensor:
        """The shift that as many units of all rows would exceed as are to be active."""
        assert isinstance(q, Selection)
        return exceeded_by((q.output / self.spread).flatten(), len(q.output) * torch.as_tensor(activity))


def exceeded_by(values: Tensor, number: Tensor | float) -> Tensor:
    """A threshold that a number of the values exceed, and of new values the same share; per column, for shape (n, ...).

    Of n values drawn from a distribution i - 1 exceed the i-th largest, but of the distribution a share of i / (n + 1)
    does in the mean (Weibull). So the threshold lies between two of the values.
    """
    n = len(values)
    share = torch.as_tensor(number, dtype=torch.float64, device=values.device) / n
    rank = ((1 - share) * (n + 1) - 1).clamp(0, n - 1)
    below = rank.long()
    ordered = values.sort(dim=0).values
    low, high = (ordered.gather(0, i.expand(1, *values.shape[1:]))[0] for i in (below, (below + 1).clamp(max=n - 1)))
    return torch.lerp(low, high, (rank - below).to(values))


class Sigmoid(Shifted):
    r"""Sigmoid units that rest at an activity: they start near it, and need no large biases to stay there.

    .. math:: h = \sigma(f(x) + \log \tfrac{\rho}{1 - \rho} - c)

    The shift c is zero, or `AdaptiveKLSparsity`'s.

    Parameters
    ----------
    activity : float
        rho, the activity for f(x) = 0, above 0 and below 1.

    Examples
    --------
    >>> import torch
    >>> Sigmoid(activity=0.05)(torch.zeros(1, 2)).mean
    tensor([[0.0500, 0.0500]])
    """

    is_elementwise = True

    def __init__(self, activity: float = 0.05) -> None:
        super().__init__()
        self.activity = activity

    def setup(self, sizes: Sizes) -> None:
        """Check the activity."""
        require_share(self, "activity")

    def forward(self, output: Tensor) -> Delta:
        """A point mass at the units' activities, for an output of shape (n, k)."""
        return Delta((output + (torch.as_tensor(self.activity, dtype=output.dtype).logit() - self.shift)).sigmoid())

    def shift_for(self, q: Posterior, activity: Tensor | float) -> Tensor:
        """The root of mean(sigmoid(inputs - c)) = activity, by Newton's steps for its logarithm."""
        inputs = q.mean.logit(torch.finfo(q.mean.dtype).eps)
        shift = inputs.new_zeros(())
        for _ in range(NEWTON_STEPS):
            h = (inputs - shift).sigmoid()
            slope = (h * (1 - h)).mean() / h.mean()
            shift = shift + ((h.mean() / activity).log() / slope.clamp(min=1e-3)).clamp(-2, 2)
        return shift


def require_share(word: Word, name: str) -> None:
    """Raise `OptionError` unless an argument is a number above 0 and below 1."""
    word.require_number(name, high=math.nextafter(1.0, 0.0))


class MeanActivity(Penalty):
    """A penalty on each unit's mean activity over the rows, of which a batch alone shows little."""

    running: Tensor
    n_seen: Tensor

    def setup(self, sizes: Sizes) -> None:
        """Check the activity, and begin with no rows seen."""
        require_share(self, "activity")
        self.register_buffer("running", torch.zeros(sizes.n_components))
        self.register_buffer("n_seen", torch.zeros(()))

    def mean_activity(self, z: Tensor) -> Tensor:
        """rho_j of each unit, shape (k,).

        In training it is the running mean, this batch in it, with the derivative of the batch's own mean: what the
        derivative of the mean over all rows is in expectation. Else it is that of the rows at hand.
        """
        batch = z.mean(0)
        if not self.training:
            return batch
        share = len(z) / (self.n_seen + len(z)).clamp(max=MEMORY * len(z))
        mixed = torch.lerp(self.running, batch, share)
        return mixed + (1 - share) * (batch - batch.detach())

    def next_state(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """The running mean with this batch in it."""
        z = trace.z.mean(0) if trace.n_draws > 1 else trace.z
        n_seen = (self.n_seen + len(z)).clamp(max=MEMORY * len(z))
        return {"running": self.mean_activity(z), "n_seen": n_seen}


def bernoulli_divergence(p: Tensor | float, q: Tensor) -> Tensor:
    """KL(p, q) of Bernoulli variables with these probabilities, in nats; q is kept off 0 and 1 by its rounding."""
    p = torch.as_tensor(p, dtype=q.dtype, device=q.device)
    q = q.clamp(torch.finfo(q.dtype).tiny, 1 - torch.finfo(q.dtype).eps)
    return torch.xlogy(p, p / q) + torch.xlogy(1 - p, (1 - p) / (1 - q))


class KLSparsity(MeanActivity):
    r"""The KL sparsity of sigmoid units (Ng, 2011): each should be active at a given share of its range on average.

    .. math:: \Omega = \beta \sum_j \rho \log \frac{\rho}{\rho_j} + (1 - \rho) \log \frac{1 - \rho}{1 - \rho_j}

    with rho_j the mean activity of unit j, a running mean in training.

    Parameters
    ----------
    activity : float
        rho, above 0 and below 1.
    weight : float
        beta, in nats a row.

    Examples
    --------
    >>> import torch
    >>> from eigencode import Composition
    >>> from eigencode.parts import MLP, Sigmoid
    >>> penalty = KLSparsity(activity=0.1, weight=3.0)
    >>> model = Composition(MLP(), MLP(), code=Sigmoid(0.1), penalties=[penalty])
    >>> model.setup(n_features=4, n_components=2, generator=torch.Generator().manual_seed(0))
    >>> bool(penalty(model(torch.zeros(5, 4)), model) < 1e-6)  # at rest, both units are as active as they should be
    True
    """

    def __init__(self, activity: float = 0.05, weight: float = 1.0) -> None:
        super().__init__()
        self.activity = activity
        self.weight = weight

    def setup(self, sizes: Sizes) -> None:
        """Check the arguments."""
        super().setup(sizes)
        self.require_number("weight", closed=True)

    def forward(self, trace: Trace, composition: Composition) -> Tensor:
        """Beta times the divergence summed over the units, a scalar."""
        return self.weight * bernoulli_divergence(self.activity, self.mean_activity(trace.z)).sum()


class Revival(Penalty):
    r"""The auxiliary loss that brings dead units back (Gao et al., 2024): they learn what the living ones leave over.

    .. math:: \alpha \lVert e - D z' \rVert^2, \qquad e = x - \hat x \text{ (a constant here)}

    where z' holds the largest inputs of dead units, a few in each row and unrectified, so that a gradient reaches
    their encoders wherever they stand, and D z' is the decoder's output without its bias. With one layer on each side
    the living units and the bias feel nothing of it, so its weight need not be small; deeper networks share layers. A
    unit is dead that was in no row's code for a while; before the first step all are. Weights are not judged by it.

    Parameters
    ----------
    weight : float
        alpha, against the squared error of a row.
    n_units : int
        Dead units a row that take up what is left over. One is best where many are dead: each of them then looks for
        rows of its own, and units that share a row's leavings never win a place among the living.
    window : float
        Passes over the rows after which a unit is dead.

    Raises
    ------
    OptionError
        If the code does not say what it selected from, as `TopK` and `Rectified` do.

    Examples
    --------
    >>> from eigencode import Autoencoder
    >>> from eigencode.parts import Dictionary, TopK
    >>> model = Autoencoder(200, hidden=(), code=TopK(5), decoder=Dictionary(), penalties=[Revival()])
    """

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
            raise OptionError("The 'n_units' parameter of Revival must be a positive int", got=f"{self.n_units!r}")
        patience = float(self.window) * sizes.n_rows
        self.register_buffer("patience", torch.tensor(patience))
        self.register_buffer("idle", torch.full((sizes.n_components,), patience))

    def first_state(self, x: Tensor, composition: Composition) -> Mapping[str, Tensor]:
        """Nothing but a check of the code."""
        if not isinstance(composition.encode(x[:1]), Selection):
            raise OptionError(
                "Revival needs a code that says what it selected from",
                got=f"{composition.code!r}",
                hint="Use TopK or Rectified",
            )
        return {}

    @property
    def dead(self) -> Tensor:
        """1 for dead units and 0 for the others, shape (k,)."""
        return (self.idle >= self.patience).to(self.idle.dtype)

    def next_state(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """Rows since each unit was active, as far as that matters."""
        idle = torch.minimum(self.idle + len(trace.x), self.patience)
        return {"idle": torch.where((trace.z != 0).flatten(0, -2).any(0), torch.zeros_like(idle), idle)}

    def forward(self, trace: Trace, composition: Composition) -> Tensor:
        """The squared error of the dead units' reconstruction of the residual in training, else 0; shape (n,)."""
        if not self.training:
            return trace.x.new_zeros(len(trace.x))
        assert isinstance(trace.q, Selection)
        dead, output = self.dead.to(trace.z), trace.q.output
        idle = output.detach().masked_fill(dead == 0, -torch.inf)
        n_units = min(int(self.n_units), output.shape[-1])
        places = idle.argmax(-1, keepdim=True) if n_units == 1 else idle.topk(n_units, dim=-1).indices
        values = output.gather(-1, places) * dead[places]
        rebuilt = composition.decoder.change_by(places, values, output.shape[-1])
        residual = (trace.x - composition.likelihood.scaled_mean(trace.p)).detach()
        # Where no unit is dead there is nothing to rebuild, and nothing to pay.
        missed = residual - rebuilt
        if trace.observed is not None:
            missed = torch.where(trace.observed, missed, 0.0)
        return self.weight * dead.amax() * missed.square().sum(-1)
