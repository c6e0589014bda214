"""Processes that train one model together, as torchrun starts them.

Each process has all rows and the whole model, and computes the gradient of its own part of each batch. The parts'
gradients are added up, so that all processes make the same step. Everything here does nothing in a single process.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from eigencode.errors import TrainingError
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")

LONGEST_WAIT = timedelta(minutes=30)
"""A process that waits longer than this for the others ends with an error."""

MEETING = "EIGENCODE_MEETING"
"""The variable with the file by which processes on one machine find each other; without it MASTER_ADDR is used."""

FAILURE = "eigencode/failure"
"""The key of the message of a process that has failed, in the store that all processes read."""


@dataclass(frozen=True)
class Group:
    """The processes that train one model.

    Attributes
    ----------
    rank : int
        The number of this process; that of the first is 0.
    size : int
        The number of processes.
    """

    rank: int
    size: int

    def part(self, n_rows: int) -> slice:
        """The part of this process in ``n_rows`` rows.

        Examples
        --------
        >>> [Group(rank, 3).part(7) for rank in range(3)]
        [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
        """
        return slice(n_rows * self.rank // self.size, n_rows * (self.rank + 1) // self.size)

    def total(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over the processes, the same bits in each of them."""
        with _together():
            torch.distributed.all_reduce(tensor)
        return tensor

    def totals(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over the processes."""
        found: list[float] = self.total(torch.tensor(numbers, dtype=torch.float64)).tolist()
        return found

    def spread(self, tensor: Tensor) -> Tensor:
        """The largest value of each number over the processes minus the smallest one."""
        ends = torch.stack([tensor, -tensor])
        with _together():
            torch.distributed.all_reduce(ends, torch.distributed.ReduceOp.MAX)
        return ends.sum(0)

    def share(self, tensor: Tensor) -> None:
        """Replace a tensor by that of the first process."""
        with _together():
            torch.distributed.broadcast(tensor, 0)

    def first(self, value: Value) -> Value:
        """The value that the first process has."""
        values = [value]
        with _together():
            torch.distributed.broadcast_object_list(values, 0)
        return values[0]


@contextmanager
def _together() -> Iterator[None]:
    """Make the error of a lost connection say which process failed, and why."""
    if not _is_initialized():
        raise TrainingError("This process has left the others after an error", hint="Start all of them again")
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "The processes that train this model lost each other",
            got=_failure() or f"the error {str(error).partition(chr(10))[0]}",
            hint="Start all of them again; with a checkpoint they go on where they were",
        ) from error


# -- the group of this process

_OURS: list[Group] = []
"""The group that this module has joined."""


def is_first() -> bool:
    """Whether this process is the only one or the first, which alone prints and writes."""
    return numbered()[0] == 0


def numbered() -> tuple[int, int]:
    """The number of this process and how many there are, by the environment that torchrun sets; else 0 and 1."""
    if _is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    if multiprocessing.parent_process() is not None:  # a helper of a process that torchrun started
        return 0, 1
    size = _count_in("WORLD_SIZE", 1)
    return (_count_in("RANK", 0) if size > 1 else 0), size


def _count_in(variable: str, otherwise: int) -> int:
    """A whole number in the environment."""
    text = os.environ.get(variable, str(otherwise))
    if not (text.isascii() and text.isdigit()):
        raise TrainingError(f"{variable} in the environment must be a whole number", got=f"{text!r}")
    return int(text)


def group() -> Group | None:
    """The processes that train together with this one, None if it is alone.

    They are those of ``torch.distributed``, if the program has initialised it, else those that torchrun has started,
    and then the first call connects them. Only the main thread takes part in what this function has connected.
    """
    if not _is_initialized():
        if numbered()[1] == 1 or threading.current_thread() is not threading.main_thread():
            return None
        _connect()
    elif _OURS and threading.current_thread() is not threading.main_thread():
        return None
    rank, size = numbered()
    return Group(rank, size) if size > 1 else None


def agreed(value: Value) -> Value:
    """The first process's value, where chance or time may give each process another one."""
    found = group()
    return value if found is None else found.first(value)


def _is_initialized() -> bool:
    distributed: Any = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _connect() -> None:
    """Connect with the other processes, until this one ends."""
    if _OURS:
        raise TrainingError("The processes were separated by an earlier error", hint="Start all of them again")
    backend = "gloo"
    if torch.cuda.is_available():
        n_gpus = torch.cuda.device_count()
        torch.cuda.set_device(_count_in("LOCAL_RANK", 0) % n_gpus)
        if _count_in("LOCAL_WORLD_SIZE", 1) <= n_gpus:  # nccl refuses two processes on one GPU
            backend = "cpu:gloo,cuda:nccl"
    meeting, (rank, size) = os.environ.get(MEETING), numbered()
    try:
        store = _own_store("env://" if meeting is None else f"file://{meeting}", rank, size)
        torch.distributed.init_process_group(backend, timeout=LONGEST_WAIT, world_size=size, rank=rank, store=store)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"Process {rank} of {size} (RANK and WORLD_SIZE) cannot find the others",
            got=f"the error {str(error).partition(chr(10))[0]}",
            hint="Start all of them by torchrun; or remove WORLD_SIZE from the environment to train in one process",
        ) from error
    _OURS.append(Group(*numbered()))


def _own_store(url: str, rank: int, size: int) -> Any:
    """A store for these processes alone: torchrun's still has the addresses of those that it has restarted.

    Each process writes a name, and then which names it sees, until all see the same. No process that was there before
    can have seen the name of one that is here now.
    """
    distributed: Any = torch.distributed
    store, *_ = next(distributed.rendezvous(url, rank, size, timeout=LONGEST_WAIT))
    end = time.monotonic() + LONGEST_WAIT.total_seconds()
    names, seen = ([f"eigencode/{what}/{number}" for number in range(size)] for what in ("name", "seen"))
    store.set(names[rank], uuid.uuid4().hex)
    while time.monotonic() < end:
        found = b" ".join(map(store.get, names))
        store.set(seen[rank], found)
        if all(store.get(each) == found for each in seen):
            return distributed.PrefixStore(found.decode(), store)
        time.sleep(0.02)
    raise RuntimeError(f"the processes waited {LONGEST_WAIT} for each other")


@atexit.register  # before other modules register theirs, which are called first and may need the others
def _disconnect_ours() -> None:
    if _OURS:
        _disconnect()


def _disconnect() -> None:
    if _is_initialized():
        torch.distributed.destroy_process_group()


def leave(error: BaseException) -> None:
    """Tell the other processes that this one has failed, so that none waits for it."""
    if _is_initialized() and numbered()[1] > 1:
        with suppress(Exception):
            if _failure() is None:
                store = torch.distributed.distributed_c10d._get_default_store()
                store.set(FAILURE, f"process {numbered()[0]}: {type(error).__name__}: {error}")
        _disconnect()


def _failure() -> str | None:
    """The message of the process that failed first; None if there is none, or if it cannot be read."""
    with suppress(Exception):
        store = torch.distributed.distributed_c10d._get_default_store()
        if store.check([FAILURE]):
            return bytes(store.get(FAILURE)).decode()
    return None


# -- the batch that processes share

_PARTS: ContextVar[tuple[Group, float] | None] = ContextVar("this process's share of a batch", default=None)


@contextmanager
def sharing(group: Group, share: float) -> Iterator[None]:
    """Inside, this process computes the gradient of its share of a batch, which may be 0."""
    token = _PARTS.set((group, share))
    try:
        yield
    finally:
        _PARTS.reset(token)


def joint_mean(mean: Tensor, n_rows: Tensor | int) -> tuple[Tensor, Tensor | int]:
    """The mean over the rows of a batch and their number, from those of this process's rows.

    Its derivative is that by this process's rows, in such units that the sum of all processes' gradients, each times
    the process's share of the batch, is the gradient of the mean.
    """
    if (part := _PARTS.get()) is None:
        return mean, n_rows
    group, share = part
    n_own = torch.as_tensor(n_rows if share else 0).to(mean)
    total = group.total(torch.cat([mean.detach().flatten() * n_own, n_own[None]]))
    n_all = total[-1]
    found = (total[:-1] / n_all.clamp(min=1)).view(mean.shape)
    own = mean * (n_own / (n_all.clamp(min=1) * share)) if share else mean * 0
    return found + (own - own.detach()), n_all
