"""Writing images as picture files: as one grid, or as one file for each."""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eigencode.data.memory import require_memory
from eigencode.data.writing import atomic_write, check_output
from eigencode.errors import DataError, FileError

if TYPE_CHECKING:
    from PIL.Image import Image

    from eigencode.data.sources import Source

PICTURES = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
}  # fmt: skip
"""Pillow's names of the formats by the ending of their files, in lower case."""

WITH_OPACITY = frozenset({"PNG", "TIFF", "WEBP"})
WITH_16_BITS = frozenset({"PNG", "TIFF"})

QUALITY = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}
"""Options of Pillow for formats with lossy compression."""

LARGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}
"""Most pixels of a side, in formats that have such a limit."""

LARGEST_GRID = 2**28
"""Most pixels of a grid: few programs can open a larger picture."""


def pixel_range(source: Source) -> tuple[float, float]:
    """The values that pictures of these rows show as black and as white.

    For pixels of 8 or 16 bits, black is 0, and white the largest value of the type, or the largest pixel if that is
    below an eighth of the type's largest value, as for digits from 0 to 16. Otherwise black is the smallest value, and
    white the largest.

    Examples
    --------
    >>> from eigencode.data.sources import ArraySource
    >>> pixel_range(ArraySource(np.array([[0, 200]], np.uint8)))
    (0.0, 255.0)
    >>> pixel_range(ArraySource(np.array([[-0.5, 1.5]])))
    (-0.5, 1.5)
    """
    ends = np.array([(np.fmin.reduce(chunk, axis=None), np.fmax.reduce(chunk, axis=None)) for chunk in source.chunks()])
    low, high = float(np.fmin.reduce(ends[:, 0])), float(np.fmax.reduce(ends[:, 1]))
    if ends.dtype.kind == "u":
        largest = float(np.iinfo(ends.dtype).max)
        low, high = 0.0, largest if high >= largest / 8 else high
    return low, high if high > low else low + 1.0


def as_pixels(images: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Convert numbers to pixels: rounded and clipped, with 16 bits if white is 65535, else scaled to 8 bits.

    Examples
    --------
    >>> as_pixels(np.array([-3.0, 8.0, 16.0]), (0.0, 16.0)).tolist()
    [0, 128, 255]
    """
    low, high = limits
    dtype = np.uint16 if limits == (0.0, 65535.0) else np.uint8
    white = np.iinfo(dtype).max
    shares = (np.nan_to_num(images.astype(np.float64), nan=low) - low) / (high - low)
    return (shares.clip(0, 1) * white).round().astype(dtype)


def is_picture_output(path: str | os.PathLike[str]) -> bool:
    """Whether an output path is one for pictures: a picture by its ending, a folder, or a pattern ``folder/*.png``."""
    path = Path(path)
    return path.suffix.lower() in PICTURES or os.path.isdir(path)


def check_pictures_output(path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Raise a `FileError`, before other work is done, if pictures could not be written to a path of `write_pictures`.

    ``inputs`` are files and folders that are read, and so must not be overwritten.
    """
    folder, ending = _folder_and_ending(Path(path))
    sources = [Path(read) for read in inputs]
    if folder is None:
        check_output(path, PICTURES, sources)
        return
    folders = {read if os.path.isdir(read) else read.parent for read in sources}
    if os.path.exists(folder) and any(os.path.exists(read) and os.path.samefile(folder, read) for read in folders):
        hint = "Choose another folder for the pictures"
        raise FileError(f"Cannot write into {str(folder)!r}: it is an input", hint=hint)
    check_output((folder if os.path.isdir(folder) else folder.parent) / f"0001{ending}", PICTURES)


def write_pictures(path: str | os.PathLike[str], images: np.ndarray) -> list[Path]:
    """Write images of shape (n, h, w) or (n, h, w, c), and return the files.

    A path of a file is one picture, in which the images form a grid; of a folder, or a pattern such as
    ``'folder/*.jpg'``, one file for each image, named 0001.png and so on; a missing folder is created. The images are
    of type uint8, or of uint16 for grey ones of 16 bits, with 1, 3 or 4 channels.

    Examples
    --------
    >>> import tempfile
    >>> images = np.zeros((10, 8, 8), np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.name for file in write_pictures(folder, images)][::9]
    ['0001.png', '0010.png']
    """
    path = Path(path)
    if images.ndim == 4 and images.shape[-1] not in (1, 3, 4):
        raise DataError("Pictures have 1, 3 or 4 channels", got=str(images.shape[-1]), hint="Write a table instead")
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    folder, ending = _folder_and_ending(path)
    if folder is not None:
        return _write_each(folder, ending, images)
    form = PICTURES[path.suffix.lower()]
    content = encoded(path, grid(images, LARGEST_SIDE.get(form)), form)
    with atomic_write(path) as file:
        file.write(content)
    return [path]


def grid(images: np.ndarray, largest_side: int | None = None) -> np.ndarray:
    """Arrange images of shape (n, h, w) or (n, h, w, c) in nearly a square, with white lines between them.

    The first image is at the top left, the second to its right. ``largest_side`` is the most pixels of a side, if a
    format has a limit.

    Examples
    --------
    >>> grid(np.zeros((4, 2, 2), np.uint8)).tolist()[:3]
    [[0, 0, 255, 0, 0], [0, 0, 255, 0, 0], [255, 255, 255, 255, 255]]
    """
    n_images, height, width = images.shape[:3]
    gap = 0 if n_images == 1 else 2 if min(height, width) >= 16 else 1
    n_across = min(max(round(math.sqrt(n_images * (height + gap) / (width + gap))), 1), n_images)
    n_down = -(-n_images // n_across)
    size = n_down * (height + gap) - gap, n_across * (width + gap) - gap
    if math.prod(size) > LARGEST_GRID or max(size) > (largest_side or LARGEST_GRID):
        raise DataError(
            f"A grid of {n_images} images would be too large a picture",
            got=f"{size[1]} x {size[0]} pixels",
            hint="Write fewer images, or one file for each into a folder: --output folder/",
        )
    n_bytes = 2 * math.prod(size) * images[0, 0, 0].nbytes
    require_memory(n_bytes, "The grid", "Write one file for each image: --output folder/")
    found = np.full((*size, *images.shape[3:]), np.iinfo(images.dtype).max, images.dtype)
    for number, image in enumerate(images):
        down, across = divmod(number, n_across)
        top, left = down * (height + gap), across * (width + gap)
        found[top : top + height, left : left + width] = image
    return found


def _folder_and_ending(path: Path) -> tuple[Path | None, str]:
    """The folder for one file for each image, None for one picture; and the ending of the files."""
    if os.path.isdir(path):
        return path, ".png"
    return (path.parent if path.stem == "*" else None), path.suffix.lower()


def _write_each(folder: Path, ending: str, images: np.ndarray) -> list[Path]:
    """Write one file for each image, all into a temporary folder before the first is moved."""
    n_digits = max(4, len(str(len(images))))
    names = [f"{number:0{n_digits}}{ending}" for number in range(1, len(images) + 1)]
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            for name, image in zip(names, images, strict=True):
                (Path(temporary) / name).write_bytes(encoded(folder / name, image, PICTURES[ending]))
            folder.mkdir(exist_ok=True)
            for name in names:
                os.replace(Path(temporary) / name, folder / name)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"Cannot write into {str(folder)!r}", got=f"the error {error.strerror or error}") from error
    return [folder / name for name in names]


def encoded(path: Path, pixels: np.ndarray, form: str) -> bytes:
    """The bytes of a picture's file."""
    file = io.BytesIO()
    try:
        _picture(pixels, form).save(file, format=form, **QUALITY.get(form, {}))  # type: ignore[arg-type]
    except Exception as error:  # Pillow's writers raise many types of errors
        raise FileError(f"Cannot write {str(path)!r}", got=f"the error {str(error).rstrip('.')}") from error
    return file.getvalue()


def _picture(pixels: np.ndarray, form: str) -> Image:
    """A Pillow image for a format, without opacity and reduced to 8 bits if the format does not support them."""
    from PIL import Image

    if pixels.dtype == np.uint16 and form not in WITH_16_BITS:
        pixels = (pixels >> 8).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image.convert("RGB") if image.mode == "RGBA" and form not in WITH_OPACITY else image
