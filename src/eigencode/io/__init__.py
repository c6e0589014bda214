"""Fitted models as files."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
