"""The rows that detect writes, with their scores and reasons, and the few of them that it prints."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from eigencode import data, progress
from eigencode.cli.flags import STREAM
from eigencode.cli.tables import inputs_of, n_cells_of, write
from eigencode.descriptions import finite, fitted_names
from eigencode.words import figures

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from eigencode.estimators.anomaly import AnomalyDetector

T = TypeVar("T")

JSON = ".json"

WRITTEN = "row", "score", "p_value", "alarm"
"""The columns that are written of each row."""

REASONS = "reasons of each row"
"""The key of the reasons beside the columns of a table."""

REASON_COLUMNS = {
    "reason": ("column", "text"),
    "contribution": ("contribution", "number"),
    "observed": ("observed", "value"),
    "expected": ("expected", "value"),
    "direction": ("direction", "text"),
}
"""The name of each column about a reason, what it has, and of which kind that is."""


@dataclass(frozen=True)
class Asked:
    """A detector, and the rows about which it is asked.

    Attributes
    ----------
    detector : AnomalyDetector
        The detector.
    table : frame, array or source of blocks
        The rows.
    ids : sequence of str
        Columns that the output has too; the detector may not know them.
    """

    detector: AnomalyDetector
    table: Any
    ids: Sequence[str]

    def of_blocks(self, ask: Callable[[Any, Any, int], T]) -> Iterator[T]:
        """The answers to a question about rows as the detector knows them, with all columns, and from which number."""
        known = {*(fitted_names(self.detector) or ()), self.detector.time}
        others = [name for name in self.ids if name not in known]

        def answer(block: Any, first: int) -> T:
            return ask(block.drop_columns(others) if others else block, block, first)

        if self.detector.window is not None:  # a window has rows of several blocks
            return iter([answer(self.table, 0)])
        return data.answers_of(self.table, n_cells_of(self.detector), answer)

    def reasons(self, rows: Any, some: np.ndarray, n_columns: int) -> list[list[dict[str, Any]]]:
        """The reasons of some of the rows of a block, each as a dictionary."""
        if not len(some):
            return []
        found = self.detector.explain(rows, rows=some, n_columns=n_columns, output="records")
        return [list(map(short, row["reasons"])) for row in found]


@dataclass
class Alarms:
    """Rows with what a detector says of each: the alarms, the most unusual one first, or all rows in their order.

    Attributes
    ----------
    asked : Asked
        The detector and the rows.
    scores, p_values, are_alarms : ndarray of shape (n,)
        What it says of the rows.
    n_reasons : int
        Columns that are written about each row, as its reasons.
    all_rows : bool
        Whether all rows are written, and not the alarms only.
    first : int
        The number of the first row.
    n_shown : int
        Alarms that are printed.
    n_told : int
        Reasons that are printed of each.
    """

    asked: Asked
    scores: np.ndarray
    p_values: np.ndarray
    are_alarms: np.ndarray
    n_reasons: int
    all_rows: bool
    first: int
    n_shown: int
    n_told: int = 2
    shown: dict[int, dict[str, Any]] = field(init=False)
    """The lines of the alarms that are printed, with their reasons, by their positions."""

    def __post_init__(self) -> None:
        numbers = self.are_alarms.nonzero()[0]
        order = self.scores[numbers].argsort(kind="stable")
        self.shown = {int(row): {} for row in numbers[order][: self.n_shown]}

    def lines_of(self, rows: Any, block: Any, first: int) -> dict[str, Any]:
        """The columns of the rows that are written of a block, and the reasons of each."""
        kept = self.are_alarms[first : first + len(block)] | self.all_rows
        numbers = first + kept.nonzero()[0]
        columns = {name: block[name].take(numbers - first) for name in self.asked.ids}
        columns |= {"row": self.first + numbers, "score": self.scores[numbers]}
        columns |= {"p_value": _in_six_digits(self.p_values[numbers])}
        columns |= {"alarm": self.are_alarms[numbers]} if self.all_rows else {}
        explained = [i for i, row in enumerate(numbers) if self.n_reasons or row in self.shown]
        found = self.asked.reasons(rows, numbers[explained] - first, self.n_reasons or self.n_told)
        reasons: list[list[dict[str, Any]]] = [[] for _ in numbers]
        for i, own in zip(explained, found, strict=True):
            reasons[i] = own
            if (row := int(numbers[i])) in self.shown:
                line = data.as_arrow(columns).slice(i, 1).to_pylist()[0]
                self.shown[row] = {**line, REASONS: own[: self.n_told]}
        return {**columns, REASONS: reasons}

    def write(self, output: Path) -> None:
        """Write rows with their reasons: in JSON as a list of objects, else as further columns.

        All rows are written a block at a time. Alarms are held until their order is known.
        """
        blocks = self.asked.of_blocks(self.lines_of)
        if output.suffix.lower() == JSON:
            lines = (line for block in blocks for line in self._as_objects(block))
            _write_json(output, lines if self.all_rows else _in_order_of_objects(lines))
            return
        columns = self.asked.detector.columns_
        has_text = columns is not None and not columns.is_numeric
        tables = (data.as_arrow(_with_reasons(block, self.n_reasons, has_text)) for block in blocks)
        write(output, tables if self.all_rows else _in_order(tables), "explaining", reported=False)

    def _as_objects(self, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows of a block as JSON objects."""
        reasons = block.pop(REASONS)
        for line, own in zip(data.as_arrow(block).to_pylist(), reasons, strict=True):
            yield {**line, "reasons": own} if self.n_reasons else line

    def told(self) -> str:
        """The most unusual alarms and their reasons, as text in columns; without alarms none."""
        if not self.shown:
            return ""
        names, shown = [*self.asked.ids, "row", "p_value"], ["column", "observed", "expected", "direction"]
        table = [[*names, *shown]]
        for line in self.shown.values():
            first = [_brief(line[name]) for name in names]
            for reason in line[REASONS]:
                table.append([*first, *(_brief(reason[name]) for name in shown)])
                first = [""] * len(names)
        return aligned(table)


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Lines of texts in columns.

    Examples
    --------
    >>> print(aligned([["row", "column"], ["12", "fare"], ["", "age"]]))
    row  column
    12   fare
         age
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) for line in table)
    return "\n".join(line.rstrip() for line in lines)


def _brief(value: Any) -> str:
    """A value for a reader of a terminal."""
    if value is None or value != value:
        return "missing"
    if isinstance(value, float):
        return figures(value, 6)
    return _short_text(" ".join(str(value).split()))


def _short_text(words: str, most: int = 40) -> str:
    """A long text without its middle: ids and addresses have no spaces, and often differ at their ends only.

    Examples
    --------
    >>> _short_text("sensor-of-the-second-pump-12", 20)
    'sensor-o...d-pump-12'
    """
    kept = (most - 3) // 2
    return words if len(words) <= most else f"{words[:kept]}...{words[len(words) - most + 3 + kept :]}"


def _in_six_digits(shares: np.ndarray) -> np.ndarray:
    """Shares of few rows have endless digits; six tell them apart from each other and from any rate."""
    import numpy as np

    return np.array([float(f"{share:.6g}") for share in shares])


def short(reason: dict[str, Any]) -> dict[str, Any]:
    """A reason with six significant digits, and of what is expected three of its difference to the observed number.

    No digit before the decimal point is lost. What was observed stays as the rows have it.
    """
    observed, expected = reason["observed"], reason["expected"]
    if isinstance(expected, float) and expected != observed:
        sizes = [(expected, 6)] + ([(expected - observed, 3)] if isinstance(observed, int | float) else [])
        expected = round(expected, max(0, *(n_decimals(number, digits) for number, digits in sizes)))
    contribution = reason["contribution"]
    return {**reason, "contribution": round(contribution, n_decimals(contribution, 6)), "expected": expected}


def n_decimals(number: float, digits: int) -> int:
    """The decimals that give a number this many significant digits, or fewer."""
    return digits - 1 - math.floor(math.log10(abs(number))) if number and math.isfinite(number) else 0


def check_alarms_output(output: Path, *tables: Path, model: Path | None = None) -> None:
    """Raise an error, before other work is done, if alarms could not be written or would overwrite an input."""
    if output != STREAM:
        data.check_output(output, [*data.FORMATS, JSON], inputs_of(tables, model))


def _in_order(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The lines of all tables in one, the most unusual row first."""
    import pyarrow as pa

    whole = pa.concat_tables(tables, promote_options="default")
    yield whole.take(whole["score"].to_numpy().argsort(kind="stable"))


def _in_order_of_objects(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The lines, that of the most unusual row first."""
    yield from sorted(lines, key=lambda line: float(line["score"]))


def _write_json(output: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write lines as a list of objects."""
    with progress.stage("explaining"), data.atomic_write(output) as file:
        file.write(b"[")
        is_first = True
        for line in lines:
            text = json.dumps(finite(line), indent=1, default=str, allow_nan=False)
            file.write((("\n" if is_first else ",\n") + textwrap.indent(text, " ")).encode())
            is_first = False
        file.write(b"]\n" if is_first else b"\n]\n")


def _with_reasons(table: dict[str, Any], n_columns: int, has_text: bool) -> dict[str, Any]:
    """Rows with a few columns about each of their reasons; values are text if a column of the rows has some."""
    import pyarrow as pa

    reasons, kinds = table.pop(REASONS), {"text": pa.string(), "number": pa.float64()}
    kinds["value"] = kinds["text" if has_text else "number"]
    further = {
        f"{prefix}_{number + 1}": pa.array(
            [_as(kinds[kind], own[number][name]) if number < len(own) else None for own in reasons], kinds[kind]
        )
        for number in range(n_columns)
        for prefix, (name, kind) in REASON_COLUMNS.items()
    }
    return {**table, **further}


def _as(kind: pa.DataType, value: Any) -> Any:
    """A value as a number or as text."""
    return str(value) if value is not None and str(kind) == "string" else value
