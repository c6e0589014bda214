"""Image files: folders, globs and lists of them read into rows of pixels, with one shape for all."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencode.data.image_paths import image_files, known_endings
from eigencode.data.images import PIXEL_TYPES, ImageLayout, shown
from eigencode.data.memory import require_memory
from eigencode.errors import DataError, EigencodeError, FileError, did_you_mean, file_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM")
"""Pillow's names of their formats: no other of its readers is tried, whatever a file holds."""

GREY_MODES = frozenset({"1", "L", "LA", "La"})
DEEP_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})

SIDEWAYS = frozenset({5, 6, 7, 8})
"""Values of the EXIF tag 'orientation' with which width and height change places."""

PLAUSIBLE = 2**24
"""Pixels that any file may hold, however small it is."""

DENSEST = 1100
"""Pixels a byte in a larger one: what the compression of PNG can reach."""

ORIENTATION = 0x0112
"""The EXIF tag."""


@dataclass(frozen=True)
class ImageRows:
    """Images as rows of pixels.

    Attributes
    ----------
    rows : ndarray of shape (n, c h w)
        Of type uint8, or uint16 for grey images of 16 bits. The order of a row is (channels, height, width).
    image_shape : (int, int, int)
        Channels, height and width.
    files : list of Path
        The file of each row.
    notes : list of str
        What was passed over or changed, in sentences.
    """

    rows: np.ndarray
    image_shape: tuple[int, int, int]
    files: list[Path]
    notes: list[str] = field(default_factory=list)

    @property
    def frame(self) -> np.ndarray:
        """The images as an array of shape (n, h, w) or (n, h, w, c), over the same memory."""
        return shown(self.image_shape, self.rows)


def read_images(
    paths: Iterable[str | os.PathLike[str]],
    *,
    size: tuple[int, int] | None = None,
    like: Sequence[int] = (),
) -> ImageRows:
    """Read image files into rows of pixels.

    Grey images beside images in colour become images in colour. Palettes, CMYK and the like become red, green and
    blue; images of one bit become grey ones of 0 and 255; grey images of 16 bits stay so. Transparent parts are put on
    white. A photograph is turned as its EXIF data say. Of several frames or pages the first is read.

    Parameters
    ----------
    paths : iterable of path-like
        Files, folders and globs, as for `image_files`.
    size : (int, int), optional
        Width and height that all images are resized to; by default they must have one size.
    like : sequence of int
        Channels, height and width that they must have, as a model was fitted on them, if there is one; grey images
        become colour ones for a model of colour.

    Returns
    -------
    ImageRows
        Rows, their image shape, and the files.

    Raises
    ------
    FileError
        If a file is missing, damaged or no image.
    DataError
        If the images differ in size or depth, are not as they must be, or would not fit into memory.

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
    files, notes = image_files(paths)
    if not files:
        raise FileError("There are no image files to read", hint=known_endings())
    headers = [_read(file, _header) for file in files]
    mode = _common_mode(files, headers, *like[:1])
    fitted = (like[2], like[1]) if like else None
    width, height = size or _common_size(files, headers, fitted)
    channels, dtype = 3 if mode == "RGB" else 1, np.uint16 if mode == "I" else np.uint8
    if like and (channels, height, width) != tuple(like):
        raise DataError(
            f"Images must be as fitted, of (channels, height, width) = {tuple(like)}",
            got=f"{(channels, height, width)}",
        )
    largest = max(header.width * header.height for header in headers)
    cells = len(files) * channels * height * width
    require_memory(
        cells * np.dtype(dtype).itemsize + 8 * largest, "The images", "Read fewer, or smaller ones with --image-size"
    )
    rows = np.empty((len(files), channels, height, width), dtype)
    on_white = several = 0
    for row, file, header in zip(rows, files, headers, strict=True):
        image, is_transparent = _read(file, lambda image: _pixels(image, mode, (width, height)))
        row[:] = np.moveaxis(image.reshape(height, width, channels), -1, 0)
        on_white += is_transparent
        several += header.n_frames > 1
    if on_white:
        notes.append(f"{_counted(on_white)} transparent parts, which were put on white.")
    if several:
        notes.append(f"{_counted(several)} more than one frame or page, of which the first was read.")
    return ImageRows(rows.reshape(len(files), -1), (channels, height, width), files, notes)


def is_image_array(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an .npy array of images: pixels in more dimensions than a table has."""
    array = _mapped(Path(path))
    return array is not None and array.ndim in (3, 4) and str(array.dtype) in PIXEL_TYPES


def read_image_arrays(paths: Iterable[str | os.PathLike[str]], *, like: Sequence[int] = ()) -> ImageRows:
    """Read .npy files of images, of type uint8 or uint16 and of shape (n, h, w) or (n, h, w, c).

    Parameters
    ----------
    paths : iterable of path-like
        The files; their images must have one shape.
    like : sequence of int
        Channels, height and width that they must have, if there are such.

    Returns
    -------
    ImageRows
        The rows of all files, one after the other; of a single file that allows it, mapped and not read.
    """
    files = [Path(path) for path in paths]
    found: list[np.ndarray] = []
    shape = tuple(like)
    for file in files:
        array = _mapped(file)
        if array is None:
            raise FileError(f"{str(file)!r} is not an array of images, as the others are")
        layout = ImageLayout.of(array.shape, shape or None)
        shape = layout.image_shape
        found.append(layout.rows(array))
    require_memory(2 * sum(rows.nbytes for rows in found), "The images", "Read fewer")
    n_channels, height, width = shape
    every = [file for file, rows in zip(files, found, strict=True) for _ in rows]
    return ImageRows(found[0] if len(found) == 1 else np.concatenate(found), (n_channels, height, width), every)


def _mapped(path: Path) -> np.ndarray | None:
    """An .npy file's array, mapped; None where it is none."""
    if path.suffix.lower() != ".npy" or not os.path.isfile(path):
        return None
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # what is wrong with it is for the reader of tables to say
        return None
    return array if isinstance(array, np.ndarray) else None


# -- one file


@dataclass(frozen=True)
class _Header:
    """What is known of an image before its pixels are read."""

    width: int
    height: int
    mode: str
    n_frames: int


def _read(path: Path, function: Callable[[Image], Any]) -> Any:
    """What a function says of an open image; whatever Pillow makes of a damaged file is an error of ours."""
    from PIL import Image, UnidentifiedImageError

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe can be read only once, and might never end
            raise FileError(f"{str(path)!r} cannot be read as an image", got="no ordinary file", hint=_without(path))
        with _silent(), Image.open(path, formats=_known_formats()) as image:
            return function(image)
    except EigencodeError:
        raise
    except (FileNotFoundError, PermissionError) as error:
        what = (
            f"There is no file {str(path)!r}" if isinstance(error, FileNotFoundError) else f"Cannot read {str(path)!r}"
        )
        raise file_error(error, what, hint=_neighbour(path)) from error
    except UnidentifiedImageError as error:
        found = "an empty file" if path.stat().st_size == 0 else "a file of another kind"
        raise FileError(f"{str(path)!r} is not an image that can be read", got=found, hint=_without(path)) from error
    except Image.DecompressionBombError as error:
        raise FileError(
            f"{str(path)!r} is too large an image", got=f"the error {error}", hint=_without(path)
        ) from error
    except Exception as error:  # each of Pillow's readers has errors of its own: SyntaxError, struct.error, ValueError
        raise FileError(
            f"{str(path)!r} cannot be read as an image, or is damaged",
            got=f"the error {_reason(error)}",
            hint=_without(path),
        ) from error


def _neighbour(path: Path) -> str | None:
    """An image in the same folder with nearly the same name."""
    with suppress(OSError):
        names = [item.name for item in path.parent.iterdir() if item.suffix.lower() == path.suffix.lower()]
        near = did_you_mean(path.name, [name for name in names if name != path.name])
        return near if near and near.startswith("Did") else None
    return None


def _without(path: Path) -> str:
    return f"Replace or remove {path.name!r}"


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).strip().rstrip(".")


@contextmanager
def _silent() -> Iterator[None]:
    """Without Pillow's warnings: of odd EXIF data, which do not matter here, and of large images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _known_formats() -> list[str]:
    """Those of our formats that this build of Pillow reads."""
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _header(image: Image) -> _Header:
    width, height = image.size
    n_bytes = os.path.getsize(image.filename)  # type: ignore[attr-defined]
    if width * height > max(PLAUSIBLE, DENSEST * n_bytes):
        raise FileError(
            f"{str(image.filename)!r} is damaged, or a trap",  # type: ignore[attr-defined]
            got=f"{width} x {height} pixels in {n_bytes:,} bytes",
            hint=_without(Path(image.filename)),  # type: ignore[attr-defined]
        )
    if image.getexif().get(ORIENTATION) in SIDEWAYS:
        width, height = height, width
    return _Header(width, height, image.mode, getattr(image, "n_frames", 1))


def _pixels(image: Image, mode: str, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Pixels of shape (h, w) or (h, w, 3), and whether some were transparent."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if mode == "I":
        return _deep_pixels(image, size), False
    is_transparent = False
    if image.has_transparency_data:
        image = image.convert("RGBA")
        is_transparent = image.getextrema()[-1][0] < 255  # type: ignore[index]
        if is_transparent:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert(mode)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image), is_transparent


def _deep_pixels(image: Image, size: tuple[int, int]) -> np.ndarray:
    """Grey pixels of 16 bits."""
    from PIL import Image

    pixels = np.asarray(image)
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise DataError(
            f"{str(getattr(image, 'filename', ''))!r} must have pixels from 0 to 65535", got=f"{low} to {high}"
        )
    if image.size == size:
        return pixels.astype(np.uint16)
    resized = Image.fromarray(pixels.astype(np.float32)).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(resized).round().clip(0, np.iinfo(np.uint16).max).astype(np.uint16)


# -- one shape for all


def _common_mode(files: Sequence[Path], headers: Sequence[_Header], n_channels: int | None = None) -> str:
    """'L', 'RGB' or 'I': grey, colour, or grey of 16 bits."""
    kinds = [_kind(file, header) for file, header in zip(files, headers, strict=True)]
    first = {kind: files[place] for place, kind in reversed(list(enumerate(kinds)))}
    if "I" in first and len(first) > 1:
        other = next(kind for kind in first if kind != "I")
        raise DataError(
            "Images must have one depth",
            got=f"16 bits in {str(first['I'])!r} and 8 bits in {str(first[other])!r}",
            hint="Convert one kind, or read them apart",
        )
    if n_channels == 1 and "RGB" in first:
        raise DataError(
            "Images must be grey, as fitted", got=f"colours in {str(first['RGB'])!r}", hint="Convert them to grey first"
        )
    if "I" in first:
        return "I"
    return "RGB" if "RGB" in first or n_channels == 3 else "L"


def _kind(file: Path, header: _Header) -> str:
    for modes, kind in ((GREY_MODES, "L"), (COLOUR_MODES, "RGB"), (DEEP_MODES, "I")):
        if header.mode in modes:
            return kind
    raise DataError(
        f"The pixels of {str(file)!r} are of a type that is not read",
        got=f"Pillow's mode {header.mode!r}",
        hint="Save the images as an .npy array of rows",
    )


def _common_size(
    files: Sequence[Path], headers: Sequence[_Header], fitted: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Width and height, the same for all."""
    wanted = fitted or (headers[0].width, headers[0].height)
    told = f"{wanted[0]}x{wanted[1]}"
    for file, header in zip(files, headers, strict=True):
        if (header.width, header.height) != wanted:
            first = "" if fitted else f"{told} in {str(files[0])!r} and "
            raise DataError(
                f"Images must be of {told} pixels (width x height), as fitted"
                if fitted
                else "Images must have one size (width x height)",
                got=f"{first}{header.width}x{header.height} in {str(file)!r}",
                hint=f"Resize them all with --image-size {told}",
            )
    return wanted


def _counted(n_images: int) -> str:
    return "One image has" if n_images == 1 else f"{n_images} images have"
