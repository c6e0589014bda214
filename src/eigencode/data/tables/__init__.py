"""Tables of mixed columns: a frame of any library as an array of cells for a model, and back."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
