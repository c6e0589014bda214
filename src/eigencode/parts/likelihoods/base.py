"""Likelihood: what the decoder's output says of the columns, p(x|z)."""

from __future__ import annotations

import math
from abc import abstractmethod
from numbers import Real
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from eigencode.errors import OptionError, did_you_mean
from eigencode.parts.base import Sizes, Term, Units
from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods.expansion import Expansion, FittedExpansion

FILLS = {"real": 0.0, "unit interval": 0.5, "counts": 0.0}
"""A number within each support, for cells that are hidden."""


class Likelihood(Term):
    """Turns the decoder's un-activated output into a distribution of the scaled columns.

    Attributes
    ----------
    in_data_units : bool
        True where the distribution only makes sense in the data's own units, as counts and shares do: rows are then
        brought back to them before ``log_prob`` is asked.
    support : str
        Which values it can be asked about: 'real', 'unit interval' (from 0 to 1) or 'counts' (0, 1, 2, ...). Counts in
        the data's units are scaled, and seen by the encoder, by log(x + 1/2), so that a linear encoder can say what a
        linear decoder of log-means needs to know.

    Examples
    --------
    A likelihood of your own is one method returning a distribution, here the hyperbolic secant's:

    >>> import math, torch
    >>> from eigencode.parts import Distribution, Likelihood
    >>> class Secant(Distribution):
    ...     def __init__(self, mean):
    ...         self.location = mean
    ...
    ...     mean = property(lambda self: self.location)
    ...
    ...     def log_prob(self, x):
    ...         u = math.pi / 2 * (x - self.location).abs()
    ...         return -u - torch.log1p(torch.exp(-2 * u))
    ...
    ...     def sample(self, generator):
    ...         u = torch.rand(self.location.shape, generator=generator)
    ...         return self.location + 2 / math.pi * torch.log(torch.tan(math.pi / 2 * u))
    >>> class SecantLikelihood(Likelihood):
    ...     def forward(self, output):
    ...         return Secant(output)
    """

    ignores_idle_components = True

    in_data_units: bool = False
    support: ClassVar[str] = "real"
    expansion_type: ClassVar[type[Expansion] | None] = None
    """What is known of the likelihood in closed form; None has it fitted."""

    center: Tensor
    divisor: Tensor
    logarithmic: Tensor | None

    def setup(self, sizes: Sizes) -> None:
        """Make the tensors."""
        if self.in_data_units:
            self.register_buffer("center", sizes.units.center.double())
            self.register_buffer("divisor", sizes.units.divisor.double())
            self.register_buffer("logarithmic", sizes.units.logarithmic, persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Follow the module to a device, but keep the units in float64: a large count has more digits than float32."""
        exact = {name: value for name, value in self.named_buffers(recurse=False) if name in ("center", "divisor")}
        super()._apply(fn, recurse)
        for name, value in exact.items():
            setattr(self, name, value.to(getattr(self, name).device))
        return self

    def n_outputs(self, n_features: int) -> int:
        """Numbers the decoder gives for each row; the first ``n_features`` say where the columns' values lie."""
        return n_features

    @property
    def scales_logarithms(self) -> bool:
        """Whether columns are scaled by their logarithms."""
        return self.in_data_units and self.support == "counts"

    @property
    def units(self) -> Units:
        """The data's units, for a likelihood that is over them."""
        return Units(self.center, self.divisor, self.logarithmic)

    def target(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Scaled rows of shape (..., d) in the units that the distribution is over, scaling's rounding taken away.

        In hidden cells is a number of the support, of which a density and its derivatives are finite.
        """
        if self.in_data_units:
            x = self._rounded(self.units.in_data_units(x))
        return x if observed is None else x.where(observed, FILLS[self.support])

    def _rounded(self, x: Tensor) -> Tensor:
        """Cells in the data's units without the rounding that scaling left."""
        # Not clamp_, which vmap can only do model by model, with a warning to the user.
        if self.support == "counts":
            return x.round_().clamp(min=0)
        return x.clamp(0, 1) if self.support == "unit interval" else x

    def scaled_mean(self, p: Distribution) -> Tensor:
        """The mean of a distribution in the model's units, shape (..., d)."""
        return self.units.scaled(p.mean) if self.in_data_units else p.mean

    @property
    def expansion(self) -> Expansion:
        """What a start asks of the likelihood."""
        return (self.expansion_type or FittedExpansion)(self)

    @property
    def reweights(self) -> bool:  # type: ignore[override]
        """Whether it changes what the other terms' shrinkage would have to be."""
        return self.expansion.reweights

    def shrinkage(self, eigenvalues: Tensor) -> Tensor | None:
        """All of every direction of the working columns, where that is the linear optimum."""
        return torch.ones_like(eigenvalues) if self.expansion.is_exact else None

    @abstractmethod
    def forward(self, output: Tensor) -> Distribution:
        """The distribution p(x|z) of a decoder's output of shape (..., n_outputs)."""


class SpreadLikelihood(Likelihood):
    """A likelihood whose decoder says where each cell lies, with one more number for how far it spreads.

    That number is fixed, or 'learned' (one for all columns), or learned 'per_feature'. A learned one is a floor plus
    an exponential: however well a column is rebuilt, its density stays finite.
    """

    spread_name: ClassVar[str]
    """The constructor's argument that holds it."""

    floor: ClassVar[float]
    """Below this a learned spread never falls; a nat or two is lost on columns that are rebuilt so well."""

    @property
    def spread(self) -> float | str:
        """What the constructor was given."""
        return getattr(self, self.spread_name)

    @property
    def is_learned(self) -> bool:
        """Whether the spread is a parameter that trains with the networks."""
        return isinstance(self.spread, str)

    def setup(self, sizes: Sizes) -> None:
        """Make the tensors; a learned spread starts at 1."""
        super().setup(sizes)
        if self.is_learned:
            widths = {"learned": 1, "per_feature": sizes.n_features}
            if self.spread not in widths:
                raise self._unfit(did_you_mean(self.spread, widths))
            self.log_excess = nn.Parameter(torch.zeros(widths[str(self.spread)]))
        elif not (isinstance(self.spread, Real) and 0 < self.spread < math.inf):
            raise self._unfit(None)

    def _unfit(self, hint: str | None) -> OptionError:
        what = f"The {self.spread_name!r} parameter of {type(self).__name__} must be a positive number, 'learned' or "
        return OptionError(f"{what}'per_feature'", got=f"{self.spread!r} instead", hint=hint)

    def current_spread(self, like: Tensor) -> Tensor:
        """The spread as a tensor that broadcasts over rows, of the type of another tensor."""
        return self.floor + self.log_excess.exp() if self.is_learned else like.new_tensor(self.spread)
