"""Plots of reconstructions, codes, training, and sizes of an ordered code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke

from eigencode.data.containers import as_array, read
from eigencode.errors import DataError
from eigencode.plots.style import GREY, INK, MARKERS, PALETTE, axes_of, count_and_name

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder


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

    All images share one grey scale, black at the lowest value of the originals and white at the highest. The label of
    each row of reconstructions has the mean squared error per image, over the images shown.

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

    Codes of more than two components are projected onto their first two principal axes. Each class is in the legend,
    and its name at the median of its codes.

    Parameters
    ----------
    codes : array-like of shape (n, k)
        Codes, with k at least 2.
    labels : array-like of shape (n,), optional
        Classes.

    Examples
    --------
    >>> codes = np.random.default_rng(0).normal(size=(50, 3))
    >>> figure = plot_codes(codes, labels=["a", "b"] * 25)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['a', 'b']
    """
    points, axis_names = _plane(read(codes, "codes").array.astype(float))
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = axes_of(figure, *axis_names)
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

    A mark is at the epoch whose weights were kept. Without validation rows, the second curve is the objective on the
    training rows after each epoch. If there are several evaluations an epoch, the horizontal axis is the number of rows
    seen. The objective is far higher in the first epochs after a random start; the axis leaves these out.

    Parameters
    ----------
    model : estimator
        A fitted autoencoder.

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
    # A stream keeps its last weights.
    is_stream = hasattr(model, "stream_state_")
    best = len(after) - 1 if is_stream or not np.isfinite(after).any() else int(np.nanargmin(after))
    rows = "validation rows" if model._has_validation else "training rows"
    is_by_epoch = unit == "epoch"
    times = (
        ("during the epoch", "after the epoch") if is_by_epoch else ("since the last evaluation", "at the evaluation")
    )
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = axes_of(figure, unit, "objective (nats per row, scaled units)")
    for level in levels:
        axes.axhline(level, color=GREY, linestyle=(0, (4, 2)), linewidth=1.2, label=f"linear baseline: {level:.4g}")
    if np.isfinite(during).any():
        is_epoch = np.isfinite(during)  # the start is before the first epoch
        label = f"training rows, {times[0]}"
        axes.plot(x[is_epoch], during[is_epoch], color=PALETTE[1], linewidth=1.5, label=label)
        if np.isfinite(after).any():  # a stream is not evaluated
            axes.plot(x, after, color=PALETTE[0], linewidth=2, label=f"{rows}, {times[1]}")
    kept = f"kept: epoch {model.best_epoch_}, {model.best_objective_:.4g}"
    style: dict[str, Any] = {"color": PALETTE[2], "markersize": 7, "markeredgecolor": "white", "zorder": 5}
    axes.plot(x[best], model.best_objective_, "o", label=kept, **style)
    axes.set_ylim(_readable_limits(np.concatenate([after[len(after) // 4 :], during[len(during) // 4 :], levels])))
    axes.set_xlim(-0.02 * max(x[-1], 10), x[-1] + 0.02 * max(x[-1], 10))
    count_and_name(axes)
    return figure


def plot_sizes(model: BaseAutoencoder, X: Any, *, scaled: bool = False) -> Figure:
    """Draw the mean squared error per row against 1, 2, ... components of an ordered code, and the linear baseline's.

    Parameters
    ----------
    model : fitted autoencoder
        A model with an ordered code (``ordered=True``), or a linear one that was solved exactly.
    X : array-like of shape (n, d)
        Rows to reconstruct, preferably not those of the fit.
    scaled : bool, default False
        Whether errors are in the model's scaled units.

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
    axes = axes_of(figure, "components used", "squared error per row")
    sizes = np.arange(1, model.n_components_ + 1)
    if model.baseline_ is not None:
        errors = model.baseline_.reconstruction_error_by_size(X, scaled=scaled)
        axes.plot(sizes, errors, color=GREY, linestyle="--", marker="o", markersize=4, label="linear baseline")
    errors = model.reconstruction_error_by_size(X, scaled=scaled)
    axes.plot(sizes, errors, color=PALETTE[0], linewidth=2, marker="o", markersize=5, label=type(model).__name__)
    axes.set_ylim(bottom=0)
    count_and_name(axes)
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


def _draw_name(axes: Axes, x: float, y: float, name: str) -> None:
    """Draw a class's name over its codes, so that classes are distinguished by more than their colours."""
    rim = [withStroke(linewidth=3, foreground="white")]
    axes.text(x, y, name, color=INK, fontsize=12, weight="bold", ha="center", va="center", path_effects=rim)
