"""Steps that several commands share; a terminal shows each step that takes long."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eigencode import progress
from eigencode.cli.descriptions import fitted_names, outcome, print_facts, print_json, summary
from eigencode.cli.flags import STREAM, estimator_class
from eigencode.cli.interruptions import held
from eigencode.cli.own_parts import OWN
from eigencode.cli.tables import Choice, files_of
from eigencode.errors import InterruptedWarning, OptionError
from eigencode.invocation import command

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder

LOADING = "loading PyTorch"
"""The first step, which takes some seconds."""

NAMED_AT_MOST = 5
"""Files up to which the proposed next command names all; it names only the first of more."""


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


def save(
    model: BaseAutoencoder, output: Path, rows: Sequence[Path], chosen: Choice, as_json: bool, more: Mapping[str, Any]
) -> None:
    """Write a model, which a first signal does not interrupt, and print how its fit went; ``more`` is for the JSON."""
    with held(), progress.stage(f"writing {output}"):
        model.save(output)
    if as_json:
        print_json({**summary(model), "model": str(output), **more})
    else:
        print_facts(outcome(summary(model)))
        print_next_command(model, output, rows, chosen)


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
