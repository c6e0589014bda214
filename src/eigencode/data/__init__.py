"""Reading, checking, scaling and writing data. Nothing here depends on autoencoders."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
