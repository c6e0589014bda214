"""The scikit-learn face: one base that does the work, and named autoencoders as differences from it."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
