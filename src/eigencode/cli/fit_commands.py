"""The commands that make a model: demo, fit and sweep."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigencode import data, progress
from eigencode.cli import flags, steps, sweeps
from eigencode.cli.app import command
from eigencode.cli.flags import AUTOENCODER, FILES, PATHS, PLAIN, SWITCH, AsJson, Quiet, options_given
from eigencode.cli.tables import ALL, Chosen, Rows, inputs_of, read_rows
from eigencode.errors import DataError

MODEL_ENDING = ".safetensors"

DemoOutput = Annotated[Path, PATHS, Parameter(alias="-o", help="Folder for the model, the data and the pictures.")]
ModelOutput = Annotated[
    Path, PATHS, Parameter(alias="-o", help="File for the model: a .safetensors file.", group=FILES)
]
WithDensity = Annotated[
    bool,
    SWITCH,
    Parameter(help="Also fit a density to the codes, so that sample works for every kind.", group=AUTOENCODER),
]
ResultsOutput = Annotated[
    Path | None, PATHS, Parameter(help="File for the scores of all candidates: a .csv or .parquet file.", group=FILES)
]
PictureOutput = Annotated[
    Path | None, PATHS, Parameter(help="File for a picture of the scores: a .png, .svg or .pdf file.", group=FILES)
]


@command(0, "demo [OPTIONS]")
def demo(*, output: DemoOutput = Path("demo"), quiet: Quiet = False) -> None:
    """Fit autoencoders to images of digits and compare them with PCA, in seconds to minutes."""
    if quiet:
        progress.hide()
    with progress.stage(steps.LOADING):
        from eigencode.demo import run_demo

    run_demo(output)


@command(1, "fit ROWS... --output MODEL [OPTIONS]")
def fit(
    rows: Rows,
    /,
    *,
    output: ModelOutput,
    chosen: Chosen = ALL,
    as_json: AsJson = False,
    kind: flags.Kind = PLAIN,
    given: Annotated[flags.Flags, Parameter(name="*")] = None,
    density: WithDensity = False,
) -> None:
    """Fit an autoencoder to the rows of a table.

    Ctrl-C ends the training early: the best weights so far are saved, and the exit code is 130.
    """
    options = options_given(kind, given)

    data.check_output(output, [MODEL_ENDING], inputs_of(rows))
    table = read_rows(rows, chosen)
    if len(table.rows) < 2:
        raise DataError("Fitting needs at least two rows", got=f"{len(table.rows)} in {shlex.join(map(str, rows))!r}")
    model = steps.estimator_of(kind, options)
    # What the fit prints is not part of the answer.
    with redirect_stdout(sys.stderr):
        model.fit(table.frame)
        if density:
            steps.fit_density(model, table.frame)
    steps.save(model, output, rows, chosen, as_json, {})


@command(2, "sweep ROWS... --output MODEL --over NAME=VALUE,... [OPTIONS]")
def sweep(
    rows: Rows,
    /,
    *,
    output: ModelOutput,
    plan: Annotated[sweeps.Plan, Parameter(name="*")],
    table: ResultsOutput = None,
    picture: PictureOutput = None,
    chosen: Chosen = ALL,
    as_json: AsJson = False,
    kind: flags.Kind = PLAIN,
    given: Annotated[flags.Flags, Parameter(name="*")] = None,
) -> None:
    """Fit an autoencoder with each of many settings, and keep the simplest that is as good as the best.

    The rows are divided into folds. Each combination of the values of --over is fitted on all folds but one and scored
    on that one, for each fold.

    The chosen combination is then fitted to all rows and saved.

    Ctrl-C ends the sweep without a model; during the last fit, the best weights so far are saved.
    """
    options = options_given(kind, given, "sweep")
    grid = sweeps.grid_given(kind, plan.over, options)

    sweeps.check_outputs({output: [MODEL_ENDING], table: sweeps.TABLES, picture: sweeps.PICTURES}, inputs_of(rows))
    read = read_rows(rows, chosen)
    estimator = steps.estimator_of(kind, options)
    with redirect_stdout(sys.stderr):
        search = sweeps.searched(estimator, grid, plan, read.frame)
    sweeps.write_results(search, table, picture)
    if not as_json:
        print("\n".join(sweeps.lines(search)), end="\n\n", flush=True)
    with redirect_stdout(sys.stderr):
        model = sweeps.best_estimator(search).fit(read.frame)
    files = {name: None if path is None else str(path) for name, path in [("table", table), ("picture", picture)]}
    steps.save(model, output, rows, chosen, as_json, {**files, "search": sweeps.facts(search)})
