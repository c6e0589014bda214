"""The estimators, one line for each."""

from eigencode.estimators.anomaly import AnomalyDetector as AnomalyDetector
from eigencode.estimators.autoencoder import Autoencoder as Autoencoder
from eigencode.estimators.classifier import AutoencoderClassifier as AutoencoderClassifier
from eigencode.estimators.contractive import ContractiveAutoencoder as ContractiveAutoencoder
from eigencode.estimators.denoising import DenoisingAutoencoder as DenoisingAutoencoder
from eigencode.estimators.linear import LinearAutoencoder as LinearAutoencoder
from eigencode.estimators.loading import load as load
from eigencode.estimators.regressor import AutoencoderRegressor as AutoencoderRegressor
from eigencode.estimators.sparse import SparseAutoencoder as SparseAutoencoder
from eigencode.estimators.stacked import StackedAutoencoder as StackedAutoencoder
from eigencode.estimators.variational import VariationalAutoencoder as VariationalAutoencoder
