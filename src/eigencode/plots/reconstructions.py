"""Displays of rows and images: reconstructions, denoising, samples, traversals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes

from eigencode.data.containers import read
from eigencode.data.named_files import opened
from eigencode.errors import DataError, OptionError
from eigencode.lazy import torch
from eigencode.plots.display import GREY, INK, PALETTE, Display, legend, shortened, style
from eigencode.report.columns import Column, columns
from eigencode.report.findings import Findings, plane_of

DEVIATIONS = np.linspace(-2, 2, 9)
"""Values of a component on a traversal, in standard deviations."""


class Images(Display):
    """Lines of images, each with a name, in one picture.

    Attributes
    ----------
    images : dict of str to ndarray of shape (n, h, w) or (n, h, w, 3)
        The lines.
    limits : tuple of float
        What is black and what is white.
    """

    images: Mapping[str, np.ndarray]
    limits: tuple[float, float] | None

    @property
    def size(self) -> tuple[float, float]:  # type: ignore[override]
        """Inches of a figure of its own."""
        first = next(iter(self.images.values()))
        if first.ndim == 2:
            return 6.4, 4.8
        n, height, width = first.shape[:3]
        return 0.75 * n + 1.8, 0.75 * height / width * len(self.images) + 0.2

    def _draw_images(self, ax: Axes) -> None:
        lines = list(self.images.values())
        low, high = self.limits or (float(lines[0].min()), float(lines[0].max()))
        step = lines[0].shape[1] + 2
        framed = [[_framed((image - low) / (high - low or 1.0)) for image in line] for line in lines]
        ax.imshow(np.concatenate([np.concatenate(line, 1) for line in framed]), cmap="gray", vmin=0, vmax=1)
        ax.set_yticks([(number + 0.5) * step for number in range(len(lines))], self._line_names(), color=INK)
        ax.set_xticks([])
        ax.tick_params(length=0, labelsize=9)
        ax.spines[:].set_visible(False)
        ax.set_anchor("W")  # the layout leaves room for names beside images that begin where the axes do

    def _line_names(self) -> list[str]:
        """What each line is called."""
        return list(self.images)


def _framed(image: np.ndarray) -> np.ndarray:
    """An image of numbers from 0 to 1, with a white line around it."""
    return np.pad(image.clip(0, 1), [(1, 1), (1, 1), *[(0, 0)] * (image.ndim - 2)], constant_values=1.0)


@dataclass(eq=False, repr=False)
class ReconstructionDisplay(Images):
    r"""Images above their reconstructions, or numbers of rows beside what is expected of them.

    Images share one grey scale. The name of each line of reconstructions has the mean squared error per image, over the
    images shown. Of rows, each cell of a column of numbers is a point, in the column's standard deviations.

    Parameters
    ----------
    images : dict of str to ndarray of shape (n, h, w), (n, h, w, 3) or (n, d)
        Originals, then reconstructions of one model or of several; rows have columns in standard deviations.
    limits : tuple of float, optional
        What is black and what is white; by default, the lowest and the highest value of the originals.

    Examples
    --------
    >>> rows = np.random.default_rng(0).random((4, 64))
    >>> display = ReconstructionDisplay.from_predictions(
    ...     rows, {"model": rows + 0.5}, shape=(8, 8)
    ... )
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['original', 'model\nerror 16']
    """

    images: Mapping[str, np.ndarray]
    limits: tuple[float, float] | None = None

    @classmethod
    def from_estimator(
        cls, model: Any, X: Any, *, n_images: int = 10, baseline: bool = True, ax: Axes | None = None
    ) -> Self:
        """Draw what a fitted model makes of rows or images, and what its linear baseline does.

        Parameters
        ----------
        model : estimator
            A fitted model.
        X : array-like of shape (n, d), or images
            Rows; of images, the first ones are shown.
        n_images : int, default 10
            Number of images.
        baseline : bool, default True
            Whether to draw the linear baseline's reconstructions, if it has one.
        ax : matplotlib Axes, optional
            Where to draw; by default, on a new figure.
        """
        found = Findings(model, _first(model, X, n_images))
        others = {type(found.model).__name__: found.rebuilt}
        if baseline and found.model.baseline_ is not None:
            others["linear baseline"] = found.model.baseline_.reconstruct(found.rows)
        return cls(*_pictured(found, {"original": found.rows, **others})).plot(ax)

    @classmethod
    def from_predictions(
        cls, originals: Any, reconstructions: Mapping[str, Any], *, shape: tuple[int, int], ax: Axes | None = None
    ) -> Self:
        """Draw rows of pixels and reconstructions of them, by name, as images of shape (height, width)."""
        arrays = {"original": originals, **reconstructions}
        rows = {name: read(array, "images").array.astype(float) for name, array in arrays.items()}
        expected = (len(rows["original"]), shape[0] * shape[1])
        for array in rows.values():
            if array.shape not in (expected, (expected[0], *shape)):
                raise DataError(f"Rows of images of shape {shape} must form arrays of {expected}", got=f"{array.shape}")
        return cls({name: array.reshape(-1, *shape) for name, array in rows.items()}).plot(ax)

    @property
    def errors(self) -> dict[str, float]:
        """The mean squared error of each line, summed over the pixels or columns."""
        first = next(iter(self.images.values()))
        return {
            name: float(np.nansum(np.square(line - first).reshape(len(line), -1), axis=1).mean())
            for name, line in self.images.items()
        }

    def _line_names(self) -> list[str]:
        first, *others = self.errors.items()
        return [first[0], *(f"{name}\nerror {error:.4g}" for name, error in others)]

    def _draw(self, ax: Axes) -> None:
        first, *others = self.images.values()
        if first.ndim > 2:
            self._draw_images(ax)
            return
        style(ax, "observed (standard deviations from the mean)", "expected")
        for number, (line, label) in enumerate(zip(others[::-1], self._line_names()[:0:-1], strict=True)):
            some = np.random.default_rng(0).permutation(first.size)[:5000]
            color = PALETTE[len(others) - 1 - number]
            label = label.replace("\n", ": ") + " a row"
            ax.scatter(first.ravel()[some], line.ravel()[some], s=6, color=color, alpha=0.5, linewidths=0, label=label)
        ends = np.nanmin(first), np.nanmax(first)
        ax.plot(ends, ends, color=GREY, linestyle="--", linewidth=1.2)
        legend(ax, markerscale=3)


@dataclass(eq=False, repr=False)
class DenoisingDisplay(ReconstructionDisplay):
    """As `ReconstructionDisplay`, with damaged copies of the rows or images, which are what is reconstructed.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from eigencode import DenoisingAutoencoder
    >>> images = load_digits().images
    >>> model = DenoisingAutoencoder(
    ...     4, max_epochs=1, image_shape="auto", random_state=0
    ... ).fit(images)
    >>> list(DenoisingDisplay.from_estimator(model, images).images)
    ['original', 'damaged', 'DenoisingAutoencoder']
    """

    @classmethod
    def from_estimator(  # type: ignore[override]
        cls, model: Any, X: Any, *, corruption: Any = None, n_images: int = 10, ax: Axes | None = None
    ) -> Self:
        """Draw what a fitted model makes of damaged rows or images.

        Parameters
        ----------
        model : estimator
            A fitted model.
        X : array-like of shape (n, d), or images
            Rows without damage.
        corruption : Corruption, optional
            What damages the scaled rows; by default, what did so in training.
        n_images : int, default 10
            Number of images.
        ax : matplotlib Axes, optional
            Where to draw; by default, on a new figure.
        """
        found = Findings(model, _first(model, X, n_images))
        damaged = _damaged(found, corruption or found.model.composition_.corruption)
        rebuilt = found.model.reconstruct(damaged)
        lines = {"original": found.rows, "damaged": damaged, type(found.model).__name__: rebuilt}
        return cls(*_pictured(found, lines)).plot(ax)


def _first(model: Any, X: Any, n_images: int) -> Any:
    """The first images of a model of images, all rows of another."""
    rows = opened(X)
    return rows[:n_images] if getattr(getattr(model, "autoencoder_", model), "image_shape_", None) else rows


def _damaged(found: Findings, corruption: Any) -> Any:
    """Damaged rows in the form of those given, always the same."""
    if corruption is None:
        what, hint = "This model was trained without damaged rows", "Give one, as corruption=GaussianNoise(0.5)"
        raise OptionError(what, got="no corruption", hint=hint)
    model, generator = found.model, torch.Generator().manual_seed(0)
    scaled = torch.from_numpy(np.asarray(model.scaler_.transform(found.cells), dtype=np.float64))
    noise = corruption.draw_noise(*scaled.shape, generator)
    with torch.inference_mode():
        cells = model.scaler_.inverse_transform(corruption.cpu()(scaled, noise).numpy())
    return cells if model.columns_ is None else model.columns_.decode(cells, found.rows)


def _pictured(found: Findings, lines: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], tuple[float, float] | None]:
    """Images of each line, with what is black and white; or columns of numbers in standard deviations."""
    if found.is_image:
        return {name: found.images(rows) for name, rows in lines.items()}, found.model.pixel_range_
    return {name: _standardised(columns(rows, found.model), found.given) for name, rows in lines.items()}, None


def _standardised(some: Sequence[Column], given: Sequence[Column]) -> np.ndarray:
    """Columns of numbers in the standard deviations of those given, from their means, shape (n, d)."""
    pairs = [pair for pair in zip(some, given, strict=True) if pair[1].is_number]
    if not pairs:
        raise DataError("Only columns of numbers are drawn", got="none")
    return np.stack([(one.values - own.usual) / (np.nanstd(own.values) or 1.0) for one, own in pairs], axis=1)


@dataclass(eq=False, repr=False)
class SampleDisplay(Images):
    """Images drawn from a model; or rows drawn, among those given, in the plane of their principal axes.

    Parameters
    ----------
    drawn : ndarray of shape (n, h, w), (n, h, w, 3) or (n, d)
        Images, or rows with columns in standard deviations.
    given : ndarray of shape (m, d), optional
        Rows to compare those drawn with.
    limits : tuple of float, optional
        What is black and what is white.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import VariationalAutoencoder
    >>> X = load_wine().data
    >>> model = VariationalAutoencoder(2, max_epochs=5, random_state=0).fit(X)
    >>> SampleDisplay.from_estimator(model, X).drawn.shape
    (178, 13)
    """

    drawn: np.ndarray
    given: np.ndarray | None = None
    limits: tuple[float, float] | None = None

    @classmethod
    def from_estimator(cls, model: Any, X: Any, *, n_images: int = 40, ax: Axes | None = None) -> Self:
        """Draw from a fitted model: so many images; or as many rows as are given, of which 2,000 at most are shown."""
        found = Findings(model, X)
        n = n_images if found.is_image else min(len(found.rows), 2000)
        rows = found.model.sample(n, random_state=0)
        if found.is_image:
            return cls(found.images(rows), None, found.model.pixel_range_).plot(ax)
        given = _standardised(found.given, found.given)[:n]
        return cls(_standardised(columns(rows, found.model), found.given), given).plot(ax)

    @property
    def images(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """Images in lines of ten, or the rows."""
        n = len(self.drawn)
        if self.given is not None or n <= 10:
            return {"": self.drawn}
        padding = [(0, -n % 10), *[(0, 0)] * (self.drawn.ndim - 1)]
        padded = np.pad(self.drawn.astype(float), padding, constant_values=np.inf)  # the last line ends in white
        return {" " * i: padded[i : i + 10] for i in range(0, n, 10)}

    def _draw(self, ax: Axes) -> None:
        if self.given is None:
            self._draw_images(ax)
            return
        n = len(self.given)
        plane, names = plane_of(np.nan_to_num(np.concatenate([self.given, self.drawn])), "column")
        style(ax, *names)
        for points, color, label in ((plane[:n], GREY, "given"), (plane[n:], PALETTE[0], "drawn")):
            ax.scatter(points[:, 0], points[:, 1], s=10, color=color, alpha=0.5, linewidths=0, label=label)
        legend(ax, markerscale=2)


@dataclass(eq=False, repr=False)
class TraversalDisplay(Images):
    """What is decoded when one component changes and the others stay at their means.

    Of images, each line is a component; of rows, each curve is a column of numbers, for one component.

    Parameters
    ----------
    images : dict of str to ndarray of shape (m, h, w), (m, h, w, 3) or (m, d)
        What is decoded, by the component's name.
    names : list of str
        The columns.
    limits : tuple of float, optional
        What is black and what is white.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import LinearAutoencoder
    >>> X = load_wine().data
    >>> display = TraversalDisplay.from_estimator(
    ...     LinearAutoencoder(2).fit(X), X, components=[1]
    ... )
    >>> {name: rows.shape for name, rows in display.images.items()}
    {'component 2': (9, 13)}
    """

    images: Mapping[str, np.ndarray]
    names: list[str]
    limits: tuple[float, float] | None = None

    @classmethod
    def from_estimator(
        cls, model: Any, X: Any, *, components: Sequence[int] | None = None, ax: Axes | None = None
    ) -> Self:
        """Draw some components, numbered from 0; by default those with the largest effect: one, of images eight."""
        found = Findings(model, X)
        chosen = found.ranked[: 8 if found.is_image else 1].tolist() if components is None else components
        lines, k = {}, found.codes.shape[1]
        for j in chosen:
            if not 0 <= j < k:
                raise OptionError(f"Components are numbered from 0 to {k - 1}", got=repr(j))
            codes = np.repeat(found.codes.mean(0)[None], len(DEVIATIONS), axis=0)
            codes[:, j] += DEVIATIONS * found.spreads[j]
            lines[f"component {j + 1}"] = found.decoded(codes)
        names = [column.name for column in found.given if column.is_number]
        pictured, limits = _pictured(found, lines)
        return cls(pictured, names, limits).plot(ax)

    def _draw(self, ax: Axes) -> None:
        (name, first), *_ = self.images.items()
        if first.ndim > 2:
            self._draw_images(ax)
            return
        style(ax, f"{name} (standard deviations from the mean)", "decoded (standard deviations)")
        moved = np.argsort(-np.ptp(first, axis=0), kind="stable")[: len(PALETTE)]
        for number, j in enumerate(moved):
            ax.plot(DEVIATIONS, first[:, j], color=PALETTE[number], label=shortened(self.names[j], 24), linewidth=1.8)
        legend(ax, loc="center left", bbox_to_anchor=(1, 0.5))
