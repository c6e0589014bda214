"""Pictures of fitted models by matplotlib, as scikit-learn's displays: ``CodeDisplay.from_estimator(model, X)``.

A display keeps the numbers that it shows as attributes. ``plot(ax)`` draws them again, on axes of your own or on a
figure of its own; ``ax_`` and ``figure_`` are what was drawn on last. Nothing here uses pyplot or changes matplotlib's
settings, so displays work the same in scripts, servers and threads; a notebook shows a display that is the last value
of a cell.
"""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
