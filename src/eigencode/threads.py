"""Threads: one for work whose threads would wait longer than they work, several for NumPy's passes over many cells."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from eigencode.lazy import torch

T = TypeVar("T")
R = TypeVar("R")

MOST_THREADS = 8
"""Most threads of a pass over an array: more would wait for the memory, and each has memory of its own."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread in torch and in scikit-learn, and restore the caller's numbers at the end.

    Each library has threads of its own. Where two take turns in short pieces of work, waiting threads of one have the
    processor that those of the other need: on two shared processors, k-means of 4,096 codes takes about twice as long
    with two threads as with one. The numbers of its OpenMP are of the calling thread alone. Those of BLAS are of the
    whole process and stay as they are: others may compute at the same time, and scikit-learn sets them where it must.

    Examples
    --------
    >>> import torch
    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _libraries().limit(limits=1, user_api="openmp"):
            yield
    finally:
        torch.set_num_threads(before)


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """A function of each item, in the items' order, computed in as many threads as torch has.

    NumPy goes through an array in one thread, and other threads of Python run meanwhile. The items are made in the
    caller's thread, and at most one more than there are threads is in memory. NumPy's settings of errors are the
    caller's.

    Examples
    --------
    >>> list(in_threads(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    n_threads, rest = min(torch.get_num_threads(), MOST_THREADS), iter(items)
    first = list(islice(rest, 2))
    if n_threads == 1 or len(first) < 2:
        yield from map(function, chain(first, rest))
        return
    settings: dict[str, Any] = {"call": np.geterrcall(), **np.geterr()}

    def compute(item: T) -> R:
        with np.errstate(**settings):  # a thread's own begin with NumPy's defaults
            return function(item)

    coming: deque[Callable[[], R]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        for item in chain(first, rest):
            coming.append(submitted(pool, compute, item))
            if len(coming) > n_threads:
                yield coming.popleft()()
        while coming:
            yield coming.popleft()()


def submitted(pool: Executor, function: Callable[..., R], *arguments: Any) -> Callable[[], R]:
    """A call by a thread of a pool, as a function that waits for its result.

    When the main thread has ended, Python still waits for others, but pools take no more work: then it is the call
    itself.
    """
    try:
        return pool.submit(function, *arguments).result
    except RuntimeError:
        return partial(function, *arguments)


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads that are loaded, which takes some milliseconds to find.

    Those that are loaded after the first call are not known: whoever calls has imported what it uses.
    """
    return ThreadpoolController()
