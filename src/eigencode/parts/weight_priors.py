r"""Priors on the weights, p(w): weight decay as maximum a posteriori."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from eigencode.errors import OptionError
from eigencode.parts.base import Sizes, Term
from eigencode.parts.likelihoods.continuous import GaussianLikelihood

if TYPE_CHECKING:
    from eigencode.model.composition import Composition
    from eigencode.model.initialization import LinearProblem, LinearStart


class WeightPrior(Term):
    """A density of the networks' weight matrices; biases are not penalised."""

    ignores_idle_components = True

    def check(self, composition: Composition) -> None:
        """Raise `OptionError` if the density cannot be used with the model's networks."""

    @abstractmethod
    def log_prob(self, composition: Composition) -> Tensor:
        """Log p(w) in nats, a scalar."""

    def cost(self, composition: Composition) -> Tensor:
        """-log p(w) without constants that depend only on the size of the networks."""
        return -self.log_prob(composition)


class GaussianWeights(WeightPrior):
    r"""Independent normal weights around zero: weight decay.

    .. math:: -\log p(w) = \frac{\lVert w \rVert^2}{2 \sigma_w^2} + \mathrm{const}

    The objective is a mean over n rows, so the term is -log p(w) / n. In units of the squared error that is weight
    decay with lambda = sigma_D^2 / (n sigma_w^2), sigma_D^2 the likelihood's variance, and the optimal linear
    autoencoder keeps

    .. math:: s_i = (1 - \lambda / l_i)_+

    of the direction with eigenvalue l_i (Kunin et al., 2019). With one variance for each component, largest first,
    the optimal components are the principal ones in order (Bao et al., 2020).

    Parameters
    ----------
    variance : float or sequence of float
        sigma_w^2, of all weights, or of the encoder's and decoder's weights of each component (linear maps only).

    Examples
    --------
    >>> from eigencode import LinearAutoencoder
    >>> from sklearn.datasets import load_wine
    >>> X = load_wine().data
    >>> model = LinearAutoencoder(3, weight_prior=GaussianWeights(variance=0.01)).fit(X)
    >>> bool(model.reconstruct(X).std() < LinearAutoencoder(3).fit(X).reconstruct(X).std())
    True
    """

    numbers = ("variance",)
    ignores_idle_components = True

    def __init__(self, variance: float | Sequence[float] = 1.0) -> None:
        super().__init__()
        self.variance = variance

    def setup(self, sizes: Sizes) -> None:
        try:
            variances = np.atleast_1d(np.asarray(self.variance))
        except ValueError:  # rows of several lengths
            variances = np.empty((0, 0))
        is_fine = variances.dtype.kind in "iuf" and variances.ndim == 1 and np.isfinite(variances).all()
        if not (is_fine and (variances > 0).all() and (np.diff(variances) <= 0).all()):
            raise OptionError(
                "The variances of weights must be positive numbers, the largest first", got=f"{self.variance!r}"
            )
        if len(variances) not in (1, sizes.n_components):
            raise OptionError(
                f"There must be one variance of weights for each of the {sizes.n_components} components",
                got=f"{len(variances)}",
            )

    def check(self, composition: Composition) -> None:
        """Raise an error for unequal variances unless the networks are linear."""
        networks = (composition.encoder, composition.decoder)
        is_linear = all(network.is_tied or len(list(network.parameters())) == 2 for network in networks)
        if np.size(self.variance) > 1 and not is_linear:
            raise OptionError(
                "A variance for each component needs a linear encoder and decoder",
                got=f"{composition.encoder!r}",
                hint="Use hidden=(), or one variance for all weights",
            )

    def _variances(self, n_components: int) -> Tensor:
        return torch.as_tensor(self.variance, dtype=torch.float64).reshape(-1).expand(n_components)

    def linear_start(self, problem: LinearProblem) -> LinearStart | None:
        """The share (1 - lambda / l)+ of each direction."""
        composition = problem.composition
        likelihood = composition.likelihood
        if not (isinstance(likelihood, GaussianLikelihood) and isinstance(likelihood.variance, Real)):
            return None
        # Tied maps have one matrix instead of two, and so half of the penalty.
        copies = 0.5 if composition.decoder.is_tied else 1.0
        variances = self._variances(composition.n_components)[: len(problem.eigenvalues)]
        decay = copies * float(likelihood.variance) / (variances * problem.objective.n_rows)
        return problem.shrunk((1 - decay / problem.eigenvalues.clamp(min=1e-300)).clamp(min=0))

    def log_prob(self, composition: Composition) -> Tensor:
        constant = sum(
            0.5 * squares.numel() * (2 * math.pi * variance).log() for squares, variance in self._squares(composition)
        )
        return -self.cost(composition) - constant

    def cost(self, composition: Composition) -> Tensor:
        """||w||^2 / (2 sigma_w^2), a scalar."""
        terms = [squares.sum() / (2 * variance) for squares, variance in self._squares(composition)]
        return torch.stack(terms).sum()

    def _squares(self, composition: Composition) -> Iterator[tuple[Tensor, Tensor]]:
        """The squared weights that share a variance, with that variance."""
        variances = torch.as_tensor(self.variance, dtype=torch.float64).reshape(-1)
        if len(variances) == 1:
            networks = (composition.encoder, composition.decoder)
            unique = {id(p): p for network in networks for p in network.parameters() if p.dim() > 1}
            for p in unique.values():
                yield p.square(), variances[0].to(p)
            return
        # A linear encoder has a row for each component, a linear decoder a column.
        rows = [network.affine.weight for network in (composition.encoder,) if network.affine is not None]
        columns = [network.affine.weight.T for network in (composition.decoder,) if network.affine is not None]
        for matrix in (*rows, *columns):
            yield from zip(matrix.square(), variances.to(matrix), strict=True)
