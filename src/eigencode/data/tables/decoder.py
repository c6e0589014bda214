"""Decoder: the columns of a frame, made of cells that are given a few rows at a time; gaps filled from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.tables.values import Values

if TYPE_CHECKING:
    from eigencode.data.tables.column import Column

Blocks = np.ndarray | Iterable[np.ndarray]
"""Cells of shape (n, d), or arrays of such cells whose rows follow one another."""


def blocks_of(cells: Blocks) -> Iterable[np.ndarray]:
    """Cells as arrays whose rows follow one another."""
    return [cells] if isinstance(cells, np.ndarray) else cells


class Decoder:
    """The columns of a frame, each in the type that was fitted or in another one.

    What is decoded is appended to one growing buffer a column. Small arrays that stay would lie between the large ones
    that go with each block, whose memory could then not be used for those of the next.

    Parameters
    ----------
    columns : sequence of Column
        The columns, whose cells are in this order.
    kinds : sequence of pa.DataType or None
        The types that they are decoded to. A column of None is not decoded.
    mean : bool
        Whether the cells are means; else they are draws.
    """

    def __init__(self, columns: Sequence[Column], kinds: Sequence[pa.DataType | None], mean: bool) -> None:
        self.columns, self.kinds, self.mean = columns, kinds, mean
        self.n_rows = 0
        self._found = [Appended() for _ in columns]

    def add(self, cells: np.ndarray) -> None:
        """Decode the next rows."""
        self.n_rows += len(cells)
        first = 0
        for own, column, kind in zip(self._found, self.columns, self.kinds, strict=True):
            part = slice(first, first + column.kind.width)
            if kind is not None and column.kind.width:
                own.append(self._decoded(column, cells[:, part], kind))
            first = part.stop

    def arrays(self) -> Iterator[pa.Array | None]:
        """The columns with all rows, one after the other, each of which is forgotten then."""
        for own, column, kind in zip(self._found, self.columns, self.kinds, strict=True):
            if kind is not None and not column.kind.width:
                yield self._decoded(column, np.empty((self.n_rows, 0)), kind)
            else:
                yield own.taken()

    def _decoded(self, column: Column, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        return (column.kind.decode_mean if self.mean else column.kind.decode_drawn)(cells, kind)


class Appended:
    """Arrow arrays of one type, one behind the other in one buffer."""

    def __init__(self) -> None:
        self._buffer: pa.BufferOutputStream | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None

    def append(self, cells: pa.Array) -> None:
        """Append the cells of further rows."""
        batch = pa.record_batch([cells], ["x"])
        if self._writer is None:
            self._buffer = pa.BufferOutputStream()
            self._writer = pa.ipc.new_stream(self._buffer, batch.schema)
        self._writer.write_batch(batch)

    def taken(self) -> pa.Array | None:
        """All cells, which are forgotten here; None if there were no rows."""
        if self._writer is None or self._buffer is None:
            return None
        self._writer.close()
        found = pa.ipc.open_stream(self._buffer.getvalue()).read_all().column(0)
        self._writer = self._buffer = None
        return found.combine_chunks()


def known(column: Column, values: Values) -> tuple[pa.Array, pa.DataType, str]:
    """The values without their dictionary, the type of the column with its gaps filled, and its native type."""
    kind, known = column.arrow, values.cells
    if values.kind == "category":
        known = known.cast(known.type.value_type)
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    try:
        return known.cast(plain), kind, column.native_type
    except pa.ArrowException:  # as of floats, where all values fitted were integers
        return known, known.type, values.dtype


def filled(column: Column, values: Values, decoded: pa.Array) -> Values:
    """The column with its gaps filled from a column of the type of ``known``, the other values as they are."""
    present, kind, native_type = known(column, values)
    decoded = decoded.cast(present.type) if pa.types.is_dictionary(kind) else decoded
    if str(kind) == "string_view":  # of which Arrow has few functions
        present, decoded = present.cast(pa.string()), decoded.cast(pa.string())
    found = pc.if_else(pa.array(values.missing), decoded, present)
    found = found.cast(kind) if str(kind) == "string_view" else found
    if pa.types.is_dictionary(kind):
        categories = pa.array(column.kind.categories, pa.string()).cast(present.type)  # type: ignore[union-attr]
        codes = pc.index_in(found, categories).cast(kind.index_type)
        found = pa.DictionaryArray.from_arrays(codes, categories, ordered=kind.ordered)
    return Values(column.name, found, native_type, column.is_mixed)
