"""Items of an iterator that are made in a thread, while those before them are used."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")

WAIT = 0.1
"""Seconds after which a thread looks whether it is still needed."""


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items in the same order; one is ready while another is made. An error in making one is raised here.

    Examples
    --------
    >>> list(read_ahead(iter([1, 2, 3])))
    [1, 2, 3]
    """
    ready: Queue[tuple[bool, Any]] = Queue(1)
    is_over = Event()
    Thread(target=_make, args=(items, ready, is_over), daemon=True).start()
    try:
        while True:
            is_item, found = ready.get()
            if is_item:
                yield found
            elif found is None:
                return
            else:
                raise found
    finally:
        is_over.set()
        while not ready.empty():  # so that nothing large is kept
            try:
                ready.get_nowait()
            except Empty:
                break


def _make(items: Iterator[Any], ready: Queue[tuple[bool, Any]], is_over: Event) -> None:
    """Put all items, and then None or the error that ended them, into a queue."""
    end = None
    try:
        for item in items:
            if not _put(ready, (True, item), is_over):
                return
    except BaseException as error:  # the thread that asks raises it
        end = error
    _put(ready, (False, end), is_over)


def _put(ready: Queue[tuple[bool, Any]], item: tuple[bool, Any], is_over: Event) -> bool:
    """Wait until an item fits; whether it was still needed."""
    while not is_over.is_set():
        try:
            ready.put(item, timeout=WAIT)
        except Full:
            continue
        return True
    return False
