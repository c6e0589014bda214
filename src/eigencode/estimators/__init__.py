"""The scikit-learn face: one base that does the work, and named autoencoders as differences from it."""

from eigencode.estimators.autoencoder import Autoencoder
from eigencode.estimators.denoising import DenoisingAutoencoder
from eigencode.estimators.linear import LinearAutoencoder
from eigencode.estimators.variational import VariationalAutoencoder

__all__ = ["Autoencoder", "DenoisingAutoencoder", "LinearAutoencoder", "VariationalAutoencoder"]
