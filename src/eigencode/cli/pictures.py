"""Images on the command line: reading them, and writing pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token

from eigencode import data
from eigencode.cli.flags import FILES, STREAM
from eigencode.errors import OptionError, as_path
from eigencode.words import counted

if TYPE_CHECKING:
    import numpy as np

    from eigencode.data.image_files import ImageRows
    from eigencode.estimators.base import BaseAutoencoder

IMAGES = "a folder, a pattern or several files of them, or an .npy array of pixels"

EACH = "*.png"
"""Added to an output folder that does not exist yet: one file for each image."""


def output_path(_: Any, tokens: Sequence[Token]) -> Path:
    """Parse an output path; a path that ends with a slash is a folder, even if it does not exist yet."""
    typed = as_path(tokens[0].value)
    is_folder = typed.endswith(("/", os.sep)) and not os.path.isdir(typed)
    return Path(typed) / EACH if is_folder else Path(typed)


RowsOutput = Annotated[
    Path,
    Parameter(
        alias="-o",
        help="Output: a .csv, .parquet or .npy file, or - for CSV to standard output. A model of images can also write "
        "pictures: a .png, .jpg, .bmp, .tif or .webp file for a grid of all, a folder/ for a file for each.",
        group=FILES,
        converter=output_path,
    ),
]
ImageSize = Annotated[
    str | None,
    Parameter(help="Resize images to this width and height, such as 28x28.", show_default=False, group=FILES),
]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height from a text such as 28x28."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", text.strip())
    if found is None:
        what, hint = "--image-size must be a width and a height in pixels", "Try --image-size 28x28"
        raise OptionError(what, got=repr(text), hint=hint)
    return int(found[1]), int(found[2])


def are_images(paths: Sequence[Path]) -> bool:
    """Whether any of the inputs are images: files of images, or an array of them."""
    return STREAM not in paths and any(data.is_image(path) or data.is_image_array(path) for path in paths)


def shape_of(model: BaseAutoencoder) -> tuple[int, ...]:
    """Channels, height and width of the images that a model was fitted on, () for a model of rows."""
    return tuple(getattr(model, "image_shape_", ())) or tuple(getattr(model, "image_shape", None) or ())


def read(
    paths: Sequence[Path], size: str | None = None, like: Sequence[int] = (), *, may_stay: bool = True
) -> ImageRows:
    """Image files, resized if a size is given, or arrays of images; many files are read later if they ``may_stay``."""
    parsed_size = parse_size(size)
    if data.is_image_array(paths[0]):
        if parsed_size:
            raise OptionError("--image-size is for image files", got=f"the array {str(paths[0])!r}")
        return data.read_image_arrays(paths, like=like)
    return data.image_rows(paths, parsed_size, like, may_stay=may_stay)


def is_picture(output: Path) -> bool:
    """Whether an output path is one for pictures."""
    return output != STREAM and data.is_picture_output(output)


def write(output: Path, model: BaseAutoencoder, rows: np.ndarray) -> None:
    """Write rows as pictures, and print where they are."""
    low, high = model.pixel_range_ or data.pixel_range(data.ArraySource(rows))
    images = model.as_images(rows)
    files = data.write_pictures(output, data.as_pixels(images, (low, high)))
    height, width = images.shape[1:3]
    where = files[0] if len(files) == 1 and files[0] == output else f"{files[0]} ... {files[-1].name}"
    of = f"of {width}x{height} pixels"
    count = counted(len(rows), f"image {of} is", f"images {of} are")
    print(f"{count} in {where} ({low:g} is black, {high:g} is white).")
