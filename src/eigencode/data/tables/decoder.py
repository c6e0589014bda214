"""Decoder: the columns of a frame, made of cells that are given a few rows at a time; gaps filled from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.tables import types
from eigencode.data.tables.labels import Labels
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


def filled_type(column: Column, values: Values) -> tuple[pa.DataType, str]:
    """The type of a column whose gaps are filled, and its name in the frame's library.

    It is the type fitted if that can hold all values given, as whole numbers that gaps made floats of; but labels stay
    what they are given as: text, numbers or a categorical type.
    """
    values = values.or_gaps_of(column.arrow)
    is_other = isinstance(column.kind, Labels) and values.n_gaps < len(values)
    if not (is_other and _class_of_labels(values.type) != _class_of_labels(column.arrow)):
        try:
            if types.keeps_digits(_plain(values.cells), _plain_type(column.arrow)):
                return column.arrow, column.native_type
        except pa.ArrowException:  # as of floats, where all values fitted were integers
            pass
    return values.type, values.dtype


def filled(column: Column, values: Values, decoded: pa.Array | None) -> Values:
    """The column with its gaps filled from a column that was decoded, if there is one; the other values as they are."""
    type_, native_type = filled_type(column, values)
    plain = pa.string() if str(type_) == "string_view" else _plain_type(type_)  # of views Arrow has few functions
    found = types.cast(_plain(values.or_gaps_of(type_).cells), plain)
    if decoded is not None:
        found = pc.if_else(pa.array(values.missing), _plain(decoded).cast(plain), found)
    if pa.types.is_dictionary(type_):
        found = _in_categories(found, column, values, type_)
    return Values(column.name, found.cast(type_) if found.type != type_ else found, native_type, column.is_mixed)


def _in_categories(labels: pa.Array, column: Column, values: Values, type_: pa.DictionaryType) -> pa.DictionaryArray:
    """Labels as a categorical column: with the categories fitted, those of the column given, and any other."""
    own = values.cells.dictionary if pa.types.is_dictionary(values.type) else labels[:0]
    fitted = pa.array(getattr(column.kind, "categories", ()), pa.string()).cast(labels.type)
    parts = [part.cast(labels.type) for part in (fitted if type_ == column.arrow else own, labels)]
    categories = pc.unique(pa.concat_arrays(parts)).drop_null()
    is_small = len(categories) < 2 ** (type_.index_type.bit_width - 1)
    codes = pc.index_in(labels, categories).cast(type_.index_type if is_small else pa.int32())
    return pa.DictionaryArray.from_arrays(codes, categories, ordered=type_.ordered)


def _plain(cells: pa.Array) -> pa.Array:
    """Cells without their dictionary."""
    return cells.cast(cells.type.value_type) if pa.types.is_dictionary(cells.type) else cells


def _plain_type(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _class_of_labels(type_: pa.DataType) -> tuple[bool, str]:
    return pa.types.is_dictionary(type_), types.class_of(_plain_type(type_))
