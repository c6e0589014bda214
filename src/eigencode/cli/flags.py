"""Flags from knobs: what ``eigencode fit`` can be told is what the estimator can be told, said once."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import field, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union, get_origin

from cyclopts import CycloptsError, Group, MissingArgumentError, Parameter, Token

from eigencode.options import AutoencoderOptions, Option, options_of

STREAM = Path("-")
"""In place of a table: standard input or standard output."""


def flags_of(cls: type) -> type:
    """A dataclass of command-line flags, one for each knob that a command line can set.

    Parameters
    ----------
    cls : type
        An options class or estimator.

    Returns
    -------
    type
        Fields with the names and defaults of the knobs; their help, range and choices come from there too.
    """
    # Without a module of our own the class would pass for one of the standard library's, whose fields are not flags.
    return make_dataclass(
        "Flags",
        [
            (flag.name, Annotated[_parsed_type(flag), _parameter(flag)], field(default=flag.default))
            for flag in map(_without_objects, options_of(cls))
            if flag.knob.on_command_line
        ],
        kw_only=True,
        frozen=True,
        namespace={"__module__": __name__},
    )


def _without_objects(option: Option) -> Option:
    """The option as a command line has it, where Python objects cannot be given."""
    kinds = tuple(kind for kind in option.alternatives if kind is not Any)
    return replace(option, type=Union[kinds] if kinds else Any)  # noqa: UP007 (made at run time)


def _parsed_type(flag: Option) -> Any:
    """The type by which cyclopts counts a flag's words: as many as are there for a sequence, else one."""
    return next((kind for kind in flag.alternatives if get_origin(kind) is tuple), flag.type)


def _parameter(flag: Option) -> Parameter:
    """What cyclopts is to know of a flag beyond its type."""
    interval = flag.knob.interval
    said = flag.knob.help if interval == "(-inf, inf)" else f"{flag.knob.help} Range {interval}."
    if _is_sequence(flag) and int in flag.alternatives:
        said += " Here, a single number is a sequence of one."
    if bool in flag.alternatives:
        return Parameter(help=said, group=KNOBS)
    return Parameter(
        help=said,
        group=KNOBS,
        converter=_reader(flag),
        consume_multiple=_is_sequence(flag),
        negative_iterable=(),
    )


def _reader(flag: Option) -> Callable[[Any, Sequence[Token]], Any]:
    """A function that reads a flag's words, and refuses in the knob's own words what is out of its domain."""

    def read(_: Any, tokens: Sequence[Token]) -> Any:
        values = tuple(_number(token.value, flag) for token in tokens)
        alone = len(values) == 1 and (isinstance(values[0], str) or not _is_sequence(flag))
        value = values[0] if alone else values
        flag.check(value, "eigencode fit")
        return value

    return read


def _is_sequence(flag: Option) -> bool:
    return get_origin(_parsed_type(flag)) is tuple


def _number(word: str, flag: Option) -> Any:
    """A word as a number, where the flag takes numbers and it reads as one."""
    kinds = [int] if _is_sequence(flag) else [kind for kind in (int, float) if kind in flag.alternatives]
    for kind in kinds:
        try:
            return kind(word)
        except ValueError:
            continue
    return word


KNOBS, FILES = Group("Autoencoder", sort_key=2), Group("Files", sort_key=1)

if TYPE_CHECKING:
    Flags = AutoencoderOptions
else:
    Flags = flags_of(AutoencoderOptions)

AUTOMATIC = Flags()

FLAGS_OF_SEVERAL_WORDS = {"--columns", "--exclude"} | {
    f"--{flag.name.replace('_', '-')}" for flag in options_of(AutoencoderOptions) if _is_sequence(flag)
}


def advice_on_taken_words(tokens: Sequence[str], error: CycloptsError) -> str:
    """A sentence for when a flag of several words took those that were meant for the command itself."""
    taken: dict[str, list[str]] = {}
    flag = ""
    for token in tokens:
        if token.startswith("--"):
            flag, _, value = token.partition("=")
            taken.setdefault(flag, []).extend([value] if value else [])
        elif flag:
            taken[flag].append(STREAM.name if Path(token) == STREAM else token)
    name = "" if error.argument is None else error.argument.name
    missing = isinstance(error, MissingArgumentError) and not name.startswith("--")
    suspects = [flag for flag in taken if flag in FLAGS_OF_SEVERAL_WORDS and taken[flag] and (missing or flag == name)]
    if not suspects:
        return ""
    flag, words = suspects[-1], taken[suspects[-1]]
    if not missing and not Path(words[-1]).suffix[1:].isalpha():
        return ""
    return (
        f" {flag} takes every word up to the next flag, here {shlex.join(words)}: "
        f"put {name if missing else 'files'} before it."
    )
