"""Signals that end a command, all as `KeyboardInterrupt`: Ctrl-C, SIGTERM and, where the system has it, SIGHUP."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Not every system has all of them."""


class Interruptions:
    """Handlers of these signals for as long as a command runs, in the main thread; those before are put back.

    The first signal raises `KeyboardInterrupt` in whatever is running. After it only a second Ctrl-C does, which ends
    what is still done after the first: a terminal that closes, or a system that shuts down, sends more than one signal.
    A signal that the parent process had ignored, as nohup does, stays ignored.

    Attributes
    ----------
    received : list of int
        Numbers of the signals that came.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._is_held = False
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int | None:
        """What a shell calls a command that the first of these signals ended; None where none came."""
        return 128 + self.received[0] if self.received else None

    @property
    def has_hung_up(self) -> bool:
        """Whether the terminal is gone, and with it those who would read."""
        return hasattr(signal, "SIGHUP") and signal.SIGHUP in self.received

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        _OPEN.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _OPEN.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        counts = number == signal.SIGINT if self.received else not self._is_held
        self.received.append(number)
        if counts:
            raise KeyboardInterrupt


_OPEN: list[Interruptions] = []


@contextmanager
def held() -> Iterator[None]:
    """Let a first signal wait until what is inside is done, as writing a model that took long to fit."""
    for interruptions in _OPEN:
        interruptions._is_held = True
    try:
        yield
    finally:
        for interruptions in _OPEN:
            interruptions._is_held = False
