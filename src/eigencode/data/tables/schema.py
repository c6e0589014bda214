"""Schema: what each column of a frame is, and the map between frames and cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa

from eigencode.data.tables import compact, frames, types
from eigencode.data.tables.column import Column
from eigencode.data.tables.decoder import Blocks, Decoder, blocks_of, filled, filled_type
from eigencode.data.tables.excluded import Identifier, Text
from eigencode.data.tables.hashing import MOST_ROWS
from eigencode.data.tables.kinds import Block
from eigencode.data.tables.labels import Boolean, Labels
from eigencode.data.tables.numeric import Number, Real, Share
from eigencode.data.tables.values import Values
from eigencode.errors import OWN_COLUMNS, DataError, EigencodeError, OptionError, did_you_mean


def _with_codes(
    columns: list[Column], table: nw.DataFrame[Any], missing_values: Sequence[Any], rows: np.ndarray | None = None
) -> list[Column]:
    """The columns, with codes for categories of many values by what goes with them in the others, in some rows."""
    if not any(column.is_coded for column in columns):
        return columns
    rows = np.arange(len(table)) if rows is None else rows
    some = list(frames.columns_of(table[rows[:: max(1, len(rows) // MOST_ROWS)]], missing_values))
    pairs = list(zip(columns, some, strict=True))
    others = [column.encode(values) for column, values in pairs if column.kind.width and not column.is_coded]
    return [column.coded_by(values, others) if column.is_coded else column for column, values in pairs]


@dataclass(frozen=True)
class Schema:
    """What each column of a frame is.

    Attributes
    ----------
    columns : tuple of Column
        The columns in their order.
    library : str
        The frame's library, of which answers are.

    Examples
    --------
    >>> import pyarrow as pa
    >>> table = pa.table(
    ...     {
    ...         "size": [1.5, None, 2.5],
    ...         "color": ["red", "blue", "red"],
    ...         "unit": ["cm", "cm", "cm"],
    ...     }
    ... )
    >>> schema = Schema.infer(table)
    >>> print(schema)
    size   real: from 1.5 to 2.5 (1 gap, numbers)
    color  category: 2 categories: red, blue (text with few different values)
    unit   constant: always 'cm' (one value in all rows)
    >>> schema.encode(table).tolist()
    [[1.5, 1.0, 0.0, 0.0], [nan, 0.0, 1.0, 0.0], [2.5, 1.0, 0.0, 0.0]]
    >>> schema.decode(schema.encode(table)).to_pylist()[1]
    {'size': None, 'color': 'blue', 'unit': 'cm'}
    """

    columns: tuple[Column, ...]
    library: str

    @classmethod
    def infer(
        cls,
        frame: Any,
        columns: Mapping[Any, Any] | None = None,
        missing_values: Sequence[Any] = (),
        plain: bool = False,
    ) -> Schema:
        """Find out what the columns of a frame are.

        Parameters
        ----------
        frame : frame of any library that narwhals knows
            The rows.
        columns : mapping, optional
            The kinds of some columns by their names: a name in ``KINDS``, or a list of ordered categories.
        missing_values : sequence
            Values that stand for gaps.
        plain : bool
            Whether numbers and booleans are just numbers.

        Raises
        ------
        DataError
            If no column can be used.
        OptionError
            If ``columns`` has a name that the frame has not, or a kind that is not known.
        """
        table = _as_frame(frame)
        wanted = dict(columns or {})
        require_columns(wanted, frames.names_of(table))
        found = [
            Column.infer(values, wanted.get(values.name), plain) for values in frames.columns_of(table, missing_values)
        ]
        schema = cls(tuple(_with_codes(found, table, missing_values)), frames.library_of(table))
        if found and not schema.n_cells:
            kinds = "; ".join(f"{column.name!r} is {column.kind.summary} ({column.reason})" for column in found[:3])
            raise DataError("No column of the table can be used", got=kinds)
        return schema

    def learned_from(
        self,
        frame: Any,
        rows: np.ndarray,
        columns: Mapping[Any, Any] | None = None,
        missing_values: Sequence[Any] = (),
    ) -> Schema:
        """The same columns with the labels and ranges that some rows of a frame have, given by their numbers.

        What kind each column is stays. The other arguments are those of `infer`.
        """
        table, wanted = _as_frame(frame), columns or {}
        pairs = zip(self.columns, frames.columns_of(table, missing_values), strict=True)
        found = [column.learned_from(values.of_rows(rows), wanted.get(column.name)) for column, values in pairs]
        return replace(self, columns=tuple(_with_codes(found, table, missing_values, rows)))

    def frame_of(self, rows: np.ndarray) -> Any:
        """An array of any type and shape (n, d) as a frame, with its columns in the order of those fitted."""
        columns = (frames.values_of(name, cells) for name, cells in zip(self.names, rows.T, strict=True))
        return frames.frame_of(self.library, columns)

    def __str__(self) -> str:
        names = [name if name.isprintable() else repr(name) for name in (str(column.name) for column in self.columns)]
        width = max(map(len, names), default=0)
        lines = zip(names, self.columns, strict=True)
        return "\n".join(f"{name:<{width}}  {column.description}" for name, column in lines)

    @property
    def names(self) -> list[Any]:
        """The columns' names."""
        return [column.name for column in self.columns]

    @property
    def blocks(self) -> list[Block]:
        """Family and number of cells of each block, in the order of the cells."""
        return [block for column in self.columns for block in column.kind.blocks]

    @property
    def n_cells(self) -> int:
        """Number of cells of a row."""
        return sum(column.kind.width for column in self.columns)

    def is_sound(self, n_columns: int, n_cells: int) -> bool:
        """Whether it has so many columns and cells, and rows can be made by it."""
        try:
            self.decode(np.zeros((1, self.n_cells)))
        except (EigencodeError, ValueError, TypeError, LookupError, pa.ArrowException):
            return False
        return len(self.columns) == n_columns and self.n_cells == n_cells

    @property
    def cell_names(self) -> list[str]:
        """A name for each cell: its column's, and the label for that of a category."""
        return [f"{column.name}{suffix}" for column in self.columns for suffix in column.kind.cell_names]

    @property
    def highest(self) -> list[float]:
        """The largest value fitted of each cell that is modelled by a logarithm, infinity for others."""
        return [value for column in self.columns for value in column.kind.highest]

    @property
    def is_logarithm(self) -> list[bool]:
        """Whether each cell is the logarithm of a number."""
        return [is_log for column in self.columns for is_log in column.kind.is_logarithm]

    @property
    def is_plain(self) -> bool:
        """Whether cells are just the table's numbers, and each column is one of them."""
        return all(isinstance(column.kind, Real | Share) and column.is_numeric for column in self.columns)

    @property
    def are_real(self) -> np.ndarray:
        """Which cells are any numbers, and neither counts nor of labels, shape (n_cells,)."""
        families, widths = zip(*self.blocks, strict=True)
        return np.repeat([family in ("real", "share") for family in families], widths)

    @property
    def is_real(self) -> bool:
        """Whether all cells are any numbers."""
        return bool(self.are_real.all())

    @property
    def is_numeric(self) -> bool:
        """Whether all columns that the model sees have numbers."""
        return all(types.class_of(column.arrow) == "number" for column in self.columns if column.kind.width)

    @property
    def notes(self) -> list[str]:
        """Sentences on columns that are left out, or not taken as they are."""
        return [note for column in self.columns for note in column.notes]

    @property
    def optional(self) -> list[str]:
        """The names of the columns that the model does not see, which rows may lack."""
        return [str(column.name) for column in self.columns if not column.kind.width]

    def of(self, frame: Any) -> Schema:
        """The same for a frame like those fitted, which may lack columns that the model does not see."""
        present = set(frames.names_of(_as_frame(frame)))
        return replace(self, columns=tuple(c for c in self.columns if c.kind.width or c.name in present))

    def encode(self, table: Any, missing_values: Sequence[Any] = ()) -> Any:
        """The cells of rows like those fitted, shape (n, n_cells): float64, or float32 if all numbers given are that.

        The rows are a frame, or an array of shape (n, d) with its columns in the order of those fitted. The cells are
        an array, or `CompactCells` if there are many.
        """
        if isinstance(table, np.ndarray):
            is_half = table.dtype in (np.float16, np.float32)
            given_types: list[Any] = [nw.Float32 if is_half else nw.Float64] * len(self.columns)
            given = zip(self.names, table.T, strict=True)
            read: Iterator[Values] = (frames.values_of(name, cells, "", missing_values) for name, cells in given)
        else:
            table = _as_frame(table)
            if len(table.columns) < len(self.columns):
                return self.of(table).encode(table, missing_values)
            given_types = list(table.schema.values())
            read = frames.columns_of(table, missing_values)
        of_numbers = [
            type_
            for column, type_ in zip(self.columns, given_types, strict=True)
            if column.kind.width and not isinstance(column.kind, Boolean | Labels)
        ]
        is_single = all(type_ in frames.SINGLE for type_ in of_numbers)
        shape, dtype = (len(table), self.n_cells), np.float32 if is_single else np.float64
        columns = ((column, part, values) for (column, part), values in zip(self._parts(), read, strict=True))
        if shape[0] * shape[1] >= compact.COMPACT_FROM:
            return compact.CompactCells.of(columns, shape, dtype)
        cells = np.empty(shape, dtype)
        for column, part, values in columns:
            cells[:, part] = column.encode(values)
        return cells

    def allows(self, frame: Any, missing_values: Sequence[Any] = ()) -> np.ndarray:
        """Whether each cell of a frame like the one fitted is a value that its column can have, shape (n, columns).

        Numbers below 0 in a column of counts cannot be, nor labels that were not seen.
        """
        given = {values.name: values for values in frames.columns_of(_as_frame(frame), missing_values)}
        absent = np.ones(len(frame), dtype=bool)
        found = (c.allows(given[c.name]) if c.name in given else absent for c in self.columns)
        return np.stack(list(found), axis=1)

    def numbers(self, frame: Any, missing_values: Sequence[Any] = ()) -> np.ndarray:
        """The columns of numbers of a frame like the one fitted, as they are, shape (n, k), NaN in gaps."""
        given = {values.name: values for values in frames.columns_of(_as_frame(frame), missing_values)}
        names = [column.name for column in self.columns if isinstance(column.kind, Number)]
        found = np.full((len(frame), len(names)), np.nan)
        for number, name in enumerate(names):
            if name in given:
                found[:, number] = given[name].numbers
        return found

    def decode(self, cells: Blocks, like: Any = None, mean: bool = False) -> Any:
        """A frame of the fitted library from cells of shape (n, n_cells).

        Parameters
        ----------
        cells : ndarray of shape (n, n_cells), or iterable of such arrays
            Numbers; NaN in a block is a gap. Of several arrays, the rows follow one another.
        like : frame, optional
            The frame with the same rows: it gives the index, and the columns that the model does not see.
        mean : bool
            Whether the cells are means, which of whole numbers are not rounded in a column of floats. Else they are
            draws, which are within the range fitted, and have no more decimals than the values fitted.
        """
        if like is not None and len(_as_frame(like).columns) < len(self.columns):
            return self.of(like).decode(cells, like, mean)
        is_partial = like is not None and any(isinstance(column.kind, Identifier | Text) for column in self.columns)
        given = frames.columns_of(_as_frame(like)) if is_partial else repeat(None, len(self.columns))
        decoder = Decoder(self.columns, [column.arrow for column in self.columns], mean)
        for block in blocks_of(cells):
            decoder.add(block)
        columns = (
            values if values is not None and isinstance(column.kind, Identifier | Text) else column.values_of(found)
            for column, values, found in zip(self.columns, given, decoder.arrays(), strict=True)
        )
        return frames.frame_of(self.library, columns, like)

    def filled(self, like: Any, cells: Blocks, missing_values: Sequence[Any] = (), mean: bool = False) -> Any:
        """A frame with its gaps filled from cells, as for ``decode``; all other values are as they were.

        A column without gaps has the type given. Others have the type fitted if it can hold the values given, as a
        column of whole numbers that has floats because of its gaps; but labels keep the type given.
        """
        return self.filled_each(like, (block[None] for block in blocks_of(cells)), missing_values, mean)[0]

    def filled_each(
        self,
        like: Any,
        cells: Iterable[np.ndarray],
        missing_values: Sequence[Any] = (),
        mean: bool = False,
        has_types: bool = True,
    ) -> list[Any]:
        """The same for several frames; each array of cells has the next rows of all of them, shape (m, b, n_cells).

        A frame that was made of an array has no types of its own: its columns have those fitted, if these can hold the
        values given.
        """
        schema, table = self.of(like), _as_frame(like)
        pairs = zip(schema.columns, frames.columns_of(table, missing_values), strict=True)
        kinds = [
            _decoded_type(column, values) if values.n_gaps and not isinstance(column.kind, Identifier | Text) else None
            for column, values in pairs
        ]
        decoders: list[Decoder] = []
        for block in cells:
            decoders = decoders or [Decoder(schema.columns, kinds, mean) for _ in block]
            for decoder, own in zip(decoders, block, strict=True):
                decoder.add(own)
        return [
            frames.frame_of(self.library, schema._with(decoder, table, missing_values, has_types), like)
            for decoder in decoders
        ]

    def _with(
        self, decoder: Decoder, table: nw.DataFrame[Any], missing_values: Sequence[Any], has_types: bool
    ) -> Iterator[Values]:
        """The columns of a frame, their gaps filled."""
        given, is_own = frames.columns_of(table, missing_values), has_types and frames.library_of(table) == self.library
        for column, values, decoded in zip(self.columns, given, decoder.arrays(), strict=True):
            own = values if is_own else replace(values, dtype="", native=None)
            yield values if decoded is None and is_own else filled(column, own, decoded)

    def completed(self, frame: Any, missing_values: Sequence[Any] = ()) -> Any:
        """A frame of the fitted library with all columns in the types fitted, gaps in those that a frame lacks.

        An array is returned as it is. A value that a column cannot have is a `DataError`.
        """
        if frames.as_frame(frame) is None:
            return frame
        found = {values.name: values for values in frames.columns_of(_as_frame(frame), missing_values)}
        if unknown := [name for name in found if name not in self.names]:
            hint = did_you_mean(unknown[0], list(map(str, self.names)))
            raise DataError("The rows have a column that was not fitted", got=f"{unknown[0]!r}", hint=hint)
        columns = [
            column.as_fitted(found[column.name])
            if column.name in found
            else column.values_of(pa.nulls(len(frame), column.arrow))
            for column in self.columns
        ]
        return frames.frame_of(self.library, columns, frame)

    @property
    def has_times(self) -> bool:
        """Whether some cells are seconds."""
        return any(column.kind.kind in ("time", "duration") for column in self.columns)

    def numbered_from(self, n_rows: int) -> Schema:
        """The same, whose identifiers begin after those of so many rows."""
        columns = [
            replace(column, kind=replace(column.kind, largest=column.kind.largest + n_rows))
            if isinstance(column.kind, Identifier) and column.kind.largest is not None
            else column
            for column in self.columns
        ]
        return replace(self, columns=tuple(columns))

    def log_jacobian(self, cells: np.ndarray) -> np.ndarray:
        """Log-density of each row in the table's units minus that of its cells, shape (n,)."""
        total = np.zeros(len(cells))
        for column, part in self._parts():
            total += column.kind.log_jacobian(cells[:, part])
        return total

    def _parts(self) -> Iterator[tuple[Column, slice]]:
        """The columns, each with the numbers of its cells."""
        first = 0
        for column in self.columns:
            yield column, slice(first, first + column.kind.width)
            first += column.kind.width


def require_columns(wanted: Mapping[Any, Any], names: Sequence[Any]) -> None:
    """Raise an error if one of the wanted kinds is that of a column that is not among these names."""
    if unknown := [name for name in wanted if name not in names]:
        hint = did_you_mean(unknown[0], list(map(str, names)), OWN_COLUMNS)
        raise OptionError("'columns' names a column that is not there", got=f"{unknown[0]!r}", hint=hint)


def _decoded_type(column: Column, values: Values) -> pa.DataType:
    return column.arrow if isinstance(column.kind, Labels) else filled_type(column, values)[0]


def _as_frame(frame: Any) -> nw.DataFrame[Any]:
    table = frames.as_frame(frame)
    if table is None:
        raise DataError("A frame is needed", got=type(frame).__name__, hint="Use pandas, polars or pyarrow")
    return table
