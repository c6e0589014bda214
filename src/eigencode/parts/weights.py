r"""Priors on the weights, p(w): weight decay as maximum a posteriori."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
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
        if (variances <= 0).any():
            raise OptionError("The variances of weights must be positive", got=f"{self.variance!r}")
        if len(variances) > 1:
            self._check_unequal(composition, len(variances))
        self._variances = variances.expand(k)
        self._decay: Tensor | None = None
        if isinstance(likelihood, GaussianLikelihood) and isinstance(likelihood.variance, float | int):
            # Tied maps have one matrix where others have two, and so pay half.
            copies = 0.5 if composition.decoder.is_tied else 1.0
            self._decay = copies * likelihood.variance / (self._variances * n_rows)

    @staticmethod
    def _check_unequal(composition: Composition, n_variances: int) -> None:
        if composition.encoder.affine is None or len(list(composition.encoder.parameters())) > 2:
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
        matrices = {id(p): p for p in composition.parameters() if p.dim() > 1}.values()
        if len(set(self._variances.tolist())) == 1:
            variance = float(self._variances[0])
            size = sum(p.numel() for p in matrices)
            squares = torch.stack([p.square().sum() for p in matrices]).sum()
            return -squares / (2 * variance) - 0.5 * size * math.log(2 * math.pi * variance)
        # A linear encoder has a row for each component, a linear decoder a column.
        total = torch.zeros(())
        for p in matrices:
            per_component = p.square().sum(1 if len(p) == composition.n_components else 0)
            variances = self._variances.to(p)
            width = p.numel() / composition.n_components
            total = (
                total - (per_component / (2 * variances)).sum() - 0.5 * width * (2 * math.pi * variances).log().sum()
            )
        return total
