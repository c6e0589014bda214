"""How a command is run and how it ends: messages on standard error, an exit code, never a traceback."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError

from eigencode import progress
from eigencode.cli.app import app
from eigencode.cli.flags import advice_on_taken_words, in_flags
from eigencode.cli.interruptions import Interruptions
from eigencode.cli.own_parts import OWN
from eigencode.cli.streams import discard, on_safe_streams
from eigencode.errors import DataError, EigencodeError, FileError, InterruptedWarning


@on_safe_streams
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after "eigencode"; those of the process by default.

    Returns
    -------
    int
        The exit code: 0, or 1 where a command failed for a reason that its message says, or 2 where it was not
        understood, or 128 and the signal's number where one interrupted it: 130 for Ctrl-C.
    """
    tokens = sys.argv[1:] if arguments is None else list(arguments)
    # A bare hyphen would pass for a flag; this is the same path.
    tokens = ["./-" if token == "-" else token for token in tokens]
    with Interruptions() as interruptions:
        try:
            code = _run(tokens)
        except Exception:
            # A module that is interrupted while it is loaded can fail in any way; and nobody may be left to read.
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


def _run(tokens: Sequence[str]) -> int:
    """Run a command; returns its exit code."""
    try:
        with _plain_warnings() as warned, progress.shown_by_default(_is_terminal(sys.stderr)):
            OWN.take(tokens)
            app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        command = " ".join(["eigencode", *(error.command_chain or ())])
        advice = advice_on_taken_words(tokens, error)
        print(f"{_understood(error)}{advice}{_usage(error)}\nSee {command} --help", file=sys.stderr)
        return 2
    except EigencodeError as error:
        print(in_flags(str(error)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.say("Interrupted.")
        return 130
    except BrokenPipeError:
        # Whoever read the answer has all they wanted of it.
        discard(sys.stdout)
        return 0
    except (OSError, MemoryError) as error:
        print(_refused(error), file=sys.stderr)
        return 1
    except Exception as error:
        failure = OWN.failure(error)
        if failure is None:
            raise
        print(in_flags(str(failure)), file=sys.stderr)
        return 1
    return 130 if any(isinstance(warning, InterruptedWarning) for warning in warned) else 0


def _refused(error: OSError | MemoryError) -> EigencodeError:
    """What the system refused, where no reader or writer had words of its own for it."""
    if isinstance(error, MemoryError):
        return DataError("This needs more memory than there is", hint="Give it fewer rows or columns")
    what = f"Cannot use {str(error.filename)!r}" if error.filename else "The system refused"
    return FileError(what, got=f"the error {error.strerror or error}")


def _understood(error: CycloptsError) -> str:
    """What was not understood, in a sentence."""
    if isinstance(error, UnusedCliTokensError):
        words = [token.removeprefix("./") if token == "./-" else token for token in error.unused_tokens or ()]
        return f"There is no use here for {', '.join(map(repr, words))}."
    return str(error)


def _usage(error: CycloptsError) -> str:
    """How the command is written, where something that it needs was not given."""
    if not isinstance(error, MissingArgumentError) or not error.command_chain:
        return ""
    return f" {app[error.command_chain[0]].usage}"


@contextmanager
def _plain_warnings() -> Iterator[list[Warning | str]]:
    """Warnings as one line each, without the place in the source that raised them; yields a list of them."""
    said: list[Warning | str] = []

    def say(message: Warning | str, *_: object, **__: object) -> None:
        said.append(message)
        progress.say(f"Warning: {in_flags(str(message))}")

    with warnings.catch_warnings():
        warnings.showwarning = say
        yield said


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()
