"""Messages for wrong arguments: what was typed, and what to type instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from cyclopts import (
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)  # fmt: skip

from eigencode.cli.app import EXAMPLES, app
from eigencode.cli.flags import STREAM, FlagError, known_flags

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
}
"""Options by the names that other programs have for them."""

OF_COMMANDS = " Options of a command come after it, as in eigencode fit rows.csv --n-components 2."
"""What an unknown option before the command may be."""

NEAR = 0.65
"""How alike a word must be to an option's name to be taken for it, from 0 to 1."""

SHORT_FLAGS = {"-o", "-q"}
"""Flags of one letter."""


def usage_error(tokens: Sequence[str], error: CycloptsError) -> str:
    """The message for wrong arguments, with an example of the command if one is missing or not expected."""
    name = next(iter(error.command_chain or ()), "")
    message, shows_one = str(error), name in EXAMPLES and isinstance(error, MissingArgumentError | UnusedCliTokensError)
    if isinstance(error, UnusedCliTokensError):
        unused = [token.removeprefix("./") if token == "./-" else token for token in error.unused_tokens or ()]
        message = f"Unexpected arguments: {', '.join(map(repr, unused))}."
    elif isinstance(error, MissingArgumentError) and error.argument is not None and name:
        says = re.split(r"(?<=\.) (?=[A-Z])", error.argument.parameter.help or "")[0]  # its first sentence
        needs = f"{error.keyword} needs a value" if error.keyword else f"eigencode {name} needs {error.argument.name}"
        message = f"{needs}. {says}"
    elif isinstance(error, UnknownOptionError):
        names = [name for each in error.argument_collection if each.parse for name in each.names]
        message = _unknown_option(error.token.keyword or error.token.value or "", names)
    elif isinstance(error, UnknownCommandError) and tokens[0].startswith("-"):
        message = _unknown_option(tokens[0], [name for name in app if name.startswith("-")], OF_COMMANDS)
    example = f" Example: {EXAMPLES[name][-1]}" if shows_one else ""
    return f"{message}{_hint_on_consumed(tokens, error)}{example}"


def _unknown_option(typed: str, names: Sequence[str], else_says: str = "") -> str:
    """The message for an option that the command does not have: the nearest one, or its name here."""
    known = {name.lstrip("-"): name for name in names}
    word = typed.partition("=")[0].lstrip("-")
    near = [name for name in (OTHER_NAMES.get(word), *get_close_matches(word, known, 1, NEAR)) if name in known]
    return f"Unknown option: {typed}.{f' Did you mean {known[near[0]]}?' if near else else_says}"


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
