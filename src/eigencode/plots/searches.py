"""The display of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Transform, offset_copy
from sklearn.utils.validation import check_is_fitted

from eigencode.plots.display import INK, LEVEL, PALE, PALETTE, Display, legend, style
from eigencode.report.subjects import require
from eigencode.search import AutoencoderSearch

LINE_COLORS = tuple(color for color in PALETTE if color != PALETTE[2])
"""Colours of a search's lines; red marks its choice."""

NAMED_LINES = 8
"""Most lines of a search that have a colour and a name."""

NAMED_VALUES = 10
"""Most values that a logarithmic axis labels."""

DECADE = 10
"""An axis is logarithmic if the ratio of its largest to its smallest value is larger."""

SCORES = {
    "leave_one_out": "validation log-likelihood of cells\ngiven the others (nats per row)",
    "log_likelihood": "validation log-likelihood (nats per row)",
    "reconstruction": "minus the validation squared error per row",
}
"""Labels of the axis for the scores of a search."""

BEST = {"marker": "o", "color": INK, "fillstyle": "none", "markersize": 13, "zorder": 4}
CHOSEN = {"marker": "*", "color": PALETTE[2], "markersize": 13, "markeredgecolor": "white", "zorder": 5}
"""Markers of a search's best candidate and of its choice."""


@dataclass(eq=False, repr=False)
class SearchDisplay(Display):
    """The validation scores of a search, with their standard errors, against the parameter with the most values.

    Each combination of the other parameters that vary is a line. Of more than eight lines, those with the lowest best
    scores are grey; the line of the choice is always coloured. Candidates that ended early have no score, and are not
    drawn. A ring marks the best candidate, a star the chosen one;
    the dashed line is one standard error below the best score. An axis of numbers that span more than a decade is
    logarithmic.

    Parameters
    ----------
    search : fitted AutoencoderSearch
        The search, with or without ``refit``.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import Autoencoder, AutoencoderSearch
    >>> estimator = Autoencoder(hidden=(8,), max_epochs=2, random_state=0)
    >>> grid = {"n_components": [1, 2, 4], "activation": ["gelu", "tanh"]}
    >>> search = AutoencoderSearch(estimator, grid, cv=2, random_state=0, refit=False).fit(
    ...     load_wine().data
    ... )
    >>> ax = SearchDisplay.from_estimator(search).ax_
    >>> ax.get_xlabel()
    'n_components'
    >>> [text.get_text() for text in ax.get_legend().get_texts()][:2]
    ["activation='gelu'", "activation='tanh'"]
    """

    search: AutoencoderSearch

    @classmethod
    def from_estimator(cls, search: AutoencoderSearch, *, ax: Axes | None = None) -> Self:
        """Draw the scores of a search."""
        require(isinstance(search, AutoencoderSearch), search, "an AutoencoderSearch")
        check_is_fitted(search, "cv_results_")
        return cls(search).plot(ax)

    def _draw(self, ax: Axes) -> None:
        search = self.search
        means, errors = (search.cv_results_[name] for name in ("mean_test_score", "standard_error"))
        x_axis, lines = _lines_of(search)
        style(ax, x_axis.name, SCORES.get(search.scoring_, "validation score"))  # type: ignore[arg-type]
        _set_ticks(ax, x_axis)
        best, chosen = int(np.nanargmax(means)), search.best_index_
        line_scores = {name: np.nan_to_num(means[index], nan=-np.inf).max() for name, index in lines.items()}
        ranked = sorted(lines, key=lambda name: (chosen not in lines[name], -line_scores[name]))
        colors = dict(zip([name for name in lines if name in ranked[:NAMED_LINES]], LINE_COLORS, strict=False))
        for number, (name, index) in enumerate(lines.items()):
            offset = _offset(ax, number, len(lines))
            looks = {"color": colors[name], "label": name} if name in colors else {"color": PALE, "zorder": 1}
            _draw_line(ax, x_axis.x[index], means[index], errors[index], offset, **looks)
            if best in index:
                _mark(ax, x_axis.x[best], means[best], "best", BEST, offset)
            if chosen in index:
                _mark(ax, x_axis.x[chosen], means[chosen], "chosen", CHOSEN, offset)
        ax.axhline(means[best] - errors[best], label="one standard error below the best", zorder=1.5, **LEVEL)
        # In the legend, the marks come after the lines.
        named = sorted(zip(*ax.get_legend_handles_labels(), strict=True), key=lambda pair: isinstance(pair[0], Line2D))
        legend(ax, *zip(*named, strict=True))


@dataclass(frozen=True)
class _XAxis:
    """The horizontal axis of a search: the parameter's name, and each candidate's value and x coordinate."""

    name: str
    values: list[Any]
    x: np.ndarray

    @property
    def is_numeric(self) -> bool:
        """Whether the coordinates are the values themselves."""
        return _are_numbers(self.values)


def _lines_of(search: AutoencoderSearch) -> tuple[_XAxis, dict[str, np.ndarray]]:
    """The horizontal axis, and the row numbers of each line's candidates from left to right, by the line's name."""
    candidates = search.cv_results_["params"]
    estimator_params = search.estimator.get_params()
    names = dict.fromkeys(name for params in candidates for name in params)
    # A parameter that a candidate's grid does not have is the estimator's.
    values = {name: [params.get(name, estimator_params.get(name)) for params in candidates] for name in names}
    n_values = {name: len(set(map(repr, found))) for name, found in values.items()}
    varying = [name for name in names if n_values[name] > 1]
    first = max(varying or names, key=lambda name: (n_values[name], _are_numbers(values[name])), default="candidate")
    found = values.get(first, [""] * len(candidates))
    categories = list(dict.fromkeys(map(repr, found)))
    x = found if _are_numbers(found) else [categories.index(repr(value)) for value in found]
    x_axis = _XAxis(first, found, np.array(x, dtype=float))
    lines: dict[str, list[int]] = {}
    for i in np.argsort(x_axis.x, kind="stable"):
        common = ", ".join(f"{name}={values[name][i]!r}" for name in varying if name != first)
        lines.setdefault(common or type(search.estimator).__name__, []).append(int(i))
    return x_axis, {name: np.array(lines[name]) for name in sorted(lines, key=lambda name: min(lines[name]))}


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, Real) and not isinstance(value, bool) for value in values)


def _set_ticks(axes: Axes, x_axis: _XAxis) -> None:
    """Set the horizontal axis: logarithmic or linear for numbers, one tick for each value of other types."""
    ticks = dict(zip(x_axis.x, x_axis.values, strict=True))
    if not x_axis.is_numeric:
        axes.set_xticks(list(ticks), [str(value) for value in ticks.values()])
        axes.set_xlim(-0.5, len(ticks) - 0.5)
        return
    low, high = x_axis.x.min(), x_axis.x.max()
    if low > 0 and high > DECADE * low:
        axes.set_xscale("log")
        if len(ticks) <= NAMED_VALUES:
            axes.set_xticks(list(ticks), [f"{x:g}" for x in ticks])
            axes.minorticks_off()
    elif all(isinstance(value, Integral) for value in x_axis.values):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _offset(axes: Axes, number: int, n_lines: int) -> Transform:
    """A transform that moves a line sideways by a few points, so that errors at the same value do not overlap."""
    points = 3.0 * (number - (n_lines - 1) / 2) if n_lines <= NAMED_LINES else 0.0
    return offset_copy(axes.transData, axes.get_figure(), x=points, units="points")  # type: ignore[arg-type]


def _draw_line(axes: Axes, x: Any, means: Any, errors: Any, offset: Transform, **style: Any) -> None:
    """Draw means with a line, and bars of one standard error up and down."""
    style |= {"linewidth": 1.8, "marker": "o", "markersize": 4, "capsize": 3, "elinewidth": 1.2}
    # Set afterwards, since the limits of the axes take account only of what is drawn in data coordinates.
    for artist in axes.errorbar(x, means, yerr=errors, **style).get_children():
        artist.set_transform(offset)


def _mark(axes: Axes, x: float, mean: float, name: str, style: Mapping[str, Any], offset: Transform) -> None:
    """Mark a candidate, with its score in the legend."""
    axes.plot(x, mean, linestyle="none", label=f"{name}: {mean:.5g}", transform=offset, **style)
