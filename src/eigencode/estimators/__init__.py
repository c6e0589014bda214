"""The scikit-learn face: one base that does the work, and named autoencoders as differences from it."""

from eigencode.estimators.autoencoder import Autoencoder
from eigencode.estimators.linear import LinearAutoencoder

__all__ = ["Autoencoder", "LinearAutoencoder"]
