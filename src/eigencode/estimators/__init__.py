"""The scikit-learn face: one base that does the work, and named autoencoders as differences from it."""

from eigencode.estimators.autoencoder import Autoencoder

__all__ = ["Autoencoder"]
