"""The command-line application, and the decorator that adds a command to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import cleandoc
from typing import Any, TypeVar

from cyclopts import App, Parameter

from eigencode._version import __version__

F = TypeVar("F", bound=Callable[..., Any])

EXIT_CODES = (
    "Exit codes: 0 if done; 1 if the command failed, with a message that says why; 2 if the arguments are wrong; "
    "130, 143 or 129 if it was interrupted by Ctrl-C, SIGTERM or SIGHUP (fit saves the best weights so far)."
)

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("eigencode demo --output demo",),
    "fit": ("eigencode fit rows.csv --n-components 2 --output model.safetensors",),
    "sweep": ("eigencode sweep rows.csv --over n_components=1,2 --output best.safetensors",),
    "transform": ("eigencode transform model.safetensors rows.csv --output codes.csv",),
    "decode": ("eigencode decode model.safetensors codes.csv --output decoded.csv",),
    "reconstruct": ("eigencode reconstruct model.safetensors rows.csv --output rebuilt.csv",),
    "impute": ("eigencode impute model.safetensors rows.csv --output full.csv",),
    "score": ("eigencode score model.safetensors rows.csv --output scores.csv",),
    "sample": (
        "eigencode fit rows.csv --kind variational --output generator.safetensors",
        "eigencode sample generator.safetensors -n 100 --output drawn.csv",
    ),
    "detect": (
        "eigencode fit rows.csv --kind anomaly --output detector.safetensors",
        "eigencode detect detector.safetensors rows.csv --explain 3 --output alarms.csv",
    ),
    "predict": ("eigencode predict classifier.safetensors rows.csv --output labels.csv",),
    "report": ("eigencode report model.safetensors rows.csv --output report.html",),
    "export": ("eigencode export model.safetensors --output model.onnx",),
    "describe": (
        "eigencode describe rows.csv",
        "eigencode describe model.safetensors",
    ),
}
"""Lines to type, by command. None is longer than 80 columns, so that no terminal breaks it.

The classifier that predict reads was saved in Python.
"""

app = App(
    name="eigencode",
    help="Autoencoders for tables (CSV, Parquet and NPY files) and for folders of images.",
    help_epilogue=EXIT_CODES,
    help_format="plaintext",
    version=__version__,
    version_flags=["--version", "-V"],
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(json_list=False, json_dict=False),  # '[ab].csv' is the name of a file
)
app.register_install_completion_command(
    help="Let bash, zsh or fish complete commands and options: writes a script and a line in the shell's startup file."
)


def command(order: int, usage: str) -> Callable[[F], F]:
    """Decorate a function as a command; its help, sorted by ``order``, shows the usage and an example.

    Its parameters are looked at when they are first needed: those of fit and sweep are the estimators' options.
    """
    lines = [f"  {line}" for line in EXAMPLES[usage.split()[0]]]
    epilogue = "\n".join(["Example:", "", *lines, "", EXIT_CODES])

    def register(function: F) -> F:
        name, text = function.__name__, _without_breaks(cleandoc(function.__doc__ or ""))
        path, shown = f"{function.__module__}:{name}", f"Usage: eigencode {usage}"
        app.command(path, name=name, help=text, sort_key=order, usage=shown, help_epilogue=epilogue)
        return function

    return register


def _without_breaks(text: str) -> str:
    """Paragraphs of a docstring without their ends of lines, which would stay in a help of any width."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text)
