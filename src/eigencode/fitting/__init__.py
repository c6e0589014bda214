"""The stages of a fit, from options and rows to a run that can begin: data, model, start, run."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
