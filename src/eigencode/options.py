"""Options: the name, type, default, range and help of each, written once.

An estimator's fields define its constructor's arguments, its docstring, its checks, and the flags of the command line.
The fields that all autoencoders share are here; a named autoencoder defines its own. This module does not import torch.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import cache, cached_property
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from eigencode.constructors import misplaced, told
from eigencode.errors import OptionError, did_you_mean, is_int


@dataclass(frozen=True)
class OptionInfo:
    """The help and the range of one option.

    Parameters
    ----------
    help : str
        One or more sentences, shown in docstrings and on the command line.
    low, high : float
        The closed range of a number, or of every number of a sequence.
    open_low, open_high : bool
        Exclude the bound itself.
    on_command_line : bool
        False to have no flag, as have options of the type `Object` alone.
    share : bool
        Whether a float is a share between 0 and 1, even if the option may be an int in another range.
    object : str
        A description of the Python object that the option takes.
    keeps_objective : bool
        Whether models with two of its values minimise the same number on the same rows, for as many epochs, so that a
        search may compare them while they are in training.
    """

    help: str
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    on_command_line: bool = True
    share: bool = False
    object: str = "a part or module"
    keeps_objective: bool = False

    def contains(self, number: float) -> bool:
        """Whether a number lies in the range."""
        above = number > self.low if self.open_low else number >= self.low
        below = number < self.high if self.open_high else number <= self.high
        return above and below

    @property
    def interval(self) -> str:
        """The range in mathematical notation, as "[1, inf)"."""
        left = "(" if self.open_low or math.isinf(self.low) else "["
        right = ")" if self.open_high or math.isinf(self.high) else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"


def option(default: Any, help: str, *, kw_only: Any = dataclasses.MISSING, **domain: Any) -> Any:
    """A field of an options class: its default, its help, and what else `OptionInfo` knows, such as its range.

    Examples
    --------
    >>> @dataclass
    ... class Options:
    ...     level: float = option(0.5, "Share of the cells.", low=0, high=1)
    >>> [(found.name, found.default, found.type_name) for found in options_of(Options)]
    [('level', 0.5, 'a float in the range [0, 1]')]
    """
    return dataclasses.field(default=default, kw_only=kw_only, metadata={"option": OptionInfo(help, **domain)})


Activation = Literal["gelu", "relu", "leaky_relu", "elu", "silu", "tanh", "sigmoid", "softplus", "identity"]
Scale = Literal["auto", "common", "standard", "none"]
LikelihoodName = Literal["auto", "gaussian", "laplace", "student_t", "bernoulli", "poisson", "negative_binomial"]
Init = Literal["auto", "linear", "random"]
Estimate = Literal["auto", "exact", "hutchinson"]
Precision = Literal["auto", "float32", "bfloat16", "float64"]
Instance = TypeVar("Instance")
Object = Any
"""A Python object, which the estimator checks when it uses it."""


@dataclass(eq=False, repr=False)
class ModelOptions:
    """The options of the model."""

    n_components: int | float | Literal["auto"] = option(
        "auto",
        "Size of the code. A float between 0 and 1 is the smallest number of principal components that keeps this "
        "share of the variance of the scaled rows; 'auto' is 0.9.",
        low=1,
        share=True,
    )
    _: KW_ONLY
    hidden: int | tuple[int, ...] | Literal["auto"] = option(
        "auto",
        "Widths of the encoder's hidden layers, from the data to the code; the decoder mirrors them. () is a "
        "linear map; one number is a depth, with widths that fall geometrically from the data to the code. "
        "'auto': derived from the numbers of columns, rows and components.",
        low=1,
        keeps_objective=True,
    )
    activation: Activation | Object = option(
        "gelu",
        "Nonlinearity between the layers: a name, or any elementwise torch module.",
        keeps_objective=True,
    )
    image_shape: tuple[int, ...] | Literal["auto"] | None = option(
        None,
        "Channels, height and width of rows that are images, their cells in this order: the networks are then "
        "convolutional, and 'hidden' gives the channels of their stages, each of which halves the image. 'auto': "
        "the shape of the images fitted, of an array or of files.",
        low=1,
    )
    likelihood: LikelihoodName | Object = option(
        "auto",
        "Distribution p(x|z) of the columns given the code: a name or a part. 'auto': by the kind of each column of a "
        "frame, as a category or a count; 'gaussian' for arrays. A likelihood given here is that of all numbers of a "
        "frame, and categories keep theirs. 'gaussian' has variance 1/2, so that its negative log-likelihood is the "
        "squared error plus a constant; 'laplace' is the absolute error, 'student_t' is robust to outliers; "
        "'bernoulli' is for columns from 0 to 1, 'poisson' and 'negative_binomial' are for counts.",
    )
    columns: dict | None = option(
        None,
        "Kinds of some columns of a frame by their names, where they are not what their cells look like: 'real', "
        "'count', 'positive', 'zero-inflated', 'share', 'boolean', 'category', 'time', 'duration', 'identifier' "
        "or 'text' (both left out), or a list of ordered categories.",
    )
    missing_values: float | str | tuple[float | str, ...] | None = option(
        None, "Values that stand for gaps, such as -999; NaN and nulls are gaps always."
    )
    column_weights: Literal["balanced", "nats"] = option(
        "balanced",
        "How much the columns of a mixed table count in the training objective. 'balanced': the log-likelihood of "
        "a column is divided by what separates its best constant from an exact reconstruction, such as the entropy "
        "of a category; 'nats': all are counted as they are, as scores always are, and as bounds on log p(x).",
    )
    encoder: Object = option(None, "Your own encoder: a part or any torch module.")
    decoder: Object = option(None, "Your own decoder: a part or any torch module.")
    tied: bool = option(False, "Let the decoder use the encoder's weights, transposed.", keeps_objective=True)
    code: Object = option(None, "Distribution q(z|x) of the code; None is a point, z = f(x).")
    ordered: bool = option(
        False,
        "Order the components by importance (nested dropout), so that the first components are a smaller code: "
        "see `n_components` of `transform` and `reconstruct`.",
    )
    corruption: Object = option(None, "Corruption C(x~|x) of the network's input; None leaves it clean.")
    prior: Object = option(None, "Prior p(z) on the code; None has no such term.")
    beta: float = option(1.0, "Weight of the divergence between code and prior.", low=0)
    penalties: Object = option((), "Further penalties, one number for each row.", object="a sequence of penalty parts")
    weight_prior: Object = option(
        None,
        "Prior p(w) on the weights, as `GaussianWeights`; None has no such term, and wide layers decay in training.",
    )
    scale: Scale = option(
        "auto",
        "Division after centring. 'common': one scale for all columns, as for pixels; 'standard': each column by "
        "its standard deviation; 'auto': 'common' where the columns share one range, else 'standard'.",
    )
    init: Init = option(
        "auto",
        "'linear': each network gets a linear path, set to the best linear autoencoder for the same objective (PCA "
        "for the plain one); 'random': random weights only; 'auto': 'linear' if possible, but 'random' for "
        "convolutional networks.",
    )


@dataclass(eq=False, repr=False, kw_only=True)
class TrainingOptions:
    """The options of training, which do not depend on the model."""

    optimizer: Literal["auto", "adam", "lbfgs"] = option(
        "auto",
        "'adam': mini-batches; 'lbfgs': all rows at once, for small tables and exact optima; 'auto': by the number "
        "of rows, and Adam if `batch_size` is smaller than that.",
    )
    max_epochs: int | Literal["auto"] = option(
        "auto",
        "Largest number of passes over the rows; 0 keeps the start. 'auto': more for fewer rows, so that there are "
        "enough steps, and no such limit if `max_seconds` is given.",
        low=0,
    )
    max_seconds: float | None = option(
        None,
        "Time limit of fitting; the step size decays earlier, to end within it. Results then depend on the "
        "machine's speed.",
        low=0,
        open_low=True,
    )
    batch_size: int | Literal["auto"] = option("auto", "Rows per step.", low=1, keeps_objective=True)
    learning_rate: float | Literal["auto"] = option(
        "auto", "Peak step size of Adam, or first step of L-BFGS.", low=0, open_low=True, keeps_objective=True
    )
    validation_fraction: float = option(
        0.1,
        "Share of the rows for validation, to choose the best epoch; 0: the training rows.",
        low=0,
        high=1,
        open_high=True,
    )
    validation: Literal["random", "last"] = option(
        "random", "Which rows are for validation: drawn at random, or the last ones, for rows in order of time."
    )
    patience: int | Literal["auto"] = option(
        "auto",
        "Evaluations in a row without progress on the validation rows before the step size decays and training "
        "ends; one comes after each epoch, or after each 1,024 steps of a longer one.",
        low=1,
    )
    precision: Precision = option(
        "auto",
        "Number format of the networks' arithmetic in training; weights are stored in float32 (with 'float64', in "
        "float64). 'auto': bfloat16 if the processor supports it and a step is long enough to gain from it.",
    )
    device: str = option("auto", "'auto' (a GPU where there is one), or a torch device such as 'cpu' or 'cuda:1'.")
    random_state: int | Object | None = option(
        None,
        "Seed of all random numbers; None draws a seed, which is kept as `seed_`.",
        low=0,
        object="a NumPy random generator",
    )
    verbose: bool = option(False, "Show a progress bar, as commands do in a terminal.")


@dataclass(eq=False, repr=False)
class AutoencoderOptions(TrainingOptions, ModelOptions):
    """The options shared by every autoencoder: those of the model first, then those of its training."""


@dataclass(frozen=True)
class Option:
    """One option with its name, type and default."""

    name: str
    type: Any
    default: Any
    info: OptionInfo

    @cached_property
    def alternatives(self) -> tuple[Any, ...]:
        """The members of a union type, or the type itself."""
        return tuple(_alternatives(self.type))

    @property
    def on_command_line(self) -> bool:
        """Whether the option has a flag; a Python object cannot be typed."""
        return self.info.on_command_line and self.alternatives != (Any,)

    @property
    def type_name(self) -> str:
        """A description of the type, such as "an int or 'auto'"."""
        *others, last = _type_names(self.type, self.info)
        return f"{', '.join(others)} or {last}" if others else last

    def check(self, value: object, owner: str, others: Sequence[str] = ()) -> None:
        """Raise `OptionError` if the value is outside the option's domain; it may be meant as one of other options."""
        if any(_admits(alternative, value, self.info) for alternative in self.alternatives):
            return
        literals = [text for alternative in self.alternatives for text in _literals(alternative)]
        near = did_you_mean(value, literals) if isinstance(value, str) else None
        # The message lists the choices already, so the hint is only for a likely typing error.
        hint = near if near and near.startswith("Did") else misplaced(owner, others, self.name, value)
        raise OptionError(
            f"The {self.name!r} parameter of {owner} must be {self.type_name}", got=f"{value!r} instead", hint=hint
        )


@cache
def options_of(cls: type) -> tuple[Option, ...]:
    """All options of an options class or estimator, in order."""
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        hints |= _hints(base)
    # A field of a user's subclass need not be an option.
    fields = [(field, field.metadata.get("option")) for field in dataclasses.fields(cls)]
    return tuple(Option(field.name, hints.get(field.name), field.default, info) for field, info in fields if info)


def declared_options(path: Path, name: str) -> type:
    """The options of an estimator, a class of the same fields, read from its file without importing it.

    The import would take a second for scikit-learn. Fields use names of this module, ``typing`` and ``dataclasses``.
    """
    (found,) = (
        line for line in ast.parse(path.read_text()).body if isinstance(line, ast.ClassDef) and line.name == name
    )
    fields: list[ast.stmt] = [line for line in found.body if isinstance(line, ast.AnnAssign)]
    found.bases, found.decorator_list, found.body = (
        [ast.Name("AutoencoderOptions", ast.Load())],
        [],
        fields or [ast.Pass()],
    )
    names = {**vars(typing), **vars(dataclasses), **globals()}
    exec(compile(ast.fix_missing_locations(ast.Module([found], [])), str(path), "exec"), names)
    return dataclass(eq=False, repr=False, kw_only=True)(names[name])


def _hints(cls: type) -> dict[str, Any]:
    """The types of a class's own fields, without types that are not defined at module level."""
    found: dict[str, Any] = {}
    own = inspect.get_annotations(cls)
    for name in own.keys() & getattr(cls, "__dataclass_fields__", {}).keys():
        holder = types.SimpleNamespace(__annotations__={name: own[name]})
        with suppress(NameError):
            found |= get_type_hints(holder, vars(sys.modules[cls.__module__]), vars(cls))
    return found


def given_or(option: Any, automatic: Any) -> Any:
    """The option, or ``automatic`` if it is 'auto'."""
    return automatic if option == "auto" else option


def values_of(instance: Any, cls: type) -> dict[str, Any]:
    """The values of an instance for the options of an options class, by name."""
    return {option.name: getattr(instance, option.name) for option in options_of(cls)}


def changed(options: Instance, **changes: Any) -> Instance:
    """A copy of an instance's options with some changed, made without its constructor.

    The constructor of a subclass may not accept all options.
    """
    copy: Instance = object.__new__(type(options))
    vars(copy).update(values_of(options, type(options)) | changes)
    return copy


def check_options(instance: Any) -> None:
    """Check every option of an estimator against its own domain."""
    cls: type = type(instance)
    names = [option.name for option in options_of(cls)]
    for option in options_of(cls):
        option.check(getattr(instance, option.name), cls.__name__, names)


def parameters_section(cls: type) -> str:
    """The numpydoc "Parameters" section of a class, written from its options."""
    lines = ["Parameters", "----------"]
    for option in options_of(cls):
        lines += [f"{option.name} : {option.type_name}, default {option.default!r}", f"    {option.info.help}"]
    return "\n".join(lines)


def documented(cls: type[Any]) -> type[Any]:
    """Replace the line "{parameters}" of a class's docstring by its options, and tell what its constructor takes."""
    section = parameters_section(cls).replace("\n", "\n    ")
    cls.__doc__ = (cls.__doc__ or "").replace("{parameters}", section)
    return told(cls)


def _alternatives(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _alternatives(member)
    else:
        yield annotation


def _literals(annotation: Any) -> tuple[str, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


_NUMBERS: dict[type, Callable[[object], bool]] = {int: is_int, float: _is_real}


def _admits(annotation: Any, value: Any, info: OptionInfo) -> bool:
    """Whether a value has one of the alternative types of an option, and is in the option's range."""
    if literals := _literals(annotation):
        return isinstance(value, str) and value in literals
    if annotation is float and info.share:
        return _is_real(value) and not is_int(value) and 0 < value < 1
    if annotation in _NUMBERS:
        return _NUMBERS[annotation](value) and info.contains(value)
    if get_origin(annotation) is tuple:
        members = list(_alternatives(get_args(annotation)[0]))
        is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
        return is_sequence and all(any(_admits(member, item, info) for member in members) for item in value)
    if annotation is Any:
        # A part or module, which the estimator checks. A text or number is none.
        return not isinstance(value, str | bytes | Real)
    if annotation is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # both names of NumPy's bool
    return isinstance(value, annotation)


def _type_names(annotation: Any, info: OptionInfo) -> Iterator[str]:
    for alternative in _alternatives(annotation):
        if literals := _literals(alternative):
            yield from map(repr, literals)
        elif alternative in _NUMBERS:
            name = "an int" if alternative is int else "a float"
            if info.share and alternative is float:
                yield "a float in the range (0, 1)"
                continue
            yield name + _range_of(info)
        elif get_origin(alternative) is tuple:
            members = (_PLURALS[member] for member in _alternatives(get_args(alternative)[0]))
            yield f"a sequence of {' or '.join(members)}{_range_of(info)}"
        elif alternative is Any:
            yield info.object
        elif alternative is type(None):
            yield "None"
        else:
            yield {bool: "a bool", str: "a str", dict: "a dict"}[alternative]


_PLURALS: dict[type, str] = {int: "ints", float: "floats", str: "strings"}


def _range_of(info: OptionInfo) -> str:
    return f" in the range {info.interval}" if info.interval != "(-inf, inf)" else ""
