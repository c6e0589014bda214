"""Plots of reconstructions, codes, training and searches, as matplotlib figures.

Every function returns a new `matplotlib.figure.Figure`. Nothing here uses pyplot or changes matplotlib's settings, so
plotting works the same in scripts, servers and threads; a notebook shows a figure that is the last value of a cell.
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
"""Ten colours that can be distinguished with colour-vision deficiencies, as can the first few (Petroff, 2021)."""

MARKERS = "osD^vPX*"
"""One marker for every ten classes, if there are more classes than colours."""

LINE_COLORS = tuple(color for color in PALETTE if color != PALETTE[2])
"""Colours of a search's lines; red marks its choice."""

NAMED_LINES = 8
"""Most lines of a search that have a colour and a name."""

NAMED_VALUES = 10
"""Most values that a logarithmic axis labels."""

DECADE = 10
"""An axis is logarithmic if the ratio of its largest to its smallest value is larger."""

SCORES = {
    "log_likelihood": "validation log-likelihood (nats per row)",
    "reconstruction": "minus the validation squared error per row",
}
"""Labels of the axis for the scores of a search."""

INK, GREY, PALE = "#222222", "#6b6b6b", "#e4e4e4"

BEST = {"marker": "o", "color": INK, "fillstyle": "none", "markersize": 13, "zorder": 4}
CHOSEN = {"marker": "*", "color": PALETTE[2], "markersize": 13, "markeredgecolor": "white", "zorder": 5}
"""Markers of a search's best candidate and of its choice."""


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
        Rows or images, and their reconstructions.
    shape : (height, width)
        Shape of one image, with height times width = d.
    baseline : array-like of shape (n, d) or (n, height, width), optional
        The reconstructions of another model, as a third row.
    names : sequence of str
        Labels of the rows of pictures.
    n_images : int, default 10
        Number of images; the first ones are shown.

    Returns
    -------
    Figure
        The figure. The label of each row of reconstructions has the mean squared error per image, over the images
        shown.

    Raises
    ------
    DataError
        If the arrays differ in shape, or do not have the shape given.

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
    for i, (row, stack) in enumerate(zip(grid, images, strict=True)):
        for axes, image in zip(row, stack, strict=True):
            axes.imshow(image, cmap="gray", vmin=images[0].min(), vmax=images[0].max(), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        label = names[i] if i == 0 else f"{names[i]}\nerror {errors[i]:.4g}"
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8, color=INK, fontsize=9)
    return figure


def plot_codes(codes: Any, labels: Any = None) -> Figure:
    """Draw codes as points in a plane, coloured by class.

    Codes of more than two components are projected onto their first two principal axes.

    Parameters
    ----------
    codes : array-like of shape (n, k)
        Codes, with k at least 2.
    labels : array-like of shape (n,), optional
        Classes.

    Returns
    -------
    Figure
        The figure. Each class is in the legend, and its name at the median of its codes.

    Raises
    ------
    DataError
        If there are fewer than two components, or another number of labels than codes.

    Examples
    --------
    >>> codes = np.random.default_rng(0).normal(size=(50, 3))
    >>> figure = plot_codes(codes, labels=["a", "b"] * 25)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['a', 'b']
    """
    points, axis_names = _plane(read(codes, "codes").array.astype(float))
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = _axes(figure, *axis_names)
    axes.grid(False)
    # Distances can be compared only if both axes have the same scale.
    axes.set_aspect("equal", adjustable="datalim")
    size = float(np.clip(3e4 / len(points), 4, 30))
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=size, c=PALETTE[0], alpha=0.7, linewidths=0)
        return figure
    labels = as_array(labels, "labels")
    if labels.shape != (len(points),):
        raise DataError("There must be one label for each code", got=f"{labels.shape} for {len(points)} codes")
    classes = np.unique(labels)
    for number, name in enumerate(classes):
        color, marker = PALETTE[number % len(PALETTE)], MARKERS[number // len(PALETTE) % len(MARKERS)]
        x, y = points[labels == name].T
        axes.scatter(x, y, s=size, c=color, marker=marker, alpha=0.7, linewidths=0, label=str(name))
        _draw_name(axes, float(np.median(x)), float(np.median(y)), str(name))
    legend = figure.legend(loc="outside right center", frameon=False, handletextpad=0.1, labelcolor=INK)
    for handle in legend.legend_handles:
        handle.set(alpha=1, sizes=[40])  # type: ignore[union-attr]
    return figure


def plot_history(model: BaseAutoencoder) -> Figure:
    """Draw the objective by epoch, on the training rows and on the validation rows, and that of the linear baseline.

    The objective is far higher in the first epochs after a random start; the axis leaves these out, so that the rest
    of the curve can be seen.

    Parameters
    ----------
    model : estimator
        A fitted autoencoder.

    Returns
    -------
    Figure
        The figure, with a mark at the epoch whose weights were kept. Without validation rows, the second curve is the
        objective on the training rows after each epoch.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import Autoencoder
    >>> model = Autoencoder(n_components=2, max_epochs=5, random_state=0).fit(load_wine().data)
    >>> plot_history(model).axes[0].get_xlabel()
    'epoch'
    """
    x, unit = np.array([row["epoch"] for row in model.history_]), "epoch"
    if len(set(x.tolist())) < len(x):  # evaluated several times in an epoch
        x, unit = np.array([row["rows"] for row in model.history_]), "rows seen"
    after = np.array([row.get("validation_objective", np.nan) for row in model.history_])
    during = np.array([row.get("training_objective", np.nan) for row in model.history_])
    levels = [] if model.baseline_ is None else [model.baseline_.history_[0]["validation_objective"]]
    best = int(np.nanargmin(after)) if np.isfinite(after).any() else len(after) - 1
    rows = "validation rows" if model.validation_fraction > 0 else "training rows"
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = _axes(figure, unit, "objective (nats per row, scaled units)")
    for level in levels:
        axes.axhline(level, color=GREY, linestyle=(0, (4, 2)), linewidth=1.2, label=f"linear baseline: {level:.4g}")
    if np.isfinite(during).any():
        is_epoch = np.isfinite(during)  # the start is before the first epoch
        label = "training rows, during the epoch"
        axes.plot(x[is_epoch], during[is_epoch], color=PALETTE[1], linewidth=1.5, label=label)
        if np.isfinite(after).any():  # a stream is not evaluated
            axes.plot(x, after, color=PALETTE[0], linewidth=2, label=f"{rows}, after the epoch")
    kept = f"kept: epoch {model.best_epoch_}, {model.best_objective_:.4g}"
    style: dict[str, Any] = {"color": PALETTE[2], "markersize": 7, "markeredgecolor": "white", "zorder": 5}
    axes.plot(x[best], model.best_objective_, "o", label=kept, **style)
    axes.set_ylim(_readable_limits(np.concatenate([after[len(after) // 4 :], during[len(during) // 4 :], levels])))
    axes.set_xlim(-0.02 * max(x[-1], 10), x[-1] + 0.02 * max(x[-1], 10))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def plot_sizes(model: BaseAutoencoder, X: Any, *, scaled: bool = False) -> Figure:
    """Draw the error of an ordered code against the number of components used, and that of the linear baseline.

    Parameters
    ----------
    model : fitted autoencoder
        A model with an ordered code (``ordered=True``), or a linear one that was solved exactly.
    X : array-like of shape (n, d)
        Rows to reconstruct, preferably not those of the fit.
    scaled : bool, default False
        Whether errors are in the model's scaled units.

    Returns
    -------
    matplotlib.figure.Figure
        Mean squared error per row against 1, 2, ... components.

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
    axes = _axes(figure, "components used", "squared error per row")
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
    """Draw the validation scores of a search, with their standard errors, against the parameter with the most values.

    Each combination of the other parameters that vary is a line. Of more than eight lines, those with the lowest best
    scores are grey; the line of the choice is always coloured.

    Parameters
    ----------
    search : fitted AutoencoderSearch
        The search, with or without ``refit``.

    Returns
    -------
    Figure
        The figure. A ring marks the best candidate, a star the chosen one; the dashed line is one standard error
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
    x_axis, lines = _lines_of(search)
    figure = Figure(figsize=(6.4, 4.0), dpi=200, layout="constrained")
    axes = _axes(figure, x_axis.name, SCORES.get(search.scoring, "validation score"))  # type: ignore[arg-type]
    _set_ticks(axes, x_axis)
    best, chosen = int(np.nanargmax(means)), search.best_index_
    line_scores = {name: np.nan_to_num(means[index], nan=-np.inf).max() for name, index in lines.items()}
    ranked = sorted(lines, key=lambda name: (chosen not in lines[name], -line_scores[name]))
    colors = dict(zip([name for name in lines if name in ranked[:NAMED_LINES]], LINE_COLORS, strict=False))
    for number, (name, index) in enumerate(lines.items()):
        offset = _offset(figure, axes, number, len(lines))
        style = {"color": colors[name], "label": name} if name in colors else {"color": PALE, "zorder": 1}
        _draw_line(axes, x_axis.x[index], means[index], errors[index], offset, **style)
        if best in index:
            _mark(axes, x_axis.x[best], means[best], "best", BEST, offset)
        if chosen in index:
            _mark(axes, x_axis.x[chosen], means[chosen], "chosen", CHOSEN, offset)
    label = "one standard error below the best"
    axes.axhline(means[best] - errors[best], color=GREY, linestyle=(0, (4, 2)), linewidth=1.2, zorder=1.5, label=label)
    # In the legend, the marks come after the lines.
    named = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda pair: isinstance(pair[0], Line2D))
    axes.legend(*zip(*named, strict=True), frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _as_images(stacks: Sequence[Any], shape: tuple[int, int]) -> np.ndarray:
    """Several arrays of rows or images as one array of images, shape (arrays, n, height, width)."""
    arrays = [read(stack, "images").array.astype(float) for stack in stacks]
    expected = (len(arrays[0]), shape[0] * shape[1])
    for array in arrays:
        if array.shape not in (expected, (expected[0], *shape)):
            raise DataError(f"Rows of images of shape {shape} must form arrays of {expected}", got=f"{array.shape}")
    return np.stack([array.reshape(-1, *shape) for array in arrays])


def _plane(codes: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Codes projected onto a plane, shape (n, 2), and the names of its axes."""
    if codes.ndim != 2 or codes.shape[1] < 2:
        raise DataError("A plot of codes needs at least two components", got=f"the shape {codes.shape}")
    if codes.shape[1] == 2:
        return codes, ["code 1", "code 2"]
    centred = codes - codes.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    shares = singular[:2] ** 2 / max((singular**2).sum(), np.finfo(float).tiny)
    # The largest entry of each axis is positive, so that the plot is the same on every machine.
    largest = directions[:2, :][[0, 1], np.abs(directions[:2]).argmax(1)]
    directions = directions[:2] * np.where(largest < 0, -1.0, 1.0)[:, None]
    names = [f"{nth} principal axis of the {codes.shape[1]} codes" for nth in ("first", "second")]
    return centred @ directions.T, [f"{name} ({share:.0%})" for name, share in zip(names, shares, strict=True)]


def _readable_limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of an axis that shows these values, with a margin."""
    values = values[np.isfinite(values)]
    margin = 0.06 * (values.max() - values.min()) or 1.0
    return float(values.min() - margin), float(values.max() + 2 * margin)


def _axes(figure: Figure, x_name: str, y_name: str) -> Axes:
    """Axes with a pale grid, and without lines at the top and right."""
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(GREY)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_name, color=INK)
    axes.set_ylabel(y_name, color=INK)
    return axes


def _draw_name(axes: Axes, x: float, y: float, name: str) -> None:
    """Draw a class's name over its codes, so that classes are distinguished by more than their colours."""
    rim = [withStroke(linewidth=3, foreground="white")]
    axes.text(x, y, name, color=INK, fontsize=12, weight="bold", ha="center", va="center", path_effects=rim)


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


def _offset(figure: Figure, axes: Axes, number: int, n_lines: int) -> Transform:
    """A transform that moves a line sideways by a few points, so that errors at the same value do not overlap."""
    points = 3.0 * (number - (n_lines - 1) / 2) if n_lines <= NAMED_LINES else 0.0
    return offset_copy(axes.transData, figure, x=points, units="points")


def _draw_line(
    axes: Axes, x: np.ndarray, means: np.ndarray, errors: np.ndarray, offset: Transform, **style: Any
) -> None:
    """Draw means with a line, and bars of one standard error up and down."""
    drawn = axes.errorbar(
        x, means, yerr=errors, linewidth=1.8, marker="o", markersize=4, capsize=3, elinewidth=1.2, **style
    )
    # Set afterwards, since the limits of the axes take account only of what is drawn in data coordinates.
    for artist in drawn.get_children():
        artist.set_transform(offset)


def _mark(axes: Axes, x: float, mean: float, name: str, style: Mapping[str, Any], offset: Transform) -> None:
    """Mark a candidate, with its score in the legend."""
    axes.plot(x, mean, linestyle="none", label=f"{name}: {mean:.5g}", transform=offset, **style)
