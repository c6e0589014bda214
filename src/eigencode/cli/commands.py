"""The commands: what they are told, what they do, and what they answer on standard output.

What takes seconds to import is imported inside the commands, so that help, usage errors and completion answer at once.
"""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

from cyclopts import CycloptsError, Parameter, validators

from eigencode import progress
from eigencode.cli import flags, pictures, steps, sweeps
from eigencode.cli.app import command
from eigencode.cli.descriptions import (
    description,
    is_supervised,
    outcome,
    predictions,
    print_facts,
    print_json,
    summary,
)
from eigencode.cli.flags import FILES, KNOBS, NONE_GIVEN, PATHS, PLAIN, STREAM, options_given
from eigencode.cli.own_parts import OWN, Parts
from eigencode.cli.pictures import RowsOutput
from eigencode.cli.tables import (
    ALL,
    Chosen,
    Codes,
    Rows,
    TableOutput,
    check_rows_output,
    inputs_of,
    read_codes,
    write_rows,
)
from eigencode.errors import DataError, OptionError

MODEL_ENDING = ".safetensors"

Model = Annotated[
    Path, PATHS, Parameter(help="Model file that fit or sweep wrote, or model.save in Python.", group=FILES)
]
DemoOutput = Annotated[Path, PATHS, Parameter(alias="-o", help="Folder to leave model, data and pictures in.")]
FirstComponents = Annotated[int | None, Parameter(help="Use the first components of an ordered code only.")]
SWITCH = Parameter(negative=(), show_default=False)
Quiet = Annotated[
    bool, SWITCH, Parameter(name=["--quiet", "-q"], help="Do not show in a terminal what is being done.", group=FILES)
]
AsJson = Annotated[bool, SWITCH, Parameter(name="--json", help="Print one JSON object in place of words.", group=FILES)]
ModelOutput = Annotated[
    Path, PATHS, Parameter(alias="-o", help="Where the model goes: a .safetensors file.", group=FILES)
]
WithDensity = Annotated[
    bool,
    SWITCH,
    Parameter(help="Fit a density to the codes as well, from which sample draws rows of any kind.", group=KNOBS),
]

ResultsOutput = Annotated[
    Path | None, PATHS, Parameter(help="Where the scores of all candidates go: a .csv or .parquet file.", group=FILES)
]
PictureOutput = Annotated[
    Path | None, PATHS, Parameter(help="Where a picture of the scores goes: a .png, .svg or .pdf file.", group=FILES)
]

NRows = Annotated[int, Parameter(help="Number of rows to draw.", validator=validators.Number(gte=1))]
OfMean = Annotated[
    bool | None,
    Parameter(help="Give the mean of each row drawn, without its noise; pictures have it unless --no-mean is given."),
]
Seed = Annotated[
    int | None,
    Parameter(help="Seed of the draws; without one, others come each time.", validator=validators.Number(gte=0)),
]


# -- commands


@command(0, "demo [OPTIONS]")
def demo(*, output: DemoOutput = Path("demo"), quiet: Quiet = False) -> None:
    """Fit autoencoders to images of digits and compare them with PCA, in seconds to minutes."""
    steps.hush(quiet)
    with progress.stage(steps.STARTING):
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
    parts: Parts = (),
    quiet: Quiet = False,
    kind: flags.Kind = PLAIN,
    given: Annotated[flags.Flags, Parameter(name="*")] = NONE_GIVEN,
    density: WithDensity = False,
) -> None:
    """Fit an autoencoder to the rows of a table.

    Ctrl-C ends the training early: what was learned so far is saved, and the exit code is 130.
    """
    steps.hush(quiet)
    options = options_given(kind, given)

    from eigencode.data.outputs import check_output

    check_output(output, [MODEL_ENDING], inputs_of(rows))
    table = steps.table_of(rows, chosen)
    if len(table.rows) < 2:
        raise DataError("Fitting takes two rows at least", got=f"{len(table.rows)} in {shlex.join(map(str, rows))!r}")
    model = steps.estimator_of(kind, options)
    # What the fit itself has to say is no part of the answer.
    with redirect_stdout(sys.stderr):
        model.fit(table.frame)
        if density:
            steps.fit_density(model, table.frame)
    steps.save(model, output)
    if as_json:
        print_json({**summary(model), "model": str(output)})
        return
    print_facts(outcome(summary(model)))
    steps.say_what_next(model, output, rows, chosen)


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
    parts: Parts = (),
    quiet: Quiet = False,
    kind: flags.Kind = PLAIN,
    given: Annotated[flags.Flags, Parameter(name="*")] = NONE_GIVEN,
) -> None:
    """Fit an autoencoder with each of many settings, and keep the simplest that is as good as the best.

    The rows are divided into folds. For each fold, each combination of the values of --over is fitted on the other
    folds and scored on this one.

    The combination chosen is then fitted to all rows, and written.

    Ctrl-C ends it, and no model is written; when the choice is being fitted, its best weights so far are saved.
    """
    steps.hush(quiet)
    options = options_given(kind, given, "sweep")
    grid = sweeps.grid_given(kind, plan.over, options)

    sweeps.check_outputs({output: [MODEL_ENDING], table: sweeps.TABLES, picture: sweeps.PICTURES}, inputs_of(rows))
    read = steps.table_of(rows, chosen)
    estimator = steps.estimator_of(kind, options)
    with redirect_stdout(sys.stderr):
        search = sweeps.searched(estimator, grid, plan, read.frame)
    sweeps.write_results(search, table, picture)
    if not as_json:
        print("\n".join(sweeps.lines(search)), end="\n\n", flush=True)
    with redirect_stdout(sys.stderr):
        model = sweeps.choice(search).fit(read.frame)
    steps.save(model, output)
    if as_json:
        files = {name: None if path is None else str(path) for name, path in [("table", table), ("picture", picture)]}
        print_json({**summary(model), "model": str(output), **files, "search": sweeps.facts(search)})
        return
    print_facts(outcome(summary(model)))
    steps.say_what_next(model, output, rows, chosen)


@command(3, "transform MODEL ROWS... --output CODES [OPTIONS]")
def transform(
    model: Model,
    rows: Rows,
    /,
    *,
    output: TableOutput,
    chosen: Chosen = ALL,
    n_components: FirstComponents = None,
    parts: Parts = (),
    quiet: Quiet = False,
) -> None:
    """Encode the rows of a table: one line of codes for each row.

    Columns are matched to those fitted by their names; choosing them is needed only where they have none.
    """
    steps.hush(quiet)
    fitted, X = steps.model_for(model, rows, chosen, output)
    encoder = fitted.autoencoder_ if is_supervised(fitted) else fitted
    with progress.stage("encoding"):
        codes = encoder.transform(X, n_components=n_components)
    steps.write_answer(output, dict(zip(encoder.get_feature_names_out()[: codes.shape[1]], codes.T, strict=True)))


@command(4, "decode MODEL CODES... --output TABLE [OPTIONS]")
def decode(
    model: Model, codes: Codes, /, *, output: RowsOutput, chosen: Chosen = ALL, parts: Parts = (), quiet: Quiet = False
) -> None:
    """Decode a table of codes: one row in the data's columns and units for each line of codes."""
    steps.hush(quiet)
    check_rows_output(output, *codes, model=model)
    fitted = steps.loaded_autoencoder(model, "decode", output)
    with progress.stage("decoding"):
        answer = fitted.inverse_transform(read_codes(codes, chosen, fitted))
    with progress.stage(f"writing {output}"):
        write_rows(output, fitted, answer)


@command(5, "reconstruct MODEL ROWS... --output TABLE [OPTIONS]")
def reconstruct(
    model: Model,
    rows: Rows,
    /,
    *,
    output: RowsOutput,
    chosen: Chosen = ALL,
    n_components: FirstComponents = None,
    parts: Parts = (),
    quiet: Quiet = False,
) -> None:
    """Encode and decode the rows of a table: what the model keeps of them.

    Columns are matched to those fitted by their names; choosing them is needed only where they have none.
    """
    steps.hush(quiet)
    read, X = steps.model_for(model, rows, chosen, output, check_rows_output)
    fitted = steps.as_autoencoder(read, "reconstruct", model)
    with progress.stage("encoding and decoding"):
        answer = fitted.reconstruct(X, n_components=n_components)
    with progress.stage(f"writing {output}"):
        write_rows(output, fitted, answer)


@command(6, "score MODEL ROWS... [OPTIONS]")
def score(
    model: Model,
    rows: Rows,
    /,
    *,
    output: TableOutput | None = None,
    chosen: Chosen = ALL,
    as_json: AsJson = False,
    parts: Parts = (),
    quiet: Quiet = False,
) -> None:
    """Say how well a model explains the rows of a table: the mean over them and, with --output, each row's own.

    log_likelihood is in nats and in the data's units: a row's, given its own code; a lower bound of it, if variational.

    reconstruction_error is the squared error summed over the columns, in their own units or scaled as in the model.

    Odd rows are those with the largest scaled_reconstruction_error. Scores are in the order of the rows.
    """
    if as_json and output == STREAM:
        message = "--json and --output - would both write to standard output: name a file for --output."
        raise CycloptsError(msg=message, command_chain=["score"])
    steps.hush(quiet)
    read, X = steps.model_for(model, rows, chosen, output)
    fitted = steps.as_autoencoder(read, "score", model)
    with progress.stage("scoring"):
        scores = {
            "log_likelihood": fitted.score_samples(X),
            "reconstruction_error": fitted.reconstruction_error(X),
            "scaled_reconstruction_error": fitted.reconstruction_error(X, scaled=True),
        }
    means = {name: float(values.mean(dtype=float)) for name, values in scores.items()}
    if as_json:
        print_json(
            {**means, "n_rows": len(scores["log_likelihood"]), "output": None if output is None else str(output)}
        )
    else:
        words = {
            "log-likelihood": f"{means['log_likelihood']:.5g} nats a row",
            "reconstruction error": f"{means['reconstruction_error']:.5g} a row, in the data's units",
            "scaled": f"{means['scaled_reconstruction_error']:.5g} a row, in the model's units",
        }
        print_facts(words, file=sys.stderr if output == STREAM else sys.stdout)
    if output is not None:
        steps.write_answer(output, scores, said=not as_json)


@command(7, "sample MODEL --n-rows N --output TABLE [OPTIONS]")
def sample(
    model: Model,
    /,
    *,
    n_rows: NRows,
    output: RowsOutput,
    mean: OfMean = None,
    random_state: Seed = None,
    parts: Parts = (),
    quiet: Quiet = False,
) -> None:
    """Draw new rows from a model fitted with --density, or of the variational kind."""
    steps.hush(quiet)
    check_rows_output(output, model=model)
    fitted = steps.loaded_autoencoder(model, "sample", output)
    mean = pictures.is_picture(output) if mean is None else mean
    try:
        with progress.stage("drawing"):
            drawn = fitted.sample(n_rows, mean=mean, random_state=random_state)
    except OptionError as error:
        # The flags are checked by now: it has nothing to draw from, for which a shell has advice of its own.
        hint = "Fit it with --density, or another with --kind variational"
        raise OptionError(error.what, got=error.got, hint=hint) from error
    write_rows(output, fitted, drawn)


@command(8, "predict MODEL ROWS... --output TABLE [OPTIONS]")
def predict(
    model: Model, rows: Rows, /, *, output: TableOutput, chosen: Chosen = ALL, parts: Parts = (), quiet: Quiet = False
) -> None:
    """Predict the label of each row, by a classifier or regressor that was saved in Python.

    A classifier also gives the probability of each class.
    """
    steps.hush(quiet)
    fitted, X = steps.model_for(model, rows, chosen, output)
    if not is_supervised(fitted):
        got = f"{steps.of_kind(fitted)} in {str(model)!r}"
        raise OptionError("predict takes a classifier or a regressor", got=got, hint="Try transform for its codes")
    with progress.stage("predicting"):
        answers = predictions(fitted, X)
    steps.write_answer(output, answers)


@command(9, "describe MODEL [OPTIONS]")
def describe(model: Model, /, *, parts: Parts = (), as_json: AsJson = False) -> None:
    """Say what a model is and how its fit went."""
    from eigencode.io.storage import load, version_of

    facts = {**summary(load(model, OWN.known, device="cpu")), "version": version_of(model)}
    if as_json:
        print_json(facts)
    else:
        print_facts(description(facts))
