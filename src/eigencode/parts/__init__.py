"""The terms of the formula: one file per term, each part a plain torch module."""

from eigencode.parts.adaptive_sparsity import AdaptiveKLSparsity, AdaptiveLaplace
from eigencode.parts.base import Part, Sizes, Term, Units
from eigencode.parts.codes.base import Code, Posterior
from eigencode.parts.codes.gaussian import DiagonalPosterior, GaussianCode
from eigencode.parts.codes.point import NestedDropout, Point
from eigencode.parts.codes.sparse import Sigmoid, SparseDelta, ThresholdedReLU, TopK
from eigencode.parts.corruptions import CallableCorruption, Corruption, GaussianNoise, Masking, SaltAndPepper
from eigencode.parts.distributions import (
    Bernoulli,
    Delta,
    DiagonalGaussian,
    Distribution,
    Gaussian,
    Laplace,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from eigencode.parts.likelihoods.activated import ActivatedLikelihood
from eigencode.parts.likelihoods.base import Likelihood
from eigencode.parts.likelihoods.categorical import Categorical, CategoricalLikelihood
from eigencode.parts.likelihoods.continuous import GaussianLikelihood, LaplaceLikelihood, StudentTLikelihood
from eigencode.parts.likelihoods.discrete import BernoulliLikelihood, NegativeBinomialLikelihood, PoissonLikelihood
from eigencode.parts.networks.base import Network
from eigencode.parts.networks.chains import Chain, Decoding, Encoding, Frozen, Rescaling
from eigencode.parts.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
from eigencode.parts.networks.custom import Custom
from eigencode.parts.networks.dense import MLP, LinearPath, Tied
from eigencode.parts.networks.dictionaries import Dictionary, OptimalCode
from eigencode.parts.penalties.activity import KLSparsity
from eigencode.parts.penalties.auxiliary import AuxiliaryLoss
from eigencode.parts.penalties.base import Penalty
from eigencode.parts.penalties.contractive import Contractive
from eigencode.parts.priors import LaplacePrior, Prior, StandardNormalPrior
from eigencode.parts.supervised import FirstColumns, HeadWeights, LastColumns, Reconstruction
from eigencode.parts.weight_priors import GaussianWeights, WeightPrior

__all__ = [
    "MLP",
    "ActivatedLikelihood",
    "AdaptiveKLSparsity",
    "AdaptiveLaplace",
    "AuxiliaryLoss",
    "Bernoulli",
    "BernoulliLikelihood",
    "CallableCorruption",
    "Categorical",
    "CategoricalLikelihood",
    "Chain",
    "Code",
    "Contractive",
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "Corruption",
    "Custom",
    "Decoding",
    "Delta",
    "DiagonalGaussian",
    "DiagonalPosterior",
    "Dictionary",
    "Distribution",
    "Encoding",
    "FirstColumns",
    "Frozen",
    "Gaussian",
    "GaussianCode",
    "GaussianLikelihood",
    "GaussianNoise",
    "GaussianWeights",
    "HeadWeights",
    "KLSparsity",
    "Laplace",
    "LaplaceLikelihood",
    "LaplacePrior",
    "LastColumns",
    "Likelihood",
    "LinearPath",
    "Masking",
    "NegativeBinomial",
    "NegativeBinomialLikelihood",
    "NestedDropout",
    "Network",
    "OptimalCode",
    "Part",
    "Penalty",
    "Point",
    "Poisson",
    "PoissonLikelihood",
    "Posterior",
    "Prior",
    "Reconstruction",
    "Rescaling",
    "SaltAndPepper",
    "Sigmoid",
    "Sizes",
    "SparseDelta",
    "StandardNormalPrior",
    "StudentT",
    "StudentTLikelihood",
    "Term",
    "ThresholdedReLU",
    "Tied",
    "TopK",
    "Units",
    "WeightPrior",
]
