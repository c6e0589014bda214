"""The commands, and how they end: answers on standard output, messages on standard error, an exit code.

What takes seconds to import is imported inside the commands, so that help, usage errors and completion answer at once.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter, validators

import eigencode
from eigencode._version import __version__
from eigencode.cli import sweeps
from eigencode.cli.flags import (
    FILES,
    KINDS,
    KNOBS,
    NONE_GIVEN,
    PLAIN,
    STREAM,
    Flags,
    Kind,
    advice_on_taken_words,
    in_flags,
    knobs_given,
)
from eigencode.cli.tables import (
    ALL,
    Chosen,
    Codes,
    Rows,
    TableOutput,
    check_table_output,
    files_of,
    loaded,
    model_and_rows,
    read_codes,
    read_rows,
    write,
    write_rows,
)
from eigencode.cli.words import description, fitted_names, outcome, print_facts, print_json, summary
from eigencode.errors import DataError, EigencodeError, InterruptedWarning, OptionError

MODEL_ENDING = ".safetensors"

EXIT_CODES = (
    "Exit codes: 0 if done; 1 if a command failed for a reason that its message says; 2 if it was not understood; "
    "130 if it was interrupted by Ctrl-C (fit saves the best weights so far)."
)

app = App(
    name="eigencode",
    help="Autoencoders for tables of numbers: CSV, Parquet and NPY files.",
    help_epilogue=EXIT_CODES,
    help_format="plaintext",
    version=__version__,
    suppress_keyboard_interrupt=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after "eigencode"; those of the process by default.

    Returns
    -------
    int
        The exit code: 0, or 1 where a command failed for a reason that its message says, or 2 where it was not
        understood, or 130 where it was interrupted.
    """
    tokens = sys.argv[1:] if arguments is None else list(arguments)
    # A bare hyphen would pass for a flag; this is the same path.
    tokens = ["./-" if token == "-" else token for token in tokens]
    try:
        with _plain_warnings() as warned:
            app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        command = " ".join(["eigencode", *(error.command_chain or ())])
        advice = advice_on_taken_words(tokens, error)
        print(f"{error}{advice}\nSee {command} --help", file=sys.stderr)
        return 2
    except EigencodeError as error:
        print(in_flags(str(error)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the answer has all they wanted of it.
        _close_stdout()
        return 0
    return 130 if any(isinstance(warning, InterruptedWarning) for warning in warned) else 0


@contextmanager
def _plain_warnings() -> Iterator[list[Warning | str]]:
    """Warnings as one line each, without the place in the source that raised them; yields a list of them."""
    said: list[Warning | str] = []

    def say(message: Warning | str, *_: object, **__: object) -> None:
        said.append(message)
        print(f"Warning: {in_flags(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = say
        yield said


def _close_stdout() -> None:
    """Let the rest go nowhere, so that Python does not complain at its end that it could not write it."""
    with suppress(OSError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


Model = Annotated[Path, Parameter(help="Model file that fit wrote.", group=FILES)]
DemoOutput = Annotated[Path, Parameter(help="Folder to leave model, data and pictures in.")]
FirstComponents = Annotated[int | None, Parameter(help="Use the first components of an ordered code only.")]
SWITCH = Parameter(negative=(), show_default=False)
AsJson = Annotated[bool, SWITCH, Parameter(name="--json", help="Print one JSON object in place of words.", group=FILES)]
ModelOutput = Annotated[Path, Parameter(help="Where the model goes: a .safetensors file.", group=FILES)]
WithDensity = Annotated[
    bool,
    SWITCH,
    Parameter(help="Fit a density to the codes as well, from which sample draws rows of any kind.", group=KNOBS),
]

ResultsOutput = Annotated[
    Path | None, Parameter(help="Where the scores of all candidates go: a .csv or .parquet file.", group=FILES)
]
PictureOutput = Annotated[
    Path | None, Parameter(help="Where a picture of the scores goes: a .png, .svg or .pdf file.", group=FILES)
]

NRows = Annotated[int, Parameter(help="Number of rows to draw.", validator=validators.Number(gte=1))]
OfMean = Annotated[bool, SWITCH, Parameter(help="Give the mean of each row drawn, without its noise.")]
Seed = Annotated[
    int | None,
    Parameter(help="Seed of the draws; without one, others come each time.", validator=validators.Number(gte=0)),
]


# -- commands


@app.command(sort_key=0)
def demo(*, output: DemoOutput = Path("demo")) -> None:
    """Fit autoencoders to images of digits and compare them with PCA, in half a minute."""
    from eigencode.demo import run_demo

    run_demo(output)


@app.command(sort_key=1, usage="Usage: eigencode fit ROWS... --output MODEL [OPTIONS]")
def fit(
    rows: Rows,
    /,
    *,
    output: ModelOutput,
    chosen: Chosen = ALL,
    as_json: AsJson = False,
    kind: Kind = PLAIN,
    flags: Annotated[Flags, Parameter(name="*")] = NONE_GIVEN,
    density: WithDensity = False,
) -> None:
    """Fit an autoencoder to the rows of a table.

    Ctrl-C ends the training early: the best weights so far are saved, and the exit code is 130.
    """
    knobs = knobs_given(kind, flags)

    from eigencode.data.outputs import check_output

    check_output(output, [MODEL_ENDING])
    table = read_rows(rows, chosen)
    if len(table.rows) < 2:
        raise DataError("Fitting takes two rows at least", got=f"{len(table.rows)} in {shlex.join(map(str, rows))!r}")
    # What the fit itself has to say is no part of the answer.
    with redirect_stdout(sys.stderr):
        model = getattr(eigencode, KINDS[kind])(**knobs).fit(table.frame)
        if density:
            try:
                model.fit_density(table.frame)
            except KeyboardInterrupt:
                message = "Fitting the density was interrupted; the model is saved without one."
                warnings.warn(message, InterruptedWarning, stacklevel=2)
    model.save(output)
    if as_json:
        print_json({**summary(model), "model": str(output)})
        return
    print_facts(outcome(summary(model)))
    _say_what_next(output, rows, chosen.typed(fitted_names(model)))


@app.command(sort_key=2, usage="Usage: eigencode sweep ROWS... --output MODEL --over NAME=VALUE,... [OPTIONS]")
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
    kind: Kind = PLAIN,
    flags: Annotated[Flags, Parameter(name="*")] = NONE_GIVEN,
) -> None:
    """Fit an autoencoder with each of many settings, and keep the simplest that is as good as the best.

    Every combination of the values of --over is fitted on all folds of the rows but one, and scored on that one, for
    each of them in turn. The choice is fitted to all rows, and written.

    Ctrl-C ends it, and no model is written; when the choice is being fitted, its best weights so far are saved.
    """
    knobs = knobs_given(kind, flags, "sweep")
    grid = sweeps.grid_given(kind, plan.over, knobs)

    sweeps.check_outputs({output: [MODEL_ENDING], table: sweeps.TABLES, picture: sweeps.PICTURES}, files_of(rows))
    read = read_rows(rows, chosen)
    estimator = getattr(eigencode, KINDS[kind])(**knobs)
    with redirect_stdout(sys.stderr):
        search = sweeps.searched(estimator, grid, plan, read.frame)
    sweeps.write_results(search, table, picture)
    if not as_json:
        print("\n".join(sweeps.lines(search)), end="\n\n", flush=True)
    with redirect_stdout(sys.stderr):
        model = sweeps.choice(search).fit(read.frame)
    model.save(output)
    if as_json:
        files = {name: None if path is None else str(path) for name, path in [("table", table), ("picture", picture)]}
        print_json({**summary(model), "model": str(output), **files, "search": sweeps.facts(search)})
        return
    print_facts(outcome(summary(model)))
    _say_what_next(output, rows, chosen.typed(fitted_names(model)))


@app.command(sort_key=3, usage="Usage: eigencode transform MODEL ROWS... --output CODES [OPTIONS]")
def transform(
    model: Model,
    rows: Rows,
    /,
    *,
    output: TableOutput,
    chosen: Chosen = ALL,
    n_components: FirstComponents = None,
) -> None:
    """Encode the rows of a table: one line of codes for each row.

    Columns are matched to those fitted by their names; choosing them is needed only where they have none.
    """
    fitted, X = model_and_rows(model, rows, chosen, output)
    codes = fitted.transform(X, n_components=n_components)
    write(output, dict(zip(fitted.get_feature_names_out()[: codes.shape[1]], codes.T, strict=True)))


@app.command(sort_key=4, usage="Usage: eigencode decode MODEL CODES... --output TABLE [OPTIONS]")
def decode(model: Model, codes: Codes, /, *, output: TableOutput, chosen: Chosen = ALL) -> None:
    """Decode a table of codes: one row in the data's columns and units for each line of codes."""
    check_table_output(output, *codes)
    fitted = loaded(model)
    write_rows(output, fitted, fitted.inverse_transform(read_codes(codes, chosen, fitted)))


@app.command(sort_key=5, usage="Usage: eigencode reconstruct MODEL ROWS... --output TABLE [OPTIONS]")
def reconstruct(
    model: Model,
    rows: Rows,
    /,
    *,
    output: TableOutput,
    chosen: Chosen = ALL,
    n_components: FirstComponents = None,
) -> None:
    """Encode and decode the rows of a table: what the model keeps of them.

    Columns are matched to those fitted by their names; choosing them is needed only where they have none.
    """
    fitted, X = model_and_rows(model, rows, chosen, output)
    write_rows(output, fitted, fitted.reconstruct(X, n_components=n_components))


@app.command(sort_key=6, usage="Usage: eigencode score MODEL ROWS... [OPTIONS]")
def score(
    model: Model,
    rows: Rows,
    /,
    *,
    output: TableOutput | None = None,
    chosen: Chosen = ALL,
    as_json: AsJson = False,
) -> None:
    """Say how well a model explains the rows of a table: the mean over them and, with --output, each row's own.

    log_likelihood is in nats and in the data's units: a row's, given its own code; a lower bound of it, if variational.

    reconstruction_error is the squared error summed over the columns, in their own units or scaled as in the model.
    """
    if as_json and output == STREAM:
        message = "--json and --output - would both write to standard output: name a file for --output."
        raise CycloptsError(msg=message, command_chain=["score"])
    fitted, X = model_and_rows(model, rows, chosen, output)
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
        write(output, scores, said=not as_json)


@app.command(sort_key=7, usage="Usage: eigencode sample MODEL --n-rows N --output TABLE [OPTIONS]")
def sample(
    model: Model, /, *, n_rows: NRows, output: TableOutput, mean: OfMean = False, random_state: Seed = None
) -> None:
    """Draw new rows from a model fitted with --density, or of the variational kind."""
    check_table_output(output)
    fitted = loaded(model)
    try:
        drawn = fitted.sample(n_rows, mean=mean, random_state=random_state)
    except OptionError as error:
        # The flags are checked by now: it has nothing to draw from, for which a shell has advice of its own.
        hint = "Fit it with --density, or another with --kind variational"
        raise OptionError(error.what, got=error.got, hint=hint) from error
    write_rows(output, fitted, drawn)


@app.command(sort_key=8, usage="Usage: eigencode describe MODEL [OPTIONS]")
def describe(model: Model, /, *, as_json: AsJson = False) -> None:
    """Say what a model is and how its fit went."""
    from eigencode.storage import load, version_of

    facts = {**summary(load(model, device="cpu")), "version": version_of(model)}
    if as_json:
        print_json(facts)
    else:
        print_facts(description(facts))


# -- what to do next


def _say_what_next(model: Path, rows: Sequence[Path], flags: Sequence[str]) -> None:
    """Where the model is, and the command that encodes rows with it."""
    print(f"\nThe model is in {model}. Encode rows with:\n")
    words = ["eigencode", "transform", str(model), *map(str, rows), "--output", "codes.parquet", *flags]
    print(f"  {shlex.join(words)}")
