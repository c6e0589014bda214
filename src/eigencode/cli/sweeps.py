"""Sweeps: settings side by side as typed, and what a search over them found, as lines, columns and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

from eigencode.cli.flags import FLAGS, SEARCH, FlagError, check_flag, value_of, word_of
from eigencode.errors import DataError, OptionError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.search import AutoencoderSearch

TABLES, PICTURES = (".csv", ".parquet"), (".png", ".svg", ".pdf")
"""Endings of the files that a sweep leaves beside the model."""

UNITS = {"log_likelihood": "log-likelihood of a row, in nats", "reconstruction": "minus the squared error of a row"}
"""What each kind of score is."""

RULES = {
    "one_standard_error": "the fewest components within one standard error of the best",
    "best": "the best",
}
"""What each rule chooses."""


@dataclass(frozen=True)
class Plan:
    """What to try, and how to choose."""

    over: Annotated[
        tuple[str, ...],
        Parameter(
            help="NAME=VALUE,VALUE,...: an option of the autoencoder and the values to try, as n_components=2,4,8. "
            "Give it once for each option. The words of a sequence have a slash between them, as in "
            "hidden=64,128/64; / alone is the empty one. 'none', 'true' and 'false' are written so.",
            negative_iterable=(),
            show_default=False,
            group=SEARCH,
        ),
    ]
    folds: Annotated[
        int,
        Parameter(help="Parts that the rows are shuffled into.", validator=validators.Number(gte=2), group=SEARCH),
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
        Literal["log_likelihood", "reconstruction"],
        Parameter(
            help="What a held-out row is worth: its log-likelihood, or minus its squared error in the data's units.",
            group=SEARCH,
        ),
    ] = "log_likelihood"


def grid_given(kind: str, over: Sequence[str], options: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values to try for each option, checked to be the kind's and in their domain.

    Parameters
    ----------
    kind : str
        The autoencoder's kind.
    over : sequence of str
        As typed: NAME=VALUE,VALUE,... each.
    options : mapping
        The options that were given a single value.

    Returns
    -------
    dict of lists
        Values by the names of their options, each once.

    Raises
    ------
    FlagError
        Where a word is none of these.
    """
    grid: dict[str, list[Any]] = {}
    for typed in over:
        typed_name, equals, words = typed.partition("=")
        name = typed_name.removeprefix("--").replace("-", "_")
        if not equals:
            raise _refused("--over takes NAME=VALUE,VALUE,...", repr(typed), "Try --over n_components=2,4,8")
        if name not in FLAGS:
            known = [name for name, flag in FLAGS.items() if kind in flag.options]
            raise _refused(f"--over names no option of --kind {kind}", repr(typed_name), did_you_mean(name, known))
        if name in grid:
            raise _refused("--over takes all values of an option at once", f"{name!r} twice")
        if name in options:
            raise _refused(f"{name!r} has one value or many", f"{FLAGS[name].word} and --over {typed}")
        grid[name] = list(dict.fromkeys(value_of(word, FLAGS[name]) for word in words.split(",")))
        for value in grid[name]:
            check_flag(kind, name, value, "sweep")
    return grid


def _refused(what: str, got: str, hint: str | None = None) -> FlagError:
    return FlagError("--over", str(OptionError(what, got=got, hint=hint)), "sweep")


def check_outputs(endings: Mapping[Path | None, Iterable[str]], inputs: Sequence[Path | int]) -> None:
    """Find out before the work that a file could not be written; None is one that is not wanted."""
    from eigencode.data.outputs import check_distinct, check_output

    for path, known in endings.items():
        if path is not None:
            check_output(path, known, inputs)
    check_distinct(*endings)


def searched(estimator: BaseAutoencoder, grid: Mapping[str, list[Any]], plan: Plan, rows: Any) -> AutoencoderSearch:
    """The search over a grid, without a fit of its choice."""
    from eigencode.search import AutoencoderSearch

    if len(rows) < plan.folds:
        raise DataError(f"{plan.folds} folds take as many rows at least", got=str(len(rows)))
    search = AutoencoderSearch(
        estimator,
        grid,
        cv=plan.folds,
        rule=plan.rule,
        scoring=plan.scoring,
        refit=False,
        random_state=estimator.random_state,
        verbose=estimator.verbose,
    )
    return search.fit(rows)


def choice(search: AutoencoderSearch) -> BaseAutoencoder:
    """The estimator with the settings chosen, not yet fitted."""
    from sklearn.base import clone

    chosen: BaseAutoencoder = clone(search.estimator).set_params(**search.best_params_)
    return chosen


def write_results(search: AutoencoderSearch, table: Path | None, picture: Path | None) -> None:
    """Write the table and the picture that are asked for."""
    from eigencode.data.files import write_columns
    from eigencode.data.outputs import atomic_file

    if table is not None:
        write_columns(table, columns(search))
    if picture is not None:
        from eigencode.plots import plot_search

        figure = plot_search(search)
        with atomic_file(picture) as file:
            figure.savefig(file, format=picture.suffix[1:].lower(), dpi=200)


def columns(search: AutoencoderSearch) -> dict[str, np.ndarray]:
    """The search's ``cv_results_`` as plain columns of numbers or words, and which row was chosen.

    A parameter's column is of numbers where all its values are, and else of words as they are typed. Times are left
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
    """Values of a parameter as an array that a file can hold."""
    import numpy as np

    found = list(values)
    if all(isinstance(value, bool) for value in found) or all(type(value) in (int, float) for value in found):
        return np.array(found)
    return np.array([word_of(value) for value in found])


def facts(search: AutoencoderSearch) -> dict[str, Any]:
    """A search, as JSON has it."""
    results = search.cv_results_
    scores = [f"split{fold}_test_score" for fold in range(search.n_splits_)]
    others = ("mean_test_score", "standard_error", "rank_test_score", "n_components", "n_weights")
    candidates = [
        {
            "params": params,
            "test_scores": [float(results[name][place]) for name in scores],
            **{name: results[name][place].item() for name in others},
        }
        for place, params in enumerate(results["params"])
    ]
    return {
        "rule": search.rule,
        "scoring": search.scoring,
        "n_splits": search.n_splits_,
        "notes": search.notes_,
        "best_index": int(search.best_index_),
        "best_params": search.best_params_,
        "candidates": candidates,
    }


def lines(search: AutoencoderSearch) -> list[str]:
    """A search in words: a line for each candidate, how they were trained, and what was chosen by which rule."""
    results = search.cv_results_
    settings = [name.removeprefix("param_") for name in results if name.startswith("param_")]
    best = int((results["rank_test_score"] == 1).argmax())
    table = [[*settings, "score", "std. error", "components", "weights", ""]]
    for place, params in enumerate(results["params"]):
        marks = [word for word, marked in (("best", best), ("chosen", search.best_index_)) if marked == place]
        numbers = [results[name][place] for name in ("mean_test_score", "standard_error", "n_components", "n_weights")]
        formats = (".5g", ".2g", ",.4g", ",.0f")
        said = [format(number, style) for number, style in zip(numbers, formats, strict=True)]
        table.append([*(word_of(params[name]) for name in settings), *said, ", ".join(marks)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row[:-1], widths, strict=False)) for row in table]
    return [
        *(f"{text}  {row[-1]}".rstrip() for text, row in zip(rows, table, strict=True)),
        "",
        f"score    {UNITS[str(search.scoring)]}: mean over {search.n_splits_} folds held out, larger is better",
        f"trained  {'; '.join(search.trained_)}",
        f"chosen   {', '.join(f'{name}={word_of(value)}' for name, value in search.best_params_.items())}: "
        f"{RULES[search.rule]}",
        *(f"note     {note}" for note in search.notes_[len(search.trained_) :]),
    ]
