"""Plots: reconstructions, maps of codes, the course of training, and searches, as matplotlib figures.

Every function returns a `matplotlib.figure.Figure` of its own. Nothing here touches pyplot or matplotlib's settings,
so plotting works the same in scripts, servers and threads; a notebook shows the figure that a cell ends with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Transform, offset_copy
from sklearn.utils.validation import check_is_fitted

from eigencode.data.containers import as_array, read
from eigencode.errors import DataError

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.search import AutoencoderSearch

PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""Ten colours, and any first few of them, that stay apart under colour-vision deficiencies (Petroff, 2021)."""

MARKERS = "osD^vPX*"
"""One marker for every ten classes, where there are more classes than colours."""

LINE_COLORS = tuple(color for color in PALETTE if color != PALETTE[2])
"""Colours of a search's lines; the red one is its choice."""

NAMED_LINES = 8
"""Lines of a search that are told apart; the eye follows no more."""

NAMED_VALUES = 10
"""Values that a logarithmic axis names."""

DECADE = 10
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""

SCORES = {
    "log_likelihood": "held-out log-likelihood (nats a row)",
    "reconstruction": "minus the held-out squared error a row",
}
"""What the scores of a search are, as an axis says it."""

INK, GREY, PALE = "#222222", "#6b6b6b", "#e4e4e4"

BEST = {"marker": "o", "color": INK, "fillstyle": "none", "markersize": 13, "zorder": 4}
CHOSEN = {"marker": "*", "color": PALETTE[2], "markersize": 13, "markeredgecolor": "white", "zorder": 5}
"""How a search's best candidate and its choice look."""


def plot_reconstructions(
    originals: Any,
    reconstructions: Any,
    shape: tuple[int, int],
    *,
    baseline: Any = None,
    names: Sequence[str] = ("original", "autoencoder", "baseline"),
    n_images: int = 10,
) -> Figure:
    """Draw images over their reconstructions.

    All images share one grey scale, black at the lowest value of the originals and white at the highest.

    Parameters
    ----------
    originals, reconstructions : array-like of shape (n, d) or (n, height, width)
        Rows or images, and what a model makes of them.
    shape : (height, width)
        Shape of one image, with height times width = d.
    baseline : array-like of shape (n, d) or (n, height, width), optional
        What another model makes of them, as a third row.
    names : sequence of str
        What the rows of pictures are called.
    n_images : int, default 10
        Pictures a row; the first rows given are shown.

    Returns
    -------
    Figure
        The figure. Beside the name of each row of reconstructions stands its mean squared error an image, over the
        images shown.

    Raises
    ------
    DataError
        If the arrays do not fit each other or the shape.

    Examples
    --------
    >>> rows = np.random.default_rng(0).random((4, 64))
    >>> len(plot_reconstructions(rows, rows + 0.1, (8, 8)).axes)
    8
    """
    stacks = [originals, reconstructions] if baseline is None else [originals, reconstructions, baseline]
    images = _as_images(stacks, shape)[:, :n_images]
    n_stacks, n_shown, height, width = images.shape
    size = (0.75 * n_shown + 1.2, 0.75 * height / width * n_stacks)
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02, rect=(0.01, 0.02, 0.98, 0.96))
    figure = Figure(figsize=size, layout=layout)
    grid = figure.subplots(n_stacks, n_shown, squeeze=False)
    errors = np.square(images - images[0]).sum((2, 3)).mean(1)
    for place, (row, stack) in enumerate(zip(grid, images, strict=True)):
        for axes, image in zip(row, stack, strict=True):
            axes.imshow(image, cmap="gray", vmin=images[0].min(), vmax=images[0].max(), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        said = names[place] if place == 0 else f"{names[place]}\nerror {errors[place]:.4g}"
        row[0].set_ylabel(said, rotation=0, ha="right", va="center", labelpad=8, color=INK, fontsize=9)
    return figure


def plot_codes(codes: Any, labels: Any = None) -> Figure:
    """Draw a map of codes, coloured by class.

    Codes of more than two components are shown along the two principal axes of the codes, which keep the most of
    their variance that a plane can keep.

    Parameters
    ----------
    codes : array-like of shape (n, k)
        Codes, with k at least 2.
    labels : array-like of shape (n,), optional
        Classes.

    Returns
    -------
    Figure
        The figure. Each class stands in the legend, and is named at the median of its codes.

    Raises
    ------
    DataError
        If there are fewer than two components, or not one label for each code.

    Examples
    --------
    >>> codes = np.random.default_rng(0).normal(size=(50, 3))
    >>> figure = plot_codes(codes, labels=["a", "b"] * 25)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['a', 'b']
    """
    places, axis_names = _plane(read(codes, "codes").array.astype(float))
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = _axes(figure, *axis_names)
    axes.grid(False)
    # Distances are what a map shows: one unit is as long across as it is up.
    axes.set_aspect("equal", adjustable="datalim")
    size = float(np.clip(3e4 / len(places), 4, 30))
    if labels is None:
        axes.scatter(places[:, 0], places[:, 1], s=size, c=PALETTE[0], alpha=0.7, linewidths=0)
        return figure
    labels = as_array(labels, "labels")
    if labels.shape != (len(places),):
        raise DataError("There must be one label for each code", got=f"{labels.shape} for {len(places)} codes")
    classes = np.unique(labels)
    for number, name in enumerate(classes):
        color, marker = PALETTE[number % len(PALETTE)], MARKERS[number // len(PALETTE) % len(MARKERS)]
        own = places[labels == name]
        axes.scatter(own[:, 0], own[:, 1], s=size, c=color, marker=marker, alpha=0.7, linewidths=0, label=str(name))
        _name_at(axes, float(np.median(own[:, 0])), float(np.median(own[:, 1])), str(name))
    legend = figure.legend(loc="outside right center", frameon=False, handletextpad=0.1, labelcolor=INK)
    for handle in legend.legend_handles:
        handle.set(alpha=1, sizes=[40])  # type: ignore[union-attr]
    return figure


def plot_history(model: BaseAutoencoder) -> Figure:
    """Draw the objective by epoch: on the training rows, on the held-out rows, and the linear baseline's.

    The first epochs of a random start lie far above all that follows; where they would flatten the rest of the curve,
    the axis leaves them out.

    Parameters
    ----------
    model : estimator
        A fitted autoencoder.

    Returns
    -------
    Figure
        The figure, with the epoch whose weights were kept marked. Where no rows were held out, the training rows
        were the judge, and the curve says so.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import Autoencoder
    >>> model = Autoencoder(n_components=2, max_epochs=5, random_state=0).fit(load_wine().data)
    >>> plot_history(model).axes[0].get_xlabel()
    'epoch'
    """
    epochs, unit = np.array([row["epoch"] for row in model.history_]), "epoch"
    if len(set(epochs.tolist())) < len(epochs):  # evaluated several times in an epoch
        epochs, unit = np.array([row["rows"] for row in model.history_]), "rows seen"
    judged = np.array([row.get("validation_objective", np.nan) for row in model.history_])
    during = np.array([row.get("training_objective", np.nan) for row in model.history_])
    levels = [] if model.baseline_ is None else [model.baseline_.history_[0]["validation_objective"]]
    at_best = int(np.nanargmin(judged)) if np.isfinite(judged).any() else len(judged) - 1
    judge = "held-out rows" if model.validation_fraction > 0 else "training rows"
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = _axes(figure, unit, "objective (nats a row, scaled units)")
    for level in levels:
        axes.axhline(level, color=GREY, linestyle=(0, (4, 2)), linewidth=1.2, label=f"linear baseline: {level:.4g}")
    if np.isfinite(during).any():
        met = np.isfinite(during)  # the start has no epoch behind it
        label = "training rows, during the epoch"
        axes.plot(epochs[met], during[met], color=PALETTE[1], linewidth=1.5, label=label)
        if np.isfinite(judged).any():  # a stream has no judge
            axes.plot(epochs, judged, color=PALETTE[0], linewidth=2, label=f"{judge}, after the epoch")
    kept = f"kept: epoch {model.best_epoch_}, {model.best_objective_:.4g}"
    axes.plot(
        epochs[at_best],
        model.best_objective_,
        "o",
        color=PALETTE[2],
        markersize=7,
        markeredgecolor="white",
        zorder=5,
        label=kept,
    )
    axes.set_ylim(_readable_limits(np.concatenate([judged[len(judged) // 4 :], during[len(during) // 4 :], levels])))
    axes.set_xlim(-0.02 * max(epochs[-1], 10), epochs[-1] + 0.02 * max(epochs[-1], 10))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def plot_sizes(model: BaseAutoencoder, X: Any, *, scaled: bool = False) -> Figure:
    """Draw the error of an ordered code against the number of components used, beside the linear baseline's.

    Parameters
    ----------
    model : fitted autoencoder
        With an ordered code (``ordered=True``), or linear and solved exactly.
    X : array-like of shape (n, d)
        Rows to reconstruct, best ones that were not fitted.
    scaled : bool, default False
        Measure in the model's scaled units.

    Returns
    -------
    matplotlib.figure.Figure
        Mean squared error a row against 1, 2, ... components.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from eigencode import Autoencoder
    >>> from eigencode.plots import plot_sizes
    >>> X = load_digits().data
    >>> model = Autoencoder(6, ordered=True, max_epochs=5, random_state=0).fit(X[:1500])
    >>> plot_sizes(model, X[1500:]).axes[0].get_xlabel()
    'components used'
    """
    figure = Figure(figsize=(6.4, 4.0), dpi=200, layout="constrained")
    axes = _axes(figure, "components used", "squared error a row")
    sizes = np.arange(1, model.n_components_ + 1)
    if model.baseline_ is not None:
        errors = model.baseline_.reconstruction_error_by_size(X, scaled=scaled)
        axes.plot(sizes, errors, color=GREY, linestyle="--", marker="o", markersize=4, label="linear baseline")
    errors = model.reconstruction_error_by_size(X, scaled=scaled)
    axes.plot(sizes, errors, color=PALETTE[0], linewidth=2, marker="o", markersize=5, label=type(model).__name__)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def plot_search(search: AutoencoderSearch) -> Figure:
    """Draw the held-out scores of a search, with their standard errors, against the parameter that varies most.

    Each combination of the other parameters that vary is a line. Where there are more than eight, those whose best
    score is lowest are grey; the line of the choice never is.

    Parameters
    ----------
    search : fitted AutoencoderSearch
        With or without a fit of its choice.

    Returns
    -------
    Figure
        The figure. A ring marks the best candidate, a star the one chosen; the dashed line lies one standard error
        below the best score. An axis of numbers that span more than a decade is logarithmic.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import Autoencoder, AutoencoderSearch
    >>> estimator = Autoencoder(hidden=(8,), max_epochs=2, random_state=0)
    >>> grid = {"n_components": [1, 2, 4], "activation": ["gelu", "tanh"]}
    >>> search = AutoencoderSearch(estimator, grid, cv=2, random_state=0, refit=False).fit(load_wine().data)
    >>> axes = plot_search(search).axes[0]
    >>> axes.get_xlabel()
    'n_components'
    >>> [text.get_text() for text in axes.get_legend().get_texts()][:2]
    ["activation='gelu'", "activation='tanh'"]
    """
    check_is_fitted(search, "cv_results_")
    means, errors = (search.cv_results_[name] for name in ("mean_test_score", "standard_error"))
    across, lines = _lines_of(search)
    figure = Figure(figsize=(6.4, 4.0), dpi=200, layout="constrained")
    axes = _axes(figure, across.name, SCORES.get(search.scoring, "held-out score"))  # type: ignore[arg-type]
    _mark_values(axes, across)
    best, chosen = int(np.nanargmax(means)), search.best_index_
    worth = {name: np.nan_to_num(means[places], nan=-np.inf).max() for name, places in lines.items()}
    by_worth = sorted(lines, key=lambda name: (chosen not in lines[name], -worth[name]))
    looks = dict(zip([name for name in lines if name in by_worth[:NAMED_LINES]], LINE_COLORS, strict=False))
    for number, (name, places) in enumerate(lines.items()):
        beside = _beside(figure, axes, number, len(lines))
        look = {"color": looks[name], "label": name} if name in looks else {"color": PALE, "zorder": 1}
        _draw_line(axes, across.places[places], means[places], errors[places], beside, **look)
        if best in places:
            _mark(axes, across.places[best], means[best], "best", BEST, beside)
        if chosen in places:
            _mark(axes, across.places[chosen], means[chosen], "chosen", CHOSEN, beside)
    label = "one standard error below the best"
    axes.axhline(means[best] - errors[best], color=GREY, linestyle=(0, (4, 2)), linewidth=1.2, zorder=1.5, label=label)
    # What is on the lines is named after them.
    named = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda pair: isinstance(pair[0], Line2D))
    axes.legend(*zip(*named, strict=True), frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _as_images(stacks: Sequence[Any], shape: tuple[int, int]) -> np.ndarray:
    """Stacks of rows as stacks of images, shape (stacks, n, height, width)."""
    arrays = [read(stack, "images").array.astype(float) for stack in stacks]
    expected = (len(arrays[0]), shape[0] * shape[1])
    for array in arrays:
        if array.shape not in (expected, (expected[0], *shape)):
            raise DataError(f"Rows of images of shape {shape} must form arrays of {expected}", got=f"{array.shape}")
    return np.stack([array.reshape(-1, *shape) for array in arrays])


def _plane(codes: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Places of codes in a plane, shape (n, 2), and the names of its axes."""
    if codes.ndim != 2 or codes.shape[1] < 2:
        raise DataError("A map needs codes of at least two components", got=f"the shape {codes.shape}")
    if codes.shape[1] == 2:
        return codes, ["code 1", "code 2"]
    centred = codes - codes.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    shares = singular[:2] ** 2 / max((singular**2).sum(), np.finfo(float).tiny)
    # Turned so that each axis points along its largest entry: the same map on every machine.
    peaks = directions[:2, :][[0, 1], np.abs(directions[:2]).argmax(1)]
    turned = directions[:2] * np.where(peaks < 0, -1.0, 1.0)[:, None]
    names = [f"{nth} principal axis of the {codes.shape[1]} codes" for nth in ("first", "second")]
    return centred @ turned.T, [f"{name} ({share:.0%})" for name, share in zip(names, shares, strict=True)]


def _readable_limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of an axis that shows these values, with a margin."""
    values = values[np.isfinite(values)]
    margin = 0.06 * (values.max() - values.min()) or 1.0
    return float(values.min() - margin), float(values.max() + 2 * margin)


def _axes(figure: Figure, x_name: str, y_name: str) -> Axes:
    """Axes without ornament: a pale grid, and no frame at the top and right."""
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(GREY)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_name, color=INK)
    axes.set_ylabel(y_name, color=INK)
    return axes


def _name_at(axes: Axes, x: float, y: float, name: str) -> None:
    """A class's name over its codes, in ink with a white rim, so that colour is not all that tells classes apart."""
    rim = [withStroke(linewidth=3, foreground="white")]
    axes.text(x, y, name, color=INK, fontsize=12, weight="bold", ha="center", va="center", path_effects=rim)


@dataclass(frozen=True)
class _Across:
    """What lies along the horizontal axis of a search: a name, and each candidate's value and place."""

    name: str
    values: list[Any]
    places: np.ndarray

    @property
    def is_numeric(self) -> bool:
        """Whether places are the values themselves."""
        return _are_numbers(self.values)


def _lines_of(search: AutoencoderSearch) -> tuple[_Across, dict[str, np.ndarray]]:
    """What lies across, and the candidates of each line from left to right, by what they have in common."""
    candidates = search.cv_results_["params"]
    own = search.estimator.get_params()
    names = dict.fromkeys(name for params in candidates for name in params)
    # A candidate of a grid that leaves a parameter alone has the estimator's own.
    values = {name: [params.get(name, own.get(name)) for params in candidates] for name in names}
    n_values = {name: len(set(map(repr, found))) for name, found in values.items()}
    varying = [name for name in names if n_values[name] > 1]
    first = max(varying or names, key=lambda name: (n_values[name], _are_numbers(values[name])), default="candidate")
    found = values.get(first, [""] * len(candidates))
    kinds = list(dict.fromkeys(map(repr, found)))
    places = found if _are_numbers(found) else [kinds.index(repr(value)) for value in found]
    across = _Across(first, found, np.array(places, dtype=float))
    lines: dict[str, list[int]] = {}
    for place in np.argsort(across.places, kind="stable"):
        common = ", ".join(f"{name}={values[name][place]!r}" for name in varying if name != first)
        lines.setdefault(common or type(search.estimator).__name__, []).append(int(place))
    return across, {name: np.array(lines[name]) for name in sorted(lines, key=lambda name: min(lines[name]))}


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, Real) and not isinstance(value, bool) for value in values)


def _mark_values(axes: Axes, across: _Across) -> None:
    """Choose the horizontal axis: logarithmic or not for numbers, a place for each value of other kinds."""
    ticks = dict(zip(across.places, across.values, strict=True))
    if not across.is_numeric:
        axes.set_xticks(list(ticks), [str(value) for value in ticks.values()])
        axes.set_xlim(-0.5, len(ticks) - 0.5)
        return
    low, high = across.places.min(), across.places.max()
    if low > 0 and high > DECADE * low:
        axes.set_xscale("log")
        if len(ticks) <= NAMED_VALUES:
            axes.set_xticks(list(ticks), [f"{place:g}" for place in ticks])
            axes.minorticks_off()
    elif all(isinstance(value, Integral) for value in across.values):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _beside(figure: Figure, axes: Axes, number: int, n_lines: int) -> Transform:
    """Where a line is drawn: a little beside the others, so that errors at the same value can be told apart."""
    points = 3.0 * (number - (n_lines - 1) / 2) if n_lines <= NAMED_LINES else 0.0
    return offset_copy(axes.transData, figure, x=points, units="points")


def _draw_line(
    axes: Axes, x: np.ndarray, means: np.ndarray, errors: np.ndarray, beside: Transform, **look: Any
) -> None:
    """Means joined by a line, each with its standard error up and down."""
    drawn = axes.errorbar(
        x, means, yerr=errors, linewidth=1.8, marker="o", markersize=4, capsize=3, elinewidth=1.2, **look
    )
    # The limits of the axes count what is drawn in their own units only.
    for artist in drawn.get_children():
        artist.set_transform(beside)


def _mark(axes: Axes, x: float, mean: float, name: str, look: Mapping[str, Any], beside: Transform) -> None:
    """Mark a candidate, with its score in the legend."""
    axes.plot(x, mean, linestyle="none", label=f"{name}: {mean:.5g}", transform=beside, **look)
