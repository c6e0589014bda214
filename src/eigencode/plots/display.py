"""Display: what all displays share, and their colours."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import Any, Self

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

PALETTE = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
"""Ten colours that can be distinguished with colour-vision deficiencies, as can the first few (Petroff, 2021)."""

MARKERS = "osD^vPX*"
"""One marker for every ten classes, if there are more classes than colours."""

INK, GREY, PALE = "#222222", "#6b6b6b", "#e4e4e4"

LEVEL: dict[str, Any] = {"color": GREY, "linestyle": (0, (4, 2)), "linewidth": 1.2}
"""The line of a value to compare with."""


class Display(ABC):
    """Numbers, and a picture of them.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on last.
    figure_ : matplotlib Figure
        That of the axes.
    """

    size = (6.4, 4.0)
    """Inches of a figure of its own."""

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default, on a new figure.

        Returns
        -------
        self
        """
        self._is_own = ax is None
        self.ax_ = Figure(figsize=self.size, layout="constrained").subplots() if ax is None else ax
        self.figure_: Any = self.ax_.get_figure()
        self._draw(self.ax_)
        return self

    def __repr__(self) -> str:
        """The name alone, since the numbers are many."""
        return f"{type(self).__name__}(...)"

    @abstractmethod
    def _draw(self, ax: Axes) -> None:
        """Draw on axes."""

    def _repr_png_(self) -> bytes | None:
        """The picture for a notebook, unless it is on axes of the user's, which the notebook may show by itself."""
        if not self.__dict__.get("_is_own"):
            return None
        file = io.BytesIO()
        self.figure_.savefig(file, format="png", dpi=80)
        return file.getvalue()


def style(ax: Axes, x_name: str, y_name: str) -> None:
    """Give axes their names and a pale grid, and no lines at the top and right."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_color(GREY)
    ax.tick_params(colors=GREY, labelcolor=INK, labelsize=9)
    ax.grid(color=PALE, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_xlabel(x_name, color=INK)
    ax.set_ylabel(y_name, color=INK)


def legend(ax: Axes, *handles: Any, **options: Any) -> None:
    """Draw the legend."""
    ax.legend(*handles, frameon=False, fontsize=9, labelcolor=INK, **options)


def shortened(name: str, most: int = 30) -> str:
    """A long name without its middle: names often differ at their ends only.

    Examples
    --------
    >>> shortened("pressure of the second pump, sensor 12", 20)
    'pressure …sensor 12'
    """
    if len(name) <= most:
        return name
    return f"{name[: (most - 1) // 2]}…{name[len(name) - (most - 1) // 2 :]}"


def count(ax: Axes) -> None:
    """Give the horizontal axis whole numbers."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
