"""The words of the formula: one file per word, each part a plain torch module."""

from eigencode.parts.base import Part, Sizes, Units, Word
from eigencode.parts.chains import ActivatedLikelihood, Chain, Decoding, Encoding, Frozen, Rescaling
from eigencode.parts.codes import Code, DiagonalPosterior, GaussianCode, NestedDropout, Point, Posterior
from eigencode.parts.contractive import Contractive
from eigencode.parts.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
from eigencode.parts.corruptions import CallableCorruption, Corruption, GaussianNoise, Masking, SaltAndPepper
from eigencode.parts.dictionaries import Dictionary, OptimalCode
from eigencode.parts.discrete_likelihoods import (
    BernoulliLikelihood,
    NegativeBinomialLikelihood,
    PoissonLikelihood,
)
from eigencode.parts.distributions import (
    Bernoulli,
    Delta,
    DiagonalGaussian,
    Distribution,
    Gaussian,
    LaplaceDistribution,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from eigencode.parts.labels import (
    Categorical,
    CategoricalLikelihood,
    FirstColumns,
    HeadWeights,
    LastColumns,
    Reconstruction,
)
from eigencode.parts.likelihoods import GaussianLikelihood, LaplaceLikelihood, Likelihood, StudentTLikelihood
from eigencode.parts.networks import MLP, Custom, LinearPath, Network, Tied
from eigencode.parts.penalties import Penalty
from eigencode.parts.priors import Laplace, Prior, StandardNormal
from eigencode.parts.sparse import KLSparsity, Rectified, Revival, Selection, Sigmoid, TopK
from eigencode.parts.steering import AdaptiveKLSparsity, AdaptiveLaplace
from eigencode.parts.weights import GaussianWeights, WeightPrior

__all__ = [
    "MLP",
    "ActivatedLikelihood",
    "AdaptiveKLSparsity",
    "AdaptiveLaplace",
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
    "LaplaceDistribution",
    "LaplaceLikelihood",
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
    "Rectified",
    "Rescaling",
    "Revival",
    "SaltAndPepper",
    "Selection",
    "Sigmoid",
    "Sizes",
    "StandardNormal",
    "StudentT",
    "StudentTLikelihood",
    "Tied",
    "TopK",
    "Units",
    "WeightPrior",
    "Word",
]
