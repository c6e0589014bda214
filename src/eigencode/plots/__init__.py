"""Plots of reconstructions, codes, training and searches, as matplotlib figures.

Every function returns a new `matplotlib.figure.Figure`. Nothing here uses pyplot or changes matplotlib's settings, so
plotting works the same in scripts, servers and threads; a notebook shows a figure that is the last value of a cell.
"""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
