"""Standard input, output and error as commands find them: closed, full, or without the letters that a name has."""

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
    """Let a program end with one line and exit code 1 where its answer cannot be written.

    What it has to say on standard error is dropped where nobody can read it. Letters that an output's encoding lacks
    are escaped.
    """

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        with _safe_streams() as output:
            code = main(*args, **kwargs)
            try:
                output.flush()
            except FileError as error:
                code = code or _said(error)
            except BrokenPipeError:  # whoever read the answer has all they wanted of it
                pass
        return code

    return run


def _said(error: FileError) -> int:
    print(error, file=sys.stderr)
    return 1


@contextmanager
def _safe_streams() -> Iterator[Any]:
    """Streams that can be written to for a while; gives the output."""
    _fill_gaps()
    before = sys.stdin, sys.stdout, sys.stderr
    # On Windows as elsewhere, there may be no streams at all.
    sys.stdin = before[0] or _nothing()
    output = Answer(before[1])
    try:
        with _escaping(before[1]), _escaping(before[2]):
            sys.stdout, sys.stderr = output, Messages(before[2])
            yield output
    finally:
        output.settle()
        sys.stdin, sys.stdout, sys.stderr = before


def _nothing() -> io.TextIOWrapper:
    """A standard input that is empty."""
    content = io.BytesIO()
    content.name = "<stdin>"
    return io.TextIOWrapper(content)


def _fill_gaps() -> None:
    """Let the numbers of streams that are closed be no other file's, which would get what is meant for them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)


@contextmanager
def _escaping(stream: Any) -> Iterator[None]:
    """Let letters that an encoding lacks be written as their numbers."""
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
    """Let what is not written yet, and all that follows, go nowhere, or Python would complain of it at its end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


class _Stream:
    """A stream of text, which may be none."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    encoding = property(lambda self: getattr(self._stream, "encoding", None) or "utf-8")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Whether somebody is looking."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    @property
    def closed(self) -> bool:
        """Whether there is nothing to write to."""
        return self._stream is None or self._stream.closed


class Answer(_Stream):
    """Standard output: what cannot be written is an error of this package."""

    closed = property(lambda self: False)  # it says what is wrong when it is written to

    def write(self, text: Any) -> int:
        """Write text, or bytes where the stream takes them."""
        return int(self._try("write", text))

    def flush(self) -> None:
        """Write what waits."""
        if self._stream is not None:
            self._try("flush")

    @property
    def buffer(self) -> Answer:
        """The same for bytes, which a stream that takes text alone, as a notebook's, is given as text."""
        return Answer(getattr(self._stream, "buffer", None) or (self._stream and _Decoded(self._stream)))

    def settle(self) -> None:
        """Leave nothing waiting that cannot be written."""
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
    """Bytes for a stream that takes text alone."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._decoder = stream, codecs.getincrementaldecoder("utf-8")()

    def write(self, content: Any) -> int:
        """Write bytes of UTF-8 as text; letters may be divided between calls."""
        self._stream.write(self._decoder.decode(bytes(content)))
        return len(content)

    def flush(self) -> None:
        """Write what waits."""
        self._stream.flush()


class Messages(_Stream):
    """Standard error: what cannot be written is dropped, and the work goes on."""

    def write(self, text: str) -> int:
        """Write text if that can be done."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Write what waits, if that can be done."""
        self._try("flush")

    def _try(self, name: str, *arguments: Any) -> None:
        if self._stream is not None:
            try:
                getattr(self._stream, name)(*arguments)
            except (OSError, ValueError):
                discard(self._stream)
