"""Arrow types: from their text, and cells converted to them."""

from __future__ import annotations

import math
import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from eigencode.errors import DataError

TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")
DECIMAL = re.compile(r"decimal(32|64|128|256)\((\d+), (-?\d+)\)")
DICTIONARY = re.compile(r"dictionary<values=(.+), indices=(u?int\d+), ordered=([01])>")

NESTED = "schema:"
"""What begins the text of a type whose own text says too little."""

TIME_FORMATS = tuple(
    f"{date}{time}"
    for date in ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
    for time in ("", " %H:%M", " %H:%M:%S", "T%H:%M:%S")
)
"""How dates and times may be written as text."""

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

FIRST, LAST = datetime(1, 1, 2, tzinfo=UTC).timestamp(), datetime(9999, 12, 30, tzinfo=UTC).timestamp()
"""The first and the last time, in seconds, that Python can show in any time zone."""

LONGEST = timedelta.max.days * 86_400.0
"""Seconds of the longest duration of Python."""

MOST_UNITS = 9.2e18
"""Units that an integer of 64 bits has room for."""


def type_of(text: str) -> pa.DataType:
    """The Arrow type of a text, as ``str`` of the type gives it.

    Examples
    --------
    >>> (
    ...     type_of("timestamp[us, tz=Europe/Berlin]"),
    ...     type_of("dictionary<values=string, indices=int8, ordered=1>"),
    ... )
    (TimestampType(timestamp[us, tz=Europe/Berlin]), DictionaryType(dictionary<values=string, indices=int8, ordered=1>))
    """
    try:
        if text.startswith(NESTED):
            return pa.ipc.read_schema(pa.py_buffer(b64decode(text.removeprefix(NESTED), validate=True))).field(0).type
        if found := TIMESTAMP.fullmatch(text):
            return pa.timestamp(found[1], found[2])
        if found := DECIMAL.fullmatch(text):
            return getattr(pa, f"decimal{found[1]}")(int(found[2]), int(found[3]))
        if found := DICTIONARY.fullmatch(text):
            return pa.dictionary(pa.type_for_alias(found[2]), type_of(found[1]), found[3] == "1")
        return pa.type_for_alias(text)
    except (ValueError, AttributeError, pa.ArrowException) as error:
        raise DataError("A column has a type that is not known", got=f"{text!r}"[:60]) from error


def text_of(kind: pa.DataType) -> str:
    """The text of which `type_of` makes a type again: its own, or for a nested one the schema that it has in a file."""
    try:
        is_own = type_of(str(kind)) == kind
    except DataError:
        is_own = False
    return str(kind) if is_own else f"{NESTED}{b64encode(pa.schema([('x', kind)]).serialize()).decode()}"


def class_of(kind: pa.DataType) -> str:
    """The class of a type: number, boolean, text, time, duration, category, nothing or other."""
    return next((name for name, test in CLASSES.items() if test(kind)), "other")


def is_text(kind: pa.DataType) -> bool:
    """Whether the cells of a type are text."""
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or str(kind) == "string_view")


CLASSES: dict[str, Any] = {
    "number": lambda kind: kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind),
    "boolean": kinds.is_boolean,
    "text": is_text,
    "time": lambda kind: kinds.is_timestamp(kind) or kinds.is_date(kind),
    "duration": lambda kind: kinds.is_duration(kind) or kinds.is_time(kind),
    "category": kinds.is_dictionary,
    "nothing": kinds.is_null,
}
"""A test of Arrow types for each class."""


def numbers_as(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Numbers of shape (n,) as cells of a type, rounded and clipped to it; NaN is a gap."""
    missing = np.isnan(values)
    if kinds.is_integer(kind) or kinds.is_boolean(kind):
        return pa.array(_whole(np.where(missing, 0, values), kind), mask=missing)
    found = pa.array(np.where(missing, 0, values), mask=missing)
    if is_text(kind) and (values[~missing] == np.rint(values[~missing])).all():
        found = numbers_as(values, pa.int64())
    if kinds.is_decimal(kind):  # Arrow makes 0 of numbers with too many digits
        found = pa.array(np.where(missing, 0, values).clip(*limits_of(kind)), mask=missing)
    return found.cast(kind, safe=False)


def cast(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cells in another type, decimals as the nearest floats; an error if it has no room for them.

    Examples
    --------
    >>> from decimal import Decimal
    >>> cast(pa.array([Decimal("0.29")]), pa.float64())[0]
    <pyarrow.DoubleScalar: 0.29>
    """
    if kinds.is_decimal(cells.type) and kinds.is_floating(kind):
        cells = cells.cast(pa.string())  # Arrow makes other floats of decimals
    return cells.cast(kind)


def keeps_digits(cells: pa.Array, kind: pa.DataType) -> bool:
    """Whether numbers are the same in another type, as not in booleans, decimals or shorter floats.

    An error if it has no room for them.
    """
    found = cast(cells, kind)
    if not kinds.is_floating(cells.type) and not (kinds.is_integer(cells.type) and kinds.is_boolean(kind)):
        return True
    kept, given = (each.to_numpy(zero_copy_only=False) for each in (cast(found, cells.type), cells))
    return np.array_equal(kept, given, equal_nan=True)


def _whole(values: np.ndarray, kind: pa.DataType) -> np.ndarray:
    if kinds.is_boolean(kind):
        return values >= 0.5
    return np.rint(values).clip(*limits_of(kind)).astype(kind.to_pandas_dtype())


def limits_of(kind: pa.DataType) -> tuple[float, float]:
    """The smallest and the largest float that a type of integers or decimals has; infinities for other types.

    Examples
    --------
    >>> (
    ...     limits_of(pa.uint8()),
    ...     limits_of(pa.int64())[1] < 2**63,
    ...     limits_of(pa.decimal128(3, 2)),
    ... )
    ((0.0, 255.0), True, (-9.99, 9.99))
    """
    if kinds.is_decimal(kind):  # of more than 15 digits, the largest decimal is no float
        digits = kind.precision - kind.scale
        end = min((10**kind.precision - 1) / 10.0**kind.scale, float(np.nextafter(10.0**digits, 0)))
        return -end, end
    if not kinds.is_integer(kind):
        return -np.inf, np.inf
    low, high = (getattr(np.iinfo(kind.to_pandas_dtype()), end) for end in ("min", "max"))
    # The largest integers of 64 bits are no floats; the next smaller float is.
    largest = float(high) if int(float(high)) <= high else float(np.nextafter(float(high), 0))
    return float(low), largest


def time_format(labels: pa.Array) -> str | None:
    """The one format in which all texts are times, None if there is none, or more than one as of 01/02/2003.

    Examples
    --------
    >>> (
    ...     time_format(pa.array(["2020-12-31", "1850-01-01"])),
    ...     time_format(pa.array(["01/02/2003", "03/04/2005"])),
    ... )
    ('%Y-%m-%d', None)
    """
    few = labels.slice(0, 20)
    likely = [name for name in TIME_FORMATS if times_of(few, name) is not None]
    found = [name for name in likely if times_of(labels, name) is not None]
    return found[0] if len(found) == 1 else None


def times_of(texts: pa.Array, format_: str) -> pa.Array | None:
    """Texts as times to the second; None if one is no time, or would be written in another way."""
    found = pc.strptime(texts, format=format_, unit="s", error_is_null=True)
    is_same = pc.equal(pc.strftime(found, format=format_), texts)
    return found if pc.all(pc.fill_null(is_same, pc.is_null(texts)), min_count=0).as_py() else None


def units_a_second(kind: pa.DataType) -> float:
    """The units of a type of times or durations in a second."""
    return 1 / 86_400 if kinds.is_date32(kind) else PER_SECOND[getattr(kind, "unit", "ms")]


def seconds(cells: pa.Array) -> np.ndarray:
    """Times as seconds since 1970 (UTC), durations as seconds, in float64; NaN for gaps."""
    whole = cells.cast(pa.int32() if cells.type.bit_width == 32 else pa.int64()).cast(pa.int64())
    found: np.ndarray = whole.to_numpy(zero_copy_only=False).astype(np.float64)
    return found / units_a_second(cells.type)


def from_seconds(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Cells of a type of times or durations from seconds, rounded to its units and clipped to what Python can show."""
    rate = units_a_second(kind)
    low, high = _range_of(kind, rate)
    units = (values * rate).clip(low, high)
    return numbers_as(units, pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)


def _range_of(kind: pa.DataType, rate: float) -> tuple[float, float]:
    """The smallest and the largest value of a type of times or durations, in its units.

    Of dates they are in the years 1 to 9999, and a time of a day is within the day: others are errors in pandas, polars
    and Python. The smallest integer of 64 bits is a gap to pandas.
    """
    if kinds.is_time(kind):
        return 0.0, 86_400 * rate - 1
    low, high = (-LONGEST, LONGEST) if kinds.is_duration(kind) else (FIRST, LAST)
    return max(math.ceil(low * rate), -MOST_UNITS), min(math.floor(high * rate), MOST_UNITS)
