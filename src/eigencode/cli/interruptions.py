"""Ctrl-C, SIGTERM and SIGHUP, all raised as `KeyboardInterrupt` while a command runs; SIGUSR1 for checkpoints."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from eigencode.checkpoint import REQUESTS, SIGNALS


class Interruptions:
    """A context with handlers for these signals in the main thread; the earlier handlers are restored at its end.

    The first signal raises `KeyboardInterrupt`, in a run with a checkpoint when its state is written. After it, only
    Ctrl-C does, which ends the work that follows the first one: a terminal that closes, or a system that shuts down,
    sends more than one signal. Signals that the parent process had ignored, as nohup does, stay ignored.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._is_held = False
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int | None:
        """The exit code for the first signal received, 128 plus its number; None if there was none."""
        return 128 + self.received[0] if self.received else None

    @property
    def has_hung_up(self) -> bool:
        """Whether the terminal was closed, so that nothing can be written to it."""
        return hasattr(signal, "SIGHUP") and signal.SIGHUP in self.received

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        _OPEN.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _OPEN.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        is_first = not self.received
        interrupts = not self._is_held if is_first else number == signal.SIGINT
        self.received.append(number)
        # A run with a checkpoint makes its step, and writes its state first.
        if interrupts and not (is_first and REQUESTS.stop()):
            raise KeyboardInterrupt


_OPEN: list[Interruptions] = []


@contextmanager
def heard(request: Callable[[], None] | None = REQUESTS.write) -> Iterator[None]:
    """SIGUSR1, which ends a process by default, asks the run inside to write its state and to go on.

    None ignores it, and so do processes that are started inside, until they hear it themselves.
    """
    number = getattr(signal, "SIGUSR1", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, signal.SIG_IGN if request is None else lambda *_: request())
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def held() -> Iterator[None]:
    """Ignore the first signal inside, such as while a model is written that took long to fit."""
    for interruptions in _OPEN:
        interruptions._is_held = True
    try:
        yield
    finally:
        for interruptions in _OPEN:
            interruptions._is_held = False
