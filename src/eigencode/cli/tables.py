"""Tables on the command line: the flags for reading them, reading, checking outputs, and writing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar, cast

from cyclopts import Parameter

import eigencode
from eigencode import data, progress
from eigencode.cli import pictures
from eigencode.cli.flags import AT_LEAST_ONE, FILES, PATHS, STREAM, Quiet
from eigencode.cli.own_parts import OWN, Parts
from eigencode.cli.pictures import ImageSize
from eigencode.descriptions import fitted_names, is_detector, is_supervised
from eigencode.errors import DataError, OptionError
from eigencode.words import counted

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from eigencode.data.files import Table
    from eigencode.data.image_files import ImageRows
    from eigencode.data.tables import Schema
    from eigencode.estimators.base import BaseAutoencoder

Read = TypeVar("Read", "Table", "ImageRows")

LOADING = "loading PyTorch"
"""The first step of most commands, which takes some seconds."""

TABLES = (
    "a .csv, .tsv, .parquet, .arrow or .npy file, compressed (.gz) or not; a folder, a pattern or several such files, "
    "whose rows are concatenated; - is standard input"
)
Rows = Annotated[
    tuple[Path, ...], PATHS, Parameter(help=f"Tables: {TABLES}. Or images: {pictures.IMAGES}.", group=FILES)
]
ModelOrRows = Annotated[
    tuple[Path, ...], PATHS, Parameter(help=f"A model file; or tables: {TABLES}.", group=FILES, name="MODEL|ROWS")
]
Codes = Annotated[
    tuple[Path, ...], PATHS, Parameter(help="Tables of codes, as written by transform: files, or -.", group=FILES)
]
TableOutput = Annotated[
    Path,
    PATHS,
    Parameter(alias="-o", help="Output: a .csv, .parquet or .npy file, or - for CSV to standard output.", group=FILES),
]
SEVERAL = Parameter(consume_multiple=AT_LEAST_ONE, negative_iterable=(), show_default=False, group=FILES)
ONE = Parameter(show_default=False, group=FILES)


@dataclass(frozen=True)
class Choice:
    """Which columns of a table to use, how to read text as a table, and the flags of all commands that read rows."""

    include: Annotated[
        tuple[str, ...], SEVERAL, Parameter(help="Columns to use; all by default: a b c, or a,b,c.")
    ] = ()
    exclude: Annotated[tuple[str, ...], SEVERAL, Parameter(help="Columns to leave out: a b c, or a,b,c.")] = ()
    no_header: Annotated[
        bool, ONE, Parameter(negative=(), help="The first line of a CSV is a row and not the names.")
    ] = False
    names: Annotated[
        tuple[str, ...],
        SEVERAL,
        Parameter(help="Names for the columns of a CSV without a header, or of an NPY file: a b c, or a,b,c."),
    ] = ()
    separator: Annotated[
        str | None,
        ONE,
        Parameter(help="Character between the cells of a CSV, or its name, such as tab; detected by default."),
    ] = None
    decimal: Annotated[str | None, ONE, Parameter(help="Decimal mark of a CSV, . or , ; detected by default.")] = None
    encoding: Annotated[str | None, ONE, Parameter(help="Encoding of a CSV, such as latin-1; UTF-8 by default.")] = None

    image_size: ImageSize = None
    parts: Parts = ()
    quiet: Quiet = False

    def __post_init__(self) -> None:
        if self.quiet:
            progress.hide()

    def arguments(self, options: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """The keyword arguments of `columns_of_files`, for an estimator with these options."""
        kinds = options.get("columns") or {}
        text = data.TextOptions(
            self.separator,
            self.decimal,
            self.encoding,
            not (self.no_header or self.names),
            tuple(self.names),
            [str(gap).removesuffix(".0") for gap in gaps_of(options)],
            [name for name, kind in kinds.items() if isinstance(kind, tuple | list) or kind == "category"],
        )
        return {"include": self.include, "exclude": self.exclude, "text": text}

    def flags(self, names: Sequence[str] | None) -> list[str]:
        """The flags that read the same rows for a model whose columns have these names, None for none."""
        left_out = {"parts", "quiet", *(("include", "exclude") if names else ())}
        found: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in left_out and value != field.default:
                arguments = () if value is True else (value,) if isinstance(value, str) else value
                found += [f"--{field.name.replace('_', '-')}", *arguments]
        return found


ALL = Choice()
Chosen = Annotated[Choice, Parameter(name="*")]


def loaded(path: Path, output: Path | None = None, purpose: str = "") -> Any:
    """Load a model: an autoencoder if a command's purpose needs one, and one of images if the output is pictures."""
    model: Any = eigencode.load(path, parts=OWN.known)
    if getattr(model, "columns_", None) is not None:  # frames of answers need no other library
        model.columns_ = replace(model.columns_, library="pyarrow")
    if purpose and is_supervised(model):
        does, command = ("finds anomalies", "detect") if is_detector(model) else ("predicts labels", "predict")
        raise OptionError(
            f"{purpose} needs an autoencoder",
            got=f"{class_with_article(model)} in {str(path)!r}, which {does}",
            hint=f"Try {command}, or transform for its codes",
        )
    if output is not None and pictures.is_picture(output) and not pictures.shape_of(model):
        raise DataError(
            f"Pictures in {str(output)!r} need a model of images, but this one was fitted on a table",
            hint="Fit it on image files, or with --image-shape; or write a .csv, .parquet or .npy file",
        )
    return model


def gaps_of(options: Mapping[str, Any]) -> Sequence[Any]:
    """The values that stand for gaps, by an estimator's options."""
    given = options.get("missing_values")
    return given if isinstance(given, tuple | list) else () if given is None else (given,)


def is_table(paths: Sequence[Path]) -> bool:
    """Whether paths are those of tables, and not of a model."""
    return paths[0] == STREAM or paths[0].is_dir() or data.ending_of(paths[0])[0] in data.READABLE or len(paths) > 1


def schema_of(rows: Any, options: Mapping[str, Any]) -> Schema:
    """What an estimator with these options would take the columns of an Arrow table, or of an array, for."""
    if not hasattr(rows, "column_names"):
        rows = data.as_arrow({str(j): column for j, column in enumerate(rows[:].T)})
    return data.Schema.infer(rows, options.get("columns"), gaps_of(options))


def class_with_article(model: object) -> str:
    """The name of a model's class with its article."""
    name = type(model).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def sources(paths: Sequence[Path]) -> list[Path | BinaryIO]:
    """The paths, with standard input in place of -."""
    return [sys.stdin.buffer if path == STREAM else path for path in paths]


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files that are read, with those of folders and patterns, and without standard input."""
    if pictures.are_images(paths) and not data.is_image_array(paths[0]):
        return data.list_image_files(paths)[0]
    named = [path for path in paths if path != STREAM]
    return [Path(cast(Path, file)) for file in data.list_files(named, data.FOLDER_ENDINGS)] if named else []


def read_rows(
    rows: Sequence[Path],
    chosen: Choice,
    options: Mapping[str, Any] = MappingProxyType({}),
    fitted: Any = None,
    *,
    may_stay: bool = False,
) -> Table | ImageRows:
    """Read the chosen columns of tables, or images, for an estimator with these options, or with its types.

    Rows of large tables stay in their files if they ``may_stay``.
    """
    with progress.stage("reading"):
        if pictures.are_images(rows):
            return _images(rows, chosen, may_stay=may_stay)
        _refuse_image_size(rows, chosen)
        given = chosen.arguments(options if fitted is None else options_of(fitted))
        columns = partial(data.columns_of_files, sources(rows), **given, fitted=types_of(fitted))
        table = data.rows_of_files(columns, may_stay=may_stay)
        if hasattr(table.frame, "column_names"):  # before PyTorch is loaded
            data.require_columns(options.get("columns") or {}, table.frame.column_names)
        return _with_notes(table)


def options_of(model: Any) -> Mapping[str, Any]:
    """The options of an autoencoder, or of that of a model that predicts."""
    return vars(getattr(model, "_given", model))


def types_of(model: Any) -> dict[str, str]:
    """The types of the columns fitted, by name."""
    schema = getattr(model, "columns_", None)
    return {} if schema is None else {str(column.name): column.type for column in schema.columns}


def read_codes(codes: Sequence[Path], chosen: Choice, model: BaseAutoencoder) -> np.ndarray:
    """Read tables of codes of a model, shape (n, k)."""
    names = list(model.get_feature_names_out())
    columns = data.matching_columns(sources(codes), names, model.n_components_, **chosen.arguments())
    return _with_notes(data.concatenated([each.read() for each in columns])).rows


def model_and_rows(
    model: Path,
    rows: Sequence[Path],
    chosen: Choice,
    output: Path | None,
    check: Callable[..., None] | None = None,
    purpose: str = "",
    also: Sequence[str] = (),
) -> tuple[Any, Any]:
    """Check the output, load a model, and read the columns that it was fitted on and columns ``also``, or images.

    These include the column of times of a detector with windows. Rows of large tables stay in their files.
    """
    with progress.stage("reading"):
        if output is None:
            files_of(rows)  # missing ones are said before PyTorch is loaded
        else:
            (check or check_table_output)(output, *rows, model=model)
        fitted = loaded(model, output, purpose)
        names = fitted_names(fitted)
        if pictures.are_images(rows):
            return fitted, _images(rows, chosen, fitted).rows
        _refuse_image_size(rows, chosen)
        schema = getattr(fitted, "columns_", None)
        time = getattr(fitted, "time", None)
        also = also if time is None else [*also, time]
        given = {**chosen.arguments(options_of(fitted)), "fitted": types_of(fitted), "also": also}
        given["optional"] = () if schema is None else schema.optional
        columns = partial(data.matching_columns, sources(rows), names, fitted.n_features_in_, **given)
        may_stay = getattr(fitted, "window", None) is None  # a window has rows of several blocks
        return fitted, _with_notes(data.rows_of_files(columns, may_stay=may_stay)).frame


def _images(
    rows: Sequence[Path], chosen: Choice, model: BaseAutoencoder | None = None, *, may_stay: bool = True
) -> ImageRows:
    """Read images, of the shape that a model was fitted on if there is one."""
    if table_flags := replace(chosen, image_size=None).flags(None):
        raise OptionError("Flags for tables cannot be used for images", got=shlex.join(table_flags))
    if model is None:
        return _with_notes(pictures.read(rows, chosen.image_size, may_stay=may_stay))
    images = _with_notes(pictures.read(rows, chosen.image_size, pictures.shape_of(model)))
    if images.rows.shape[1] != model.n_features_in_ or fitted_names(model):
        raise DataError(
            "The model was fitted on a table, not on images",
            got=f"images of {images.rows.shape[1]} pixels for {model.n_features_in_} columns",
        )
    return images


def _refuse_image_size(rows: Sequence[Path], chosen: Choice) -> None:
    """Raise an error if --image-size is given for tables; missing files raise theirs first."""
    if chosen.image_size is not None:
        files_of(rows)
        raise OptionError("--image-size is for image files", got="a table")


def _with_notes(table: Read) -> Read:
    """The same table, after its notes are printed on standard error."""
    for note in table.notes:
        progress.say(note)
    return table


def inputs_of(tables: Sequence[Path], model: Path | None = None) -> list[Path | int]:
    """The files that are read, which no result must overwrite; standard input by its descriptor."""
    other: list[Path | int] = [] if model is None else [model]
    if STREAM in tables:
        with suppress(OSError, ValueError, AttributeError):  # standard input may have no descriptor
            other.append(sys.stdin.fileno())
    return [*files_of(tables), *other]


def check_table_output(output: Path, *tables: Path, model: Path | None = None) -> None:
    """Raise an error, before other work is done, if a table could not be written or would overwrite an input."""
    if output != STREAM:
        data.check_output(output, data.FORMATS, inputs_of(tables, model))


def check_rows_output(output: Path, *tables: Path, model: Path | None = None) -> None:
    """Raise an error, before other work is done, if rows could not be written as a table or as pictures."""
    if pictures.is_picture(output):
        data.check_pictures_output(output, [*tables, *files_of(tables), *([] if model is None else [model])])
    elif output != STREAM:
        data.check_output(output, [*data.FORMATS, *data.PICTURES], inputs_of(tables, model))


def answers_of(fitted: Any, X: Any, ask: Callable[[Any], Any]) -> Iterator[Any]:
    """The answers to a question about rows, a block at a time."""
    return data.answers_of(X, n_cells_of(fitted), lambda block, _: ask(block))


def n_cells_of(fitted: Any) -> int:
    """Number of cells of a row of a model."""
    schema = getattr(fitted, "columns_", None)
    return fitted.n_features_in_ if schema is None else schema.n_cells


def write_rows(output: Path, model: BaseAutoencoder, answers: Iterable[Any], stage: str) -> None:
    """Write rows in the data's space, frames or arrays, with the names of the model's columns, or as pictures."""
    if pictures.is_picture(output):
        with progress.stage(stage):
            answer = data.joined_rows(list(answers))
        with progress.stage(f"writing {output}"):
            pictures.write(output, model, answer)
        return
    names = row_names(model)
    write(output, (data.columns_of(answer, names) for answer in answers), stage)


def write_draws(outputs: Sequence[Path], model: BaseAutoencoder, answers: Iterable[Sequence[Any]], stage: str) -> None:
    """Write several tables of rows in the data's space, one to each output; each answer has a block of each."""
    if pictures.is_picture(outputs[0]):
        for output, of_one in zip(outputs, zip(*answers, strict=True), strict=True):
            write_rows(output, model, of_one, stage)
        return
    n_rows, names = 0, row_names(model)
    with progress.stage(stage), ExitStack() as files:
        writers = [files.enter_context(table_output(output)) for output in outputs]
        for blocks in answers:
            tables = [data.as_arrow(data.columns_of(block, names)) for block in blocks]
            n_rows += tables[0].num_rows
            for write_table, table in zip(writers, tables, strict=True):
                write_table(table)
    for output in outputs:
        say_written(output, n_rows, tables[0].num_columns)


def row_names(model: BaseAutoencoder) -> list[str]:
    """Names for the columns of rows."""
    return fitted_names(model) or [f"x{j}" for j in range(model.n_features_in_)]


def write(output: Path, tables: Iterable[Any], stage: str = "", *, reported: bool = True) -> None:
    """Write Arrow tables, or arrays by name, to a file, and say where if ``reported``, or as CSV to -.

    They are made while they are written, which is what the ``stage`` is called.
    """
    n_rows, n_columns = 0, 0
    with progress.stage(stage or f"writing {output}"), table_output(output) as write_table:
        for table in map(data.as_arrow, tables):
            write_table(table)
            n_rows, n_columns = n_rows + table.num_rows, table.num_columns
    if reported:
        say_written(output, n_rows, n_columns)


def say_written(output: Path, n_rows: int, n_columns: int) -> None:
    """Print where rows are."""
    if output != STREAM and not data.is_stream(output):
        of = f"of {counted(n_columns, 'column')}"
        print(f"{counted(n_rows, f'row {of} is', f'rows {of} are')} in {output}.")


def table_output(output: Path) -> AbstractContextManager[Callable[[pa.Table], None]]:
    """A function that writes tables, one after the other, to a file, or as CSV to -."""
    return data.writing_to(data.Csv, sys.stdout.buffer) if output == STREAM else data.table_writer(output)
