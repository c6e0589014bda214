"""Displays of codes and components: the map of codes, units, what drives each component, the spectrum of Jacobians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from eigencode.data.containers import as_array, read
from eigencode.errors import DataError, OptionError
from eigencode.plots.display import GREY, INK, MARKERS, PALETTE, Display, count, shortened, style
from eigencode.report.findings import Findings, plane_of
from eigencode.words import percent

MOST_TICKS = 12
"""Components whose numbers have room beside each other on an axis."""

MOST_SHOWN = 30
"""Components and columns of a picture."""


@dataclass(eq=False, repr=False)
class CodeDisplay(Display):
    """Codes as points in a plane, coloured by class.

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
    >>> display = CodeDisplay(codes, labels=["a", "b"] * 25).plot()
    >>> [text.get_text() for text in display.ax_.get_legend().get_texts()]
    ['a', 'b']
    """

    codes: Any
    labels: Any = None
    size = (6.4, 5.2)

    def __post_init__(self) -> None:
        self.codes = read(self.codes, "codes").array.astype(float)
        if self.codes.ndim != 2 or self.codes.shape[1] < 2:
            raise DataError("A plot of codes needs at least two components", got=f"the shape {self.codes.shape}")
        if self.labels is not None:
            self.labels = as_array(self.labels, "labels")
            if (given := self.labels.shape) != (n := len(self.codes),):
                raise DataError("There must be one label for each code", got=f"{given} for {n} codes")

    @classmethod
    def from_estimator(cls, model: Any, X: Any, y: Any = None, *, ax: Axes | None = None) -> Self:
        """Draw the codes of rows, coloured by the classes y, if they are given."""
        found = Findings(model, X, y)
        return cls(found.codes, found.y).plot(ax)

    def _draw(self, ax: Axes) -> None:
        points, names = plane_of(self.codes)
        style(ax, *names)
        ax.grid(False)
        # Distances can be compared only if both axes have the same scale.
        ax.set_aspect("equal", adjustable="datalim")
        size = float(np.clip(3e4 / len(points), 4, 30))
        classes = [None] if self.labels is None else np.unique(self.labels)
        for number, name in enumerate(classes):
            own = points if name is None else points[self.labels == name]
            color, marker = PALETTE[number % len(PALETTE)], MARKERS[number // len(PALETTE) % len(MARKERS)]
            ax.scatter(own[:, 0], own[:, 1], s=size, c=color, marker=marker, alpha=0.7, linewidths=0, label=str(name))
            if name is not None:
                x, y = np.median(own, axis=0)
                _draw_name(ax, x, y, str(name))
        if self.labels is not None:
            options: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "handletextpad": 0.1}
            for handle in ax.legend(frameon=False, labelcolor=INK, **options).legend_handles:
                handle.set(alpha=1, sizes=[40])  # type: ignore[union-attr]


def _draw_name(ax: Axes, x: float, y: float, name: str) -> None:
    """Draw a class's name over its codes, so that classes are distinguished by more than their colours."""
    rim = [withStroke(linewidth=3, foreground="white")]
    ax.text(x, y, name, color=INK, fontsize=12, weight="bold", ha="center", va="center", path_effects=rim)


@dataclass(eq=False, repr=False)
class UnitDisplay(Display):
    """The distribution of each component over rows, and how often it is active.

    A box is the middle half of the rows, with a line at the median; the thin line has 98 % of them. Below a component
    that is 0 for some rows is the share of rows for which it is not. Components that never change are red.

    Parameters
    ----------
    codes : ndarray of shape (n, k)
        Codes of rows.
    dead : ndarray of bool of shape (k,)
        Which components never change.

    Examples
    --------
    >>> codes = np.random.default_rng(0).normal(size=(50, 3)).clip(0)
    >>> display = UnitDisplay(codes, np.zeros(3, bool)).plot()
    >>> display.activity.round(1)
    array([0.5, 0.5, 0.7])
    """

    codes: np.ndarray
    dead: np.ndarray

    @classmethod
    def from_estimator(cls, model: Any, X: Any, *, ax: Axes | None = None) -> Self:
        """Draw the components of a fitted model at rows; of many, the first 30."""
        found = Findings(model, X)
        return cls(found.codes, found.dead).plot(ax)

    @property
    def activity(self) -> np.ndarray:
        """The share of rows for which each component is not 0, shape (k,)."""
        found: np.ndarray = (self.codes != 0).mean(0)
        return found

    def _draw(self, ax: Axes) -> None:
        style(ax, "component", "value")
        shown = range(min(self.codes.shape[1], MOST_SHOWN))
        boxes = ax.boxplot(
            self.codes[:, : len(shown)], positions=[j + 1 for j in shown], whis=(1, 99), showfliers=False,
            patch_artist=True, medianprops={"color": INK}, boxprops={"facecolor": PALETTE[0], "linewidth": 0},
        )  # fmt: skip
        for j in np.flatnonzero(self.dead[: len(shown)]):
            boxes["medians"][j].set(color=PALETTE[2], linewidth=3)
        shares = [f"\n{percent(share)}" if share < 1 else "" for share in self.activity]
        ticks = shown[:: 1 + len(shown) // MOST_TICKS]
        ax.set_xticks([j + 1 for j in ticks], [f"{j + 1}{shares[j]}" for j in ticks])
        ax.grid(False, axis="x")


@dataclass(eq=False, repr=False)
class ComponentDisplay(Display):
    """Which columns go with each component.

    Parameters
    ----------
    values : ndarray of shape (d, k)
        A number for each column and component.
    names : list of str
        The columns.
    label : str
        What the numbers are.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import LinearAutoencoder
    >>> X = load_wine().data
    >>> ComponentDisplay.from_estimator(LinearAutoencoder(2).fit(X), X).values.shape
    (13, 2)
    """

    values: np.ndarray
    names: list[str]
    label: str

    @property
    def size(self) -> tuple[float, float]:  # type: ignore[override]
        """Inches of a figure of its own."""
        d, k = (min(n, MOST_SHOWN) for n in self.values.shape)
        return 3.4 + 0.45 * k, 1.2 + 0.25 * d

    @classmethod
    def from_estimator(cls, model: Any, X: Any, *, by: str = "decoder", ax: Axes | None = None) -> Self:
        """Draw the columns of a fitted model.

        Parameters
        ----------
        model : estimator
            A fitted model.
        X : array-like of shape (n, d)
            Rows.
        by : {'decoder', 'encoder'}
            'decoder': how far each column moves, in its standard deviations, when the component goes from one deviation
            below its mean to one above. 'encoder': the correlation of each column of numbers with the component.
        ax : matplotlib Axes, optional
            Where to draw; by default, on a new figure.
        """
        found = Findings(model, X)
        names = [column.name for column in found.given]
        if by not in ("decoder", "encoder"):
            raise OptionError("by is 'decoder' or 'encoder'", got=repr(by))
        if by == "decoder":
            return cls(found.effects, names, "movement, standard deviations").plot(ax)
        rows = np.flatnonzero(np.isfinite(found.correlations).any(axis=1))
        if not len(rows):
            raise DataError("no column has a correlation: all are labels or constant", hint="by='decoder'")
        return cls(found.correlations[rows], [names[row] for row in rows], "correlation").plot(ax)

    def _draw(self, ax: Axes) -> None:
        style(ax, "component", "")
        strongest = np.nan_to_num(np.abs(self.values)).max(1)
        rows = np.sort(np.argsort(-strongest, kind="stable")[:MOST_SHOWN])
        shown = self.values[rows, :MOST_SHOWN]
        is_signed = bool((np.nan_to_num(shown) < 0).any())
        high = float(np.nan_to_num(np.abs(shown)).max(initial=1e-12))
        image = ax.imshow(shown, "RdBu" if is_signed else "Blues", vmin=-high * is_signed, vmax=high, aspect="auto")
        ax.set_yticks(range(len(rows)), [shortened(self.names[row]) for row in rows])
        ticks = range(0, shown.shape[1], 1 + shown.shape[1] // MOST_TICKS)
        ax.set_xticks(ticks, [str(j + 1) for j in ticks])
        ax.grid(False)
        ax.figure.colorbar(image, ax=ax, label=self.label)


@dataclass(eq=False, repr=False)
class JacobianDisplay(Display):
    """The singular values of the encoder's Jacobian: how much the code changes for small changes of the row.

    Parameters
    ----------
    singular_values : ndarray of shape (m, r)
        Those at m rows, the largest first.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import Autoencoder
    >>> X = load_wine().data
    >>> model = Autoencoder(n_components=2, max_epochs=5, random_state=0).fit(X)
    >>> JacobianDisplay.from_estimator(model, X).singular_values.shape
    (100, 2)
    """

    singular_values: np.ndarray

    @classmethod
    def from_estimator(cls, model: Any, X: Any, *, ax: Axes | None = None) -> Self:
        """Draw the singular values of a fitted model at rows, in scaled units; at most 100 rows without gaps."""
        values = Findings(model, X).singular_values
        if values is None:
            raise DataError("The Jacobian needs rows without gaps, of not too many columns", got="none")
        return cls(values).plot(ax)

    def _draw(self, ax: Axes) -> None:
        style(ax, "direction", "singular value")
        low, middle, high = np.quantile(self.singular_values, [0.25, 0.5, 0.75], axis=0)
        x = np.arange(1, len(middle) + 1)
        ax.vlines(x, low, high, color=PALETTE[0], alpha=0.35, linewidth=8)
        ax.plot(x, middle, "o", color=PALETTE[0], label="median, and middle half of the rows")
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.set_xlim(0.5, len(x) + 0.5)
        ax.legend(frameon=False, fontsize=9, labelcolor=INK)
        count(ax)
