"""The command line: ``eigencode fit``, ``transform`` and the other commands."""

from eigencode.cli import commands  # noqa: F401 (makes them commands of the application)
from eigencode.cli.app import app
from eigencode.cli.entry import main

__all__ = ["app", "main"]
