"""Codes with few active units: top-k, thresholded units, sigmoid units with a low resting activity."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor

from eigencode.errors import OptionError, is_int
from eigencode.parts.base import Sizes, Term
from eigencode.parts.codes.base import Code, Posterior
from eigencode.parts.codes.selection import is_largest
from eigencode.parts.distributions import Delta

if TYPE_CHECKING:
    from eigencode.batch import Batch
    from eigencode.model.composition import Composition


SMALLEST_SPREAD = 1e-20
"""Smallest spread of a unit's input, for constant ones."""


NEWTON_STEPS = 12
"""Newton steps after which a shift is exact up to rounding."""


@dataclass(frozen=True)
class SparseDelta(Delta):
    """A point, and the inputs of its units before selection, shape (n, k)."""

    output: Tensor


class TopK(Code):
    r"""The k largest units of each row, the others zero (Makhzani & Frey, 2014).

    .. math:: h_j = \max(a_j, 0) \text{ for the } k \text{ largest } a_j, \quad a = f(x)

    Signed codes keep the k outputs of largest size with their signs: for an orthonormal dictionary that is the best
    code with k active units. An unsigned code has fewer than k active units in rows with fewer positive outputs.

    Parameters
    ----------
    k : int
        Active units per row, at most the number of components.
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
        if not is_int(self.k) or not 1 <= int(self.k) <= sizes.n_components:
            raise OptionError(
                f"The 'k' parameter of TopK must be an int from 1 to the {sizes.n_components} components",
                got=f"{self.k!r} instead",
            )

    def forward(self, output: Tensor) -> SparseDelta:
        """The point with all but the k largest numbers set to zero, for an output of shape (n, k)."""
        return SparseDelta(self.proximal(output), output)

    def proximal(self, z: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """The nearest code with k active units, as `is_largest` chooses them; it does not depend on the step."""
        if self.signed:
            return z * is_largest(z.abs(), int(self.k))
        positive = z.relu()
        return positive * is_largest(positive, int(self.k))

    def of_units(self, chosen: Tensor, z: Tensor) -> Tensor:
        """The nearest code without other active units than those where ``chosen`` is 1, of shape (n, k)."""
        return chosen * (z if self.signed else z.relu())


class ShiftsThresholds(Protocol):
    """A term that shifts the thresholds of a code: a subclass of `eigencode.parts.adaptive_sparsity.TargetActivity`."""

    threshold_shift: Tensor
    """Shift of all thresholds, in spreads of the units' inputs."""


class ThresholdedCode(Code):
    """A code with thresholds that an adaptive sparsity term shifts; without such a term they are constant."""

    _shifted_by: tuple[ShiftsThresholds, ...] = ()

    def join(self, composition: Composition) -> None:
        """Keep a reference to the term that shifts the thresholds."""
        # In a tuple, so that torch does not register it as a submodule. From Python 3.12 on, isinstance() of a protocol
        # does not see buffers.
        found = [term for term in composition.terms if hasattr(term, "threshold_shift")]
        self._shifted_by = cast(tuple[ShiftsThresholds, ...], tuple(found[:1]))

    @property
    def shift(self) -> Tensor | float:
        """The shift of the thresholds."""
        return self._shifted_by[0].threshold_shift if self._shifted_by else 0.0

    @abstractmethod
    def inputs_of(self, q: Posterior) -> Tensor:
        """The first argument of ``shift_for`` for the codes q of some rows, shape (n, k)."""

    @abstractmethod
    def shift_for(self, inputs: Tensor, activity: Tensor | float) -> Tensor:
        """The additional shift of all thresholds that gives some rows a mean activity; a scalar."""


class ThresholdedReLU(ThresholdedCode):
    r"""Rectified units whose thresholds are shifted together until the wanted number of units is active.

    .. math:: h_j = \max(f_j(x) - \theta_j - c s_j, 0)

    The optimal code of an orthonormal dictionary is a soft threshold at lambda / 2, so it changes at once with lambda;
    the biases of an encoder would have to be trained first (compare Gregor & LeCun, 2010). The thresholds theta, at
    which all units are active equally often, and the spread s of each unit's input are computed from the rows. The
    shift c is that of `AdaptiveLaplace`.

    Parameters
    ----------
    active : float
        Mean number of active units per row at the start.

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
        """Check the number of units, and make thresholds of zero."""
        self.require_number("active", high=sizes.n_components)
        self.register_buffer("threshold", torch.zeros(sizes.n_components))
        self.register_buffer("spread", torch.ones(sizes.n_components))

    def first_state(self, batch: Batch, composition: Composition) -> Mapping[str, Tensor]:
        """Thresholds that all units exceed equally often, and the spread of each unit's input."""
        if not self._shifted_by:
            raise OptionError(
                "A ThresholdedReLU code needs a term that moves its thresholds",
                got=f"prior={composition.prior!r}",
                hint="Use an AdaptiveLaplace prior, or Point('relu')",
            )
        output = composition.encoder_output(*batch.cells)
        threshold = exceeded_by(output, self.active / output.shape[1] * len(batch))
        return {"threshold": threshold, "spread": output.std(0, correction=0).clamp(min=SMALLEST_SPREAD)}

    def forward(self, output: Tensor) -> SparseDelta:
        """A point mass at the output above the thresholds, for an output of shape (n, k)."""
        above = output - (self.threshold + self.spread * self.shift)
        return SparseDelta(above.relu(), above)

    def inputs_of(self, q: Posterior) -> Tensor:
        """Distance of each unit's input above its threshold, in the unit's spread."""
        assert isinstance(q, SparseDelta)
        return q.output / self.spread

    def shift_for(self, inputs: Tensor, activity: Tensor | float) -> Tensor:
        """The shift that as many units, over all rows, exceed as should be active."""
        return exceeded_by(inputs.flatten(), len(inputs) * torch.as_tensor(activity))


def exceeded_by(values: Tensor, number: Tensor | float) -> Tensor:
    """A threshold that a number of new values is expected to exceed, per column, for values of shape (n, ...).

    The i-th largest of n draws is exceeded by i - 1 of them, but a new draw exceeds it with mean probability
    i / (n + 1) (Weibull's plotting position). So the threshold is interpolated between two of the values.
    """
    n = len(values)
    share = torch.as_tensor(number, dtype=torch.float64, device=values.device) / n
    rank = ((1 - share) * (n + 1) - 1).clamp(0, n - 1)
    below = rank.long()
    ordered = values.sort(dim=0).values
    low, high = (ordered.gather(0, i.expand(1, *values.shape[1:]))[0] for i in (below, (below + 1).clamp(max=n - 1)))
    return torch.lerp(low, high, (rank - below).to(values))


class Sigmoid(ThresholdedCode):
    r"""Sigmoid units with a resting activity: they start near it, and need no large biases for it.

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
        require_share(self, "activity")

    def forward(self, output: Tensor) -> Delta:
        return Delta((output + (torch.as_tensor(self.activity, dtype=output.dtype).logit() - self.shift)).sigmoid())

    def inputs_of(self, q: Posterior) -> Tensor:
        """The logits of the activities."""
        return q.mean.logit(torch.finfo(q.mean.dtype).eps)

    def shift_for(self, inputs: Tensor, activity: Tensor | float) -> Tensor:
        """The root c of mean(sigmoid(inputs - c)) = activity, by Newton steps for its logarithm."""
        shift = inputs.new_zeros(())
        for _ in range(NEWTON_STEPS):
            h = (inputs - shift).sigmoid()
            slope = (h * (1 - h)).mean() / h.mean()
            shift = shift + ((h.mean() / activity).log() / slope.clamp(min=1e-3)).clamp(-2, 2)
        return shift


def require_share(term: Term, name: str) -> None:
    """Raise `OptionError` unless an argument is a number above 0 and below 1."""
    term.require_number(name, high=math.nextafter(1.0, 0.0))
