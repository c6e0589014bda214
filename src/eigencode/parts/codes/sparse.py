"""Codes with few active units: top-k, thresholded units, sigmoid units that rest at an activity."""

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
from eigencode.parts.base import Sizes, Term
from eigencode.parts.codes.base import Code, Posterior
from eigencode.parts.distributions import Delta

if TYPE_CHECKING:
    from eigencode.batch import Batch
    from eigencode.model.composition import Composition


SMALLEST_SPREAD = 1e-20
"""Spread of the input of a unit that sees nothing."""


NEWTON_STEPS = 12
"""Steps that find a shift to the rounding."""


@dataclass(frozen=True)
class SparseDelta(Delta):
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

    def forward(self, output: Tensor) -> SparseDelta:
        """The point with all but the k largest numbers set to zero, for an output of shape (n, k)."""
        return SparseDelta(self.proximal(output), output)

    def proximal(self, z: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """The nearest code with k active units, of shape (n, k), whatever the step."""
        places = (z.abs() if self.signed else z).topk(int(self.k), dim=-1).indices
        values = z.gather(-1, places)
        return torch.zeros_like(z).scatter(-1, places, values if self.signed else values.relu())


@runtime_checkable
class ShiftsThresholds(Protocol):
    """A term that moves the thresholds of a code, as `eigencode.parts.adaptive_sparsity.TargetActivity` ones do."""

    threshold_shift: Tensor
    """How far all thresholds are moved, in spreads of the units' inputs."""


class ThresholdedCode(Code):
    """A code with thresholds that a steering term moves; without such a term they stay where they are."""

    _shifted_by: tuple[ShiftsThresholds, ...] = ()

    def join(self, composition: Composition) -> None:
        """Keep the term in sight that moves the thresholds."""
        # In a tuple, or torch would take it for a part of this one.
        self._shifted_by = tuple(term for term in composition.terms if isinstance(term, ShiftsThresholds))[:1]

    @property
    def shift(self) -> Tensor | float:
        """How far the thresholds are moved."""
        return self._shifted_by[0].threshold_shift if self._shifted_by else 0.0

    @abstractmethod
    def inputs_of(self, q: Posterior) -> Tensor:
        """What ``shift_for`` wants to know of the codes q of some rows, shape (n, k)."""

    @abstractmethod
    def shift_for(self, inputs: Tensor, activity: Tensor | float) -> Tensor:
        """How much further to move all thresholds for some rows to have a mean activity; a scalar."""


class ThresholdedReLU(ThresholdedCode):
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
    >>> code = ThresholdedReLU(active=1.0)
    >>> code.setup(Sizes(n_features=3, n_components=2))
    >>> code(torch.tensor([[1.5, -1.0]])).mean
    tensor([[1.5000, 0.0000]])
    """

    is_elementwise = True
    numbers = ("active",)

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

    def first_state(self, batch: Batch, composition: Composition) -> Mapping[str, Tensor]:
        """Thresholds that each unit passes equally often, and the spread of each unit's input."""
        if not self._shifted_by:
            raise OptionError(
                "A ThresholdedReLU code needs a term that moves its thresholds",
                got=f"prior={composition.prior!r}",
                hint="Use an AdaptiveLaplace prior, or Point('relu')",
            )
        output = composition.encoder(batch.x)
        threshold = exceeded_by(output, self.active / output.shape[1] * len(batch))
        return {"threshold": threshold, "spread": output.std(0, correction=0).clamp(min=SMALLEST_SPREAD)}

    def forward(self, output: Tensor) -> SparseDelta:
        """A point mass at what passes the thresholds, for an output of shape (n, k)."""
        above = output - (self.threshold + self.spread * self.shift)
        return SparseDelta(above.relu(), above)

    def inputs_of(self, q: Posterior) -> Tensor:
        """How far each unit's input is above its threshold, in the unit's spreads."""
        assert isinstance(q, SparseDelta)
        return q.output / self.spread

    def shift_for(self, inputs: Tensor, activity: Tensor | float) -> Tensor:
        """The shift that as many units of all rows would exceed as are to be active."""
        return exceeded_by(inputs.flatten(), len(inputs) * torch.as_tensor(activity))


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


class Sigmoid(ThresholdedCode):
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
    numbers = ("activity",)

    def __init__(self, activity: float = 0.05) -> None:
        super().__init__()
        self.activity = activity

    def setup(self, sizes: Sizes) -> None:
        """Check the activity."""
        require_share(self, "activity")

    def forward(self, output: Tensor) -> Delta:
        """A point mass at the units' activities, for an output of shape (n, k)."""
        return Delta((output + (torch.as_tensor(self.activity, dtype=output.dtype).logit() - self.shift)).sigmoid())

    def inputs_of(self, q: Posterior) -> Tensor:
        """The logits of the activities."""
        return q.mean.logit(torch.finfo(q.mean.dtype).eps)

    def shift_for(self, inputs: Tensor, activity: Tensor | float) -> Tensor:
        """The root of mean(sigmoid(inputs - c)) = activity, by Newton's steps for its logarithm."""
        shift = inputs.new_zeros(())
        for _ in range(NEWTON_STEPS):
            h = (inputs - shift).sigmoid()
            slope = (h * (1 - h)).mean() / h.mean()
            shift = shift + ((h.mean() / activity).log() / slope.clamp(min=1e-3)).clamp(-2, 2)
        return shift


def require_share(term: Term, name: str) -> None:
    """Raise `OptionError` unless an argument is a number above 0 and below 1."""
    term.require_number(name, high=math.nextafter(1.0, 0.0))
