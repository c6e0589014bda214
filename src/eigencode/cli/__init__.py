"""The command line: ``eigencode fit``, ``transform`` and the other commands."""

from eigencode.cli import detect_command, fit_commands, model_commands  # noqa: F401 (registers the commands)
from eigencode.cli.app import app
from eigencode.cli.entry import main

__all__ = ["app", "main"]
