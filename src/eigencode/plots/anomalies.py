"""Plots of anomalies: the reasons of one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eigencode.errors import DataError
from eigencode.plots.style import GREY, INK, PALETTE, axes_of

if TYPE_CHECKING:
    from eigencode.estimators.anomaly import AnomalyDetector


def plot_reasons(detector: AnomalyDetector, X: Any, *, n_columns: int = 8, ax: Axes | None = None) -> Figure:
    """Draw what the columns of one row add to how unlike it is, with what was observed and expected of each.

    Parameters
    ----------
    detector : AnomalyDetector
        A fitted detector.
    X : array-like of shape (1, d)
        The row.
    n_columns : int, default 8
        The first columns are shown.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
        That of the axes.

    Examples
    --------
    >>> import numpy as np
    >>> from eigencode import AnomalyDetector, LinearAutoencoder
    >>> X = np.random.default_rng(0).normal(size=(400, 3))
    >>> detector = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(X)
    >>> figure = plot_reasons(detector, [[0.0, 9.0, 0.0]])
    >>> figure.axes[0].get_yticklabels()[0].get_text()
    'x1'
    """
    found = detector.explain(X, n_columns=n_columns, output="records")
    if len(found) != 1:
        raise DataError("The reasons of one row are drawn", got=f"{len(found)} rows", hint="Choose one, as X[:1]")
    reasons = found[0]["reasons"]
    axes = axes_of(Figure(figsize=(6.4, 0.8 + 0.4 * len(reasons)), layout="constrained"), "", "") if ax is None else ax
    bars = axes.barh(range(len(reasons)), [each["contribution"] for each in reasons], color=PALETTE[0], height=0.6)
    axes.bar_label(bars, [f" {_text_of(each)}" for each in reasons], color=INK, fontsize=8)
    axes.set_yticks(range(len(reasons)), [str(each["column"]) for each in reasons])
    axes.invert_yaxis()
    axes.margins(x=0.5)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel(f"contribution, in nats, of {found[0]['nats']:.4g}", color=INK)
    return axes.get_figure()  # type: ignore[return-value]


def _text_of(reason: dict[str, Any]) -> str:
    """What was observed, and what was expected if that is something else."""
    observed, expected = (_short(reason[name]) for name in ("observed", "expected"))
    return observed if observed == expected else f"{observed}, expected {expected}"


def _short(value: Any) -> str:
    """A value in a few characters."""
    if value is None:
        return "missing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:24]
