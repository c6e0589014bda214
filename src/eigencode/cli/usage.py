"""Messages for wrong arguments: what was typed, and what to type instead."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from cyclopts import (
    Argument,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
    validators,
)  # fmt: skip

from eigencode.cli.app import EXAMPLES, app
from eigencode.cli.flags import STREAM, FlagError, known_flags
from eigencode.errors import LISTED_AT_MOST, OptionError, did_you_mean, enumerated

OTHER_NAMES = {
    "seed": "random-state",
    "lr": "learning-rate",
    "epochs": "max-epochs",
    "components": "n-components",
    "latent-dim": "n-components",
    "contamination": "false-alarms",
    "k": "active",
    "n": "n-rows",
    "v": "V",
    "sep": "separator",
    "delimiter": "separator",
    "cv": "folds",
    "corruption": "noise",
}
"""Options by the names that other programs have for them."""

OF_COMMANDS = " Options of a command come after it, as in eigencode fit rows.csv --n-components 2."
"""What an unknown option before the command may be."""

NEAR = 0.65
"""How alike a word must be to an option's name to be taken for it, from 0 to 1."""

SHORT_FLAGS = {"-o", "-q"}
"""Flags of one letter."""

FORMS = {int: "a whole number", float: "a number", bool: "true, false or no value"}
"""What a flag of a type takes."""

SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
"""The limits of a number, by their names in cyclopts."""


def usage_error(tokens: Sequence[str], error: CycloptsError) -> str:
    """The message for wrong arguments, with an example of the command if one is missing or not expected."""
    name = next(iter(error.command_chain or ()), "")
    shows_one = name in EXAMPLES and isinstance(error, MissingArgumentError | UnusedCliTokensError)
    example = f" Example: {EXAMPLES[name][-1]}" if shows_one else ""
    return f"{_message(tokens, error, name)}{_hint_on_consumed(tokens, error)}{example}"


def _message(tokens: Sequence[str], error: CycloptsError, name: str) -> str:
    """What was wrong with the arguments of a command of this name, in our own words."""
    match error:
        case UnusedCliTokensError():
            return f"Unexpected arguments: {', '.join(repr(_typed(token)) for token in error.unused_tokens or ())}."
        case MissingArgumentError(argument=Argument() as argument) if name:
            says = re.split(r"(?<=\.) (?=[A-Z])", argument.parameter.help or "")[0]  # its first sentence
            needs = f"{error.keyword} needs a value" if error.keyword else f"eigencode {name} needs {argument.name}"
            return f"{needs}. {says}"
        case UnknownOptionError():
            names = [name for each in error.argument_collection if each.parse for name in each.names]
            names = [name for name in names if name.startswith("-")]  # without those of files
            return _unknown_option(error.token.keyword or error.token.value or "", names)
        case UnknownCommandError() if tokens[0].startswith("-"):
            return _unknown_option(tokens[0], [name for name in app if name.startswith("-")], OF_COMMANDS)
        case UnknownCommandError():
            return _unknown_command(tokens[0])
        case CoercionError(token=token, target_type=kind) if token is not None and kind in FORMS:
            return f"{token.keyword} takes {FORMS[kind]}. Got {token.value!r}."
        case ValidationError(argument=Argument() as argument) if limits := _limits(argument):
            return f"{argument.tokens[0].keyword} must be {limits}. Got {argument.tokens[0].value!r}."
    return str(error)


def _typed(token: str) -> str:
    """An argument as it was typed: a hyphen alone is passed on as a path."""
    return token.removeprefix("./") if token == "./-" else token


def _limits(argument: Argument) -> str:
    """The limits of a number, as >= 1; '' of other arguments."""
    found = [each for each in argument.parameter.validator if isinstance(each, validators.Number)]  # type: ignore[union-attr]
    given = [(sign, getattr(each, name)) for each in found for name, sign in SIGNS.items()]
    return " and ".join(f"{sign} {limit}" for sign, limit in given if limit is not None)


def _unknown_command(typed: str) -> str:
    """The message for a command that does not exist: the nearest one, or where files belong."""
    word = _typed(typed)
    is_file = word == STREAM.name or os.path.exists(word)
    after = f"Files come after a command, as in eigencode describe {shlex.quote(word)}"
    hint = after if is_file else did_you_mean(word, EXAMPLES)
    return str(OptionError(f"Unknown command: {word!r}", hint=hint))


def _unknown_option(typed: str, names: Sequence[str], else_says: str = "") -> str:
    """The message for an option that the command does not have: the nearest one, its name here, or which there are."""
    known = {name.lstrip("-"): name for name in names}
    word = typed.partition("=")[0].lstrip("-")
    near = [name for name in (OTHER_NAMES.get(word), *get_close_matches(word, known, 1, NEAR)) if name in known]
    hint = f" Did you mean {known[near[0]]}?" if near else else_says or f" {_options_among(names, word)}"
    if Path(typed).is_file():
        hint = f" Write {shlex.quote(f'./{typed}')} for the file of this name."
    return f"Unknown option: {typed}.{hint}"


def _options_among(names: Sequence[str], word: str) -> str:
    """Which options there are: for a letter those of one letter, and those that begin with it."""
    of_words = [
        name for name in names if name.startswith("--") and name.replace("--no-", "--", 1) not in {*names} - {name}
    ]
    if len(word) != 1:
        return f"Options are {enumerated(of_words, LISTED_AT_MOST)}."
    begin = [name for name in of_words if name.startswith(f"--{word.lower()}")]
    others = f"; {enumerated(begin, 3)} begin with {word.lower()}" if begin else ""
    return f"Options of one letter are {', '.join(name for name in names if not name.startswith('--'))}{others}."


def _hint_on_consumed(tokens: Sequence[str], error: CycloptsError) -> str:
    """A sentence if a flag of several values has consumed arguments of the command itself, else ''."""
    consumed: dict[str, list[str]] = {}
    flag = ""
    for token in tokens:
        if token.startswith("--") or token in SHORT_FLAGS:
            flag, _, value = token.partition("=")
            consumed.setdefault(flag, []).extend([value] if value else [])
        elif flag:
            consumed[flag].append(STREAM.name if Path(token) == STREAM else token)
    argument = "" if error.argument is None else error.argument.name
    name = error.option_string if isinstance(error, FlagError) else argument
    missing = isinstance(error, MissingArgumentError) and not name.startswith("--")
    options = known_flags().values() if tokens[:1] in (["fit"], ["sweep"]) else ()
    several = [flag.option_string for flag in options if flag.sequence or dict in flag.alternatives]
    of_several = {"--include", "--exclude", "--names", "--id", "--methods", *several}
    suspects = [flag for flag in consumed if flag in of_several and consumed[flag] and (missing or flag == name)]
    if not suspects:
        return ""
    flag, values = suspects[-1], consumed[suspects[-1]]
    if not missing and not Path(values[-1]).suffix[1:].isalpha():
        return ""
    return (
        f" {flag} takes every argument up to the next flag, here {shlex.join(values)}: "
        f"put {name if missing else 'files'} before it."
    )
