"""Standard input, output and error, made safe to use if they are closed, full, or lack some characters."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, ParamSpec

from eigencode.errors import FileError

P = ParamSpec("P")


def on_safe_streams(main: Callable[P, int]) -> Callable[P, int]:
    """Decorate a main function: it ends with one line and the exit code 1 if standard output cannot be written.

    Messages are dropped if standard error cannot be written. Characters that an encoding lacks are escaped.
    """

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        with _safe_streams() as output:
            code = main(*args, **kwargs)
            try:
                output.flush()
            except FileError as error:
                if code == 0:
                    print(error, file=sys.stderr)
                    code = 1
            except BrokenPipeError:  # the reader of the output, such as head, has closed it
                pass
        return code

    return run


@contextmanager
def _safe_streams() -> Iterator[Any]:
    """Replace the standard streams by safe ones inside; yields the output."""
    _open_missing_descriptors()
    before = sys.stdin, sys.stdout, sys.stderr
    # A process can have no standard streams at all.
    sys.stdin = before[0] or _empty_input()
    output = Answer(before[1])
    try:
        with _escaping(before[1]), _escaping(before[2]):
            sys.stdout, sys.stderr = output, Messages(before[2])
            yield output
    finally:
        output.flush_or_discard()
        sys.stdin, sys.stdout, sys.stderr = before


def _empty_input() -> io.TextIOWrapper:
    """An empty standard input."""
    content = io.BytesIO()
    content.name = "<stdin>"
    return io.TextIOWrapper(content)


def _open_missing_descriptors() -> None:
    """Open the null device for closed streams; else the next file opened would get their descriptor."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)


@contextmanager
def _escaping(stream: Any) -> Iterator[None]:
    """Write characters that an encoding lacks as escapes."""
    if not hasattr(stream, "reconfigure") or stream.closed:
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=before)


def discard(stream: Any) -> None:
    """Redirect a stream to the null device, with its unwritten text; else Python reports an error when it exits."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


class _Stream:
    """A wrapper of a text stream, or of None."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    encoding = property(lambda self: getattr(self._stream, "encoding", None) or "utf-8")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    @property
    def closed(self) -> bool:
        """Whether it is closed, or None."""
        return self._stream is None or self._stream.closed


class Answer(_Stream):
    """Standard output; a failed write raises a `FileError`."""

    closed = property(lambda self: False, doc="False: writing to a closed stream raises the error.")

    def write(self, text: Any) -> int:
        """Write text, or bytes where the stream takes them."""
        return int(self._try("write", text))

    def flush(self) -> None:
        """Write buffered text."""
        if self._stream is not None:
            self._try("flush")

    @property
    def buffer(self) -> Answer:
        """The same stream for bytes; they are decoded if it takes only text, as in a notebook."""
        return Answer(getattr(self._stream, "buffer", None) or (self._stream and _Decoded(self._stream)))

    def flush_or_discard(self) -> None:
        """Write buffered text, or discard it if that fails."""
        try:
            self.flush()
        except (OSError, ValueError):
            discard(self._stream)

    def _try(self, name: str, *arguments: Any) -> Any:
        if self._stream is None:
            raise FileError("Cannot write to standard output", got="a closed one")
        try:
            return getattr(self._stream, name)(*arguments)
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            got = f"the error {getattr(error, 'strerror', None) or error}"
            raise FileError("Cannot write to standard output", got=got) from error


class _Decoded:
    """A binary stream over one that takes only text."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._decoder = stream, codecs.getincrementaldecoder("utf-8")()

    def write(self, content: Any) -> int:
        """Write bytes of UTF-8 as text; a character may be split between two calls."""
        self._stream.write(self._decoder.decode(bytes(content)))
        return len(content)

    def flush(self) -> None:
        """Write buffered text."""
        self._stream.flush()


class Messages(_Stream):
    """Standard error; text that cannot be written is dropped."""

    def write(self, text: str) -> int:
        """Write text if possible."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Write buffered text if possible."""
        self._try("flush")

    def _try(self, name: str, *arguments: Any) -> None:
        if self._stream is not None:
            try:
                getattr(self._stream, name)(*arguments)
            except (OSError, ValueError):
                discard(self._stream)
