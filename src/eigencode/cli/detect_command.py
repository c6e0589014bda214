"""The command that finds anomalies: detect."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import CycloptsError, Parameter, validators

from eigencode import data, progress
from eigencode.cli.app import command
from eigencode.cli.flags import FILES, PATHS, STREAM, SWITCH, AsJson, Model
from eigencode.cli.tables import ALL, SEVERAL, Chosen, Rows, class_with_article, inputs_of, model_and_rows, write
from eigencode.descriptions import fitted_names, print_facts, print_json
from eigencode.errors import OptionError

if TYPE_CHECKING:
    import numpy as np

    from eigencode.estimators.anomaly import AnomalyDetector

JSON = ".json"

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
) -> None:
    """Find rows that are unlike those that a detector was fitted on, and say why.

    Columns of the output: row, its number from 0; score, lower for more unusual rows; p_value, the share of normal rows
    that score as low. And with --explain for each reason: the column, what it contributes in nats, what was observed
    and expected.
    """
    if false_alarms is not None and false_discoveries is not None:
        raise CycloptsError(msg="Give either --false-alarms or --false-discoveries.", command_chain=["detect"])
    if as_json and output == STREAM:
        message = "--json and --output - both write to standard output: name a file for --output."
        raise CycloptsError(msg=message, command_chain=["detect"])
    names = [name for given in ids for name in given.split(",")]
    detector, table = model_and_rows(model, rows, chosen, output, check_alarms_output, also=names)
    if not hasattr(detector, "p_values"):
        got = f"{class_with_article(detector)} in {str(model)!r}"
        raise OptionError("detect needs a detector of anomalies", got=got, hint="Fit one with --kind anomaly")
    X = table.drop_columns([name for name in names if name not in (fitted_names(detector) or ())]) if names else table
    rate = false_discoveries or false_alarms or detector.false_alarms_
    detector.require_rate(rate)
    with progress.stage("scoring"):
        scores, p = detector.score_and_p_values(X)
    alarms = detector.calibration_.reported(p, rate) if false_discoveries else p <= rate
    kept = (alarms | all_rows).nonzero()[0]
    columns = {name: table[name].take(kept) for name in names}
    columns |= {"row": kept, "score": scores[kept], "p_value": p[kept]}
    columns |= {"alarm": alarms[kept]} if all_rows else {}
    with progress.stage("explaining"):
        reasons = reasons_of(detector, X, kept, explain)
    write_alarms(output, columns, reasons, explain or 0)
    facts = {"n_rows": len(p), "n_alarms": int(alarms.sum()), "rate": rate}
    # Models that leave a part of the rows out each keep a rate only about.
    how, of = "about" if detector.folds_ else "at most", "alarms" if false_discoveries else "normal rows"
    report(output, facts, f"{how} {rate:g} of {of}, on average", as_json)


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


def check_alarms_output(output: Path, *tables: Path, model: Path | None = None) -> None:
    """Raise an error, before other work is done, if alarms could not be written or would overwrite an input."""
    if output != STREAM:
        data.check_output(output, [*data.FORMATS, JSON], inputs_of(tables, model))


def write_alarms(
    output: Path, columns: Mapping[str, Any], reasons: Sequence[Sequence[Mapping[str, Any]]], n_columns: int
) -> None:
    """Write rows with their reasons: in JSON as a list of objects, else as further columns."""
    if output.suffix.lower() == JSON:
        found = data.as_arrow(columns).to_pylist()
        if n_columns:
            found = [{**line, "reasons": own} for line, own in zip(found, reasons, strict=True)]
        with data.atomic_write(output) as file:
            file.write(json.dumps(found, indent=1, default=str).encode() + b"\n")
        return
    further = {
        f"{prefix}_{number + 1}": values_of([own[number][name] if number < len(own) else None for own in reasons])
        for number in range(n_columns)
        for prefix, name in REASON_COLUMNS.items()
    }
    write(output, [{**columns, **further}], reported=False)


REASON_COLUMNS = {
    "reason": "column",
    "contribution": "contribution",
    "observed": "observed",
    "expected": "expected",
    "direction": "direction",
}
"""The name of each column about a reason, and what it has."""


def values_of(cells: Sequence[Any]) -> list[Any]:
    """The cells of one column: text if any is."""
    is_text = any(isinstance(cell, str) for cell in cells)
    return [None if cell is None else str(cell) if is_text else cell for cell in cells]


def report(output: Path, facts: Mapping[str, Any], promised: str, as_json: bool) -> None:
    """Print how many alarms there are, and what is promised of the false ones."""
    if as_json:
        print_json({**facts, "output": str(output)})
        return
    lines = {
        "alarms": f"{facts['n_alarms']:,} of {facts['n_rows']:,} rows",
        "false": promised,
        **({} if output == STREAM else {"written to": str(output)}),
    }
    print_facts(lines, file=sys.stderr if output == STREAM else sys.stdout)
