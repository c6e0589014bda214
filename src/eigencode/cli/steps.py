"""Steps that several commands share; a terminal shows each step that takes long."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from eigencode import progress
from eigencode.cli.descriptions import fitted_names, is_supervised
from eigencode.cli.flags import STREAM, estimator_class
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

LOADING = "loading PyTorch"
"""The first step, which takes some seconds."""

NAMED_AT_MOST = 5
"""Files up to which the proposed next command names all; it names only the first of more."""


def set_quiet(quiet: bool) -> None:
    """Show no progress if ``quiet``."""
    if quiet:
        progress.hide()


def table_of(rows: Sequence[Path], chosen: Choice) -> Table | ImageRows:
    """Read tables or images."""
    with progress.stage("reading"):
        return read_rows(rows, chosen)


def estimator_of(kind: str, options: Mapping[str, Any]) -> BaseAutoencoder:
    """An unfitted estimator of this kind."""
    with progress.stage(LOADING):
        try:
            estimator: BaseAutoencoder = estimator_class(kind)(**options)
        except TypeError as error:  # the constructor of a kind of the user's own takes other arguments
            raise OWN.failure(error) or OptionError(
                f"Cannot make an autoencoder of --kind {kind} with these options",
                got=f"the error TypeError: {error}",
                hint="Let its constructor take each option that is set, and give every argument a default",
            ) from error
    return estimator


def fit_density(model: BaseAutoencoder, rows: Any) -> None:
    """Fit a density to the codes; if it is interrupted, the model stays without one."""
    try:
        with progress.stage("fitting the density"):
            model.fit_density(rows)
    except KeyboardInterrupt:
        message = "Fitting the density was interrupted; the model is saved without one."
        warnings.warn(message, InterruptedWarning, stacklevel=2)


def save(model: BaseAutoencoder, output: Path) -> None:
    """Write a model; a first signal does not interrupt this."""
    with held(), progress.stage(f"writing {output}"):
        model.save(output)


def model_for(
    model: Path,
    rows: Sequence[Path],
    chosen: Choice,
    output: Path | None,
    check: Callable[..., None] = check_table_output,
) -> tuple[Any, Any]:
    """Load a model, and read tables or images for it, after ``check`` has checked the output."""
    with progress.stage("reading"):
        return model_and_rows(model, rows, chosen, output, check)


def loaded_autoencoder(model: Path, purpose: str, output: Path) -> BaseAutoencoder:
    """Load the model in a file, for a command that needs an autoencoder."""
    with progress.stage(LOADING):
        return as_autoencoder(loaded(model, output), purpose, model)


def as_autoencoder(fitted: Any, purpose: str, path: Path) -> BaseAutoencoder:
    """The same model, checked to be an autoencoder, which some commands need."""
    if is_supervised(fitted):
        raise OptionError(
            f"{purpose} needs an autoencoder",
            got=f"{class_with_article(fitted)} in {str(path)!r}, which predicts labels",
            hint="Try predict, or transform for its codes",
        )
    return cast("BaseAutoencoder", fitted)


def class_with_article(fitted: object) -> str:
    """The name of a model's class with its article."""
    name = type(fitted).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def write_answer(output: Path, columns: Mapping[str, np.ndarray], *, reported: bool = True) -> None:
    """Write columns to a file, and print where if ``reported``; or write them to standard output."""
    with progress.stage(f"writing {output}"):
        write(output, columns, reported=reported)


def print_next_command(fitted: BaseAutoencoder, model: Path, rows: Sequence[Path], chosen: Choice) -> None:
    """Print where the model is, and a command that uses it."""
    print(f"\nThe model is in {model}. ", end="")
    if STREAM in rows:  # which can be read only once
        print(f"Describe it with:\n\n  {command(['describe', str(model), *OWN.typed])}")
        return
    inputs = {path.resolve() for path in files_of(rows)}
    codes = next(name for name in ("codes.parquet", "new_codes.parquet") if Path(name).resolve() not in inputs)
    few = rows if len(rows) <= NAMED_AT_MOST else rows[:1]
    flags = [*chosen.flags(fitted_names(fitted)), *OWN.typed]
    print(f"Encode rows with:\n\n  {command(['transform', str(model), *map(str, few), '--output', codes, *flags])}")
