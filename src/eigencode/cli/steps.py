"""Steps that several commands share, each shown in a terminal while it takes more than a moment."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import eigencode
from eigencode import progress
from eigencode.cli.descriptions import fitted_names, is_supervised
from eigencode.cli.flags import KINDS, STREAM
from eigencode.cli.interruptions import held
from eigencode.cli.own_parts import OWN
from eigencode.cli.tables import Choice, check_table_output, files_of, loaded, model_and_rows, read_rows, write
from eigencode.errors import InterruptedWarning, OptionError
from eigencode.invocation import command

if TYPE_CHECKING:
    import numpy as np

    from eigencode.data.files import Table
    from eigencode.data.image_files import ImageRows
    from eigencode.estimators.base import BaseAutoencoder

STARTING = "loading PyTorch"
"""What is done before anything else, for some seconds."""

NAMED_AT_MOST = 5
"""Files that the command to go on with names all; of more, as of a pattern that the shell expanded, only the first."""


def hush(quiet: bool) -> None:
    """Show nothing of what is being done, where that is asked for."""
    if quiet:
        progress.hush()


def table_of(rows: Sequence[Path], chosen: Choice) -> Table | ImageRows:
    """Read tables, or images."""
    with progress.stage("reading"):
        return read_rows(rows, chosen)


def estimator_of(kind: str, options: Mapping[str, Any]) -> BaseAutoencoder:
    """An estimator that is to be fitted."""
    with progress.stage(STARTING):
        known = KINDS[kind]
        estimator: BaseAutoencoder = (known if isinstance(known, type) else getattr(eigencode, known))(**options)
    return estimator


def fit_density(model: BaseAutoencoder, rows: Any) -> None:
    """Fit a density to the codes; an interruption costs no more than that."""
    try:
        with progress.stage("fitting the density"):
            model.fit_density(rows)
    except KeyboardInterrupt:
        message = "Fitting the density was interrupted; the model is saved without one."
        warnings.warn(message, InterruptedWarning, stacklevel=2)


def save(model: BaseAutoencoder, output: Path) -> None:
    """Write a model, which no first signal stops."""
    with held(), progress.stage(f"writing {output}"):
        model.save(output)


def model_for(
    model: Path,
    rows: Sequence[Path],
    chosen: Choice,
    output: Path | None,
    check: Callable[..., None] = check_table_output,
) -> tuple[Any, Any]:
    """A model, and tables as it takes them, once ``check`` has seen the output fit."""
    with progress.stage("reading"):
        return model_and_rows(model, rows, chosen, output, check)


def loaded_autoencoder(model: Path, purpose: str, output: Path) -> BaseAutoencoder:
    """The model in a file, for a command that needs an autoencoder."""
    with progress.stage(STARTING):
        return as_autoencoder(loaded(model, output), purpose, model)


def as_autoencoder(fitted: Any, purpose: str, path: Path) -> BaseAutoencoder:
    """A model that is an autoencoder, which some commands need."""
    if is_supervised(fitted):
        raise OptionError(
            f"{purpose} takes an autoencoder",
            got=f"{of_kind(fitted)} in {str(path)!r}, which predicts labels",
            hint="Try predict, or transform for its codes",
        )
    return cast("BaseAutoencoder", fitted)


def of_kind(fitted: object) -> str:
    """A model's class with its article."""
    name = type(fitted).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def write_answer(output: Path, columns: Mapping[str, np.ndarray], *, said: bool = True) -> None:
    """Write columns to a file, or to standard output."""
    with progress.stage(f"writing {output}"):
        write(output, columns, said=said)


def say_what_next(fitted: BaseAutoencoder, model: Path, rows: Sequence[Path], chosen: Choice) -> None:
    """Where the model is, and a command that uses it, as it can be typed."""
    print(f"\nThe model is in {model}. ", end="")
    if STREAM in rows:  # it has been read
        print(f"Look at it with:\n\n  {command(['describe', str(model), *OWN.typed])}")
        return
    taken = {path.resolve() for path in files_of(rows)}
    codes = next(name for name in ("codes.parquet", "new_codes.parquet") if Path(name).resolve() not in taken)
    few = rows if len(rows) <= NAMED_AT_MOST else rows[:1]
    words = [
        "transform",
        str(model),
        *map(str, few),
        "--output",
        codes,
        *chosen.typed(fitted_names(fitted)),
        *OWN.typed,
    ]
    print(f"Encode rows with:\n\n  {command(words)}")
