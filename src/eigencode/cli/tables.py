"""Tables on the command line: which flags say what is read, and where answers go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar, cast

from cyclopts import Parameter

from eigencode import progress
from eigencode.cli import pictures
from eigencode.cli.descriptions import fitted_names
from eigencode.cli.flags import FILES, PATHS, STREAM
from eigencode.cli.own_parts import OWN
from eigencode.cli.pictures import ImageSize
from eigencode.errors import DataError, OptionError

if TYPE_CHECKING:
    import numpy as np

    from eigencode.data.files import Table
    from eigencode.data.image_files import ImageRows
    from eigencode.estimators.base import BaseAutoencoder

Read = TypeVar("Read", "Table", "ImageRows")

TABLES = (
    "a .csv, .tsv, .parquet, .arrow or .npy file, packed as .gz or not; a folder or a pattern of such files, or "
    "several, for rows one after the other; - is standard input"
)
Rows = Annotated[
    tuple[Path, ...], PATHS, Parameter(help=f"Tables of numbers: {TABLES}. Or images: {pictures.IMAGES}.", group=FILES)
]
Codes = Annotated[
    tuple[Path, ...], PATHS, Parameter(help="Tables of codes, as transform wrote them: files, or -.", group=FILES)
]
TableOutput = Annotated[
    Path,
    PATHS,
    Parameter(
        alias="-o", help="Where to: a .csv, .parquet or .npy file, or - for CSV to standard output.", group=FILES
    ),
]
SEVERAL = Parameter(consume_multiple=True, negative_iterable=(), show_default=False, group=FILES)
ONE = Parameter(show_default=False, group=FILES)


@dataclass(frozen=True)
class Choice:
    """Which columns of a table to use, and how text is read as a table."""

    columns: Annotated[
        tuple[str, ...],
        SEVERAL,
        Parameter(help="Columns to use, instead of all: a b c, or a,b,c."),
    ] = ()
    exclude: Annotated[tuple[str, ...], SEVERAL, Parameter(help="Columns to leave out: a b c, or a,b,c.")] = ()
    no_header: Annotated[
        bool, ONE, Parameter(negative=(), help="The first line of a CSV is a row, and holds no names.")
    ] = False
    names: Annotated[
        tuple[str, ...],
        SEVERAL,
        Parameter(help="Names for the columns of a CSV without a header, or of an NPY file: a b c, or a,b,c."),
    ] = ()
    separator: Annotated[
        str | None,
        ONE,
        Parameter(help="Character between the cells of a CSV, or its name, as tab; else guessed."),
    ] = None
    decimal: Annotated[str | None, ONE, Parameter(help="Decimal mark of a CSV, . or , ; else guessed.")] = None
    encoding: Annotated[str | None, ONE, Parameter(help="Encoding of a CSV, as latin-1; UTF-8 if not given.")] = None

    image_size: ImageSize = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The same, as `read_table` takes it."""
        from eigencode.data.formats import TextOptions

        text = TextOptions(
            self.separator, self.decimal, self.encoding, not (self.no_header or self.names), tuple(self.names)
        )
        return {"columns": self.columns, "exclude": self.exclude, "text": text}

    def typed(self, names: Sequence[str] | None) -> list[str]:
        """The flags with which the same rows are read for a model whose columns have these names, if any."""
        flags = ["--no-header"] if self.no_header else []
        one = {
            "--separator": self.separator,
            "--decimal": self.decimal,
            "--encoding": self.encoding,
            "--image-size": self.image_size,
        }
        flags += [word for flag, value in one.items() if value is not None for word in (flag, value)]
        chosen = {} if names else {"--columns": self.columns, "--exclude": self.exclude}
        several = {"--names": self.names, **chosen}
        return flags + [word for flag, values in several.items() if values for word in (flag, *values)]


ALL = Choice()
Chosen = Annotated[Choice, Parameter(name="*")]


def loaded(path: Path, output: Path | None = None) -> BaseAutoencoder:
    """The model in a file, which must be one of images where the output is of pictures."""
    from eigencode.io.storage import load

    model = load(path, parts=OWN.known)
    if output is not None and pictures.is_picture(output):
        pictures.require_image_model(model, output)
    return model


def sources(paths: Sequence[Path]) -> list[Path | BinaryIO]:
    """What to read tables from."""
    return [sys.stdin.buffer if path == STREAM else path for path in paths]


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files that are read, folders and patterns apart, as far as they can be known before."""
    from eigencode.data.contents import list_files
    from eigencode.data.formats import FOLDER_ENDINGS
    from eigencode.data.image_paths import image_files

    if pictures.are_images(paths) and not pictures.is_array(paths[0]):
        return image_files(paths)[0]

    named = [path for path in paths if path != STREAM]
    return [Path(cast(Path, file)) for file in list_files(named, FOLDER_ENDINGS)] if named else []


def read_rows(rows: Sequence[Path], chosen: Choice) -> Table | ImageRows:
    """The columns chosen of some tables, or images."""
    from eigencode.data.files import read_table

    if pictures.are_images(rows):
        return _images(rows, chosen)
    _refuse_image_size(rows, chosen)
    return _said(read_table(sources(rows), **chosen.arguments))


def read_codes(codes: Sequence[Path], chosen: Choice, model: BaseAutoencoder) -> np.ndarray:
    """The codes of a model in some tables."""
    from eigencode.data.files import read_matching

    names = list(model.get_feature_names_out())
    return _said(read_matching(sources(codes), names, model.n_components_, **chosen.arguments)).rows


def model_and_rows(
    model: Path,
    rows: Sequence[Path],
    chosen: Choice,
    output: Path | None = None,
    check: Callable[..., None] | None = None,
) -> tuple[BaseAutoencoder, Any]:
    """A model and the columns of tables that it was fitted on, as it takes them, once the output is seen fit."""
    from eigencode.data.files import read_matching

    if output is not None:
        (check or check_table_output)(output, *rows, model=model)
    fitted = loaded(model, output)
    names = fitted_names(fitted)
    if pictures.are_images(rows):
        return fitted, _images(rows, chosen, fitted).rows
    _refuse_image_size(rows, chosen)
    table = _said(read_matching(sources(rows), names, fitted.n_features_in_, **chosen.arguments))
    return fitted, table.rows if names is None else table.frame


def _images(rows: Sequence[Path], chosen: Choice, model: BaseAutoencoder | None = None) -> ImageRows:
    """The images in some files, as a model was fitted on them if there is one."""
    if chosen != Choice(image_size=chosen.image_size):
        raise OptionError("Images have no columns to choose, and no text", got="flags that are for tables")
    if model is None:
        return _said(pictures.read(rows, chosen.image_size))
    images = _said(pictures.read(rows, chosen.image_size, pictures.shape_of(model)))
    if images.rows.shape[1] != model.n_features_in_ or fitted_names(model):
        raise DataError(
            "The model was fitted on a table, not on images",
            got=f"images of {images.rows.shape[1]} pixels for {model.n_features_in_} columns",
        )
    return images


def _refuse_image_size(rows: Sequence[Path], chosen: Choice) -> None:
    """Refuse a flag for images, once it is known that there are files, and that they are not images."""
    if chosen.image_size is not None:
        files_of(rows)
        raise OptionError("--image-size is for image files", got="a table")


def _said(table: Read) -> Read:
    """Say on standard error what was assumed in reading."""
    for note in table.notes:
        progress.say(note)
    return table


def inputs_of(tables: Sequence[Path], model: Path | None = None) -> list[Path | int]:
    """The files that are read, which no result must take the place of; standard input by its number."""
    other: list[Path | int] = [] if model is None else [model]
    if STREAM in tables:
        with suppress(OSError, ValueError, AttributeError):  # it may be no file of the system
            other.append(sys.stdin.fileno())
    return [*files_of(tables), *other]


def check_table_output(output: Path, *tables: Path, model: Path | None = None) -> None:
    """Find out before the work that a table could not be written, or would take the place of what is read."""
    from eigencode.data.formats import FORMATS
    from eigencode.data.outputs import check_output

    if output != STREAM:
        check_output(output, FORMATS, inputs_of(tables, model))


def check_rows_output(output: Path, *tables: Path, model: Path | None = None) -> None:
    """Find out before the work that rows in the data's space could not be written, as a table or as pictures."""
    from eigencode.data.formats import FORMATS
    from eigencode.data.outputs import check_output
    from eigencode.data.pictures import PICTURES

    if pictures.is_picture(output):
        pictures.check(output, [*tables, *files_of(tables), *([] if model is None else [model])])
    elif output != STREAM:
        check_output(output, [*FORMATS, *PICTURES], inputs_of(tables, model))


def write_rows(output: Path, model: BaseAutoencoder, answer: np.ndarray) -> None:
    """Write rows in the data's space, under the names fitted, or as pictures."""
    if pictures.is_picture(output):
        pictures.write(output, model, answer)
        return
    names = fitted_names(model) or [f"x{place}" for place in range(model.n_features_in_)]
    write(output, dict(zip(names, answer.T, strict=True)))


def write(output: Path, columns: Mapping[str, np.ndarray], *, said: bool = True) -> None:
    """Write columns to a file, or as CSV to standard output."""
    from eigencode.data.files import write_columns
    from eigencode.data.formats import Csv
    from eigencode.data.outputs import is_stream

    if output == STREAM:
        Csv.write(sys.stdout.buffer, columns)
        return
    write_columns(output, columns)
    if said and not is_stream(output):
        n_rows = len(next(iter(columns.values())))
        print(f"{n_rows} rows of {len(columns)} columns are in {output}.")
