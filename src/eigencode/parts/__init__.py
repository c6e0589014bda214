"""The words of the formula: one file per word, each part a plain torch module."""

from eigencode.parts.base import Part, Sizes, Units, Word
from eigencode.parts.codes import Code, DiagonalPosterior, GaussianCode, NestedDropout, Point, Posterior
from eigencode.parts.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
from eigencode.parts.corruptions import CallableCorruption, Corruption, GaussianNoise, Masking, SaltAndPepper
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
from eigencode.parts.likelihoods import GaussianLikelihood, LaplaceLikelihood, Likelihood, StudentTLikelihood
from eigencode.parts.networks import MLP, Custom, LinearPath, Network, Tied
from eigencode.parts.penalties import Penalty
from eigencode.parts.priors import Laplace, Prior, StandardNormal
from eigencode.parts.weights import GaussianWeights, WeightPrior

__all__ = [
    "MLP",
    "Bernoulli",
    "BernoulliLikelihood",
    "CallableCorruption",
    "Code",
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "Corruption",
    "Custom",
    "Delta",
    "DiagonalGaussian",
    "DiagonalPosterior",
    "Distribution",
    "Gaussian",
    "GaussianCode",
    "GaussianLikelihood",
    "GaussianNoise",
    "GaussianWeights",
    "Laplace",
    "LaplaceDistribution",
    "LaplaceLikelihood",
    "Likelihood",
    "LinearPath",
    "Masking",
    "NegativeBinomial",
    "NegativeBinomialLikelihood",
    "NestedDropout",
    "Network",
    "Part",
    "Penalty",
    "Point",
    "Poisson",
    "PoissonLikelihood",
    "Posterior",
    "Prior",
    "SaltAndPepper",
    "Sizes",
    "StandardNormal",
    "StudentT",
    "StudentTLikelihood",
    "Tied",
    "Units",
    "WeightPrior",
    "Word",
]
