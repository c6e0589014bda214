"""The command that finds anomalies: detect."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import CycloptsError, Parameter, validators

from eigencode import data, progress
from eigencode.cli.app import command
from eigencode.cli.flags import FILES, PATHS, STREAM, SWITCH, AsJson, Model
from eigencode.cli.shards import WHOLE, Part, Shard
from eigencode.cli.tables import (
    ALL,
    SEVERAL,
    Chosen,
    Rows,
    answers_of,
    class_with_article,
    inputs_of,
    model_and_rows,
    n_cells_of,
    write,
)
from eigencode.descriptions import finite, fitted_names, print_facts, print_json
from eigencode.errors import OptionError
from eigencode.progress import counted

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from eigencode.estimators.anomaly import AnomalyDetector

JSON = ".json"

ANOMALIES = 0.1
"""Share of the rows that may be anomalies before a change of the normal rows is suspected."""

RATE = validators.Number(gt=0, lt=1)
AlarmsOutput = Annotated[
    Path,
    PATHS,
    Parameter(
        alias="-o",
        help="Output: a .csv, .parquet or .json file, with a line for each alarm; - is CSV to standard output.",
        group=FILES,
    ),
]
Ids = Annotated[tuple[str, ...], SEVERAL, Parameter(name="--id", help="Columns of the rows that the output has too.")]
FalseAlarms = Annotated[
    float | None,
    Parameter(help="Share of normal rows that may be alarms; by default that of the fit.", validator=RATE),
]
FalseDiscoveries = Annotated[
    float | None,
    Parameter(help="Instead: expected share of normal rows among the alarms of this table.", validator=RATE),
]
Explain = Annotated[
    int | None,
    Parameter(help="Write so many columns of each row that make it unusual.", validator=validators.Number(gte=1)),
]
AllRows = Annotated[bool, SWITCH, Parameter(name="--all", help="Write all rows, and whether each is an alarm.")]


@command(10, "detect MODEL ROWS... --output ALARMS [OPTIONS]")
def detect(
    model: Model,
    rows: Rows,
    /,
    *,
    output: AlarmsOutput,
    false_alarms: FalseAlarms = None,
    false_discoveries: FalseDiscoveries = None,
    explain: Explain = None,
    ids: Ids = (),
    all_rows: AllRows = False,
    chosen: Chosen = ALL,
    as_json: AsJson = False,
    shard: Shard = WHOLE,
) -> None:
    """Find rows that are unlike those that a detector was fitted on, and say why.

    Columns of the output: row, its number from 0; score, lower for more unusual rows; p_value, the share of normal rows
    that score as low. And with --explain for each reason: the column, what it contributes in nats, what was observed
    and expected.
    """
    import numpy as np

    if false_alarms is not None and false_discoveries is not None:
        raise CycloptsError(msg="Give either --false-alarms or --false-discoveries.", command_chain=["detect"])
    if as_json and output == STREAM:
        message = "--json and --output - both write to standard output: name a file for --output."
        raise CycloptsError(msg=message, command_chain=["detect"])
    names = [name for given in ids for name in given.split(",")]
    part = shard.begin("detect", rows, output)
    output = part.name(output)
    detector, table = model_and_rows(model, rows, chosen, output, check_alarms_output, also=names)
    if not hasattr(detector, "p_values"):
        got = f"{class_with_article(detector)} in {str(model)!r}"
        raise OptionError("detect needs a detector of anomalies", got=got, hint="Fit one with --kind anomaly")
    table = part_of_rows(part, detector, table, false_discoveries)
    rate = false_discoveries or false_alarms or detector.false_alarms_
    detector.require_rate(rate)
    not_fitted = [name for name in names if name not in {*(fitted_names(detector) or ()), detector.time}]
    # A window has rows of several blocks.
    blocks = partial(answers_of, detector) if detector.window is None else lambda rows, ask: [ask(rows)]

    def rows_of(block: Any) -> Any:
        return block.drop_columns(not_fitted) if not_fitted else block

    with progress.stage("scoring"):
        found = list(blocks(table, lambda block: np.stack(detector.score_and_p_values(rows_of(block)))))
    scores, p = np.concatenate(found, axis=1)
    alarms = detector.calibration_.reported(p, rate) if false_discoveries else p <= rate
    kept, first = alarms | all_rows, 0

    def lines_of(block: Any) -> dict[str, Any]:
        nonlocal first
        numbers = first + kept[first : first + len(block)].nonzero()[0]
        columns = {name: block[name].take(numbers - first) for name in names}
        columns |= {"row": part.first + numbers, "score": scores[numbers], "p_value": _in_six_digits(p[numbers])}
        columns |= {"alarm": alarms[numbers]} if all_rows else {}
        reasons = [list(map(short, own)) for own in reasons_of(detector, rows_of(block), numbers - first, explain)]
        first += len(block)
        return {**columns, REASONS: reasons}

    has_text = detector.columns_ is not None and not detector.columns_.is_numeric
    write_alarms(output, blocks(table, lines_of), explain or 0, has_text)
    n_rows, n_alarms = map(int, part.total(len(p), alarms.sum()))
    facts = {"n_rows": n_rows, "n_alarms": n_alarms, "rate": rate, "drift": detector.drift_from(p, ANOMALIES)}
    # Models that leave a part of the rows out each keep a rate only about.
    how, of = "about" if detector.folds_ else "at most", "alarms" if false_discoveries else "normal rows"
    report(output, facts, f"{how} {rate:g} of {of}, on average", as_json)


def part_of_rows(part: Part, detector: AnomalyDetector, table: Any, false_discoveries: float | None) -> Any:
    """The rows of this process."""
    if part.group.size > 1 and (false_discoveries or detector.window is not None):
        hint = "Use --false-alarms and a detector without windows, or one process"
        raise OptionError("False discoveries and windows need all rows", got="several shards", hint=hint)
    return part.of(table, n_cells_of(detector))


def _in_six_digits(shares: np.ndarray) -> np.ndarray:
    """Shares of few rows have endless digits; six tell them apart from each other and from any rate."""
    import numpy as np

    return np.array([float(f"{share:.6g}") for share in shares])


def reasons_of(
    detector: AnomalyDetector, X: Any, kept: np.ndarray, n_columns: int | None
) -> list[list[dict[str, Any]]]:
    """The reasons of some rows, each as a dictionary."""
    if n_columns is None or not len(kept):
        return [[] for _ in kept]
    if detector.window is not None:  # a window has rows that are not kept
        found = detector.explain(X, n_columns=n_columns, output="records")
        return [found[row]["reasons"] for row in kept]
    some = X.take(kept) if hasattr(X, "take") and hasattr(X, "column_names") else X[kept]
    return [row["reasons"] for row in detector.explain(some, n_columns=n_columns, output="records")]


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


def write_alarms(output: Path, tables: Iterable[dict[str, Any]], n_columns: int, has_text: bool) -> None:
    """Write rows with their reasons, a block at a time: in JSON as a list of objects, else as further columns."""
    if output.suffix.lower() != JSON:
        write(output, (_with_reasons(table, n_columns, has_text) for table in tables), "explaining", reported=False)
        return
    with progress.stage("explaining"), data.atomic_write(output) as file:
        file.write(b"[")
        is_first = True
        for table in tables:
            reasons = table.pop(REASONS)
            for line, own in zip(data.as_arrow(table).to_pylist(), reasons, strict=True):
                values = finite({**line, "reasons": own} if n_columns else line)
                text = json.dumps(values, indent=1, default=str, allow_nan=False)
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


def _as(kind: pa.DataType, value: Any) -> Any:
    """A value as a number or as text."""
    return str(value) if value is not None and str(kind) == "string" else value


def report(output: Path, facts: Mapping[str, Any], promised: str, as_json: bool) -> None:
    """Print how many alarms there are, and what is promised of the false ones."""
    if as_json:
        print_json({**facts, "output": str(output)})
        return
    lines = {
        "alarms": f"{facts['n_alarms']:,} of {counted(facts['n_rows'], 'row')}",
        "false alarms": promised,
        **({} if output == STREAM else {"written to": str(output)}),
    }
    print_facts(lines, file=sys.stderr if output == STREAM else sys.stdout)
