r"""Priors on the weights, p(w): weight decay as maximum a posteriori."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencode.errors import OptionError
from eigencode.parts.base import Part
from eigencode.parts.likelihoods import GaussianLikelihood

if TYPE_CHECKING:
    from eigencode.composition import Composition


class WeightPrior(Part):
    """A density of the networks' weight matrices; biases are left free."""

    def setup(self, composition: Composition, n_rows: int) -> None:
        """Look at the model whose weights these are, and at the number of rows it is fitted to."""

    @abstractmethod
    def log_prob(self, composition: Composition) -> Tensor:
        """Log p(w) in nats, a scalar."""

    def cost(self, composition: Composition) -> Tensor:
        """-log p(w) up to a constant of the network's size, which would favour small or large networks for nothing."""
        return -self.log_prob(composition)


class GaussianWeights(WeightPrior):
    r"""Independent normal weights around zero: weight decay.

    .. math:: -\log p(w) = \frac{\lVert w \rVert^2}{2 \sigma_w^2} + \mathrm{const}

    The objective is a mean over n rows, so its share of a row is -log p(w) / n. In units of the squared error that is
    weight decay with lambda = sigma_D^2 / (n sigma_w^2), sigma_D^2 the likelihood's variance, and the optimal linear
    autoencoder keeps

    .. math:: s_i = (1 - \lambda / l_i)_+

    of the direction with eigenvalue l_i (Kunin et al., 2019). With one variance for each component, largest first,
    the optimal components are the principal ones in order (Bao et al., 2020).

    Parameters
    ----------
    variance : float or sequence of float
        sigma_w^2, of all weights or of those into and out of each component; the latter for linear maps only.

    Examples
    --------
    >>> from eigencode import LinearAutoencoder
    >>> from sklearn.datasets import load_wine
    >>> X = load_wine().data
    >>> model = LinearAutoencoder(3, weight_prior=GaussianWeights(variance=0.01)).fit(X)
    >>> bool(model.reconstruct(X).std() < LinearAutoencoder(3).fit(X).reconstruct(X).std())
    True
    """

    def __init__(self, variance: float | Sequence[float] = 1.0) -> None:
        super().__init__()
        self.variance = variance

    def setup(self, composition: Composition, n_rows: int) -> None:
        """Work out lambda for each component."""
        likelihood, k = composition.likelihood, composition.n_components
        variances = torch.as_tensor(self.variance, dtype=torch.float64).reshape(-1)
        if len(variances) > 1:
            self._check_unequal(composition, len(variances))
        if not ((variances > 0) & variances.isfinite()).all() or (variances.diff() > 0).any():
            raise OptionError(
                "The variances of weights must be positive numbers, the largest first", got=f"{self.variance!r}"
            )
        self._variances = variances.expand(k)
        self._decay: Tensor | None = None
        if isinstance(likelihood, GaussianLikelihood) and isinstance(likelihood.variance, Real):
            # Tied maps have one matrix where others have two, and so pay half.
            copies = 0.5 if composition.decoder.is_tied else 1.0
            self._decay = copies * float(likelihood.variance) / (self._variances * n_rows)

    @staticmethod
    def _check_unequal(composition: Composition, n_variances: int) -> None:
        networks = (composition.encoder, composition.decoder)
        if any(not network.is_tied and len(list(network.parameters())) != 2 for network in networks):
            raise OptionError(
                "A variance for each component needs a linear encoder and decoder",
                got=f"{composition.encoder!r}",
                hint="Use hidden=(), or one variance for all weights",
            )
        if n_variances != composition.n_components:
            raise OptionError(
                f"There must be one variance of weights for each of the {composition.n_components} components",
                got=f"{n_variances}",
            )

    def shrinkage(self, eigenvalues: Tensor) -> Tensor | None:
        """Keep (1 - lambda / l)+ of each direction."""
        if self._decay is None:
            return None
        decay = self._decay[: len(eigenvalues)]
        return torch.where(eigenvalues > decay, 1 - decay / eigenvalues, torch.zeros_like(eigenvalues))

    def log_prob(self, composition: Composition) -> Tensor:
        """Log p(w) in nats, a scalar."""
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
        if len(set(self._variances.tolist())) == 1:
            unique = {id(p): p for p in composition.parameters() if p.dim() > 1}
            for p in unique.values():
                yield p.square(), self._variances[0].to(p)
            return
        # A linear encoder has a row for each component, a linear decoder a column.
        rows = [network.affine.weight for network in (composition.encoder,) if network.affine is not None]
        columns = [network.affine.weight.T for network in (composition.decoder,) if network.affine is not None]
        for matrix in (*rows, *columns):
            yield from zip(matrix.square(), self._variances.to(matrix), strict=True)
