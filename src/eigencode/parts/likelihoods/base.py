"""Likelihood: the distribution p(x|z) of the columns given the decoder's output."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from eigencode.errors import OptionError, did_you_mean
from eigencode.parts.base import Sizes, Term, Units
from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods.expansion import Expansion, FittedExpansion

if TYPE_CHECKING:
    from eigencode.batch import Batch

FILLS = {"real": 0.0, "unit interval": 0.5, "counts": 0.0}
"""A number in each support, used in hidden cells."""


@dataclass(frozen=True)
class Cell:
    """What a likelihood is told and says in a column: which values it may have, and in which units.

    Attributes
    ----------
    support : str
        'real', 'unit interval' or 'counts'.
    in_data_units : bool
        Whether the distribution is of values in the data's units, and not of scaled ones.
    is_bit : bool
        Whether it is one bit of a code, and so independent of the cells that it is observed with.
    """

    support: str
    in_data_units: bool
    is_bit: bool = False

    @property
    def is_logarithmic(self) -> bool:
        """Whether the column is scaled by its logarithm."""
        return self.in_data_units and self.support == "counts"


class Likelihood(Term):
    """Maps the decoder's output, which has no activation, to a distribution of the columns.

    Attributes
    ----------
    in_data_units : bool
        Whether the distribution is of values in the data's units, as for counts and shares; ``target`` then converts
        scaled rows to these units for ``log_prob``.
    support : str
        The possible values: 'real', 'unit interval' (from 0 to 1) or 'counts' (0, 1, 2, ...). Counts in the data's
        units are scaled as log(x + 1/2), so that the encoder's inputs are on the scale of the decoder's outputs, which
        are log-means.

    Examples
    --------
    Your own likelihood needs one method that returns a distribution, here the hyperbolic secant:

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
    """The class with the closed forms of the likelihood; None: they are fitted numerically."""

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
        """Move to a device, but keep the units in float64: large counts have more digits than float32."""
        exact = {name: value for name, value in self.named_buffers(recurse=False) if name in ("center", "divisor")}
        super()._apply(fn, recurse)
        for name, value in exact.items():
            setattr(self, name, value.to(getattr(self, name).device))
        return self

    def n_outputs(self, n_features: int) -> int:
        """Number of outputs of the decoder; the first ``n_features`` are the locations of the columns."""
        return n_features

    def cells(self, n_features: int) -> tuple[Cell, ...]:
        """The support and the units of each column."""
        return (Cell(self.support, self.in_data_units),) * n_features

    def block_widths(self, n_features: int) -> tuple[int, ...]:
        """The numbers of columns that are one variable each, and so are observed or missing together; by default 1."""
        return (1,) * n_features

    @property
    def units(self) -> Units:
        """The data's units, for a likelihood in these units."""
        return Units(self.center, self.divisor, self.logarithmic)

    def target(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Convert scaled rows of shape (..., d) to the units of the distribution.

        The rounding errors of the scaling are removed. Hidden cells are set to a number of the support, so that the
        density and its derivatives are finite.
        """
        return self.within_support(self.unscaled(x), observed)

    def unscaled(self, x: Tensor) -> Tensor:
        """Convert scaled rows of shape (..., d) to the units of the distribution, with rounding errors."""
        return self.units.in_data_units(x) if self.in_data_units else x

    def within_support(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Rows in the units of the distribution without rounding errors, and with a possible value in hidden cells."""
        x = self._rounded(x) if self.in_data_units else x
        return x if observed is None else x.masked_fill(~observed, FILLS[self.support])

    def _rounded(self, x: Tensor) -> Tensor:
        """Cells in the data's units without rounding errors of the scaling."""
        # Not clamp_, for which vmap falls back to a loop over models, with a warning.
        if self.support == "counts":
            return x.round().clamp(min=0)
        return x.clamp(0, 1) if self.support == "unit interval" else x

    def scaled(self, rows: Tensor) -> Tensor:
        """Convert rows of shape (..., d) in the units of the distribution, such as its mean, to scaled rows."""
        return self.units.scaled(rows) if self.in_data_units else rows

    @property
    def column_weights(self) -> Tensor | None:
        """Weights of the columns in the training objective, shape (d,); None: all weigh the same."""
        return None

    def with_weights(self, weights: Literal["balanced", "nats"]) -> Likelihood:
        """The likelihood with a rule for the weights of its columns, if it has several kinds of columns and no rule."""
        return self

    def prepare(self, batch: Batch, n_rows: float) -> None:
        """Set what depends on rows and is not trained, as the weights of columns; they stand for so many rows."""

    def constant_spread(self, batch: Batch, output: Tensor) -> Tensor:
        """The best spread of each column for given outputs, shape (d,), where its own is a constant; 1 elsewhere."""
        return batch.x.new_ones(batch.x.shape[-1])

    def with_spread(self, spread: Tensor) -> Likelihood:
        """The likelihood with the given spreads of the columns whose own is a constant."""
        return self

    def has_normal_residuals(self, n_features: int) -> tuple[bool, ...]:
        """Whether the residuals of each column are normal with a constant variance that is not learned."""
        return (False,) * n_features

    @property
    def deviations(self) -> Tensor | None:
        """Standard deviations of the columns given the code, shape (d,), if each has a learned one."""
        return None

    @property
    def expansion(self) -> Expansion:
        """The constants and the quadratic expansion of the likelihood, for starts."""
        return (self.expansion_type or FittedExpansion)(self)

    @property
    def reweights(self) -> bool:  # type: ignore[override]
        """Whether it changes the best shrinkage of the other terms."""
        return self.expansion.reweights

    def shrinkage(self, eigenvalues: Tensor) -> Tensor | None:
        """1 for each direction of the working columns, if that is the linear optimum."""
        return torch.ones_like(eigenvalues) if self.expansion.is_exact else None

    @abstractmethod
    def forward(self, output: Tensor) -> Distribution:
        """The distribution p(x|z) of a decoder's output of shape (..., n_outputs)."""


class SpreadLikelihood(Likelihood):
    """A likelihood with the decoder's output as its location, and one more parameter for its spread.

    The spread is fixed, 'learned' (one for all columns), or learned 'per_feature'. A learned one is a constant plus an
    exponential, so that the density is finite however well a column is reconstructed.
    """

    spread_name: ClassVar[str]
    """The name of the constructor's argument for the spread."""

    floor: ClassVar[float]
    """Smallest value of a learned spread; it costs a nat or two in columns that are reconstructed so well."""

    @property
    def spread(self) -> float | str:
        """The constructor's argument."""
        return getattr(self, self.spread_name)

    @property
    def smallest(self) -> float | Tensor:
        """Smallest value of a learned spread, which may be one a column, shape (d,)."""
        return self.floor

    @property
    def is_learned(self) -> bool:
        """Whether the spread is a parameter trained with the networks."""
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

    def constant_spread(self, batch: Batch, output: Tensor) -> Tensor:
        """The best spread of each column, if its own is a constant."""
        if self.is_learned:
            return super().constant_spread(batch, output)
        part = self.with_spread(batch.x.new_ones(batch.x.shape[-1]))
        part.expansion.calibrate(batch, output)
        return part.current_spread(output).detach()

    def with_spread(self, spread: Tensor) -> SpreadLikelihood:
        """The same likelihood with the given spread of each column, if its own is a constant."""
        if self.is_learned:
            return self
        part = type(self)(**{**self.get_params(deep=False), self.spread_name: "per_feature"})
        part.setup(Sizes(len(spread), 1))
        part.to(spread)
        part.expansion.set_spread(spread)
        return part

    def forward(self, output: Tensor) -> Distribution:
        return self._around(output, self.current_spread(output))

    @abstractmethod
    def _around(self, output: Tensor, spread: Tensor) -> Distribution:
        """The distribution with these locations of shape (..., d), and spreads that broadcast to them."""

    def current_spread(self, like: Tensor) -> Tensor:
        """The spread as a tensor that broadcasts over rows, in the type of ``like``."""
        return self.smallest + self.log_excess.exp() if self.is_learned else like.new_full((), float(self.spread))
