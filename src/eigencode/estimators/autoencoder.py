"""Autoencoder: the plain one, and the general one for whoever gives it other words."""

from __future__ import annotations

from dataclasses import dataclass

from eigencode.estimators.base import BaseAutoencoder
from eigencode.options import parameters_section


@dataclass(eq=False, repr=False)
class Autoencoder(BaseAutoencoder):
    pass
