"""The command line: ``eigencode demo | fit | sweep | transform | decode | reconstruct | score | sample | describe``."""

from eigencode.cli.commands import app, main

__all__ = ["app", "main"]
