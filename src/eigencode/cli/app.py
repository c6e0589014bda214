"""The application: its name, its help, and how a function becomes one of its commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from cyclopts import App

from eigencode._version import __version__
from eigencode.cli.examples import example

F = TypeVar("F", bound=Callable[..., Any])

EXIT_CODES = (
    "Exit codes: 0 if done; 1 if a command failed for a reason that its message says; 2 if it was not understood; "
    "130, 143 or 129 if Ctrl-C, SIGTERM or SIGHUP interrupted it (fit saves what was learned so far)."
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


def command(place: int, usage: str) -> Callable[[F], F]:
    """Make a function a command: at a place among the others, with its usage, and with an example in its help."""
    shown = f"{example(usage.split()[0])}\n\n{EXIT_CODES}"
    return app.command(sort_key=place, usage=f"Usage: eigencode {usage}", help_epilogue=shown)
