"""The command-line application, and the decorator that adds a command to it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import cleandoc
from typing import Any, TypeVar

from cyclopts import App

from eigencode._version import __version__
from eigencode.cli.examples import example

F = TypeVar("F", bound=Callable[..., Any])

EXIT_CODES = (
    "Exit codes: 0 if done; 1 if the command failed, with a message that says why; 2 if the arguments are wrong; "
    "130, 143 or 129 if it was interrupted by Ctrl-C, SIGTERM or SIGHUP (fit saves the best weights so far)."
)

app = App(
    name="eigencode",
    help="Autoencoders for tables of numbers (CSV, Parquet and NPY files) and for folders of images.",
    help_epilogue=EXIT_CODES,
    help_format="plaintext",
    version=__version__,
    version_flags=["--version", "-V"],
    suppress_keyboard_interrupt=False,
)
app.register_install_completion_command(
    help="Let bash, zsh or fish complete commands and options: writes a script and a line in the shell's startup file."
)


def command(order: int, usage: str) -> Callable[[F], F]:
    """Decorate a function as a command; its help, sorted by ``order``, shows the usage and an example.

    Its parameters are looked at when they are first needed: those of fit and sweep are the estimators' options.
    """
    epilogue = f"{example(usage.split()[0])}\n\n{EXIT_CODES}"

    def register(function: F) -> F:
        name, text = function.__name__, cleandoc(function.__doc__ or "")
        path, shown = f"{function.__module__}:{name}", f"Usage: eigencode {usage}"
        app.command(path, name=name, help=text, sort_key=order, usage=shown, help_epilogue=epilogue)
        return function

    return register
