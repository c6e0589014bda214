"""What several processes decide together: signals and time are different in each of them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from eigencode.checkpoint import REQUESTS, SIGNALS
from eigencode.training.run import Clock

SAME_SIGNAL = 3.0
"""Seconds in which a further signal is taken for the same: a terminal and a launcher both send one."""


class Agreement:
    """Whether to interrupt training, to begin the decay of the step size, and to stop.

    In each step every process says what it wants. The sums, which come with the gradient, are obeyed by all in the next
    step. Interruptions are wanted by any process, time limits by the first one.

    Parameters
    ----------
    clock : Clock
        The clock of this process.
    is_first : bool
        Whether the clock of this process decides.
    """

    def __init__(self, clock: Clock, is_first: bool) -> None:
        self._own_clock, self._is_first = clock, is_first
        self._interrupted_at: float | None = None
        self.decided, self.decay_left = [False, False, False], 0.0

    @property
    def wishes(self) -> list[float]:
        """What this process wants, as numbers that can be added up."""
        clock, wanted = self._own_clock, float(self._interrupted_at is not None)
        of_time = (clock.is_time_to_end(), clock.is_up(), clock.decay_left) if self._is_first else (0, 0, 0)
        return [wanted, *map(float, of_time)]

    def settle(self, sums: list[float]) -> None:
        """Take the sums of all wishes as decided, and the time that the first process has left for the decay."""
        *decided, self.decay_left = sums
        self.decided = [number > 0 for number in decided]

    @property
    def is_interrupted(self) -> bool:
        """Whether the processes have decided to interrupt training."""
        return self.decided[0]

    def obey(self, is_recorded: bool) -> None:
        """Raise the interruption if it was decided; a run that is recorded raises it when its state is written."""
        if self.is_interrupted and not is_recorded:
            raise KeyboardInterrupt
        REQUESTS.to_stop = REQUESTS.to_stop or self.is_interrupted

    @property
    def clock(self) -> Clock:
        """The clock by which all processes go."""
        own = self._own_clock
        return AgreedClock(**vars(own), agreement=self)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the handlers of signals wish for an interruption instead of raising it; a second one is raised."""
        numbers = SIGNALS if threading.current_thread() is threading.main_thread() else ()
        before: dict[int, Any] = {n: handler for n in numbers if callable(handler := signal.getsignal(n))}

        def handle(number: int, frame: FrameType | None) -> None:
            try:
                before[number](number, frame)
            except KeyboardInterrupt:
                now = time.monotonic()
                if self._interrupted_at is not None and now > self._interrupted_at + SAME_SIGNAL:
                    raise
                self._interrupted_at = self._interrupted_at or now

        for number in before:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass(frozen=True)
class AgreedClock(Clock):
    """A clock that says what processes have agreed on."""

    agreement: Agreement | None = None

    def is_time_to_end(self) -> bool:
        return self.agreement is not None and self.agreement.decided[1]

    def is_up(self) -> bool:
        return self.agreement is not None and self.agreement.decided[2]

    @property
    def decay_left(self) -> float:
        return 0.0 if self.agreement is None else self.agreement.decay_left
