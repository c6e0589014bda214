"""Messages of the library in the words of the shell: flags for parameters, and the name of a file for ``X``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from eigencode.cli.flags import STREAM, Quoted, kinds_as_flags, with_flags
from eigencode.errors import EigencodeError, OptionError


def told(message: object, rows: Sequence[Path] = ()) -> str:
    """An error or a warning in the words of the shell, for a command that reads these files."""
    if not isinstance(message, EigencodeError):
        return _of_files(with_flags(str(message)), rows)
    what = with_flags(
        kinds_as_flags(message.what), Quoted.OPTIONS if isinstance(message, OptionError) else Quoted.ASKED
    )
    got = None if message.got is None else with_flags(str(message.got))
    hint = None if message.hint is None else with_flags(kinds_as_flags(message.hint), Quoted.ADVISED)
    return str(EigencodeError(_of_files(what, rows), got=got, hint=hint))


def _of_files(message: str, rows: Sequence[Path]) -> str:
    """A message about ``X`` as one about the files that were named."""
    name = repr(str(rows[0])) if len(rows) == 1 and rows[0] != STREAM else "The table"
    return re.sub(r"^X(?= )", lambda _: name, message)
