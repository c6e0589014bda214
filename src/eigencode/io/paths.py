"""The path of a model file, which is checked before what reads it is imported: torch takes seconds."""

from __future__ import annotations

import os
import stat

from eigencode.errors import FileIsFolderError, StorageError, as_path, file_error, missing_file


def model_file(path: str | os.PathLike[str]) -> str:
    """The path of a model file as text, if there is a file that can be read; a `FileError` or `StorageError` if not."""
    text = as_path(path)
    try:
        is_regular = stat.S_ISREG(os.stat(text).st_mode)
        if is_regular:
            text.encode()
            with open(text, "rb"):  # safetensors reports every file that it cannot open as missing
                return text
    except FileNotFoundError as error:
        raise missing_file(text, "model file", ".safetensors") from error
    except OSError as error:
        raise file_error(error, f"Cannot read {text!r}", got=f"the error {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        what = "safetensors reads no file whose name is not UTF-8"
        raise StorageError(what, got=f"{text!r}", hint="Give the file another name") from error
    kind = FileIsFolderError if os.path.isdir(text) else StorageError
    raise kind(f"{text!r} is not a model file", got="no regular file")
