"""The commands that ask a fitted model: transform, decode, reconstruct, impute, score, sample, predict and so on."""

from __future__ import annotations

import secrets
import sys
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import CycloptsError, Parameter, validators

import eigencode
from eigencode import data, io, progress
from eigencode.cli import flags, pictures
from eigencode.cli.app import command
from eigencode.cli.flags import AT_LEAST_ONE, FILES, INT, PATHS, STREAM, AsJson, Model, Quiet
from eigencode.cli.own_parts import OWN, Parts
from eigencode.cli.pictures import RowsOutput
from eigencode.cli.shards import WHOLE, Shard
from eigencode.cli.tables import (
    ALL,
    LOADING,
    Chosen,
    Codes,
    ModelOrRows,
    Rows,
    TableOutput,
    answers_of,
    check_rows_output,
    class_with_article,
    inputs_of,
    is_table,
    loaded,
    model_and_rows,
    n_cells_of,
    read_codes,
    read_rows,
    say_written,
    schema_of,
    table_output,
    write,
    write_draws,
    write_rows,
)  # fmt: skip
from eigencode.descriptions import (
    description,
    is_supervised,
    predictions,
    print_facts,
    print_json,
    summary,
)  # fmt: skip
from eigencode.errors import OptionError

if TYPE_CHECKING:
    import numpy as np

KINDS_FLAG = "Columns that are left out come back as they are; --columns NAME=KIND, as zip=category, changes a kind."

PAGES, GRAPHS = [".html", ".htm"], [".onnx", ".pt2"]
"""Endings of a page, and of a graph."""

FirstComponents = Annotated[int | None, INT, Parameter(help="Use only the first components of an ordered code.")]
NRows = Annotated[
    int | None,
    INT,
    Parameter(name=["--n-rows", "-n"], help="Number of rows to draw.", validator=validators.Number(gte=1)),
]


def _name_a_table(_: Any, given: Path | None) -> None:
    """Say what to write instead of a cell like color=red."""
    name, sign, value = str(given).partition("=")
    if sign and given is not None and not given.exists():
        raise ValueError(f"It takes a table: for {given}, a CSV file with the lines {name!r} and {value!r}.")


Given = Annotated[
    Path | None,
    PATHS,
    Parameter(
        help="Table with some of the columns, whose cells are kept: a row is drawn for each of its rows.",
        validator=_name_a_table,
    ),
]
Draws = Annotated[
    int | None,
    INT,
    Parameter(
        help="Draw the gaps this many times, into files with -1, -2 and so on after the name, for multiple imputation.",
        validator=validators.Number(gte=1),
    ),
]
OfMean = Annotated[
    bool | None, Parameter(help="Write the mean of each drawn row, without noise; the default for pictures.")
]
Seed = Annotated[
    int | None,
    INT,
    Parameter(help="Seed of the draws; without it, each call draws other rows.", validator=validators.Number(gte=0)),
]


@command(3, "transform MODEL ROWS... --output CODES [OPTIONS]")
def transform(
    model: Model,
    rows: Rows,
    /,
    *,
    output: TableOutput,
    chosen: Chosen = ALL,
    n_components: FirstComponents = None,
    shard: Shard = WHOLE,
) -> None:
    """Encode the rows of a table: one line of codes for each row.

    Columns are matched to the model's by their names; they need to be chosen only if they have no names.
    """
    part = shard.begin("transform", rows, output)
    fitted, X = model_and_rows(model, rows, chosen, output := part.name(output))
    X = part.of(X, n_cells_of(fitted))
    encoder = fitted.autoencoder_ if is_supervised(fitted) else fitted
    names = encoder.get_feature_names_out()

    def encoded(block: Any) -> dict[str, Any]:
        return dict(zip(names, encoder.transform(block, n_components=n_components).T, strict=False))

    write(output, answers_of(encoder, X, encoded), "encoding")


@command(4, "decode MODEL CODES... --output TABLE [OPTIONS]")
def decode(model: Model, codes: Codes, /, *, output: RowsOutput, chosen: Chosen = ALL) -> None:
    """Decode a table of codes: one row in the data's columns and units for each line of codes."""
    check_rows_output(output, *codes, model=model)
    with progress.stage(LOADING):
        fitted = loaded(model, output, "decode")
    X = read_codes(codes, chosen, fitted)
    write_rows(output, fitted, answers_of(fitted, X, fitted.inverse_transform), "decoding")


@command(5, "reconstruct MODEL ROWS... --output TABLE [OPTIONS]")
def reconstruct(
    model: Model,
    rows: Rows,
    /,
    *,
    output: RowsOutput,
    chosen: Chosen = ALL,
    n_components: FirstComponents = None,
    shard: Shard = WHOLE,
) -> None:
    """Encode and decode the rows of a table: write their reconstructions.

    Columns are matched to the model's by their names; they need to be chosen only if they have no names.
    """
    part = shard.begin("reconstruct", rows, output)
    fitted, X = model_and_rows(model, rows, chosen, output := part.name(output), check_rows_output, "reconstruct")
    X = part.of(X, n_cells_of(fitted))
    rebuilt = answers_of(fitted, X, partial(fitted.reconstruct, n_components=n_components))
    write_rows(output, fitted, rebuilt, "encoding and decoding")


@command(6, "impute MODEL ROWS... --output TABLE [OPTIONS]")
def impute(
    model: Model,
    rows: Rows,
    /,
    *,
    output: RowsOutput,
    chosen: Chosen = ALL,
    draws: Draws = None,
    random_state: Seed = None,
) -> None:
    """Fill the gaps of a table: write its rows with every gap filled, and all other cells as they are.

    Columns are matched to the model's by their names; they need to be chosen only if they have no names.
    """
    outputs = [output] if draws is None else [output.with_stem(f"{output.stem}-{i + 1}") for i in range(draws)]
    if draws is not None and output == STREAM:
        raise CycloptsError(msg="--draws writes several files: name one for --output.", command_chain=["impute"])
    for each in outputs:
        check_rows_output(each, *rows, model=model)
    fitted, X = model_and_rows(model, rows, chosen, output, check_rows_output, "impute")
    if draws is None:
        write_rows(output, fitted, answers_of(fitted, X, fitted.impute), "filling gaps")
        return
    seed = secrets.randbits(32) if random_state is None else random_state

    def drawn(block: Any, first_row: int) -> list[Any]:
        return fitted.impute(block, n_draws=draws, random_state=seed, first_row=first_row)

    write_draws(outputs, fitted, data.answers_of(X, n_cells_of(fitted), drawn), "filling gaps")


@command(7, "score MODEL ROWS... [OPTIONS]")
def score(
    model: Model,
    rows: Rows,
    /,
    *,
    output: TableOutput | None = None,
    chosen: Chosen = ALL,
    as_json: AsJson = False,
    shard: Shard = WHOLE,
) -> None:
    """Print how well a model fits the rows of a table, as means over the rows; --output writes each row's scores.

    log_likelihood is in nats, of the row in the data's units given its code; a lower bound for variational models.

    reconstruction_error is the squared error summed over the columns, in their units (times in seconds), or scaled as
    in the model.

    Unusual rows have the largest scaled_reconstruction_error. Scores are in the order of the rows.
    """
    if as_json and output == STREAM:
        message = "--json and --output - both write to standard output: name a file for --output."
        raise CycloptsError(msg=message, command_chain=["score"])
    part = shard.begin("score", rows, output)
    output = None if output is None else part.name(output)
    fitted, X = model_and_rows(model, rows, chosen, output, purpose="score")
    X = part.of(X, n_cells_of(fitted))
    totals: Counter[str] = Counter()
    n_rows = 0
    with progress.stage("scoring"), ExitStack() as files:
        write_table = None if output is None else files.enter_context(table_output(output))
        for scores in answers_of(fitted, X, partial(scores_of, fitted)):
            totals.update({name: values.sum(dtype=float) for name, values in scores.items()})
            n_rows += len(scores["log_likelihood"])
            if write_table is not None:
                write_table(scores)
    n_all, *sums = part.total(n_rows, *totals.values())
    means = {name: float(total / n_all) for name, total in zip(totals, sums, strict=True)}
    if as_json:
        written = None if output is None else str(output)
        print_json({**means, "n_rows": int(n_all), "output": written})
    else:
        columns = getattr(fitted, "columns_", None)
        units = "in the data's units, times in seconds" if columns and columns.has_times else "in the data's units"
        facts = {
            "log-likelihood": f"{means['log_likelihood']:.5g} nats a row",
            "reconstruction error": f"{means['reconstruction_error']:.5g} a row, {units}",
            "scaled": f"{means['scaled_reconstruction_error']:.5g} a row, in the model's units",
        }
        print_facts(facts, file=sys.stderr if output == STREAM else sys.stdout)
        if output is not None:
            say_written(output, n_rows, len(means))


def scores_of(fitted: Any, rows: Any) -> dict[str, np.ndarray]:
    """What is written of each row."""
    return {
        "log_likelihood": fitted.score_samples(rows),
        "reconstruction_error": fitted.reconstruction_error(rows),
        "scaled_reconstruction_error": fitted.reconstruction_error(rows, scaled=True),
    }


@command(8, "sample MODEL (--n-rows N | --given TABLE) --output TABLE [OPTIONS]")
def sample(
    model: Model,
    /,
    *,
    n_rows: NRows = None,
    given: Given = None,
    output: RowsOutput,
    chosen: Chosen = ALL,
    mean: OfMean = None,
    random_state: Seed = None,
) -> None:
    """Draw new rows: so many, or one for each row of a table that has some of the columns."""
    if (n_rows is None) == (given is None):
        raise CycloptsError(msg="Give either --n-rows or --given.", command_chain=["sample"])
    tables = [] if given is None else [given]
    check_rows_output(output, *tables, model=model)
    with progress.stage(LOADING):
        fitted = loaded(model, output, "sample")
    mean = pictures.is_picture(output) if mean is None else mean
    X = None if given is None else read_rows(tables, chosen, fitted=fitted).frame
    options = {"mean": mean, "random_state": random_state}
    with progress.stage("drawing"):
        if n_rows is not None and not (pictures.is_picture(output) or data.is_stream(output) or output == STREAM):
            fitted.sample(n_rows, **options, output=output)
            say_written(output, n_rows, fitted.n_features_in_)
            return
        drawn = fitted.sample(n_rows or 1, given=X, **options)
    write_rows(output, fitted, [drawn], "drawing")


@command(9, "predict MODEL ROWS... --output TABLE [OPTIONS]")
def predict(model: Model, rows: Rows, /, *, output: TableOutput, chosen: Chosen = ALL) -> None:
    """Predict the label of each row, by a classifier or regressor that was saved in Python.

    A classifier also writes the probability of each class.
    """
    fitted, X = model_and_rows(model, rows, chosen, output)
    if not is_supervised(fitted):
        got = f"{class_with_article(fitted)} in {str(model)!r}"
        raise OptionError("predict needs a classifier or a regressor", got=got, hint="Try transform for its codes")
    write(output, answers_of(fitted, X, partial(predictions, fitted)), "predicting")


@command(11, "report MODEL ROWS... --output PAGE [OPTIONS]")
def report(
    model: Model,
    rows: Rows,
    /,
    *,
    output: Annotated[Path, PATHS, Parameter(alias="-o", help="Output: a file ending in .html or .htm.", group=FILES)],
    chosen: Chosen = ALL,
) -> None:
    """Write a page about a model and some rows, which opens in any browser without a network.

    It says what the model found and whether it was worth it, and shows errors by column, rows with reasons, codes and
    components; sliders decode codes in the page. Give rows that were not fitted where you can.
    """
    fitted, X = model_and_rows(model, rows, chosen, output, check_page_output)
    if notes := getattr(fitted, "notes_", None):
        notes[:] = map(flags.note_told, notes)
    with progress.stage("writing the report"):
        fitted.report(X, output)
    print(f"The page is in {output}. Open it in a browser.")


def check_page_output(output: Path, *tables: Path, model: Path | None = None) -> None:
    """Raise an error, before other work is done, if a page could not be written or would overwrite an input."""
    data.check_output(output, PAGES, inputs_of(tables, model))


@command(12, "export MODEL --output GRAPH [OPTIONS]")
def export(
    model: Model,
    /,
    *,
    output: Annotated[
        Path,
        PATHS,
        Parameter(alias="-o", help="Output: a file ending in .onnx, or in .pt2 for torch.export.", group=FILES),
    ],
    methods: Annotated[
        tuple[str, ...] | None,
        Parameter(
            consume_multiple=AT_LEAST_ONE,
            negative_iterable=(),
            help="Answers to give, as transform impute; default: all.",
        ),
    ] = None,
    parts: Parts = (),
    quiet: Quiet = False,
) -> None:
    """Write a model as a graph that other programs can run: scaling and gaps are inside.

    The graph's answers are compared with the model's before the file is written.
    """
    if quiet:
        progress.hide()
    data.check_output(output, GRAPHS, [model])
    with progress.stage(LOADING):
        fitted = loaded(model)
    with progress.stage("exporting"):
        fitted.export(output, methods and [name for given in methods for name in given.rstrip(",").split(",")])
    print(f"The graph is in {output}.")


@command(13, "describe MODEL|ROWS... [OPTIONS]")
def describe(
    what: ModelOrRows,
    /,
    *,
    chosen: Chosen = ALL,
    given: Annotated[flags.ColumnFlags, Parameter(name="*")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a model is and how its fit went; or what fit would take each column of a table for, and why."""
    if not is_table(what):
        facts = {**summary(eigencode.load(what[0], OWN.known, device="cpu")), "version": io.version_of(what[0])}
        print_json(facts) if as_json else print_facts(flags.facts_told(description(facts)))
        return
    options = flags.options_given(flags.PLAIN, given, "describe")
    rows = read_rows(what, chosen, options, may_stay=True).columns
    some = rows.sample() if isinstance(rows, data.BlockSource) else rows
    found = schema_of(some, options)
    if as_json:
        columns = [column.facts for column in found.columns]
        print_json({"n_rows": len(rows), "n_sampled": len(some), "columns": columns})
    else:
        by = "" if some is rows else f", by a sample of {len(some):,} rows"
        print_facts({"rows": f"{len(rows):,}", "columns": f"{len(found.columns)}, as {found.n_cells} cells{by}"})
        print(f"\n{found}")
        notes = "".join(f"note: {flags.with_flags(note)}\n" for note in found.notes)
        print(f"\n{notes}{KINDS_FLAG}")
