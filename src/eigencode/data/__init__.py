"""Data: rows in, numbers out. Knows no autoencoder."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
