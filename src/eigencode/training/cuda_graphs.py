"""CUDA graphs: a step is recorded once and replayed, one launch on a GPU instead of one for each operation.

A CUDA graph has the addresses that its operations read and write. So the arguments of each step are copied into inputs
at fixed addresses, and weights, moments and states are changed in place. Batches of an epoch have at most two sizes,
and each is recorded separately: no row is padded, and none is counted twice.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from eigencode.errors import warn

WARM_UP = 3
"""Calls of each shape before it is recorded on a GPU, in which libraries choose their kernels and allocate memory."""

Recording = tuple[Sequence[Any], Callable[[], Tensor]]
"""The input tensors at fixed addresses, and the function that replays the operations on them."""


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect no garbage for a while: a graph that is deleted during a recording makes it invalid."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def record_on_gpu(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record the operations of a function on the current GPU, without executing them."""
    graph = torch.cuda.CUDAGraph()
    with no_garbage_collection(), torch.cuda.graph(graph):
        output = work()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


class Recorded:
    """A function that is recorded for each shape of its arguments, and replayed after that.

    If it cannot be recorded, since a part of it synchronises with the device, it is called without recording.

    Parameters
    ----------
    function : callable
        Takes a tensor, then tensors, numbers or None, and returns one tensor; changes other tensors in place only. A
        number is passed as a number in calls, and as a tensor in recordings.
    record : callable
        Makes the replay of a function without arguments.
    warm_up : int
        Calls of each shape before it is recorded.

    Examples
    --------
    >>> double = Recorded(lambda x: 2 * x, record=lambda work: work)
    >>> [float(double(torch.tensor(float(number)))) for number in range(6)]
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    >>> double.n_recordings
    1
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        record: Callable[[Callable[[], Tensor]], Callable[[], Tensor]] = record_on_gpu,
        warm_up: int = WARM_UP,
    ) -> None:
        self._function, self._record, self._warm_up = function, record, warm_up
        self._recordings: dict[Hashable, Recording] = {}
        self._calls: Counter[Hashable] = Counter()
        self._is_recordable = True

    @property
    def n_recordings(self) -> int:
        """Number of shapes that were recorded."""
        return len(self._recordings)

    def __call__(self, first: Tensor, *others: Tensor | float | None) -> Tensor:
        """The result of the function, as a new tensor."""
        arguments = (first, *others)
        shapes = tuple((a.shape, a.dtype) if isinstance(a, Tensor) else type(a) for a in arguments)
        recording = self._recordings.get(shapes)
        if recording is None and self._is_recordable and self._calls[shapes] >= self._warm_up:
            recording = self._recorded(shapes, first, others)
        if recording is None:
            self._calls[shapes] += 1
            return self._function(*arguments)
        inputs, replay = recording
        for buffer, argument in zip(inputs, arguments, strict=True):
            if isinstance(argument, Tensor):
                buffer.copy_(argument)
            elif argument is not None:
                buffer.fill_(argument)
        return replay().clone()

    def _recorded(self, shapes: Hashable, first: Tensor, others: tuple[Tensor | float | None, ...]) -> Recording | None:
        inputs = [_buffer_for(argument, first.device) for argument in (first, *others)]
        try:
            replay = self._record(partial(self._function, *inputs))
        except RuntimeError as error:
            self._is_recordable = False
            what = "A training step cannot be recorded, and is launched operation by operation"
            warn(f"{what}: {error}", RuntimeWarning)
            return None
        self._recordings[shapes] = inputs, replay
        return self._recordings[shapes]


def _buffer_for(argument: Tensor | float | None, device: torch.device) -> Any:
    """A tensor for an argument's values; None for None."""
    if isinstance(argument, Tensor):
        return argument.clone()
    # A kernel takes the step size in float32 on a GPU, and as Python's number, which is float64, on a processor.
    dtype = torch.float64 if device.type == "cpu" else torch.float32
    return None if argument is None else torch.full((), argument, dtype=dtype, device=device)
