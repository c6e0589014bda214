"""How this program is called from the shell that the user types into: for commands that are printed to be tried."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = "eigencode"


def command(words: Sequence[str]) -> str:
    """A command line that runs as it is printed, in the present folder.

    Parameters
    ----------
    words : sequence of str
        What follows the program's name.

    Returns
    -------
    str
        With the program's path where its name alone would not find it, and quoted for the system's usual shell.
    """
    line = [*program(), *words]
    return subprocess.list2cmdline(line) if os.name == "nt" else shlex.join(line)


def program() -> list[str]:
    """The words that call this program: its name, the path of its script, or a Python with ``-m``."""
    script = _running_script() or _own_script()
    if script is None:
        return [_python(), "-m", NAME]
    found = shutil.which(NAME)
    if found is not None and os.path.exists(found) and os.path.samefile(found, script):
        return [NAME]
    return [near(script)] if _running_script() else [_python(), "-m", NAME]


def near(path: Path) -> str:
    """A path as it is typed: from the present folder on where it lies below it, else in full.

    Examples
    --------
    >>> near(Path.cwd() / ".venv" / "bin" / "eigencode") == os.path.join(".venv", "bin", "eigencode")
    True
    """
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
    """The console script beside the Python that runs now, unless that runs the package itself."""
    if Path(sys.argv[0] if sys.argv else "").name == "__main__.py":
        return None
    folder = Path(sys.executable).parent
    return next((p for p in (folder / NAME, folder / f"{NAME}.exe") if p.is_file()), None)


def _python() -> str:
    """The Python that runs now, by its name where that finds it."""
    for name in ("python", "python3"):
        found = shutil.which(name)
        # A virtual environment's Python is a link to another one, so paths are compared as they are written.
        if found is not None and os.path.abspath(found) == os.path.abspath(sys.executable):
            return name
    return near(Path(sys.executable))
