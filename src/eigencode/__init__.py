"""eigencode: autoencoders on PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eigencode._version import __version__

if TYPE_CHECKING:
    from eigencode.estimators.autoencoder import Autoencoder
    from eigencode.estimators.contractive import ContractiveAutoencoder
    from eigencode.estimators.denoising import DenoisingAutoencoder
    from eigencode.estimators.fit_many import fit_many
    from eigencode.estimators.linear import LinearAutoencoder
    from eigencode.estimators.sparse import SparseAutoencoder
    from eigencode.estimators.stacked import StackedAutoencoder
    from eigencode.estimators.supervised import AutoencoderClassifier, AutoencoderRegressor
    from eigencode.estimators.variational import VariationalAutoencoder
    from eigencode.io.storage import load
    from eigencode.model.composition import Composition, Noise, Trace
    from eigencode.model.objective import Objective
    from eigencode.search import AutoencoderSearch

_HOMES = {
    "Autoencoder": "eigencode.estimators.autoencoder",
    "AutoencoderClassifier": "eigencode.estimators.supervised",
    "AutoencoderRegressor": "eigencode.estimators.supervised",
    "AutoencoderSearch": "eigencode.search",
    "Composition": "eigencode.model.composition",
    "ContractiveAutoencoder": "eigencode.estimators.contractive",
    "DenoisingAutoencoder": "eigencode.estimators.denoising",
    "LinearAutoencoder": "eigencode.estimators.linear",
    "Noise": "eigencode.model.composition",
    "Objective": "eigencode.model.objective",
    "SparseAutoencoder": "eigencode.estimators.sparse",
    "StackedAutoencoder": "eigencode.estimators.stacked",
    "Trace": "eigencode.model.composition",
    "VariationalAutoencoder": "eigencode.estimators.variational",
    "fit_many": "eigencode.estimators.fit_many",
    "load": "eigencode.io.storage",
}

__all__ = [
    "Autoencoder",
    "AutoencoderClassifier",
    "AutoencoderRegressor",
    "AutoencoderSearch",
    "Composition",
    "ContractiveAutoencoder",
    "DenoisingAutoencoder",
    "LinearAutoencoder",
    "Noise",
    "Objective",
    "SparseAutoencoder",
    "StackedAutoencoder",
    "Trace",
    "VariationalAutoencoder",
    "__version__",
    "fit_many",
    "load",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: torch takes seconds, and not every use needs it."""
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'eigencode' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
