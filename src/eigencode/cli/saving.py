"""A fitted model as a file, how its fit went, and a command that uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eigencode import invocation, processes, progress
from eigencode.cli.flags import STREAM, facts_told
from eigencode.cli.interruptions import held
from eigencode.cli.own_parts import OWN
from eigencode.cli.tables import Choice, files_of
from eigencode.descriptions import fitted_names, outcome, print_facts, print_json, summary

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder

NAMED_AT_MOST = 5
"""Files up to which the proposed next command names all; it names only the first of more."""


def save(
    model: BaseAutoencoder, output: Path, rows: Sequence[Path], chosen: Choice, as_json: bool, more: Mapping[str, Any]
) -> None:
    """Write a model, which a first signal does not interrupt, and print how its fit went; ``more`` is for the JSON.

    Of several processes that have the same model the first one does.
    """
    if not processes.is_first():
        return
    with held(), progress.stage(f"writing {output}"):
        model.save(output)
    if as_json:
        print_json({**summary(model), "model": str(output), **more})
    else:
        print_facts(facts_told(outcome(summary(model))))
        print_next_command(model, output, rows, chosen)


def print_next_command(fitted: BaseAutoencoder, model: Path, rows: Sequence[Path], chosen: Choice) -> None:
    """Print where the model is, and a command that uses it."""
    print(f"\nThe model is in {model}. ", end="")
    if STREAM in rows:  # which can be read only once
        print(f"Describe it with:\n\n  {invocation.command(['describe', str(model), *OWN.typed])}")
        return
    inputs = {path.resolve() for path in files_of(rows)}
    few = rows if len(rows) <= NAMED_AT_MOST else rows[:1]
    if hasattr(fitted, "p_values"):
        found = next(name for name in ("alarms.csv", "new_alarms.csv") if Path(name).resolve() not in inputs)
        line = ["detect", str(model), *map(str, few), "--explain", "3", "--output", found, *OWN.typed]
        print(f"Find unusual rows of this or another file with:\n\n  {invocation.command(line)}")
        return
    codes = next(name for name in ("codes.parquet", "new_codes.parquet") if Path(name).resolve() not in inputs)
    typed = [*chosen.flags(fitted_names(fitted)), *OWN.typed]
    line = ["transform", str(model), *map(str, few), "--output", codes, *typed]
    print(f"Encode rows with:\n\n  {invocation.command(line)}")
