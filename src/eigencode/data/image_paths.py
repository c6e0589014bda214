"""Paths of images: the files of a folder, a glob or a list of files, and their order."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from eigencode.errors import FileError, enumerated
from eigencode.words import counted

READ_ENDINGS = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm",
    ".pnm",
})  # fmt: skip
"""Endings of the files that are read as images, in lower case."""

SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r", "ehthumbs.db"})
"""Files that operating systems put into folders, in lower case; they are skipped, as hidden files are."""

TABLE_ENDINGS = frozenset({".csv", ".tsv", ".parquet", ".npy", ".arrow", ".feather"})
"""Endings of tables: a folder with more tables than images is a folder of tables."""


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a path names images: a file by its ending, a folder or a glob by its files.

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
    # Images may be in subfolders, one for each class; reading such a folder raises an error with a hint.
    return n_images > n_tables or (not n_tables and any(os.path.isdir(item) and _has_image(item) for item in found))


def list_image_files(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Path], list[str]]:
    """List the image files that some paths name, and notes on other files that were skipped.

    The files are in the order given; those of a folder or a glob are in the natural order of names (img2 before img10),
    as are files given in the order in which a shell lists them. Subfolders are searched only by a glob as
    ``'folder/**/*.png'``. If a path does not exist, or names no image, a `FileError` is raised.
    """
    given = [Path(path) for path in paths]
    in_shell_order = given in (sorted(given), sorted(given, key=lambda path: str(path).casefold()))
    files: list[Path] = []
    notes: list[str] = []
    for path in sorted(given, key=natural_order) if in_shell_order else given:
        if _names_several(path):
            found, skipped = _search(path)
            files += found
            notes += skipped
        elif _is_image_file(path):
            files.append(path)
        elif path.name.lower() not in SYSTEM_FILES:
            raise FileError(f"{str(path)!r} does not have the ending of an image file", hint=known_endings())
    return files, notes


def natural_order(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """A sorting key by which numbers in names are compared as numbers.

    Examples
    --------
    >>> sorted(["img10.png", "img2.png", "Img1.png"], key=natural_order)
    ['Img1.png', 'img2.png', 'img10.png']
    """
    name = os.fspath(path)
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _names_several(path: Path) -> bool:
    return os.path.isdir(path) or (glob.has_magic(str(path)) and not os.path.exists(path))


def _has_image(folder: Path) -> bool:
    with suppress(FileError):
        return any(map(_is_image_file, _visible(folder)))
    return False


def _is_image_file(path: Path) -> bool:
    return path.suffix.lower() in READ_ENDINGS


def _visible(path: Path) -> list[Path]:
    """The files and folders in a folder or of a glob, without hidden and system files; in natural order."""
    try:
        is_folder = os.path.isdir(path)
        found = list(path.iterdir()) if is_folder else [Path(name) for name in glob.glob(str(path), recursive=True)]
    except OSError as error:
        raise FileError(f"Cannot read the folder {str(path)!r}", got=f"the error {error.strerror or error}") from error
    kept = [item for item in found if not item.name.startswith(".") and item.name.lower() not in SYSTEM_FILES]
    return sorted(kept, key=natural_order)


def _search(path: Path) -> tuple[list[Path], list[str]]:
    """The images of a folder or a glob, and a note on other files, if there are any."""
    found = _visible(path)
    images = [item for item in found if _is_image_file(item) and not os.path.isdir(item)]
    others = [item for item in found if item not in set(images)]
    if not images:
        folders = [item for item in others if os.path.isdir(item)]
        inner = path / "**" / "*.*" if os.path.isdir(path) and folders else None
        raise FileError(
            f"There is no image in {str(path)!r}" if os.path.isdir(path) else f"No image matches {str(path)!r}",
            got=counted(len(folders), "folder") if folders else None,
            hint=known_endings() if inner is None else f"Search the folders with '{inner}'",
        )
    if not others:
        return images, []
    return images, [f"Skipped in {str(path)!r}: {enumerated([repr(item.name) for item in others], 3)} (not images)."]


def known_endings() -> str:
    """A hint that lists the endings of image files."""
    return f"Images end in {', '.join(sorted(READ_ENDINGS))}"
