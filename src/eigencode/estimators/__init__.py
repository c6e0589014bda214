"""The scikit-learn face: one base that does the work, and named autoencoders as differences from it."""

from eigencode.estimators.autoencoder import Autoencoder
from eigencode.estimators.contractive import ContractiveAutoencoder
from eigencode.estimators.denoising import DenoisingAutoencoder
from eigencode.estimators.linear import LinearAutoencoder
from eigencode.estimators.sparse import SparseAutoencoder
from eigencode.estimators.stacked import StackedAutoencoder
from eigencode.estimators.supervised import AutoencoderClassifier, AutoencoderRegressor
from eigencode.estimators.variational import VariationalAutoencoder

__all__ = [
    "Autoencoder",
    "AutoencoderClassifier",
    "AutoencoderRegressor",
    "ContractiveAutoencoder",
    "DenoisingAutoencoder",
    "LinearAutoencoder",
    "SparseAutoencoder",
    "StackedAutoencoder",
    "VariationalAutoencoder",
]
