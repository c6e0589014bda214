"""Sweeps: the settings to try, the search over them, and its results as text, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

import eigencode
from eigencode import data
from eigencode.cli.flags import INT, SEARCH, FlagError, check_flag, format_value, known_flags, parse_value
from eigencode.errors import DataError, OptionError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.search import AutoencoderSearch

TABLES, PICTURES = (".csv", ".parquet"), (".png", ".svg", ".pdf")
"""Endings of the files that a sweep can write in addition to the model."""

UNITS = {
    "leave_one_out": "log-likelihood of each cell given the others, in nats a row",
    "log_likelihood": "log-likelihood of a row, in nats",
    "reconstruction": "minus the squared error of a row",
}
"""The meaning of each kind of score."""

RULES = {"one_standard_error": "the fewest components within one standard error of the best", "best": "the best"}
"""The choice by each rule."""


@dataclass(frozen=True)
class Plan:
    """What to try, and how to choose."""

    over: Annotated[
        tuple[str, ...],
        Parameter(
            help="NAME=VALUE,VALUE,...: an option of the autoencoder and the values to try, as n_components=2,4,8. "
            "Give it once for each option. The items of a sequence are separated by slashes, as in hidden=64,128/64; "
            "/ is the empty sequence. None, True and False are written as none, true and false.",
            negative_iterable=(),
            show_default=False,
            group=SEARCH,
        ),
    ]
    folds: Annotated[
        int,
        INT,
        Parameter(help="Number of folds of the shuffled rows.", validator=validators.Number(gte=2), group=SEARCH),
    ] = 5
    rule: Annotated[
        Literal["one_standard_error", "best"],
        Parameter(
            help="'one_standard_error': the fewest components, and then the fewest weights, within one standard error "
            "of the best mean score; 'best': the best mean score.",
            group=SEARCH,
        ),
    ] = "one_standard_error"
    scoring: Annotated[
        Literal["auto", "leave_one_out", "log_likelihood", "reconstruction"],
        Parameter(
            help="Score of a held-out row: the log-likelihood of its cells, each given the others; its own given its "
            "code; or minus its squared error in the data's units. 'auto': 'log_likelihood' for kinds with a density, "
            "else 'leave_one_out'.",
            group=SEARCH,
        ),
    ] = "auto"
    factor: Annotated[
        int | None,
        INT,
        Parameter(
            help="Of combinations that differ in the layers, the activation, the step size or the batch size alone, "
            "only 1/factor go on after half of the steps (1/sqrt(factor) after a fifth): those with the lowest "
            "objective of validation rows. "
            "Without it all are trained to the end.",
            validator=validators.Number(gte=2),
            show_default=False,
            group=SEARCH,
        ),
    ] = None


def grid_given(kind: str, over: Sequence[str], options: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Parse the values to try for each option from arguments NAME=VALUE,VALUE,..., each value once.

    `FlagError` if an argument has another form, the kind does not have the option, its domain does not have a value, or
    another flag has given the option (in ``options``).
    """
    flags, grid = known_flags(), dict[str, list[Any]]()
    for argument in over:
        typed_name, equals, values = argument.partition("=")
        name = typed_name.removeprefix("--").replace("-", "_")
        if not equals:
            raise _over_error("--over takes NAME=VALUE,VALUE,...", repr(argument), "Try --over n_components=2,4,8")
        if name not in flags:
            known = [name for name, flag in flags.items() if kind in flag.options]
            raise _over_error(f"--over names no option of --kind {kind}", repr(typed_name), did_you_mean(name, known))
        if name in grid:
            raise _over_error("--over takes all values of an option at once", f"{name!r} twice")
        if name in options:
            got = f"{flags[name].option_string} and --over {argument}"
            raise _over_error(f"{name!r} cannot have both one value and several", got)
        grid[name] = list(dict.fromkeys(parse_value(text, flags[name]) for text in values.split(",")))
        for value in grid[name]:
            check_flag(kind, name, value, "sweep")
    return grid


def _over_error(what: str, got: str, hint: str | None = None) -> FlagError:
    return FlagError("--over", str(OptionError(what, got=got, hint=hint)), "sweep")


def check_outputs(endings: Mapping[Path | None, Iterable[str]], inputs: Sequence[Path | int]) -> None:
    """Raise an error, before other work is done, if a file could not be written; None is a file not asked for."""
    for path, known in endings.items():
        if path is not None:
            data.check_output(path, known, inputs)
    data.check_distinct(*endings)


def searched(
    estimator: BaseAutoencoder, grid: Mapping[str, list[Any]], plan: Plan, rows: Any, checkpoint: Mapping[str, Any]
) -> AutoencoderSearch:
    """A fitted search over a grid, which does not fit its choice to all rows."""
    if len(rows) < plan.folds:
        raise DataError(f"{plan.folds} folds need at least as many rows", got=str(len(rows)))
    search = eigencode.AutoencoderSearch(
        estimator,
        grid,
        cv=plan.folds,
        rule=plan.rule,
        scoring=plan.scoring,
        factor=plan.factor,
        refit=False,
        random_state=estimator.random_state,
        verbose=estimator.verbose,
    )
    return search.fit(rows, **checkpoint)


def best_estimator(search: AutoencoderSearch) -> BaseAutoencoder:
    """An unfitted estimator with the chosen settings."""
    from sklearn.base import clone

    chosen: BaseAutoencoder = clone(search.estimator).set_params(**search.best_params_)
    return chosen


def write_results(search: AutoencoderSearch, table: Path | None, picture: Path | None) -> None:
    """Write the table and the picture of the scores, if they are asked for."""
    if table is not None:
        data.write_columns(table, columns(search))
    if picture is not None:
        from eigencode.plots import SearchDisplay

        figure = SearchDisplay.from_estimator(search).figure_
        with data.atomic_write(picture) as file:
            figure.savefig(file, format=picture.suffix[1:].lower(), dpi=200)


def columns(search: AutoencoderSearch) -> dict[str, np.ndarray]:
    """The search's ``cv_results_`` as columns of numbers or text, and a column that marks the chosen row.

    A parameter's column has numbers if all its values are numbers, else text in the form of --over. Times are left
    out, so that the same search writes the same table.
    """
    import numpy as np

    results = search.cv_results_
    left_out = ("params", "mean_fit_time")
    found = {
        name: _plain(values) if name.startswith("param_") else np.asarray(values)
        for name, values in results.items()
        if name not in left_out
    }
    return {**found, "chosen": np.arange(len(results["params"])) == search.best_index_}


def _plain(values: Iterable[Any]) -> np.ndarray:
    """Values of a parameter as an array of numbers or text."""
    import numpy as np

    found = list(values)
    if all(isinstance(value, bool) for value in found) or all(type(value) in (int, float) for value in found):
        return np.array(found)
    return np.array([format_value(value) for value in found])


def facts(search: AutoencoderSearch) -> dict[str, Any]:
    """A search as a JSON object."""
    results = search.cv_results_
    scores = [f"split{fold}_test_score" for fold in range(search.n_splits_)]
    others = ("mean_test_score", "standard_error", "rank_test_score", "n_components", "n_weights", "budget")
    candidates = [
        {
            "params": params,
            "test_scores": [float(results[name][i]) for name in scores],
            **{name: results[name][i].item() for name in others},
        }
        for i, params in enumerate(results["params"])
    ]
    return {
        "rule": search.rule,
        "scoring": search.scoring_,
        "n_splits": search.n_splits_,
        "notes": search.notes_,
        "best_index": int(search.best_index_),
        "best_params": search.best_params_,
        "candidates": candidates,
    }


def _decimals(errors: np.ndarray) -> int:
    """The decimals of all scores and their standard errors: two digits of a usual error."""
    usual = sorted(error for error in errors if math.isfinite(error) and error > 0)
    return max(0, 1 - math.floor(math.log10(usual[len(usual) // 2]))) if usual else 4


def lines(search: AutoencoderSearch) -> list[str]:
    """A search as text: a line for each candidate, how they were trained, and the choice with its rule."""
    results = search.cv_results_
    settings = [name.removeprefix("param_") for name in results if name.startswith("param_")]
    table = [[*settings, "score", "std. error", "components", "weights", ""]]
    scores = f".{_decimals(results['standard_error'])}f"
    for i, params in enumerate(results["params"]):
        has_mark = {"best": results["rank_test_score"][i] == 1, "chosen": i == search.best_index_}
        share = results["budget"][i]
        marks = [mark for mark, applies in has_mark.items() if applies]
        marks += [f"ended after {share:.2g} of the steps"] if share < 1 else []
        numbers = [results[name][i] for name in ("mean_test_score", "standard_error", "n_components", "n_weights")]
        formats = (scores, scores, ",.4g", ",.0f")
        formatted = [
            "-" if math.isnan(number) else format(number, style) for number, style in zip(numbers, formats, strict=True)
        ]
        table.append([*(format_value(params[name]) for name in settings), *formatted, ", ".join(marks)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row[:-1], widths, strict=False)) for row in table]
    return [
        *(f"{text}  {row[-1]}".rstrip() for text, row in zip(rows, table, strict=True)),
        "",
        f"score    {UNITS[str(search.scoring_)]}: mean over {search.n_splits_} validation folds, larger is better",
        f"trained  {'; '.join(search.trained_)}",
        f"chosen   {', '.join(f'{name}={format_value(value)}' for name, value in search.best_params_.items())}: "
        f"{RULES[search.rule]}",
        *(f"note     {note}" for note in search.notes_[len(search.trained_) :]),
    ]
