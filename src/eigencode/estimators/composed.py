"""Composed: what estimators share that fit one of the autoencoders of this package as a part of them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from eigencode import training
from eigencode.data.tables import Schema
from eigencode.domains import Count
from eigencode.errors import OptionError
from eigencode.estimators.autoencoder import Autoencoder
from eigencode.estimators.base import BaseAutoencoder
from eigencode.estimators.inputs import read_rows
from eigencode.estimators.persistence import Saved

if TYPE_CHECKING:
    from eigencode.data.containers import NamedArray


class Composed(Saved):
    """An estimator with the option ``autoencoder``."""

    autoencoder: Any

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        return super().saved_attributes() | {
            "n_features_in_": Count,
            "feature_names_in_": np.ndarray | None,
            "image_shape_": tuple[Count, ...],
            "columns_": Annotated[Schema | None, "None: fitted on an array"],
            "autoencoder_": BaseAutoencoder,
        }

    @property
    def _given(self) -> BaseAutoencoder:
        """The given autoencoder, or the default one."""
        given = self.autoencoder.estimator if isinstance(self.autoencoder, FrozenEstimator) else self.autoencoder
        if given is None:
            return Autoencoder(**{name: getattr(self, name) for name in ("precision", "device") if hasattr(self, name)})
        if not isinstance(given, BaseAutoencoder):
            what = "The 'autoencoder' parameter must be an autoencoder of this package"
            hint = f"Write {given.__name__}(), an instance" if isinstance(given, type) else None
            raise OptionError(what, got=f"{given!r}", hint=hint)
        return given

    def _copied(self, rows: NamedArray, seed: int) -> BaseAutoencoder:
        """A copy of the given autoencoder: a fitted one must take the rows; one that is not fitted has a seed."""
        given = self._given
        if given.__sklearn_is_fitted__():
            fitted = copy.deepcopy(given)
            read_rows(fitted, rows)
            return fitted
        fresh: BaseAutoencoder = clone(given)
        if fresh.random_state is None:
            fresh.random_state = training.generator(seed, "autoencoder").initial_seed()
        return fresh
