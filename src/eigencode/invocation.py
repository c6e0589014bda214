"""Commands of this program as the user's shell runs them, for commands that are printed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = "eigencode"


def command(arguments: Sequence[str]) -> str:
    """A command line that can be run as printed, in the current folder, quoted for the system's usual shell.

    It begins with the program's name, or with its path if the shell would not find it by name.
    """
    line = [*program(), *arguments]
    return subprocess.list2cmdline(line) if os.name == "nt" else shlex.join(line)


def program() -> list[str]:
    """The start of a command line: the program's name, the path of its script, or Python with ``-m``."""
    script = _running_script() or _own_script()
    if script is None:
        return [_python(), "-m", NAME]
    found = shutil.which(NAME)
    if found is not None and os.path.exists(found) and os.path.samefile(found, script):
        return [NAME]
    return [_short_path(script)] if _running_script() else [_python(), "-m", NAME]


def this_program() -> list[str]:
    """The start of a command that runs the program once more as it runs now: as a script, or by ``-m``.

    So the modules that it can import are the same, and the commands that it prints.
    """
    script = _running_script()
    if script is None:
        return [sys.executable, "-m", NAME]
    return [str(script)] if script.suffix == ".exe" else [sys.executable, str(script)]


def _short_path(path: Path) -> str:
    """A path relative to the current folder if it is inside it, else the absolute path."""
    full = Path(os.path.abspath(path))
    if not full.is_relative_to(Path.cwd()):
        return str(full)
    relative = full.relative_to(Path.cwd())
    return str(relative) if len(relative.parts) > 1 else os.path.join(".", relative)


def _running_script() -> Path | None:
    """The console script that runs now, if one does."""
    path = Path(sys.argv[0]) if sys.argv and sys.argv[0] else None
    if path is None or path.stem != NAME:
        return None
    return next((p for p in (path, path.with_suffix(".exe")) if p.is_file()), None)


def _own_script() -> Path | None:
    """The console script in the folder of the Python that runs now, unless that runs the package with -m."""
    if Path(sys.argv[0] if sys.argv else "").name == "__main__.py":
        return None
    folder = Path(sys.executable).parent
    return next((p for p in (folder / NAME, folder / f"{NAME}.exe") if p.is_file()), None)


def _python() -> str:
    """The Python that runs now, by its name if the shell finds it by name."""
    for name in ("python", "python3"):
        found = shutil.which(name)
        # A virtual environment's Python is a link to another one, so paths are compared without following links.
        if found is not None and os.path.abspath(found) == os.path.abspath(sys.executable):
            return name
    return _short_path(Path(sys.executable))
