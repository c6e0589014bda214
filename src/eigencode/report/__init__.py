"""Reports: a fitted model and its answers to rows, as one page that opens in any browser without a network."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
