"""Running a command: messages go to standard error, and it ends with an exit code, never with a traceback."""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from inspect import BoundArguments
from pathlib import Path
from typing import TextIO

from cyclopts import CycloptsError

from eigencode import processes, progress
from eigencode.cli import workers
from eigencode.cli.app import app
from eigencode.cli.interruptions import Interruptions
from eigencode.cli.messages import told
from eigencode.cli.own_parts import OWN
from eigencode.cli.streams import discard, on_safe_streams
from eigencode.cli.usage import usage_error
from eigencode.data.memory import require_room_for_libraries, shortage
from eigencode.errors import EigencodeError, FileError, InterruptedWarning


@on_safe_streams
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default with the arguments of the process, and return its exit code.

    That is 0 if done, 1 if the command failed, 2 if the arguments are wrong, or 128 plus the number of the signal that
    interrupted it, which is 130 for Ctrl-C.
    """
    tokens = sys.argv[1:] if arguments is None else list(arguments)
    # A single hyphen would be read as a flag; this is the same path.
    tokens = ["./-" if token == "-" else token for token in tokens]
    with Interruptions() as interruptions:
        try:
            code = _run(tokens, interruptions)
        except Exception:
            # An import that is interrupted can raise any error, and the terminal may be closed.
            if not interruptions.received:
                raise
            progress.say("Interrupted.")
            code = 1
        finally:
            OWN.forget()
    if interruptions.has_hung_up:
        discard(sys.stdout)
        discard(sys.stderr)
    return interruptions.exit_code or code


@contextmanager
def _without_pydantic() -> Iterator[None]:
    """Hide pydantic, which another package may have imported.

    cyclopts would compare what our converters return with the types that the flags are written in.
    """
    found = sys.modules.pop("pydantic", None)
    try:
        yield
    finally:
        if found is not None:
            sys.modules["pydantic"] = found


def parsed(tokens: Sequence[str]) -> tuple[Callable[..., object], BoundArguments]:
    """The function of a command, and its arguments."""
    with _without_pydantic():
        function, bound, _ = app.parse_args(_with_negative_lists(tokens), exit_on_error=False, print_error=False)
    return function, bound


def _with_negative_lists(tokens: Sequence[str]) -> list[str]:
    """The arguments, where a list such as -999,-1 is several of them: one that begins with - would be an option.

    Examples
    --------
    >>> _with_negative_lists(
    ...     ["--missing-values", "-999,-1", "--hidden", "64,8", "-n", "-3"]
    ... )
    ['--missing-values', '-999', '-1', '--hidden', '64,8', '-n', '-3']
    """
    return [
        part for token in tokens for part in (token.rstrip(",").split(",") if re.match(r"-\.?\d", token) else [token])
    ]


def _run(tokens: Sequence[str], interruptions: Interruptions) -> int:
    """Run a command, and return its exit code."""
    rows: list[Path] = []
    try:
        with (
            _plain_warnings(rows) as warned,
            progress.shown_by_default(_is_terminal(sys.stderr)),
            _first_alone_prints(),
        ):
            OWN.take(tokens)
            function, bound = parsed(tokens)
            rows += bound.arguments.get("rows", ())
            if function.__module__.startswith("eigencode."):  # no help, no version
                require_room_for_libraries()
            function(*bound.args, **bound.kwargs)
        sys.stdout.flush()
    except workers.StartProcesses as several:
        return workers.run(several.n, tokens, interruptions)
    except CycloptsError as error:
        command = " ".join(["eigencode", *(error.command_chain or ())])
        print(f"{usage_error(tokens, error)}\nSee {command} --help", file=sys.stderr)
        return 2
    except EigencodeError as error:
        print(told(error, rows), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.say("Interrupted.")
        return 130
    except BrokenPipeError:
        # The reader of the output, such as head, has closed it.
        discard(sys.stdout)
        return 0
    except OSError as error:
        what = f"Cannot use {str(error.filename)!r}" if error.filename else "The operating system refused"
        print(FileError(what, got=f"the error {error.strerror or error}"), file=sys.stderr)
        return 1
    except Exception as error:
        failure = shortage(error) or OWN.failure(error)
        if failure is None:
            raise
        print(told(failure, rows), file=sys.stderr)
        return 1
    return 130 if any(isinstance(warning, InterruptedWarning) for warning in warned) else 0


def _first_alone_prints() -> AbstractContextManager[object]:
    """What several processes print is printed by the first of them; errors by all."""
    workers.end_with_parent()
    return nullcontext() if processes.is_first() else redirect_stdout(io.StringIO())


@contextmanager
def _plain_warnings(rows: Sequence[Path]) -> Iterator[list[Warning | str]]:
    """Print each warning as one line, and once, without the file and line of the source; yields a list of them."""
    warned: list[Warning | str] = []

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in map(str, warned):
            progress.say(f"Warning: {told(message, rows)}")
        warned.append(message)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield warned


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()
