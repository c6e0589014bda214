"""The words of the formula: one file per word, each part a plain torch module."""

from eigencode.parts.base import Part
from eigencode.parts.codes import Code, Point
from eigencode.parts.corruptions import Corruption, GaussianNoise
from eigencode.parts.distributions import Delta, Distribution, Gaussian
from eigencode.parts.likelihoods import GaussianLikelihood, Likelihood
from eigencode.parts.networks import MLP, Custom, LinearPath, Network
from eigencode.parts.penalties import Penalty
from eigencode.parts.priors import Laplace, Prior

__all__ = [
    "MLP",
    "Code",
    "Corruption",
    "Custom",
    "Delta",
    "Distribution",
    "Gaussian",
    "GaussianLikelihood",
    "GaussianNoise",
    "Laplace",
    "Likelihood",
    "LinearPath",
    "Network",
    "Part",
    "Penalty",
    "Point",
    "Prior",
]
