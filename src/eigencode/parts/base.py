"""Part: a module that is defined by its constructor's arguments; Term: a part that is a term of the formula."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from sklearn.base import clone
from torch import Tensor, nn

from eigencode.constructors import check_settings, told_constructor
from eigencode.errors import OptionError

if TYPE_CHECKING:
    from eigencode.batch import Batch
    from eigencode.model.composition import Composition, Trace
    from eigencode.model.initialization import LinearProblem, LinearStart


HALF = 0.5
"""Added to a count before its logarithm is taken."""


@dataclass(frozen=True)
class Units:
    """The map from scaled values to the data's units: data = scaled * divisor + center, each of shape (d,).

    In columns where ``logarithmic``, of shape (d,), is true, log(data + 1/2) = scaled * divisor + center. None means no
    such columns.
    """

    center: Tensor
    divisor: Tensor
    logarithmic: Tensor | None = None

    @classmethod
    def of(cls, scaler: Any) -> Units:
        """The units of a `Scaler`, whose centre and divisor are arrays."""
        logarithmic = torch.tensor(scaler.logarithmic) if any(scaler.logarithmic) else None
        return cls(torch.from_numpy(scaler.center), torch.from_numpy(scaler.divisor), logarithmic)

    def in_data_units(self, x: Tensor) -> Tensor:
        """Convert scaled rows of shape (..., d) to the data's units."""
        linear = torch.addcmul(self.center.to(x), x, self.divisor.to(x))
        if self.logarithmic is None:
            return linear
        return torch.where(self.logarithmic.to(x.device), linear.exp() - HALF, linear)

    def scaled(self, rows: Tensor) -> Tensor:
        """Scale rows of shape (..., d) in the data's units."""
        if self.logarithmic is not None:
            # Clamped slightly below 0 and not at it, so that a rounded 0 still has its derivative.
            logs = (rows.clamp(min=-HALF / 2) + HALF).log()
            rows = torch.where(self.logarithmic.to(rows.device), logs, rows)
        return (rows - self.center.to(rows)) / self.divisor.to(rows)

    def of_columns(self, columns: slice) -> Units:
        """The units of some columns."""
        logarithmic = None if self.logarithmic is None else self.logarithmic[columns]
        return Units(self.center[columns], self.divisor[columns], logarithmic)


@dataclass(frozen=True)
class Sizes:
    """The sizes of the model and its data, for making a term's tensors.

    Attributes
    ----------
    n_features, n_components : int
        d columns and k components.
    n_rows : int or None
        n, the number of training rows; None if it is not known.
    units : Units
        The data's units; by default the scaled ones.
    low, high : Tensor
        Smallest and largest value of each scaled column, shape (d,).
    """

    n_features: int
    n_components: int
    n_rows: int | None = 1
    units: Units = None  # type: ignore[assignment]
    low: Tensor = None  # type: ignore[assignment]
    high: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        zeros, ones = torch.zeros(self.n_features), torch.ones(self.n_features)
        for name, value in (("units", Units(zeros, ones)), ("low", -ones), ("high", ones)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def of_columns(self, columns: slice) -> Sizes:
        """The sizes of some columns."""
        low, high = self.low[columns], self.high[columns]
        return replace(self, n_features=len(low), units=self.units.of_columns(columns), low=low, high=high)


CLAIMS: Mapping[str, Any] = {
    "numbers": (),
    "paddable": (),
    "is_elementwise": False,
    "is_identity": False,
    "ignores_idle_components": False,
    "sees_draws": True,
    "expansion_type": None,
}
"""Properties that a class may declare of its methods, with the values that hold without a declaration."""

BY_POSITION_OR_NAME, BY_NAME = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
"""Kinds of arguments that can be given by name."""

CLAIMED_OF = ("forward", "log_prob", "divergence", "cost")


class Part(nn.Module):
    """A module made of its constructor's arguments: a network, or a term of the formula.

    The constructor of a subclass stores each argument under the argument's name and does nothing else; tensors are made
    in ``setup``, when the sizes are known. This gives ``clone``, ``repr``, nested parameters for grid searches, and
    saving as JSON.

    Other properties of a part are declared by attributes of its class, and never guessed. Without a declaration the
    slower and safer case is assumed. A subclass that overrides ``forward``, ``log_prob``, ``divergence`` or ``cost``
    does not inherit declarations about that method, and has to declare them again.

    Examples
    --------
    >>> from eigencode.parts import MLP
    >>> MLP(hidden=(32, 16)).get_params()
    {'hidden': (32, 16), 'activation': 'gelu'}

    >>> from eigencode.parts import Delta, Point
    >>> class Softmax(Point):
    ...     def forward(self, output):
    ...         return Delta(output.softmax(-1))
    >>> Point().is_elementwise, Softmax().is_elementwise
    (True, False)
    """

    numbers: ClassVar[tuple[str, ...]] = ()
    """Arguments that, if they are numbers, are used only in arithmetic on tensors, so that scalar tensors would work
    too. Models that are trained in one batch may differ in these arguments, and in no others."""

    paddable: ClassVar[tuple[str, ...]] = ()
    """Attributes that count units: a model with fewer units may be trained as one with more, padded by zero weights."""

    _withdrawn: ClassVar[frozenset[str]] = frozenset()
    """Declarations about a method that the class overrides without declaring them again."""

    def __init__(self) -> None:
        super().__init__()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = told_constructor(cls)  # type: ignore[method-assign]
        claimants = {name: _claimant(cls, name) for name in CLAIMS}
        cls._withdrawn = frozenset(
            name for name, base in claimants.items() if any(_is_overridden(cls, base, m) for m in CLAIMED_OF)
        )
        for name in cls._withdrawn:
            setattr(cls, name, CLAIMS[name])

    @classmethod
    @lru_cache
    def _parameter_names(cls) -> tuple[str, ...]:
        signature = inspect.signature(cls)
        kinds = {p.name: p.kind for p in signature.parameters.values()}
        if unnamed := [name for name, kind in kinds.items() if kind not in (BY_POSITION_OR_NAME, BY_NAME)]:
            what = f"Arguments of parts have names, by which they are copied and saved; {cls.__name__} takes"
            listed, hint = " and ".join(map(repr, unnamed)), "Write its __init__ without /, *args and **kwargs"
            raise OptionError(f"{what} {listed} without", got=f"__init__{signature}", hint=hint)
        return tuple(kinds)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments, with those of nested parts as ``outer__inner``."""
        if unset := [name for name in self._parameter_names() if not hasattr(self, name)]:
            what = f"A part keeps the arguments of its constructor under their names, and {type(self).__name__} lacks"
            hint = f"Write self.{unset[0]} = {unset[0]} in its __init__, after super().__init__()"
            raise OptionError(f"{what} {unset[0]!r}", hint=hint)
        params = {name: getattr(self, name) for name in self._parameter_names()}
        if deep:
            for name, value in list(params.items()):
                if isinstance(value, Part):
                    params |= {f"{name}__{inner}": item for inner, item in value.get_params().items()}
        return params

    def first_state(self, batch: Batch, composition: Composition) -> Mapping[str, Tensor]:
        """Values of tensors that depend on the rows, by name, set before training.

        It is called for the decoder, the encoder and the terms in this order, each after the tensors of those before it
        have been set.
        """
        return {}

    def join(self, composition: Composition) -> None:
        """Read from the whole model what the part needs, after ``setup``; most parts need nothing."""

    def set_params(self, **params: Any) -> Self:
        """Set constructor's arguments, nested ones as ``outer__inner``; return the part itself."""
        check_settings(self, params)
        for name, value in params.items():
            outer, _, inner = name.partition("__")
            if inner:
                getattr(self, outer).set_params(**{inner: value})
            else:
                setattr(self, outer, value)
        return self

    def __sklearn_clone__(self) -> Self:
        """A part with the same arguments, without tensors."""
        return type(self)(**{name: clone(value, safe=False) for name, value in self.get_params(deep=False).items()})

    def __repr__(self) -> str:
        signature = inspect.signature(type(self)).parameters
        shown = [
            f"{name}={value!r}"
            for name, value in self.get_params(deep=False).items()
            if isinstance(value, nn.Module) or repr(value) != repr(signature[name].default)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


Part.__init__ = told_constructor(Part)  # type: ignore[method-assign]


def _claimant(cls: type, name: str) -> type:
    """The class that a declaration is inherited from."""
    return next((base for base in cls.__mro__ if name in vars(base)), cls)


def _is_concrete(cls: type, method: str) -> bool:
    """Whether a class has a method that is not abstract."""
    known = getattr(cls, method, None)
    return known not in (None, nn.Module.forward) and not getattr(known, "__isabstractmethod__", False)


def _is_overridden(cls: type, claimant: type, method: str) -> bool:
    """Whether a class overrides a method of the class with a declaration, where that method was not abstract."""
    return _is_concrete(claimant, method) and getattr(cls, method) is not getattr(claimant, method)


def is_declared(part: Part, name: str) -> bool:
    """Whether a part's class declares a name in `CLAIMS`, even if with the value that holds without a declaration.

    Examples
    --------
    >>> from eigencode.parts import Penalty
    >>> class Own(Penalty):
    ...     def forward(self, trace, composition):
    ...         return trace.z.sum(-1)
    >>> is_declared(Own(), "numbers")
    False
    """
    claimant = _claimant(type(part), name)
    is_base = not any(_is_concrete(claimant, method) for method in CLAIMED_OF)
    return getattr(part, name) != CLAIMS[name] or not (is_base or name in vars(claimant).get("_withdrawn", ()))


class Term(Part):
    """A term of the formula that is not a network: a code, likelihood, corruption, prior or penalty.

    It may have tensors (made in ``setup``), a state that training updates (``statistics`` of each batch, and
    ``next_state``) and a linear optimum (``shrinkage``, or ``linear_start`` if that is not a share of each direction).
    """

    reweights: bool = False
    """Whether this term changes the best shrinkage of other terms, even if it shrinks no direction itself."""

    is_stochastic: bool = False
    """Whether a training pass draws noise for the term, by ``draw_noise``."""

    ignores_idle_components: bool = False
    """Whether the term is unchanged by further components that are zero for all rows and that the decoder ignores."""

    def setup(self, sizes: Sizes) -> None:
        """Check the arguments and make the tensors."""

    def statistics(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """The arguments of ``next_state`` from a batch: sums over its rows, by name, which add up over batches."""
        return {}

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> Mapping[str, Tensor]:
        """New values of buffers, by name, after a training step on ``n_rows`` rows with these statistics."""
        return {}

    learns_from_validation: bool = False
    """Whether the term updates its state from the validation rows (from the training rows if there are none)."""

    def validation_statistics(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """The arguments of ``validation_state`` from some rows, by name; the first axis of each tensor is rows."""
        return {}

    def validation_state(self, statistics: Mapping[str, Tensor], composition: Composition) -> Mapping[str, Tensor]:
        """New values of buffers, by name, from the statistics of all validation rows."""
        return {}

    def describe(self, composition: Composition) -> str | None:
        """A description of what the term chose automatically in a model; None if nothing."""
        return None

    def warn_about(self, composition: Composition) -> str | None:
        """A warning about the term in combination with the model's other terms; None if there is no problem."""
        return None

    def warn_after_training(self) -> str | None:
        """A warning about the state that the term has after training; None if there is no problem."""
        return None

    def shrinkage(self, eigenvalues: Tensor) -> Tensor | None:
        """The share of each principal direction that the best linear autoencoder with this term keeps, shape (k,).

        ``eigenvalues`` are those of the scaled rows' covariance, shape (k,). None if no closed form is known.
        """
        return None

    def linear_start(self, problem: LinearProblem) -> LinearStart | None:
        """The best linear autoencoder with this term, None if no closed form is known."""
        shares = self.shrinkage(problem.eigenvalues)
        return None if shares is None else problem.shrunk(shares)

    def require_number(self, name: str, low: float = 0.0, high: float = math.inf, *, closed: bool = False) -> None:
        """Raise `OptionError` unless an argument is a finite number above ``low`` (or at it) and at most ``high``."""
        value = getattr(self, name)
        if isinstance(value, Real) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number) and (low < number <= high or (closed and number == low)):
                return
        bounds = f"{'at least' if closed else 'above'} {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
        raise OptionError(
            f"The {name!r} parameter of {type(self).__name__} must be a finite number {bounds}",
            got=f"{value!r} instead",
        )
