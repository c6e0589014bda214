"""Displays of the training, and of the error against the size of the code."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes

from eigencode.errors import OptionError
from eigencode.plots.display import GREY, LEVEL, PALETTE, Display, count, legend, style
from eigencode.report.charts import readable_limits, terms_beside_kept
from eigencode.report.findings import Findings
from eigencode.report.subjects import autoencoder_of

KEPT: dict[str, Any] = {"color": PALETTE[2], "markersize": 7, "markeredgecolor": "white", "zorder": 5}


@dataclass(eq=False, repr=False)
class TrainingDisplay(Display):
    """The objective by epoch, on the training rows and on the validation rows, and that of the linear baseline.

    A mark is at the epoch whose weights were kept. Without validation rows, the second curve is the objective on the
    training rows after each epoch. If there are several evaluations an epoch, the horizontal axis is the number of rows
    seen. The objective is far higher in the first epochs after a random start; the axis leaves these out.

    Parameters
    ----------
    history : list of dict
        As ``history_`` of a model.
    kept : tuple (epoch, objective)
        Those of the weights that were kept.
    baseline : float, optional
        The objective of the linear baseline.
    has_validation : bool
        Whether there are validation rows.
    is_stream : bool
        Whether the last weights are kept.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import Autoencoder
    >>> model = Autoencoder(n_components=2, max_epochs=5, random_state=0).fit(
    ...     load_wine().data
    ... )
    >>> TrainingDisplay.from_estimator(model).ax_.get_xlabel()
    'epoch'
    """

    history: list[dict[str, Any]]
    kept: tuple[int, float]
    baseline: float | None = None
    has_validation: bool = True
    is_stream: bool = False

    @classmethod
    def from_estimator(cls, model: Any, *, ax: Axes | None = None) -> Self:
        """Draw the training of a fitted model; of a detector or a supervised model, that of its autoencoder."""
        model = autoencoder_of(model)
        baseline = None if model.baseline_ is None else model.baseline_.history_[0]["validation_objective"]
        kept = model.best_epoch_, model.best_objective_
        return cls(model.history_, kept, baseline, model._has_validation, hasattr(model, "stream_state_")).plot(ax)

    def values(self, name: str) -> np.ndarray:
        """One number of each evaluation, NaN where it was not computed."""
        return np.array([row.get(name, np.nan) for row in self.history])

    def _draw(self, ax: Axes) -> None:
        x, unit, times = self.values("epoch"), "epoch", ("during the epoch", "after the epoch")
        if len(np.unique(x)) < len(x):  # evaluated several times in an epoch
            x, unit, times = self.values("rows"), "rows seen", ("since the last evaluation", "at the evaluation")
        after, during = self.values("validation_objective"), self.values("training_objective")
        style(ax, unit, "objective (nats per row, scaled units)")
        levels = [] if self.baseline is None else [self.baseline]
        for level in levels:
            ax.axhline(level, label=f"linear baseline: {level:.4g}", **LEVEL)
        if (trained := np.isfinite(during)).any():  # the start is before the first epoch
            label = f"training rows, {times[0]}"
            ax.plot(x[trained], during[trained], color=PALETTE[1], linewidth=1.5, label=label)
            if np.isfinite(after).any():  # a stream is not evaluated
                label = f"{'validation' if self.has_validation else 'training'} rows, {times[1]}"
                ax.plot(x, after, color=PALETTE[0], linewidth=2, label=label)
        best = -1 if self.is_stream or not np.isfinite(after).any() else int(np.nanargmin(after))
        ax.plot(x[best], self.kept[1], "o", label=f"kept: epoch {self.kept[0]}, {self.kept[1]:.4g}", **KEPT)
        ax.set_ylim(readable_limits(np.concatenate([after[len(after) // 4 :], during[len(during) // 4 :], levels])))
        ax.set_xlim(-0.02 * max(x[-1], 10), x[-1] + 0.02 * max(x[-1], 10))
        count(ax)
        legend(ax)


@dataclass(eq=False, repr=False)
class TermsDisplay(Display):
    """Each term of the objective by the number of rows seen, beside its value at the weights kept.

    Terms are means over the validation rows. Of a variational autoencoder it shows what better reconstructions cost in
    divergence. The first evaluations may be beyond the axis.

    Parameters
    ----------
    rows : ndarray of shape (m,)
        The number of rows seen at each evaluation.
    terms : dict of str to ndarray of shape (m,)
        How far each term is above its value at the weights kept, in nats a row.
    kept : dict of str to float
        These values.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import VariationalAutoencoder
    >>> model = VariationalAutoencoder(2, max_epochs=5, random_state=0).fit(
    ...     load_wine().data
    ... )
    >>> list(TermsDisplay.from_estimator(model).terms)
    ['reconstruction', 'divergence']
    """

    rows: np.ndarray
    terms: dict[str, np.ndarray]
    kept: dict[str, float]

    @classmethod
    def from_estimator(cls, model: Any, *, ax: Axes | None = None) -> Self:
        """Draw the terms of a fitted model; of a detector or a supervised model, those of its autoencoder."""
        model = autoencoder_of(model)
        terms, kept = terms_beside_kept(model)
        if not terms:
            what, hint = "The objective must have several terms", "TrainingDisplay draws an objective of one"
            raise OptionError(what, got=f"{type(model).__name__} with one", hint=hint)
        return cls(np.array([row["rows"] for row in model.history_]), terms, kept).plot(ax)

    def _draw(self, ax: Axes) -> None:
        style(ax, "rows seen", "nats per row, beside the weights kept")
        ax.axhline(0.0, **LEVEL)
        for colour, (name, values) in zip(cycle(PALETTE), self.terms.items(), strict=False):
            ax.plot(self.rows, values, color=colour, label=f"{name}: {self.kept[name]:.4g} at the weights kept")
        ax.set_ylim(readable_limits(np.concatenate([values[len(values) // 4 :] for values in self.terms.values()])))
        legend(ax)


@dataclass(eq=False, repr=False)
class SizeDisplay(Display):
    """The mean squared error per row, in scaled units, against the number of components.

    Parameters
    ----------
    linear : ndarray of shape (m,)
        PCA's errors with 0, 1, 2, ... components.
    own : dict of int to float
        The model's errors by its numbers of components: several for an ordered code, else one.
    name : str
        The model.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from eigencode import Autoencoder
    >>> X = load_digits().data
    >>> model = Autoencoder(6, ordered=True, max_epochs=5, random_state=0).fit(X[:1500])
    >>> SizeDisplay.from_estimator(model, X[1500:]).ax_.get_xlabel()
    'components'
    """

    linear: np.ndarray
    own: dict[int, float]
    name: str = "this model"

    @classmethod
    def from_estimator(cls, model: Any, X: Any, *, ax: Axes | None = None) -> Self:
        """Draw the errors of a fitted model at rows, and those of PCA fitted to these rows."""
        found = Findings(model, X)
        linear, by_size = found.by_size
        own = dict(enumerate(map(float, by_size), 1)) or {found.codes.shape[1]: float(found.errors.mean())}
        return cls(linear, own, type(model).__name__).plot(ax)

    def _draw(self, ax: Axes) -> None:
        style(ax, "components", "squared error per row, scaled units")
        most = min(len(self.linear), max(3 * max(self.own), 12) + 1)
        options: dict[str, Any] = {"marker": "o", "markersize": 4}
        ax.plot(self.linear[:most], color=GREY, linestyle="--", label="PCA of these rows", **options)
        ax.plot(list(self.own), list(self.own.values()), color=PALETTE[0], linewidth=2, label=self.name, **options)
        ax.set_ylim(bottom=0)
        count(ax)
        legend(ax)
