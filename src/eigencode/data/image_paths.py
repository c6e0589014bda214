"""Image paths: which files a folder, a glob or a list of files stands for, in which order."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from eigencode.errors import FileError

READ_ENDINGS = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]
)
"""Endings of the files that are read as images, in lower case."""

SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r", "ehthumbs.db"})
"""What operating systems leave in folders of images, in lower case; hidden files are passed over as well."""

TABLE_ENDINGS = frozenset({".csv", ".tsv", ".parquet", ".npy", ".arrow", ".feather"})
"""Endings of files that make a folder one of tables, where they are more."""

NAMED_AT_MOST = 3
"""Files that a message names before it only counts."""


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a path names images: a file by its ending, a folder or a glob by what is in it.

    Examples
    --------
    >>> is_image("cat.PNG"), is_image("cats.csv")
    (True, False)
    """
    path = Path(path)
    if not _names_several(path):
        return _is_image_file(path)
    found = _visible(path)
    n_images = sum(map(_is_image_file, found))
    n_tables = sum(item.suffix.lower() in TABLE_ENDINGS for item in found)
    # Folders alone may hold images, one folder a class: how to name these is said when they are read.
    return n_images > n_tables or (not n_tables and any(os.path.isdir(item) and _holds_image(item) for item in found))


def image_files(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Path], list[str]]:
    """The image files that some paths name, and sentences on what was passed over.

    Parameters
    ----------
    paths : iterable of path-like
        Files, folders and globs. Folders are not searched for folders; the glob ``'folder/**/*.png'`` does.

    Returns
    -------
    files : list of Path
        In the order given, what a folder or a glob holds in the natural order of names (img2 before img10). Files in
        the order in which a shell lists them are brought into the natural one too.
    notes : list of str
        One sentence for each folder or glob of which something was passed over.

    Raises
    ------
    FileError
        If a path names nothing, or no image.
    """
    typed = [Path(path) for path in paths]
    in_shell_order = typed in (sorted(typed), sorted(typed, key=lambda path: str(path).casefold()))
    files: list[Path] = []
    notes: list[str] = []
    for path in sorted(typed, key=natural_order) if in_shell_order else typed:
        if _names_several(path):
            found, left_out = _searched(path)
            files += found
            notes += left_out
        elif _is_image_file(path):
            files.append(path)
        elif path.name.lower() not in SYSTEM_FILES:
            raise FileError(f"{str(path)!r} is not an image file by its ending", hint=known_endings())
    return files, notes


def natural_order(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """A sorting key of names in which numbers count as numbers.

    Examples
    --------
    >>> sorted(["img10.png", "img2.png", "Img1.png"], key=natural_order)
    ['Img1.png', 'img2.png', 'img10.png']
    """
    name = os.fspath(path)
    words = re.split(r"(\d+)", name.casefold())
    return [int(word) if place % 2 else word for place, word in enumerate(words)], name


def _names_several(path: Path) -> bool:
    return os.path.isdir(path) or (glob.has_magic(str(path)) and not os.path.exists(path))


def _holds_image(folder: Path) -> bool:
    with suppress(FileError):
        return any(map(_is_image_file, _visible(folder)))
    return False


def _is_image_file(path: Path) -> bool:
    return path.suffix.lower() in READ_ENDINGS


def _visible(path: Path) -> list[Path]:
    """What is in a folder, or fits a glob, system files and hidden ones apart; in natural order."""
    try:
        found = (
            list(path.iterdir())
            if os.path.isdir(path)
            else [Path(name) for name in glob.glob(str(path), recursive=True)]
        )
    except OSError as error:
        raise FileError(f"Cannot read the folder {str(path)!r}", got=f"the error {error.strerror or error}") from error
    kept = [item for item in found if not item.name.startswith(".") and item.name.lower() not in SYSTEM_FILES]
    return sorted(kept, key=natural_order)


def _searched(path: Path) -> tuple[list[Path], list[str]]:
    """The images of a folder or a glob, and a sentence on what else there is."""
    found = _visible(path)
    images = [item for item in found if _is_image_file(item) and not os.path.isdir(item)]
    others = [item for item in found if item not in set(images)]
    if not images:
        folders = [item for item in others if os.path.isdir(item)]
        inner = path / "**" / "*.*" if os.path.isdir(path) and folders else None
        raise FileError(
            f"There is no image in {str(path)!r}" if os.path.isdir(path) else f"No image fits {str(path)!r}",
            got=("1 folder" if len(folders) == 1 else f"{len(folders)} folders") if folders else None,
            hint=known_endings() if inner is None else f"Search the folders with '{inner}'",
        )
    if not others:
        return images, []
    return images, [f"Passed over in {str(path)!r}, not being images: {_listed(item.name for item in others)}."]


def known_endings() -> str:
    """A hint that lists them."""
    return f"Images end in {', '.join(sorted(READ_ENDINGS))}"


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
    return ", ".join(map(repr, found[:NAMED_AT_MOST])) + more
