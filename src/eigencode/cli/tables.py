"""Tables on the command line: which flags say what is read, and where answers go."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

from cyclopts import Parameter

from eigencode.cli.flags import FILES, STREAM
from eigencode.cli.words import fitted_names

if TYPE_CHECKING:
    import numpy as np

    from eigencode.data.files import Table
    from eigencode.estimators.base import BaseAutoencoder

Rows = Annotated[
    Path,
    Parameter(
        help="Table of numbers: a .csv, .parquet or .npy file, or - for CSV from standard input.",
        group=FILES,
    ),
]
Codes = Annotated[Path, Parameter(help="Table of codes, as transform wrote it: a file, or -.", group=FILES)]
TableOutput = Annotated[
    Path,
    Parameter(help="Where to: a .csv, .parquet or .npy file, or - for CSV to standard output.", group=FILES),
]
SEVERAL = Parameter(consume_multiple=True, negative_iterable=(), show_default=False, group=FILES)


@dataclass(frozen=True)
class Choice:
    """Which columns of a table to use."""

    columns: Annotated[tuple[str, ...], SEVERAL, Parameter(help="Columns to use, in place of all.")] = ()
    exclude: Annotated[tuple[str, ...], SEVERAL, Parameter(help="Columns to leave out.")] = ()


ALL = Choice()
Chosen = Annotated[Choice, Parameter(name="*")]


def loaded(path: Path) -> BaseAutoencoder:
    """The model in a file."""
    from eigencode.storage import load

    return load(path)


def source(path: Path) -> Path | BinaryIO:
    """What to read a table from."""
    return sys.stdin.buffer if path == STREAM else path


def read_rows(rows: Path, chosen: Choice) -> Table:
    """The columns chosen of a table."""
    from eigencode.data.files import read_table

    return read_table(source(rows), **vars(chosen))


def read_codes(codes: Path, chosen: Choice, model: BaseAutoencoder) -> np.ndarray:
    """The codes of a model in a table."""
    from eigencode.data.files import read_matching

    names = list(model.get_feature_names_out())
    return read_matching(source(codes), names, model.n_components_, **vars(chosen)).rows


def model_and_rows(model: Path, rows: Path, chosen: Choice, output: Path | None = None) -> tuple[BaseAutoencoder, Any]:
    """A model and the columns of a table that it was fitted on, as it takes them, once the output is seen fit."""
    from eigencode.data.files import read_matching

    if output is not None:
        check_table_output(output, rows)
    fitted = loaded(model)
    names = fitted_names(fitted)
    table = read_matching(source(rows), names, fitted.n_features_in_, **vars(chosen))
    return fitted, table.rows if names is None else table.frame


def check_table_output(output: Path, *inputs: Path) -> None:
    """Find out before the work that a table could not be written."""
    from eigencode.data.formats import FORMATS
    from eigencode.data.outputs import check_output

    if output != STREAM:
        check_output(output, FORMATS, inputs)


def write_rows(output: Path, model: BaseAutoencoder, answer: np.ndarray) -> None:
    """Write rows in the data's space, under the names fitted."""
    names = fitted_names(model) or [f"x{place}" for place in range(model.n_features_in_)]
    write(output, dict(zip(names, answer.T, strict=True)))


def write(output: Path, columns: Mapping[str, np.ndarray], *, said: bool = True) -> None:
    """Write columns to a file, or as CSV to standard output."""
    from eigencode.data.files import write_columns
    from eigencode.data.formats import Csv

    if output == STREAM:
        Csv.write(sys.stdout.buffer, columns)
        return
    write_columns(output, columns)
    if said:
        n_rows = len(next(iter(columns.values())))
        print(f"{n_rows} rows of {len(columns)} columns are in {output}.")
