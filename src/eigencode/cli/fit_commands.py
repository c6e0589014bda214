"""The commands that make a model: demo, fit and sweep."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from eigencode import data, progress
from eigencode.cli import flags, sweeps
from eigencode.cli.app import command
from eigencode.cli.checkpoints import NO_STATE, NONE, CheckpointFlags, StateFlags
from eigencode.cli.flags import FILES, PATHS, PLAIN, AsJson, Quiet, options_given
from eigencode.cli.own_parts import OWN
from eigencode.cli.saving import save
from eigencode.cli.tables import ALL, LOADING, Chosen, Rows, inputs_of, read_rows
from eigencode.cli.workers import Processes, divide
from eigencode.errors import DataError, OptionError

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder

MODEL_ENDING = ".safetensors"

DemoOutput = Annotated[Path, PATHS, Parameter(alias="-o", help="Folder for the model, the data and the pictures.")]
ModelOutput = Annotated[
    Path, PATHS, Parameter(alias="-o", help="File for the model: a .safetensors file.", group=FILES)
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
    data.make_folder(output)
    with progress.stage(LOADING):
        from eigencode.demo import run_demo

    run_demo(output)


@command(1, "fit ROWS... --output MODEL [OPTIONS]")
def fit(
    rows: Rows,
    /,
    *,
    output: ModelOutput,
    chosen: Chosen = ALL,
    kept: Annotated[CheckpointFlags, Parameter(name="*")] = NONE,
    as_json: AsJson = False,
    processes: Processes = None,
    kind: flags.Kind = PLAIN,
    given: Annotated[flags.Flags, Parameter(name="*")] = None,
) -> None:
    """Fit an autoencoder to the rows of a table.

    Ctrl-C ends the training early: the best weights so far are saved, and the exit code is 130. With --checkpoint the
    same command goes on after that, or after the process was killed.
    """
    options = options_given(kind, given)

    data.check_output(output, [MODEL_ENDING], inputs_of(rows))
    checkpoint = kept.arguments
    if kept.log is not None and kind == flags.DETECTOR:
        raise flags.FlagError("--log", f"--log is of one autoencoder, not of --kind {kind}.", "fit")
    divide(rows, processes)
    X = read_rows(rows, chosen, options, may_stay=kind != flags.DETECTOR).frame
    if len(X) < 2:
        raise DataError("Fitting needs at least two rows", got=f"{len(X)} in {shlex.join(map(str, rows))!r}")
    model = estimator_of(kind, options)
    # What the fit prints is not part of the answer.
    with redirect_stdout(sys.stderr), kept.signals():
        kept.fit(model, X, checkpoint)
    save(model, output, rows, chosen, as_json, {})


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
    kept: Annotated[StateFlags, Parameter(name="*")] = NO_STATE,
    as_json: AsJson = False,
    kind: flags.Kind = PLAIN,
    given: Annotated[flags.Flags, Parameter(name="*")] = None,
) -> None:
    """Fit an autoencoder with each of many settings, and keep the simplest that is as good as the best.

    The rows are divided into folds. Each combination of the values of --over is fitted on all folds but one and scored
    on that one, for each fold.

    The chosen combination is then fitted to all rows and saved.

    Ctrl-C ends the sweep without a model; during the last fit, the best weights so far are saved. With --checkpoint the
    same command goes on after that, or after the process was killed: fits that are finished are not made again.
    """
    options = options_given(kind, given, "sweep")
    if kind == flags.DETECTOR:
        raise flags.FlagError("--kind", f"sweep compares autoencoders, not --kind {kind}.", "sweep")
    grid = sweeps.grid_given(kind, plan.over, options)

    sweeps.check_outputs({output: [MODEL_ENDING], table: sweeps.TABLES, picture: sweeps.PICTURES}, inputs_of(rows))
    checkpoint = kept.arguments
    X = read_rows(rows, chosen, options).frame
    estimator = estimator_of(kind, options)
    with redirect_stdout(sys.stderr), kept.signals():
        search = sweeps.searched(estimator, grid, plan, X, checkpoint)
    sweeps.write_results(search, table, picture)
    if not as_json:
        print("\n".join(sweeps.lines(search)), end="\n\n", flush=True)
    with redirect_stdout(sys.stderr), kept.signals():
        own = {name: settings.within("best") for name, settings in checkpoint.items()}
        model = sweeps.best_estimator(search).fit(X, **own)
    files = {name: None if path is None else str(path) for name, path in [("table", table), ("picture", picture)]}
    save(model, output, rows, chosen, as_json, {**files, "search": sweeps.facts(search)})


# -- steps of these commands; a terminal shows each step that takes long


def estimator_of(kind: str, options: Mapping[str, Any]) -> BaseAutoencoder:
    """An unfitted estimator of this kind."""
    with progress.stage(LOADING):
        try:
            estimator: BaseAutoencoder = flags.estimator_with(kind, options)
        except TypeError as error:  # the constructor of a kind of the user's own takes other arguments
            raise OWN.failure(error) or OptionError(
                f"Cannot make an autoencoder of --kind {kind} with these options",
                got=f"the error TypeError: {error}",
                hint="Let its constructor take each option that is set, and give every argument a default",
            ) from error
    return estimator
