"""Composed: what estimators share that fit one of the autoencoders of this package as a part of them."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from eigencode.errors import OptionError
from eigencode.estimators.autoencoder import Autoencoder
from eigencode.estimators.base import BaseAutoencoder


class Composed(BaseEstimator):
    """An estimator with the option ``autoencoder``."""

    autoencoder: Any

    @property
    def _given(self) -> BaseAutoencoder:
        """The given autoencoder, or the default one."""
        given = self.autoencoder.estimator if isinstance(self.autoencoder, FrozenEstimator) else self.autoencoder
        if given is None:
            return Autoencoder(**{name: getattr(self, name) for name in ("precision", "device") if hasattr(self, name)})
        if not isinstance(given, BaseAutoencoder):
            raise OptionError("The 'autoencoder' parameter must be an autoencoder of this package", got=f"{given!r}")
        return given
