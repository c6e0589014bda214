"""Flags from options: what ``eigencode fit`` and ``sweep`` can be told is what the estimators can be told, said once.

A kind of autoencoder is one of the estimators whose names end in "Autoencoder"; its options are those of
its options class. Nothing here imports an estimator, which would import torch.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from cyclopts import CycloptsError, Group, MissingArgumentError, Parameter, Token

from eigencode import estimators, options
from eigencode.errors import OptionError, as_path, did_you_mean
from eigencode.options import AutoencoderOptions, Option, options_of

STREAM = Path("-")

"""In place of a table: standard input or standard output."""

PLAIN = "plain"
"""The kind whose options all kinds share."""

KINDS: dict[str, str | type] = {
    name.removesuffix("Autoencoder").lower() or PLAIN: name for name in dir(estimators) if name.endswith("Autoencoder")
}
"""The estimator of each kind: a public name of the package, or a class of the user's own."""

FILES, SEARCH, KNOBS = Group("Files", sort_key=1), Group("Search", sort_key=2), Group("Autoencoder", sort_key=3)


@cache
def own_knobs(kind: str) -> Group:
    """The group of a kind's own options."""
    return Group(f"Options of --kind {kind}", sort_key=4 + list(KINDS).index(kind))


def paths_typed(kind: Any, tokens: Sequence[Token]) -> Path | tuple[Path, ...]:
    """Paths as typed; an empty one, as of a shell's variable that is not set, would be the current folder."""
    found = tuple(Path(as_path(token.value)) for token in tokens)
    return found if get_origin(kind) is tuple else found[0]


PATHS = Parameter(converter=paths_typed)


@dataclass(frozen=True)
class Flag:
    """A option on the command line.

    Parameters
    ----------
    name : str
        The option's name.
    options : mapping of str to Option
        The option as each kind has it that can be told it in a shell.
    """

    name: str
    options: Mapping[str, Option]

    @property
    def word(self) -> str:
        """The flag as it is typed."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def alternatives(self) -> tuple[Any, ...]:
        """The types it takes for one kind or another, Python objects apart, which cannot be typed."""
        kinds = [kind for option in self.options.values() for kind in option.alternatives if kind is not Any]
        return tuple(dict.fromkeys(kinds))

    @property
    def sequence(self) -> Any:
        """The sequence among these types, if one is: such a flag takes several words."""
        return next((kind for kind in self.alternatives if get_origin(kind) is tuple), None)

    @property
    def parsed_type(self) -> Any:
        """The type by which cyclopts counts its words: as many as are there for a sequence, else one."""
        return self.sequence or Union[self.alternatives]  # noqa: UP007 (made at run time)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Where help lists it: once among the common flags, or with each kind that has it."""
        return (KNOBS,) if PLAIN in self.options else tuple(own_knobs(kind) for kind in self.options)

    @property
    def help(self) -> str:
        """The option's own words; those of each kind where they differ."""
        shared = {PLAIN: self.options[PLAIN]} if PLAIN in self.options else self.options
        said = {kind: _help(option) for kind, option in shared.items()}
        if len(set(said.values())) == 1:
            return next(iter(said.values()))
        return " ".join(f"With --kind {kind}: {words}" for kind, words in said.items())

    @property
    def default(self) -> str | None:
        """The first kind's default, and those of other kinds that differ; None where there is nothing to say."""
        said = {kind: str(option.default) for kind, option in self.options.items()}
        first = next(iter(said.values()))
        others = [f"{words} for --kind {kind}" for kind, words in said.items() if words != first]
        return None if [first, *others] == ["None"] else "; ".join([first, *others])


def options_class(estimator: str | type) -> type:
    """The options class of an estimator, by name: `XOptions` of `XAutoencoder`, or the common one.

    A class of the user's own has its options itself.
    """
    if isinstance(estimator, type):
        return estimator
    own = f"{estimator.removesuffix('Autoencoder')}Options"
    found: type[AutoencoderOptions] = getattr(options, own, AutoencoderOptions)
    return found


def flags_of(kinds: Mapping[str, type]) -> dict[str, Flag]:
    """One flag for each option of some options classes that a command line can set, by name."""
    found: dict[str, dict[str, Option]] = {}
    for kind, cls in kinds.items():
        for option in options_of(cls):
            if option.info.on_command_line and option.alternatives != (Any,):
                found.setdefault(option.name, {})[kind] = _without_objects(option)
    return {name: Flag(name, options) for name, options in found.items()}


def flags_class(flags: Mapping[str, Flag]) -> type:
    """A dataclass with a field for each flag, as cyclopts reads it; None is a flag that was not given."""
    # Without a module of our own the class would pass for one of the standard library's, whose fields are not flags.
    return make_dataclass(
        "Flags",
        [(flag.name, Annotated[flag.parsed_type, _parameter(flag)], field(default=None)) for flag in flags.values()],
        kw_only=True,
        frozen=True,
        namespace={"__module__": __name__},
    )


def _without_objects(option: Option) -> Option:
    """The option as a command line has it, where Python objects cannot be given."""
    kinds = tuple(kind for kind in option.alternatives if kind is not Any)
    return replace(option, type=Union[kinds] if kinds else Any)  # noqa: UP007 (made at run time)


def _help(option: Option) -> str:
    interval = option.info.interval
    return option.info.help if interval == "(-inf, inf)" else f"{option.info.help} Range {interval}."


def _parameter(flag: Flag) -> Parameter:
    """What cyclopts is to know of a flag beyond its type."""
    said, default = flag.help, flag.default
    if flag.sequence and int in flag.alternatives:
        said += " Here, a single number is a sequence of one, and the flag without a number is ()."
    shown = False if default is None else lambda _: default
    if bool in flag.alternatives:
        return Parameter(help=said, group=flag.groups, show_default=shown)
    return Parameter(
        help=said,
        group=flag.groups,
        show_default=shown,
        converter=_reader(flag),
        consume_multiple=flag.sequence is not None,
        negative_iterable=(),
    )


def _reader(flag: Flag) -> Callable[[Any, Sequence[Token]], Any]:
    """A function that reads a flag's words; what they may be is known with the kind."""
    return lambda _, tokens: _value([token.value for token in tokens], flag)


def value_of(word: str, flag: Flag) -> Any:
    """A value written as a single word, where several of them stand side by side.

    The words of a sequence have a slash between them, as 128/64, and / alone is the empty one; 'none', 'true' and
    'false' are Python's, for options that take them. All else is as after the flag.
    """
    python: dict[str, Any] = {"none": None} if type(None) in flag.alternatives else {}
    python |= {"true": True, "false": False} if bool in flag.alternatives else {}
    if word in python:
        return python[word]
    words = [word] if not flag.sequence else [] if word == "/" else word.split("/")
    return _value(words, flag)


def word_of(value: Any) -> str:
    """How a value is written so that `value_of` reads it."""
    if isinstance(value, tuple):
        return "/".join(map(word_of, value)) or "/"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _value(words: Sequence[str], flag: Flag) -> Any:
    """The value that some words after a flag are."""
    values = tuple(_number(word, flag) for word in words)
    alone = len(values) == 1 and (isinstance(values[0], str) or not flag.sequence)
    return values[0] if alone else values


def _number(word: str, flag: Flag) -> Any:
    """A word as a number, where the flag takes numbers and it reads as one."""
    taken = get_args(flag.sequence) or flag.alternatives
    for number in (int, float):
        try:
            if number in taken:
                return number(word)
        except ValueError:
            continue
    return word


BUILT_IN = dict(KINDS)
"""The package's own kinds."""

FLAGS = flags_of({kind: options_class(name) for kind, name in BUILT_IN.items()})

KIND = Parameter(
    help="Kind of autoencoder. Options that one kind alone has are listed below.",
    group=KNOBS,
    converter=lambda _, tokens: tokens[0].value,  # what is no kind is refused with the other flags
)

if TYPE_CHECKING:
    Flags: TypeAlias = Any
    Kind: TypeAlias = str
else:
    Flags = flags_class(FLAGS)
    Kind = Annotated[Literal[tuple(KINDS)], KIND]

NONE_GIVEN = Flags()


def set_own_kinds(own: Mapping[str, str | type]) -> None:
    """Let these kinds be known beside the package's own, and no others, with their options as flags."""
    KINDS.clear()
    KINDS.update({**BUILT_IN, **own})
    FLAGS.clear()
    FLAGS.update(flags_of({kind: options_class(name) for kind, name in KINDS.items()}))
    globals().update(Flags=flags_class(FLAGS), Kind=Annotated[Literal[tuple(KINDS)], KIND])


class FlagError(CycloptsError):
    """No kind of autoencoder, or a flag that the kind does not have, or one with a value that it does not take."""

    def __init__(self, word: str, message: str, command: str = "fit") -> None:
        super().__init__(msg=message, command_chain=[command])
        self.word = word


def options_given(kind: str, flags: Flags, command: str = "fit") -> dict[str, Any]:
    """The flags that were given, each checked to be a option of this kind and in its domain there.

    Parameters
    ----------
    kind : str
        The kind's name.
    flags : Flags
        What was typed.
    command : str, default "fit"
        The command it was typed for, which a refusal names.

    Returns
    -------
    dict
        Values by the names of their options.

    Raises
    ------
    FlagError
        Where one is not, or the kind is none.
    """
    if kind not in KINDS:
        refusal = OptionError("There is no such --kind", got=repr(kind), hint=did_you_mean(kind, KINDS))
        raise FlagError("--kind", str(refusal), command)
    values = {name: value for name, value in vars(flags).items() if value is not None}
    for name, value in values.items():
        check_flag(kind, name, value, command)
    return values


def check_flag(kind: str, name: str, value: Any, command: str) -> None:
    """Raise `FlagError` where a kind does not have a option, or the value is outside its domain there."""
    flag = FLAGS[name]
    if kind not in flag.options:
        *others, last = flag.options
        owners = f"{', '.join(others)} or {last}" if others else last
        said = f"{flag.word} does not belong to --kind {kind}, but to --kind {owners}."
        raise FlagError(flag.word, said, command)
    try:
        flag.options[kind].check(value, f"eigencode {command}")
    except OptionError as error:
        raise FlagError(flag.word, str(error), command) from error


def in_flags(message: str) -> str:
    """What the library says of arguments, in the words of a shell: of ``scale='none'``, --scale none.

    Examples
    --------
    >>> in_flags("Got max_epochs=5 and hidden=(64, 8). Use solver='gradient', or tied=False.")
    'Got --max-epochs 5 and --hidden 64 8. Use --solver gradient, or --no-tied.'
    """

    def as_typed(setting: re.Match[str]) -> str:
        flag, value = FLAGS[setting[1]].word, setting[2]
        if value in ("True", "False"):
            return flag if value == "True" else f"--no-{flag.removeprefix('--')}"
        return f"{flag} {' '.join(value.strip('()').replace(',', ' ').replace(chr(39), '').split())}"

    settings = rf"\b({'|'.join(FLAGS)})=(True\b|False\b|'[^']*'|\([^()]+\)|[\w+-]+(?:\.\w+)?)"
    in_shell = re.sub(r"load with parts=\[.*?\](?=[. ])", "name the module that has it with --parts", message)
    return re.sub(settings, as_typed, in_shell)


SHORT_FLAGS = {"-o", "-q"}


def advice_on_taken_words(tokens: Sequence[str], error: CycloptsError) -> str:
    """A sentence for when a flag of several words took those that were meant for the command itself."""
    taken: dict[str, list[str]] = {}
    flag = ""
    for token in tokens:
        if token.startswith("--") or token in SHORT_FLAGS:
            flag, _, value = token.partition("=")
            taken.setdefault(flag, []).extend([value] if value else [])
        elif flag:
            taken[flag].append(STREAM.name if Path(token) == STREAM else token)
    name = error.word if isinstance(error, FlagError) else "" if error.argument is None else error.argument.name
    missing = isinstance(error, MissingArgumentError) and not name.startswith("--")
    greedy = {"--columns", "--exclude", "--names"} | {flag.word for flag in FLAGS.values() if flag.sequence}
    suspects = [flag for flag in taken if flag in greedy and taken[flag] and (missing or flag == name)]
    if not suspects:
        return ""
    flag, words = suspects[-1], taken[suspects[-1]]
    if not missing and not Path(words[-1]).suffix[1:].isalpha():
        return ""
    return (
        f" {flag} takes every word up to the next flag, here {shlex.join(words)}: "
        f"put {name if missing else 'files'} before it."
    )
