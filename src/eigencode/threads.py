"""One thread for work whose threads would wait longer than they work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

from eigencode.lazy import torch


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


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads that are loaded, which takes some milliseconds to find.

    Those that are loaded after the first call are not known: whoever calls has imported what it uses.
    """
    return ThreadpoolController()
