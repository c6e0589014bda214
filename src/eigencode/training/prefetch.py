"""How rows come to the device: from its own memory where they fit, else from the host's, one batch ahead.

A copy from pinned memory runs beside the arithmetic. Two pinned buffers take turns: while the device works on one
batch, the next is gathered into the other and sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, pairwise
from typing import Protocol

import torch
from torch import Tensor

RESIDENT_SHARE = 0.6
"""Share of a device's free memory that rows may take for good; the rest is for weights and activations."""


def fit_on(device: torch.device, n_bytes: float) -> bool:
    """Whether rows of so many bytes may stay in a device's own memory; the host's, where they are, always holds them.

    Examples
    --------
    >>> fit_on(torch.device("cpu"), 1e15)
    True
    """
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes <= RESIDENT_SHARE * free


def is_same(home: torch.device, wanted: torch.device) -> bool:
    """Whether a tensor's device is the one that was meant, which may go without a number.

    Examples
    --------
    >>> is_same(torch.device("cuda:0"), torch.device("cuda")), is_same(torch.device("cuda:0"), torch.device("cuda:1"))
    (True, False)
    """
    return home.type == wanted.type and wanted.index in (None, home.index)


def on_device(numbers: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A few numbers as a tensor on a device, sent without waiting for it."""
    found = torch.tensor(numbers, dtype=dtype)
    return found if device.type == "cpu" else found.pin_memory().to(device, non_blocking=True)


class Lane(Protocol):
    """One way to the device."""

    def send(self, rows: Tensor, places: Tensor) -> None:
        """Gather rows and begin to send them, after what was sent before has arrived."""

    def receive(self) -> Tensor:
        """What was sent, on the device, for use by what is asked of it from now on."""


class PinnedLane:
    """A pinned buffer and a stream of copies out of it.

    Parameters
    ----------
    device : torch.device
        Where the rows go.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream, self._sent = torch.cuda.Stream(device), torch.cuda.Event()
        self._buffer: Tensor | None = None
        self._on_device: Tensor | None = None

    def send(self, rows: Tensor, places: Tensor) -> None:
        """Gather on the host and begin the copy. The buffer is written to only after its last copy has ended."""
        shape = (len(places), *rows.shape[1:])
        if self._buffer is None or len(self._buffer) < len(places):
            self._buffer = torch.empty(shape, dtype=rows.dtype, pin_memory=True)
        self._sent.synchronize()
        gathered = torch.index_select(rows, 0, places, out=self._buffer[: len(places)])
        with torch.cuda.stream(self._stream):
            self._on_device = gathered.to(self._device, non_blocking=True)
            self._sent.record(self._stream)

    def receive(self) -> Tensor:
        """The rows; the device's present stream waits for them, the host does not."""
        assert self._on_device is not None  # something was sent before
        current = torch.cuda.current_stream(self._device)
        current.wait_event(self._sent)
        # Their memory must not be given away before the present stream is done with it.
        self._on_device.record_stream(current)
        return self._on_device


def feed(
    rows: Tensor, batches: Sequence[Tensor], device: torch.device, lane: Callable[[torch.device], Lane] = PinnedLane
) -> Iterator[Tensor]:
    """The rows of each batch in turn, on the device.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        On the device, or on the host.
    batches : sequence of Tensor
        Row numbers, on the device of the rows.
    device : torch.device
        Where they are wanted.
    lane : callable
        Makes a way from the host to the device.
    """
    if is_same(rows.device, device):
        yield from (rows.index_select(0, batch) for batch in batches)
    elif len(batches):
        lanes = cycle([lane(device), lane(device)])
        following = [*zip(lanes, batches, strict=False)]
        first, places = following[0]
        first.send(rows, places)
        for (present, _), (ahead, places) in pairwise(following):
            ahead.send(rows, places)
            yield present.receive()
        yield following[-1][0].receive()
