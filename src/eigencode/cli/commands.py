"""The commands, and how they end: answers on standard output, messages on standard error, an exit code.

What takes seconds to import is imported inside the commands, so that help, usage errors and completion answer at once.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

from cyclopts import App, CycloptsError, Parameter

from eigencode._version import __version__
from eigencode.cli.flags import AUTOMATIC, FILES, STREAM, Flags, advice_on_taken_words
from eigencode.cli.words import description, fitted_names, outcome, print_facts, print_json, summary
from eigencode.errors import DataError, EigencodeError

if TYPE_CHECKING:
    import numpy as np

    from eigencode.estimators.base import BaseAutoencoder

MODEL_ENDING = ".safetensors"

INTERRUPTED = "Training was interrupted"
"""How the warning begins with which an estimator keeps its best weights on Ctrl-C."""

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
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the answer has all they wanted of it.
        _close_stdout()
        return 0
    return 130 if any(message.startswith(INTERRUPTED) for message in warned) else 0


@contextmanager
def _plain_warnings() -> Iterator[list[str]]:
    """Warnings as one line each, without the place in the source that raised them; yields a list of them."""
    said: list[str] = []

    def say(message: Warning | str, *_: object, **__: object) -> None:
        said.append(str(message))
        print(f"Warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = say
        yield said


def _close_stdout() -> None:
    """Let the rest go nowhere, so that Python does not complain at its end that it could not write it."""
    with suppress(OSError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


Rows = Annotated[
    Path,
    Parameter(
        help="Table of numbers: a .csv, .parquet or .npy file, or - for CSV from standard input.",
        group=FILES,
    ),
]
Codes = Annotated[Path, Parameter(help="Table of codes, as transform wrote it: a file, or -.", group=FILES)]
Model = Annotated[Path, Parameter(help="Model file that fit wrote.", group=FILES)]
TableOutput = Annotated[
    Path,
    Parameter(help="Where to: a .csv, .parquet or .npy file, or - for CSV to standard output.", group=FILES),
]
DemoOutput = Annotated[Path, Parameter(help="Folder to leave model, data and pictures in.")]
COLUMNS = Parameter(consume_multiple=True, negative_iterable=(), show_default=False, group=FILES)
Columns = Annotated[tuple[str, ...], COLUMNS, Parameter(help="Columns to use, in place of all.")]
FirstComponents = Annotated[int | None, Parameter(help="Use the first components of an ordered code only.")]
Exclude = Annotated[tuple[str, ...], COLUMNS, Parameter(help="Columns to leave out.")]
AsJson = Annotated[
    bool,
    Parameter(
        name="--json", negative=(), show_default=False, help="Print one JSON object in place of words.", group=FILES
    ),
]


# -- commands


@app.command(sort_key=0)
def demo(*, output: DemoOutput = Path("demo")) -> None:
    """Fit autoencoders to images of digits and compare them with PCA, in half a minute."""
    from eigencode.demo import run_demo

    run_demo(output)


@app.command(sort_key=1, usage="Usage: eigencode fit ROWS --output MODEL [OPTIONS]")
def fit(
    rows: Rows,
    /,
    *,
    output: Annotated[Path, Parameter(help="Where the model goes: a .safetensors file.", group=FILES)],
    columns: Columns = (),
    exclude: Exclude = (),
    as_json: AsJson = False,
    flags: Annotated[Flags, Parameter(name="*")] = AUTOMATIC,
) -> None:
    """Fit an autoencoder to the rows of a table.

    Ctrl-C ends the training early: the best weights so far are saved, and the exit code is 130.
    """
    from eigencode.data.files import read_table
    from eigencode.data.outputs import check_output
    from eigencode.estimators.autoencoder import Autoencoder

    check_output(output, [MODEL_ENDING])
    table = read_table(_source(rows), columns=columns, exclude=exclude)
    if len(table.rows) < 2:
        raise DataError("Fitting takes two rows at least", got=f"{len(table.rows)} in {str(rows)!r}")
    # What the fit itself has to say is no part of the answer.
    with redirect_stdout(sys.stderr):
        model = Autoencoder(**vars(flags)).fit(table.frame)
    model.save(output)
    if as_json:
        print_json({**summary(model), "model": str(output)})
        return
    print_facts(outcome(summary(model)))
    print(f"\nThe model is in {output}. Encode rows with:\n")
    print(f"  {shlex.join(['eigencode', 'transform', str(output), str(rows), '--output', 'codes.parquet'])}")


@app.command(sort_key=2, usage="Usage: eigencode transform MODEL ROWS --output CODES [OPTIONS]")
def transform(
    model: Model,
    rows: Rows,
    /,
    *,
    output: TableOutput,
    columns: Columns = (),
    exclude: Exclude = (),
    n_components: FirstComponents = None,
) -> None:
    """Encode the rows of a table: one line of codes for each row.

    Columns are matched to those fitted by their names; choosing them is needed only where they have none.
    """
    _check_table_output(output)
    fitted = _loaded(model)
    codes = fitted.transform(_matching_rows(fitted, rows, columns, exclude), n_components=n_components)
    _write(output, dict(zip(fitted.get_feature_names_out()[: codes.shape[1]], codes.T, strict=True)))


@app.command(sort_key=3, usage="Usage: eigencode decode MODEL CODES --output TABLE [OPTIONS]")
def decode(model: Model, codes: Codes, /, *, output: TableOutput, columns: Columns = (), exclude: Exclude = ()) -> None:
    """Decode a table of codes: one row in the data's columns and units for each line of codes."""
    from eigencode.data.files import read_matching

    _check_table_output(output)
    fitted = _loaded(model)
    names = list(fitted.get_feature_names_out())
    table = read_matching(_source(codes), names, fitted.n_components_, columns=columns, exclude=exclude)
    _write_rows(output, fitted, fitted.inverse_transform(table.rows))


@app.command(sort_key=4, usage="Usage: eigencode reconstruct MODEL ROWS --output TABLE [OPTIONS]")
def reconstruct(
    model: Model,
    rows: Rows,
    /,
    *,
    output: TableOutput,
    columns: Columns = (),
    exclude: Exclude = (),
    n_components: FirstComponents = None,
) -> None:
    """Encode and decode the rows of a table: what the model keeps of them.

    Columns are matched to those fitted by their names; choosing them is needed only where they have none.
    """
    _check_table_output(output)
    fitted = _loaded(model)
    X = _matching_rows(fitted, rows, columns, exclude)
    _write_rows(output, fitted, fitted.reconstruct(X, n_components=n_components))


@app.command(sort_key=5, usage="Usage: eigencode score MODEL ROWS [OPTIONS]")
def score(
    model: Model,
    rows: Rows,
    /,
    *,
    output: TableOutput | None = None,
    columns: Columns = (),
    exclude: Exclude = (),
    as_json: AsJson = False,
) -> None:
    """Say how well a model explains the rows of a table: the mean over them and, with --output, each row's own.

    log_likelihood is in nats, in the data's units, given the row's own code.

    reconstruction_error is the squared error summed over the columns, in their own units or scaled as in the model.
    """
    if output is not None:
        _check_table_output(output)
    if as_json and output == STREAM:
        message = "--json and --output - would both write to standard output: name a file for --output."
        raise CycloptsError(msg=message, command_chain=["score"])
    fitted = _loaded(model)
    X = _matching_rows(fitted, rows, columns, exclude)
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
        _write(output, scores, said=not as_json)


@app.command(sort_key=6, usage="Usage: eigencode describe MODEL [OPTIONS]")
def describe(model: Model, /, *, as_json: AsJson = False) -> None:
    """Say what a model is and how its fit went."""
    from eigencode.storage import load, version_of

    facts = {**summary(load(model, device="cpu")), "version": version_of(model)}
    if as_json:
        print_json(facts)
    else:
        print_facts(description(facts))


# -- tables and models


def _loaded(path: Path) -> BaseAutoencoder:
    from eigencode.storage import load

    return load(path)


def _source(path: Path) -> Path | BinaryIO:
    """What to read a table from."""
    return sys.stdin.buffer if path == STREAM else path


def _matching_rows(model: BaseAutoencoder, rows: Path, columns: Sequence[str], exclude: Sequence[str]) -> Any:
    """The columns of a table that a model was fitted on, as it takes them."""
    from eigencode.data.files import read_matching

    names = fitted_names(model)
    table = read_matching(_source(rows), names, model.n_features_in_, columns=columns, exclude=exclude)
    return table.rows if names is None else table.frame


def _check_table_output(output: Path) -> None:
    from eigencode.data.formats import FORMATS
    from eigencode.data.outputs import check_output

    if output != STREAM:
        check_output(output, FORMATS)


def _write_rows(output: Path, model: BaseAutoencoder, answer: np.ndarray) -> None:
    """Write rows in the data's space, under the names fitted."""
    names = fitted_names(model) or [f"x{place}" for place in range(model.n_features_in_)]
    _write(output, dict(zip(names, answer.T, strict=True)))


def _write(output: Path, columns: Mapping[str, np.ndarray], *, said: bool = True) -> None:
    from eigencode.data.files import write_columns
    from eigencode.data.formats import Csv

    if output == STREAM:
        Csv.write(sys.stdout.buffer, columns)
        return
    write_columns(output, columns)
    if said:
        n_rows = len(next(iter(columns.values())))
        print(f"{n_rows} rows of {len(columns)} columns are in {output}.")
