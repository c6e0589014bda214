"""Training: one loop, and runners of one model or of several, each with an explicit state."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
