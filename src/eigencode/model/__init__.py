"""The formula and what follows from it: composition, objective, initialisation, Jacobians, densities of codes."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
