"""Flags of ``eigencode fit`` and ``sweep``, made from the options of the estimators.

A kind of autoencoder is an estimator whose name ends in "Autoencoder"; 'anomaly' is the detector. Their options are
read without importing them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from enum import StrEnum
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from cyclopts import CoercionError, CycloptsError, Group, Parameter, Token

from eigencode import estimators
from eigencode.errors import OptionError, as_path, did_you_mean
from eigencode.lazy import file_of
from eigencode.options import Option, declared_options, options_of

STREAM = Path("-")
"""Standard input or standard output instead of a file."""

PLAIN = "plain"
"""The kind whose options all kinds have."""

KINDS: dict[str, str | type] = {
    name.removesuffix("Autoencoder").lower() or PLAIN: name for name in dir(estimators) if name.endswith("Autoencoder")
}
"""The estimator of each kind: a public name of the package, or a class of the user's."""

DETECTOR = "anomaly"
"""The kind that is no autoencoder, but fits one: the other options are those of `Autoencoder`."""

KINDS[DETECTOR] = "AnomalyDetector"

AT_LEAST_ONE = 1
"""Values of a flag that takes several: without one, as with a shell's empty variable, it would do nothing."""

FILES, SEARCH = Group("Files", sort_key=1), Group("Search", sort_key=2)
AUTOENCODER = Group("Autoencoder", sort_key=3)
"""Groups of flags in the help."""


@cache
def kind_group(kind: str) -> Group:
    """The group of the options that a kind has beyond the common ones."""
    return Group(f"Options of --kind {kind}", sort_key=4 + list(KINDS).index(kind))


def parse_paths(type_: Any, tokens: Sequence[Token]) -> Path | tuple[Path, ...]:
    """Paths as typed. An empty one, such as a shell's unset variable, is an error: it would be the current folder."""
    found = tuple(Path(as_path(token.value)) for token in tokens)
    return found if get_origin(type_) is tuple else found[0]


PATHS = Parameter(converter=parse_paths)


def parse_int(_: Any, tokens: Sequence[Token]) -> int:
    """A whole number as Python reads it; cyclopts would round 2.5 to 2."""
    try:
        return int(tokens[0].value)
    except ValueError as error:
        raise CoercionError(token=tokens[0], target_type=int) from error


INT = Parameter(converter=parse_int)

Model = Annotated[
    Path, PATHS, Parameter(help="Model file, written by fit or sweep, or by model.save in Python.", group=FILES)
]
SWITCH = Parameter(negative=(), show_default=False)
Quiet = Annotated[
    bool, SWITCH, Parameter(name=["--quiet", "-q"], help="Do not show the progress in a terminal.", group=FILES)
]
AsJson = Annotated[bool, SWITCH, Parameter(name="--json", help="Print one JSON object instead of text.", group=FILES)]


@dataclass(frozen=True)
class Flag:
    """An option on the command line: as each kind has it, for the kinds that have it there."""

    name: str
    options: Mapping[str, Option]

    @property
    def option_string(self) -> str:
        """The flag as it is typed, such as --max-epochs."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def alternatives(self) -> tuple[Any, ...]:
        """The types that it takes for any kind, without those of Python objects, which cannot be typed."""
        return tuple(dict.fromkeys(type_ for option in self.options.values() for type_ in option.alternatives))

    @property
    def sequence(self) -> Any:
        """The sequence among these types, None if there is none; a flag of a sequence takes several values."""
        return next((type_ for type_ in self.alternatives if get_origin(type_) is tuple), None)

    @property
    def members(self) -> tuple[Any, ...]:
        """The types of the items of the sequence, () if there is none."""
        items = [type_ for type_ in get_args(self.sequence) if type_ is not ...]
        return tuple(chain.from_iterable(get_args(type_) or (type_,) for type_ in items))

    @property
    def parsed_type(self) -> Any:
        """The type by which cyclopts counts the values: any number for a sequence or a dict, else one."""
        if dict in self.alternatives:
            return tuple[str, ...]
        return self.sequence or Union[self.alternatives]  # noqa: UP007 (made at run time)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups that list it in the help: the common one, or that of each kind that has it."""
        return (AUTOENCODER,) if PLAIN in self.options else tuple(kind_group(kind) for kind in self.options)

    @property
    def help(self) -> str:
        """The option's help, for each kind if the kinds differ."""
        shared = {PLAIN: self.options[PLAIN]} if PLAIN in self.options else self.options
        helps = {kind: _help(option) for kind, option in shared.items()}
        if len(set(helps.values())) == 1:
            return next(iter(helps.values()))
        return " ".join(f"With --kind {kind}: {text}" for kind, text in helps.items())

    @property
    def default(self) -> str | None:
        """The first kind's default and those of other kinds that differ; None if the only one is None."""
        defaults = {kind: str(option.default) for kind, option in self.options.items()}
        first = next(iter(defaults.values()))
        others = [f"{default} for --kind {kind}" for kind, default in defaults.items() if default != first]
        return None if [first, *others] == ["None"] else "; ".join([first, *others])


@cache
def known_flags() -> Mapping[str, Flag]:
    """The flags of all kinds, by the names of their options."""
    return flags_of(
        {
            kind: known if isinstance(known, type) else declared_options(file_of("eigencode.estimators", known), known)
            for kind, known in KINDS.items()
        }
    )


def estimator_class(kind: str) -> Any:
    """The estimator of a kind."""
    known = KINDS[kind]
    return known if isinstance(known, type) else getattr(estimators, known)


def estimator_with(kind: str, options: Mapping[str, Any]) -> Any:
    """An unfitted estimator of a kind; a detector of anomalies passes the options of autoencoders on to one."""
    cls = estimator_class(kind)
    own = {option.name for option in options_of(cls)}
    if "autoencoder" not in own:
        return cls(**options)
    others = {name: value for name, value in options.items() if name not in own}
    given = {name: value for name, value in options.items() if name in own}
    return cls(**given, autoencoder=estimator_class(PLAIN)(**others) if others else None)


def flags_of(kinds: Mapping[str, type]) -> dict[str, Flag]:
    """One flag for each option that can be set on the command line, by name, from the estimator of each kind."""
    found: dict[str, dict[str, Option]] = {}
    for kind, cls in kinds.items():
        for option in options_of(cls):
            if option.on_command_line:
                found.setdefault(option.name, {})[kind] = _without(option, Any)
    return {name: Flag(name, options) for name, options in found.items()}


def flags_class(flags: Mapping[str, Flag]) -> type:
    """A dataclass for cyclopts with a field for each flag; None is a flag that was not given."""
    # Without this module's name, cyclopts would take the class for one of the standard library and ignore its fields.
    return make_dataclass(
        "Flags",
        [(flag.name, Annotated[flag.parsed_type, _parameter(flag)], field(default=None)) for flag in flags.values()],
        kw_only=True,
        frozen=True,
        namespace={"__module__": __name__},
    )


def _without(option: Option, *cannot_be_typed: Any) -> Option:
    """The option without some of its types, if it has others: a Python object and None cannot be typed."""
    types = tuple(type_ for type_ in option.alternatives if type_ not in cannot_be_typed)
    return replace(option, type=Union[types] if types else Any)  # noqa: UP007 (made at run time)


def _help(option: Option) -> str:
    interval = option.info.interval
    return option.info.help if interval == "(-inf, inf)" else f"{option.info.help} Range {interval}."


def _parameter(flag: Flag) -> Parameter:
    """The declaration of a flag for cyclopts, beyond its type."""
    text, default = flag.help, flag.default
    if dict in flag.alternatives:
        text += " Here: name=kind, or name=low,mid,high for ordered categories, with spaces or commas between several."
    if flag.sequence and int in flag.alternatives:
        text += " Here: 64 8, or 64,8; a single number is a sequence of one, and the flag without a number is ()."
    show_default = False if default is None else lambda _: default
    if bool in flag.alternatives:
        return Parameter(help=text, group=flag.groups, show_default=show_default)
    return Parameter(
        help=text,
        group=flag.groups,
        show_default=show_default,
        converter=lambda _, tokens: _parse_arguments([token.value for token in tokens], flag),
        consume_multiple=_how_many(flag),
        negative_iterable=(),
    )


def _how_many(flag: Flag) -> bool | int:
    """Whether a flag takes several values, and how many at least: a sequence of whole numbers may be empty."""
    if dict in flag.alternatives:
        return AT_LEAST_ONE
    return flag.sequence is not None and (int in flag.alternatives or AT_LEAST_ONE)


def parse_value(text: str, flag: Flag) -> Any:
    """Parse a value in a list such as that of --over.

    The items of a sequence are separated by slashes, as in 128/64, and / is the empty sequence; 'none', 'true' and
    'false' are Python's values, for options that take them. All other values are as after the flag.
    """
    constants: dict[str, Any] = {"none": None} if type(None) in flag.alternatives else {}
    constants |= {"true": True, "false": False} if bool in flag.alternatives else {}
    if text in constants:
        return constants[text]
    arguments = [text] if not flag.sequence else [] if text == "/" else text.split("/")
    return _parse_arguments(arguments, flag)


def format_value(value: Any) -> str:
    """The text that `parse_value` reads as this value."""
    if isinstance(value, tuple):
        return "/".join(map(format_value, value)) or "/"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _parse_arguments(arguments: Sequence[str], flag: Flag) -> Any:
    """The value of a flag from the arguments after it; its domain depends on the kind, and is checked later."""
    if dict in flag.alternatives:
        pairs = [_parse_pair(pair, flag) for argument in arguments for pair in _pairs(argument)]
        if len(found := dict(pairs)) < len(pairs):
            raise FlagError(flag.option_string, f"{flag.option_string} names a column more than once.")
        return found
    values = tuple(value for argument in arguments for value in _parse_numbers(argument, flag))
    is_single = len(values) == 1 and (isinstance(values[0], str) or not flag.sequence)
    return values[0] if is_single else values


def _pairs(text: str) -> list[str]:
    """The pairs name=kind in a text, where commas separate them and the categories of one.

    Examples
    --------
    >>> _pairs("zip=category,size=low,mid,high, paid=time,")
    ['zip=category', 'size=low,mid,high', 'paid=time']
    >>> _pairs("width, height=count")
    ['width, height=count']
    """
    pairs = re.split(r", *(?=[^,=]+=)", text.removesuffix(","))  # a comma before a space ends an argument
    return pairs if "=" in pairs[0] else [text]  # a name may have commas


def _parse_pair(text: str, flag: Flag) -> tuple[str, str | tuple[str, ...]]:
    """A name and what follows the last equals sign: one value, or several with commas between them."""
    name, sign, value = text.rpartition("=")
    if not (name and sign and value):
        raise FlagError(flag.option_string, f"{flag.option_string} takes name=kind, as zip=category. Got {text!r}.")
    return name, tuple(value.split(",")) if "," in value else value


def _parse_numbers(text: str, flag: Flag) -> Sequence[Any]:
    """The items of a sequence, which have commas between them, or the one number; else the text."""
    items = [_parse_number(part, flag) for part in (text.rstrip(",").split(",") if flag.sequence else [text])]
    return [text] if "" in items or (str not in flag.members and str in map(type, items)) else items


def _parse_number(text: str, flag: Flag) -> Any:
    """The text as a number, if the flag takes numbers and it is one; else the text."""
    types = flag.members or flag.alternatives
    for number in (int, float):
        try:
            if number in types:
                return number(text)
        except ValueError:
            continue
    return text


BUILT_IN = dict(KINDS)
"""The package's own kinds."""

KIND = Parameter(
    help="Kind of autoencoder. Options that only one kind has are listed below.",
    group=AUTOENCODER,
    converter=lambda _, tokens: tokens[0].value,  # checked with the other flags
)

if TYPE_CHECKING:
    Flags: TypeAlias = Any
    ColumnFlags: TypeAlias = Any
    Kind: TypeAlias = str


def __getattr__(name: str) -> Any:
    """The types of the flags of ``fit``, ``sweep`` and ``describe``, made when they are needed."""
    if name == "Flags":
        return flags_class(known_flags())
    if name == "ColumnFlags":
        return flags_class({name: known_flags()[name] for name in ("columns", "missing_values")})
    if name == "Kind":
        return Annotated[Literal[tuple(KINDS)], KIND]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def set_own_kinds(own: Mapping[str, str | type]) -> None:
    """Set the user's own kinds, which are known in addition to the package's, with their options as flags."""
    KINDS.clear()
    KINDS.update({**BUILT_IN, **own})
    known_flags.cache_clear()


class FlagError(CycloptsError):
    """The kind does not exist, or it does not have the flag, or the flag's value is outside its domain."""

    def __init__(self, option_string: str, message: str, command: str = "fit") -> None:
        super().__init__(msg=message, command_chain=[command])
        self.option_string = option_string


def options_given(kind: str, flags: Any, command: str = "fit") -> dict[str, Any]:
    """The flags that were given, by the names of their options; None if there are none.

    `FlagError` if the kind does not exist, does not have a flag, or a value is outside its domain.
    """
    if kind not in KINDS:
        error = OptionError("There is no such --kind", got=repr(kind), hint=did_you_mean(kind, KINDS))
        raise FlagError("--kind", str(error), command)
    given = {} if flags is None else vars(flags)
    values = {name: value for name, value in given.items() if value is not None}
    for name, value in values.items():
        check_flag(kind, name, value, command)
    return values


def check_flag(kind: str, name: str, value: Any, command: str) -> None:
    """Raise `FlagError` if a kind does not have an option, or the value is outside its domain."""
    flag = known_flags()[name]
    option = flag.options.get(kind)
    if option is None:
        *others, last = flag.options
        owners = f"{', '.join(others)} or {last}" if others else last
        message = f"{flag.option_string} is not an option of --kind {kind}, but of --kind {owners}."
        raise FlagError(flag.option_string, message, command)
    try:
        (option if value is None else _without(option, type(None))).check(value, f"eigencode {command}")
    except OptionError as error:
        raise FlagError(flag.option_string, with_flags(str(error)), command) from error


class Quoted(StrEnum):
    """Which names in quotes are those of parameters, by what is before them: others may be columns."""

    ASKED = "(?<=name it in )"
    ADVISED = "(?:(?<=Give )|(?<=Set )|(?<=in ))"
    OPTIONS = "(?<!column )"


def with_flags(message: str, quoted: Quoted = Quoted.ASKED) -> str:
    """A message of the library with flags in place of the names of parameters.

    A name in quotes is left as it is, unless the message calls it a parameter, sets it, or has it as ``quoted`` says.

    Examples
    --------
    >>> with_flags(
    ...     "Got max_epochs=5 and hidden=(64, 8). Use solver='gradient', or tied=False."
    ... )
    'Got --max-epochs 5 and --hidden 64 8. Use --solver gradient, or --no-tied.'
    >>> with_flags("n_components must be in 1..2. There is no column 'n_components'.")
    "--n-components must be in 1..2. There is no column 'n_components'."
    >>> with_flags("-9 is in 12 rows: name it in 'missing_values' if it stands for a gap")
    '-9 is in 12 rows: name it in --missing-values if it stands for a gap'
    >>> with_flags("Set either 'tied' or 'hidden', as for column 'tied'", Quoted.OPTIONS)
    "Set either --tied or --hidden, as for column 'tied'"
    """
    message = re.sub(r"load with parts=\[.*?\](?=[. ]|$)", "name the module that has it with --parts", message)
    names, texts = "|".join(known_flags()), r"'[^']*'(?: or '[^']*')*"
    patterns = (
        rf"The '(?P<parameter>{names})' parameter(?: of [\w ]*\w)?(?= must)",
        rf"(?<!\w)(?P<name>{names})=(?P<value>True\b|False\b|{texts}|\([^()]+\)|(?!\w+\()[\w+-]+(?:\.\w+)?)",
        rf"{quoted}'(?P<asked>{names})'",
        r"(?P<quoted>(?<!\w)'[^']*')",
        rf"(?<![\w./-])(?P<word>{'|'.join(name for name in known_flags() if '_' in name)})(?![\w=/(-])",
    )
    return re.sub("|".join(patterns), _translated, message)


def _translated(found: re.Match[str]) -> str:
    """What stands in a message for a setting or the name of a parameter."""
    if found["quoted"]:
        return found["quoted"]
    name = found["parameter"] or found["name"] or found["asked"] or found["word"]
    flag, value = known_flags()[name].option_string, found["value"]
    if value is None:
        return flag
    if value in ("True", "False"):
        return flag if value == "True" else f"--no-{flag.removeprefix('--')}"
    return f"{flag} {' '.join(value.strip('()').replace(',', ' ').replace(chr(39), '').split())}"


def kinds_as_flags(message: str) -> str:
    """A message with ``--kind linear`` in place of ``a LinearAutoencoder``."""
    kinds = {known: kind for kind, known in KINDS.items() if isinstance(known, str)}
    pattern = rf"\b(?:(?:a|an|A|An) )?({'|'.join(kinds)})\b(?![(.])"
    return re.sub(pattern, lambda found: f"--kind {kinds[found[1]]}", message)


def facts_told(facts: Mapping[str, str]) -> dict[str, str]:
    """Facts about a model, of which the notes are in the words of the shell."""
    return {name: note_told(fact) if name == "note" else fact for name, fact in facts.items()}


def note_told(note: str) -> str:
    """A note of a fit in the words of the shell."""
    return with_flags(kinds_as_flags(note))
