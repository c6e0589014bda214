"""Prefetching batches to the device: from its own memory if the rows fit, else from the host's, one batch ahead.

A copy from pinned memory runs in parallel with the arithmetic. There are two pinned buffers: while the device works on
one batch, the next one is gathered into the other buffer and copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from eigencode.batch import Batch

if TYPE_CHECKING:
    from eigencode.data.rows import Rows

RESIDENT_SHARE = 0.6
"""Share of a device's free memory that rows may take; the rest is for weights and activations."""


def fit_on(device: torch.device, n_bytes: float) -> bool:
    """Whether rows of ``n_bytes`` fit into a device's memory; always true for the host, where they already are.

    Examples
    --------
    >>> fit_on(torch.device("cpu"), 1e15)
    True
    """
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes <= RESIDENT_SHARE * free


def is_same(device: torch.device, wanted: torch.device) -> bool:
    """Whether a tensor's device is the wanted one, which may have no index.

    Examples
    --------
    >>> (
    ...     is_same(torch.device("cuda:0"), torch.device("cuda")),
    ...     is_same(torch.device("cuda:0"), torch.device("cuda:1")),
    ... )
    (True, False)
    """
    return device.type == wanted.type and wanted.index in (None, device.index)


def on_device(numbers: Sequence[float] | np.ndarray, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A few numbers as a tensor on a device, copied asynchronously."""
    found = torch.as_tensor(numbers, dtype=dtype)
    return found if device.type == "cpu" else found.pin_memory().to(device, non_blocking=True)


class PinnedLane:
    """A pinned buffer for each tensor of a batch, and a stream of copies out of them.

    Parameters
    ----------
    device : torch.device
        The device of the batches.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream, self._sent = torch.cuda.Stream(device), torch.cuda.Event()
        self._buffers: dict[int, Tensor] = {}
        self._on_device: Batch | None = None

    def send(self, batch: Batch) -> None:
        """Begin the copy, after the last copy from the same buffer has ended."""
        self._sent.synchronize()
        numbers = count()
        pinned = batch.map(lambda tensor: self._pinned(next(numbers), tensor))
        with torch.cuda.stream(self._stream):
            self._on_device = pinned.to(self._device)
            self._sent.record(self._stream)

    def _pinned(self, number: int, tensor: Tensor) -> Tensor:
        """The tensor in the buffer of its number."""
        buffer = self._buffers.get(number)
        if buffer is None or len(buffer) < len(tensor):
            buffer = self._buffers[number] = torch.empty_like(tensor, pin_memory=True)
        return buffer[: len(tensor)].copy_(tensor)

    def receive(self) -> Batch:
        """The batch that was sent last; the device's current stream waits for it, the host does not."""
        assert self._on_device is not None  # something was sent before
        current = torch.cuda.current_stream(self._device)
        current.wait_event(self._sent)
        # Their memory must not be reused before the current stream has finished with it.
        for tensor in self._on_device.tensors:
            if tensor is not None:
                tensor.record_stream(current)
        return self._on_device


@dataclass(frozen=True)
class Prefetched:
    """Rows on the host whose batches are sent to a device: each is copied while the device works on the one before.

    Attributes
    ----------
    rows : Rows
        The rows.
    device : torch.device
        The device.
    lane : callable
        Makes the object that copies batches from the host to the device.
    """

    rows: Rows
    device: torch.device
    lane: Callable[[torch.device], PinnedLane] = PinnedLane

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """All training rows once, in a random order, on the device."""
        present, ahead, is_sent = self.lane(self.device), self.lane(self.device), False
        for batch in self.rows.batches(generator, batch_size):
            ahead.send(batch)
            if is_sent:
                yield present.receive()
            present, ahead, is_sent = ahead, present, True
        if is_sent:
            yield present.receive()
