"""Reading image files, from folders, globs and lists, into rows of pixels with one shape."""

from __future__ import annotations

import math
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencode.data.contents import refuse_changed, status_of
from eigencode.data.image_paths import known_endings, list_image_files
from eigencode.data.images import PIXEL_TYPES, ImageLayout, rows_to_images
from eigencode.data.memory import require_memory
from eigencode.data.rows_by_number import RowsByNumber
from eigencode.errors import DataError, EigencodeError, FileError, did_you_mean, file_error, link_of
from eigencode.words import counted

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM")
"""Pillow's names of the formats that are read; its other readers are never used."""

GREY_MODES = frozenset({"1", "L", "LA", "La"})
DEEP_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})

SIDEWAYS = frozenset({5, 6, 7, 8})
"""Values of the EXIF tag 'orientation' for which width and height are swapped."""

PLAUSIBLE = 2**24
"""Pixels that a file of any size may have."""

DENSEST = 1100
"""Pixels that a larger file may have for each of its bytes, by the limit of PNG's compression."""


@dataclass(frozen=True)
class ImageRows:
    """Images as rows of pixels, of shape (n, c h w) in the order (channels, height, width), and the file of each row.

    Pixels are of type uint8, or uint16 for grey images of 16 bits. Many images are read when their rows are asked for.
    Notes are sentences on what was skipped or changed.
    """

    rows: np.ndarray | RowsByNumber
    image_shape: tuple[int, int, int]
    files: list[Path]
    notes: list[str] = field(default_factory=list)

    @property
    def frame(self) -> np.ndarray | RowsByNumber:
        """The images as an array of shape (n, h, w) or (n, h, w, c), over the same memory; or rows that are read."""
        return self.rows if isinstance(self.rows, RowsByNumber) else rows_to_images(self.image_shape, self.rows)

    @property
    def columns(self) -> np.ndarray | RowsByNumber:
        """The pixels as columns of a table."""
        return self.rows


def read_images(
    paths: Iterable[str | os.PathLike[str]],
    *,
    size: tuple[int, int] | None = None,
    like: Sequence[int] = (),
    stay_from: float = math.inf,
) -> ImageRows:
    """Read image files into rows of pixels.

    If some images are in colour, grey images become colour images. Images with a palette, CMYK and other colour spaces
    are converted to RGB, images of one bit to grey with the values 0 and 255; grey images of 16 bits are not changed.
    Transparent pixels are drawn on white. Images are rotated as their EXIF data say. Only the first frame or page is
    read.

    Parameters
    ----------
    paths : iterable of path-like
        Files, folders and globs, as for `list_image_files`.
    size : (int, int), optional
        Width and height to which all images are resized; by default, they must have one size.
    like : sequence of int
        Channels, height and width that the images must have, such as a model's; () for any. Grey images become colour
        images if three channels are needed.
    stay_from : float, default inf
        Number of pixels, channels counted, from which images stay in their files and are read when they are asked for.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number in range(3):
    ...         Image.new("L", (4, 2), color=number).save(f"{folder}/{number}.png")
    ...     images = read_images([folder])
    >>> images.image_shape, images.rows.shape, images.rows[:, 0].tolist()
    ((1, 2, 4), (3, 8), [0, 1, 2])
    """
    files, notes = list_image_files(paths)
    if not files:
        raise FileError("There are no image files to read", hint=known_endings())
    headers = [_read(file, _header) for file in files]
    mode = _common_mode(files, headers, *like[:1])
    fitted = (like[2], like[1]) if like else None
    width, height = size or _common_size(files, headers, fitted)
    shape = (3 if mode == "RGB" else 1, height, width)
    if like and shape != tuple(like):
        raise DataError(f"Images must have (channels, height, width) = {tuple(like)}, as in fit", got=f"{shape}")
    dtype = np.dtype(np.uint16 if mode == "I" else np.uint8)
    notes += _notes_on(headers)
    if len(files) * math.prod(shape) >= stay_from:
        status = [status_of(file) for file in files]
        read = partial(_read_rows, files, mode, shape, dtype, status=status)
        return ImageRows(RowsByNumber(read, (len(files), math.prod(shape)), dtype, shape), shape, files, notes)
    n_bytes = len(files) * math.prod(shape) * dtype.itemsize + 8 * max(math.prod(header.size) for header in headers)
    require_memory(n_bytes, "Reading the images", "Read fewer, or smaller ones with --image-size")
    return ImageRows(_read_rows(files, mode, shape, dtype, range(len(files))), shape, files, notes)


def _notes_on(headers: Sequence[_Header]) -> list[str]:
    """Sentences on what is changed in reading."""
    found = []
    if n_transparent := sum(header.is_transparent for header in headers):
        have = counted(n_transparent, "image has", "images have")
        found.append(f"{have} an alpha channel; transparent pixels are drawn on white.")
    if n_several_frames := sum(header.n_frames > 1 for header in headers):
        have = counted(n_several_frames, "image has", "images have")
        found.append(f"{have} more than one frame or page; only the first is read.")
    return found


def _read_rows(
    files: Sequence[Path],
    mode: str,
    shape: tuple[int, int, int],
    dtype: np.dtype,
    numbers: Sequence[int] | np.ndarray,
    status: Sequence[tuple[int, ...]] | None = None,
) -> np.ndarray:
    """The rows of some files, by their numbers; files that have no longer their ``status`` are refused."""
    channels, height, width = shape
    rows = np.empty((len(numbers), *shape), dtype)
    for row, number in zip(rows, numbers, strict=True):
        if status is not None:
            refuse_changed(files[number], status[number])
        pixels = _read(files[number], lambda image: _pixels(image, mode, (width, height)))
        row[:] = np.moveaxis(pixels.reshape(height, width, channels), -1, 0)
    return rows.reshape(len(rows), -1)


def is_image_array(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an .npy array of images: of a type of pixels, with three or four dimensions."""
    array = mapped_array(Path(path))
    return array is not None and array.ndim in (3, 4) and str(array.dtype) in PIXEL_TYPES


def read_image_arrays(paths: Iterable[str | os.PathLike[str]], *, like: Sequence[int] = ()) -> ImageRows:
    """Read .npy files of images, of a type of pixels and of shape (n, h, w) or (n, h, w, c), into one array of rows.

    Their images must have one shape: ``like``, unless it is (). The rows of a single file are a memory map if possible.
    """
    files = [Path(path) for path in paths]
    found: list[np.ndarray] = []
    shape = tuple(like)
    for file in files:
        array = mapped_array(file)
        if array is None:
            raise FileError(f"{str(file)!r} is not an array of images, but the other files are")
        layout = ImageLayout.of(array.shape, shape or None)
        shape = layout.image_shape
        found.append(layout.rows(array))
    require_memory(2 * sum(rows.nbytes for rows in found), "Reading the images", "Read fewer")
    n_channels, height, width = shape
    file_of_row = [file for file, rows in zip(files, found, strict=True) for _ in rows]
    return ImageRows(found[0] if len(found) == 1 else np.concatenate(found), (n_channels, height, width), file_of_row)


def mapped_array(path: Path) -> np.ndarray | None:
    """The memory map of an .npy file; None for other files."""
    if path.suffix.lower() != ".npy" or not os.path.isfile(path):
        return None
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # the file is then read as a table, with an error for what is wrong
        return None
    return array if isinstance(array, np.ndarray) else None


# -- one file


@dataclass(frozen=True)
class _Header:
    """Facts about an image that need none of its pixels."""

    size: tuple[int, int]
    mode: str
    n_frames: int
    is_transparent: bool


def _read(path: Path, function: Callable[[Image], Any]) -> Any:
    """Open an image and return what a function returns for it; any error of Pillow is raised as a `FileError`."""
    from PIL import Image, UnidentifiedImageError

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe can be read only once, and might never end
            raise FileError(f"{str(path)!r} cannot be read as an image", got="no ordinary file", hint=_hint(path))
        # Pillow warns about EXIF data, which do not matter here, and about large images.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_known_formats()) as image:
            return function(image)
    except EigencodeError:
        raise
    except (FileNotFoundError, PermissionError) as error:
        what = "There is no file" if isinstance(error, FileNotFoundError) else "Cannot read"
        raise file_error(error, f"{what} {str(path)!r}", got=link_of(path), hint=_similar_name(path)) from error
    except UnidentifiedImageError as error:
        found = "an empty file" if path.stat().st_size == 0 else "a file of another format"
        raise FileError(f"{str(path)!r} is not an image that can be read", got=found, hint=_hint(path)) from error
    except Image.DecompressionBombError as error:
        raise FileError(f"{str(path)!r} is too large an image", got=f"the error {error}", hint=_hint(path)) from error
    except Exception as error:  # Pillow's readers raise many types of errors: SyntaxError, struct.error, ValueError
        reason = str(getattr(error, "strerror", None) or error or type(error).__name__).strip().rstrip(".")
        what = f"{str(path)!r} cannot be read as an image, or is damaged"
        raise FileError(what, got=f"the error {reason}", hint=_hint(path)) from error


def _similar_name(path: Path) -> str | None:
    """A hint with the name of an image in the same folder, if one has nearly the same name."""
    with suppress(OSError):
        names = [item.name for item in path.parent.iterdir() if item.suffix.lower() == path.suffix.lower()]
        near = did_you_mean(path.name, [name for name in names if name != path.name])
        return near if near and near.startswith("Did") else None
    return None


def _hint(path: Path) -> str:
    return f"Replace or remove {path.name!r}"


def _known_formats() -> list[str]:
    """The formats of ``FORMATS`` that this build of Pillow can read."""
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _header(image: Image) -> _Header:
    from PIL import ExifTags

    width, height = image.size
    n_bytes = os.path.getsize(image.filename)  # type: ignore[attr-defined]
    if width * height > max(PLAUSIBLE, DENSEST * n_bytes):
        raise FileError(
            f"{str(image.filename)!r} is damaged or malicious",  # type: ignore[attr-defined]
            got=f"{width} x {height} pixels in {n_bytes:,} bytes",
            hint=_hint(Path(image.filename)),  # type: ignore[attr-defined]
        )
    is_sideways = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
    size = (height, width) if is_sideways else (width, height)
    return _Header(size, image.mode, getattr(image, "n_frames", 1), image.has_transparency_data)


def _pixels(image: Image, mode: str, size: tuple[int, int]) -> np.ndarray:
    """Pixels of shape (h, w) or (h, w, 3)."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if mode == "I":
        return _deep_pixels(image, size)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert(mode)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image)


def _deep_pixels(image: Image, size: tuple[int, int]) -> np.ndarray:
    """Grey pixels of 16 bits."""
    from PIL import Image

    pixels = np.asarray(image)
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        file = str(getattr(image, "filename", ""))
        raise DataError(f"{file!r} must have pixels from 0 to 65535", got=f"{low} to {high}")
    if image.size == size:
        return pixels.astype(np.uint16)
    resized = Image.fromarray(pixels.astype(np.float32)).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(resized).round().clip(0, np.iinfo(np.uint16).max).astype(np.uint16)


# -- one shape for all


def _common_mode(files: Sequence[Path], headers: Sequence[_Header], n_channels: int | None = None) -> str:
    """'L', 'RGB' or 'I': grey, colour, or grey of 16 bits."""
    modes = [_mode(file, header) for file, header in zip(files, headers, strict=True)]
    first = dict(reversed(list(zip(modes, files, strict=True))))
    if "I" in first and len(first) > 1:
        other = next(mode for mode in first if mode != "I")
        raise DataError(
            "Images must have one depth",
            got=f"16 bits in {str(first['I'])!r} and 8 bits in {str(first[other])!r}",
            hint="Convert one kind, or read them separately",
        )
    if n_channels == 1 and "RGB" in first:
        got = f"colours in {str(first['RGB'])!r}"
        raise DataError("Images must be grey, as in fit", got=got, hint="Convert them to grey first")
    if "I" in first:
        return "I"
    return "RGB" if "RGB" in first or n_channels == 3 else "L"


def _mode(file: Path, header: _Header) -> str:
    for modes, mode in ((GREY_MODES, "L"), (COLOUR_MODES, "RGB"), (DEEP_MODES, "I")):
        if header.mode in modes:
            return mode
    raise DataError(
        f"The pixels of {str(file)!r} have a type that cannot be read",
        got=f"Pillow's mode {header.mode!r}",
        hint="Save the images as an .npy array of rows",
    )


def _common_size(files: Sequence[Path], headers: Sequence[_Header], fitted: tuple[int, int] | None) -> tuple[int, int]:
    """Width and height of all images, which must be the same; those in fit if a model was fitted on images."""
    width, height = fitted or headers[0].size
    size = f"{width}x{height}"
    for file, header in zip(files, headers, strict=True):
        if header.size != (width, height):
            expected = f"{size} pixels (width x height), as in fit" if fitted else "one size (width x height)"
            first = "" if fitted else f"{size} in {str(files[0])!r} and "
            got = f"{first}{header.size[0]}x{header.size[1]} in {str(file)!r}"
            raise DataError(f"Images must have {expected}", got=got, hint=f"Resize them all with --image-size {size}")
    return width, height
