"""Progress of long work, shown as one line that is updated.

A thread reads plain numbers a few times a second and draws them. So the work does not wait for the line, has no code
for it, and has the same results with and without it. If nothing is shown, there is no thread.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from eigencode import processes

INTERVAL = 0.2
"""Seconds between two updates."""

DELAY = 0.5
"""Seconds after which a stage is shown; shorter stages would only flicker."""

_BY_DEFAULT: ContextVar[bool] = ContextVar("shown by default", default=False)
_LEAVES: ContextVar[bool] = ContextVar("leaves its last state", default=True)
_THREAD = threading.local()


@contextmanager
def _set(variable: ContextVar[bool], value: bool) -> Iterator[None]:
    before = variable.set(value)
    try:
        yield
    finally:
        variable.reset(before)


def shown_by_default(shown: bool) -> AbstractContextManager[None]:
    """Show the progress of work inside, or hide it, unless the work itself is verbose."""
    return _set(_BY_DEFAULT, shown)


def leaving_nothing() -> AbstractContextManager[None]:
    """Remove lines inside when their work is done."""
    return _set(_LEAVES, False)


def hide() -> None:
    """Hide progress by default, until the context of `shown_by_default` ends."""
    _BY_DEFAULT.set(False)


def is_shown(verbose: bool = False) -> bool:
    """Whether progress is shown: if the work is verbose, or by default; of several processes, by the first one."""
    return (bool(verbose) or _BY_DEFAULT.get()) and processes.is_first()


def leaves() -> bool:
    """Whether lines stay in the terminal when their work is done."""
    return _LEAVES.get()


def stage(what: str, verbose: bool = False) -> AbstractContextManager[Any]:
    """Show what the work inside does, and for how long, until it ends."""
    if not is_shown(verbose):
        return nullcontext()
    return Line(lambda _: None, DELAY, desc=what, leave=False, bar_format="{desc} {elapsed}")


def say(message: str) -> None:
    """Print a line on standard error, above the progress line if there is one; of several processes the first does."""
    if not processes.is_first():
        return
    with suppress(OSError, ValueError):  # the terminal may be closed, and the work goes on
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr)


class Line:
    """A context with a progress bar that a thread updates; it is hidden while a line inside it is open.

    ``look`` is called with the tqdm bar for each update and sets its numbers; ``delay`` is the number of seconds after
    which the bar is shown.
    """

    def __init__(self, look: Callable[[Any], None], delay: float, **options: Any) -> None:
        self._look, self._delay, self._options = look, delay, options
        self._bar: Any = None
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._keep_up, daemon=True)

    def __enter__(self) -> None:
        self._began = time.time()
        self._lines: list[Line] = vars(_THREAD).setdefault("lines", [])
        if self._lines:
            self._lines[-1]._close(leave=False)
        self._lines.append(self)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        try:
            self._thread.join()
            if self._options["leave"]:
                self._draw()
        finally:
            self._close(self._options["leave"])
            self._lines.remove(self)

    def _keep_up(self) -> None:
        wait = max(INTERVAL, self._delay)
        while not self._stop.wait(wait):
            wait = INTERVAL
            self._draw()

    def _draw(self) -> None:
        # Without its widgets, a notebook has the line of a terminal, and tqdm.auto would warn of that.
        module = "tqdm.auto" if find_spec("ipywidgets") else "tqdm"
        tqdm = import_module(module).tqdm
        with self._lock, suppress(OSError, ValueError):
            if self._lines[-1] is not self:
                return
            if self._bar is None:
                self._bar = tqdm(**self._options, **_width(), file=sys.stderr, mininterval=0, delay=1e-9)
                self._bar.start_t = self._began
            self._look(self._bar)
            self._bar.refresh()

    def _close(self, leave: bool) -> None:
        with self._lock, suppress(OSError, ValueError):
            if self._bar is not None:
                self._bar.leave = leave
                self._bar.close()
            self._bar = None


def _width() -> dict[str, Any]:
    """The width of a line, as an option of tqdm: the terminal's, or 80 columns if the terminal reports 0."""
    with suppress(OSError, ValueError, AttributeError):
        if os.get_terminal_size(sys.stderr.fileno()).columns == 0:
            return {"ncols": 80}
    return {"dynamic_ncols": True}
