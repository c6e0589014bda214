"""Training: an explicit state, and a generator that moves it one epoch at a time."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
