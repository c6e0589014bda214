"""The terms of the formula: one file per term, each part a plain torch module."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
