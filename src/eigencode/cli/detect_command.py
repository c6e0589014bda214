"""The command that finds anomalies: detect."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import CycloptsError, Parameter, validators

from eigencode import progress
from eigencode.cli.alarms import WRITTEN, Alarms, Asked, check_alarms_output
from eigencode.cli.app import command
from eigencode.cli.flags import FILES, INT, PATHS, STREAM, SWITCH, AsJson, Model
from eigencode.cli.shards import WHOLE, Part, Shard
from eigencode.cli.tables import (
    ALL,
    SEVERAL,
    Chosen,
    Rows,
    class_with_article,
    model_and_rows,
    n_cells_of,
)
from eigencode.descriptions import MAY_BE_ANOMALIES, print_facts, print_json
from eigencode.errors import OptionError
from eigencode.words import counted

if TYPE_CHECKING:
    from eigencode.estimators.anomaly import AnomalyDetector

MOST_SHOWN = 5
"""Alarms that are printed."""

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
    INT,
    Parameter(help="Write so many columns of each row that make it unusual.", validator=validators.Number(gte=1)),
]
AllRows = Annotated[
    bool, SWITCH, Parameter(name="--all", help="Write all rows in their order, and whether each is an alarm.")
]


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

    Prints the few most unusual rows, and writes all alarms, the most unusual one first. Columns of the output: row, its
    number from 0; score, lower for more unusual rows; p_value, the share of normal rows that score as low. And with
    --explain for each reason: the column, what it contributes in nats, what was observed and expected.
    """
    import numpy as np

    if false_alarms is not None and false_discoveries is not None:
        raise CycloptsError(msg="Give either --false-alarms or --false-discoveries.", command_chain=["detect"])
    if as_json and output == STREAM:
        message = "--json and --output - both write to standard output: name a file for --output."
        raise CycloptsError(msg=message, command_chain=["detect"])
    names = list(dict.fromkeys(name for given in ids for name in given.split(",")))
    if taken := [name for name in names if name in WRITTEN]:
        hint = "Give that column of the file another name"
        raise OptionError("detect writes a column of this name itself", got=f"--id {taken[0]}", hint=hint)
    part = shard.begin("detect", rows, output)
    output = part.name(output)
    detector, table = model_and_rows(model, rows, chosen, output, check_alarms_output, also=names)
    if not hasattr(detector, "p_values"):
        got = f"{class_with_article(detector)} in {str(model)!r}"
        raise OptionError("detect needs a detector of anomalies", got=got, hint="Fit one with --kind anomaly")
    table = part_of_rows(part, detector, table, false_discoveries)
    rate = false_discoveries or false_alarms or detector.false_alarms_
    detector.require_rate(rate)
    asked = Asked(detector, table, names)
    with progress.stage("scoring"):
        found = list(asked.of_blocks(lambda rows, *_: np.stack(detector.score_and_p_values(rows))))
    scores, p = np.concatenate(found, axis=1)
    are_alarms = detector.calibration_.reported(p, rate) if false_discoveries else p <= rate
    n_shown = MOST_SHOWN if part.knows_all and not as_json else 0
    n_reasons = min(explain or 0, detector.n_features_in_ * (detector.window or 1))
    alarms = Alarms(asked, scores, p, are_alarms, n_reasons, all_rows, part.first, n_shown)
    alarms.write(output)
    n_rows, n_alarms = map(int, part.total(len(p), are_alarms.sum()))
    facts = {"n_rows": n_rows, "n_alarms": n_alarms, "rate": rate, "drift": detector.drift_from(p, MAY_BE_ANOMALIES)}
    # Models that leave a part of the rows out each keep a rate only about.
    how, of = "about" if detector.folds_ else "at most", "alarms" if false_discoveries else "normal rows"
    report(output, facts, f"{how} {rate:g} of {of}, on average", alarms.told(), as_json)


def part_of_rows(part: Part, detector: AnomalyDetector, table: Any, false_discoveries: float | None) -> Any:
    """The rows of this process."""
    if part.group.size > 1 and (false_discoveries or detector.window is not None):
        hint = "Use --false-alarms and a detector without windows, or one process"
        raise OptionError("False discoveries and windows need all rows", got="several shards", hint=hint)
    return part.of(table, n_cells_of(detector))


def report(output: Path, facts: Mapping[str, Any], promised: str, worst: str, as_json: bool) -> None:
    """Print how many alarms there are, what is promised of the false ones, and the most unusual rows."""
    if as_json:
        print_json({**facts, "output": str(output)})
        return
    lines = {
        "alarms": f"{facts['n_alarms']:,} of {counted(facts['n_rows'], 'row')}",
        "false alarms": promised,
        **({} if output == STREAM else {"written to": str(output)}),
    }
    file = sys.stderr if output == STREAM else sys.stdout
    print_facts(lines, file=file)
    if worst:
        print(f"\nThe most unusual rows, and the columns that add most:\n\n{worst}", file=file)
