"""Columns of a frame with their gaps filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.tables.values import Values

if TYPE_CHECKING:
    from eigencode.data.tables.column import Column


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
    found = pc.if_else(pa.array(values.missing), decoded, present)
    if pa.types.is_dictionary(kind):
        categories = pa.array(column.kind.categories, pa.string()).cast(present.type)  # type: ignore[union-attr]
        codes = pc.index_in(found, categories).cast(kind.index_type)
        found = pa.DictionaryArray.from_arrays(codes, categories, ordered=kind.ordered)
    return Values(column.name, found, native_type, column.is_mixed)
