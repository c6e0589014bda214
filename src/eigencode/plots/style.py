"""The look of the plots: colours, markers, axes."""

from __future__ import annotations

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


def axes_of(figure: Figure, x_name: str, y_name: str) -> Axes:
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


def count_and_name(axes: Axes) -> None:
    """Give the horizontal axis whole numbers, and draw the legend."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
