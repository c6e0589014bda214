"""Items of an iterator that are made in a thread, while those before them are used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from eigencode.threads import submitted

T = TypeVar("T")

END: Any = object()
"""Stands for the end of an iterator."""


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items in the same order; while one is used, the next is made. An error in making one is raised here.

    When the reader stops, early or not, the thread has ended: a thread inside C++ that outlives the interpreter would
    abort the process.

    Examples
    --------
    >>> list(read_ahead(iter([1, 2, 3])))
    [1, 2, 3]
    """
    with ThreadPoolExecutor(1) as pool:
        coming = submitted(pool, next, items, END)
        while (item := coming()) is not END:
            coming = submitted(pool, next, items, END)
            yield item
