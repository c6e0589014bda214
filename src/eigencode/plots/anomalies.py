"""Displays of a detector: the reasons of one row, and p-values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from matplotlib.axes import Axes

from eigencode.errors import DataError
from eigencode.plots.display import GREY, INK, PALETTE, Display, legend, shortened, style
from eigencode.report.subjects import require

if TYPE_CHECKING:
    from eigencode.estimators.anomaly import AnomalyDetector


@dataclass(eq=False, repr=False)
class ReasonsDisplay(Display):
    """What the columns of one row add to how unlike it is, with what was observed and expected of each.

    Parameters
    ----------
    reasons : list of dict
        As ``explain(..., output='records')`` gives them.
    nats : float
        What all columns add up to.

    Examples
    --------
    >>> import numpy as np
    >>> from eigencode import AnomalyDetector, LinearAutoencoder
    >>> X = np.random.default_rng(0).normal(size=(400, 3))
    >>> detector = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(X)
    >>> display = ReasonsDisplay.from_estimator(detector, [[0.0, 9.0, 0.0]])
    >>> display.ax_.get_yticklabels()[0].get_text()
    'x1'
    """

    reasons: list[dict[str, Any]]
    nats: float

    @property
    def size(self) -> tuple[float, float]:  # type: ignore[override]
        """Inches of a figure of its own."""
        return 6.4, 0.8 + 0.4 * len(self.reasons)

    @classmethod
    def from_estimator(cls, detector: AnomalyDetector, X: Any, *, n_columns: int = 8, ax: Axes | None = None) -> Self:
        """Draw the first reasons of one row, X of shape (1, d)."""
        require(hasattr(detector, "explain"), detector, "an AnomalyDetector")
        found = detector.explain(X, n_columns=n_columns, output="records")
        if len(found) != 1:
            raise DataError("The reasons of one row are drawn", got=f"{len(found)} rows", hint="Choose one, as X[:1]")
        return cls(found[0]["reasons"], found[0]["nats"]).plot(ax)

    def _draw(self, ax: Axes) -> None:
        style(ax, f"contribution, in nats, of {self.nats:.4g}", "")
        ax.barh(range(len(self.reasons)), [each["contribution"] for each in self.reasons], 0.6, color=PALETTE[0])
        for index, each in enumerate(
            self.reasons
        ):  # right of a bar to the left too, where the names of columns are not
            ax.text(max(each["contribution"], 0.0), index, f" {_text_of(each)}", va="center", color=INK, fontsize=8)
        ax.set_yticks(range(len(self.reasons)), [shortened(str(each["column"])) for each in self.reasons])
        ax.invert_yaxis()
        ax.margins(x=0.5)
        ax.axvline(0, color=GREY, linewidth=0.8)


def _text_of(reason: dict[str, Any]) -> str:
    """What was observed, and what was expected if that is something else."""
    observed, expected = (_short(reason[name]) for name in ("observed", "expected"))
    return observed if observed == expected else f"{observed}, expected {expected}"


def _short(value: Any) -> str:
    """A value in a few characters."""
    if value is None:
        return "missing"
    return f"{value:.4g}" if isinstance(value, float) else shortened(str(value), 24)


@dataclass(eq=False, repr=False)
class CalibrationDisplay(Display):
    """The share of rows that are alarms, by the rate of false alarms that is asked for.

    For normal rows the curve is at the dashed line, at which the rate is kept; anomalies lift it at small rates.

    Parameters
    ----------
    p_values : ndarray of shape (n,)
        Those of rows.
    rate : float
        The detector's rate of false alarms.

    Examples
    --------
    >>> import numpy as np
    >>> from eigencode import AnomalyDetector, LinearAutoencoder
    >>> X = np.random.default_rng(0).normal(size=(600, 3))
    >>> detector = AnomalyDetector(
    ...     0.1, autoencoder=LinearAutoencoder(1), random_state=0
    ... ).fit(X[:400])
    >>> bool(CalibrationDisplay.from_estimator(detector, X[400:]).p_values.mean() > 0.4)
    True
    """

    p_values: np.ndarray
    rate: float

    @classmethod
    def from_estimator(cls, detector: AnomalyDetector, X: Any, *, ax: Axes | None = None) -> Self:
        """Draw the p-values of rows that were not fitted."""
        require(hasattr(detector, "p_values"), detector, "an AnomalyDetector")
        return cls(detector.p_values(X), detector.false_alarms_).plot(ax)

    def _draw(self, ax: Axes) -> None:
        style(ax, "rate of false alarms asked for", "share of rows that are alarms")
        known = np.sort(self.p_values[np.isfinite(self.p_values)])
        low = known.min(initial=self.rate) / 2
        ax.plot([low, 1], [low, 1], color=GREY, linestyle="--", linewidth=1.2, label="if all rows are normal")
        shares = np.arange(1, len(known) + 1) / len(known)
        ax.step(known, shares, where="post", color=PALETTE[0], linewidth=2, label=f"{len(known):,} rows")
        n = int((known <= self.rate).sum())
        label = f"this detector: {n / max(len(known), 1):.3g} at {self.rate:.3g}"
        ax.axvline(self.rate, color=PALETTE[2], linewidth=1.2, label=label)
        ax.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1.3))
        legend(ax)
