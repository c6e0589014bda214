"""Priors on the code, p(z), with their divergence from q(z|x)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from eigencode.errors import OptionError, known_length
from eigencode.parts.base import Sizes, Term
from eigencode.parts.codes.base import Posterior

if TYPE_CHECKING:
    from eigencode.batch import Batch
    from eigencode.model.composition import Composition
    from eigencode.model.initialization import LinearProblem, LinearStart


IDLE = 1e-3
"""Weight of all Gaussians of a mixture that are not used at the start, so that training can use them."""


NEGLIGIBLE = 40.0
"""Natural logarithm of a sum over one of its terms, above which the term is left out of the sum.

Moments of shares need smaller ones than sums do: the squares of rows far from all others, which they multiply, can be
1e10 and more. So the iterations that fit a mixture have a constant of their own.
"""

MOST_FULL = 64
"""Largest codes with full covariances; those of larger codes are diagonal."""


class Prior(Term):
    """A density of codes.

    The divergence is KL(q, p) for a stochastic code, estimated from the code drawn unless a subclass has a closed form,
    and -log p(h) for a point.
    """

    variance: float | None = None
    """Variance of the components, if the prior has the same for all."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(z) in nats, for codes of shape (..., k); shape (...)."""

    def divergence(self, q: Posterior, z: Tensor) -> Tensor:
        """One number a row, in nats: log q(z|x) - log p(z) at the code drawn."""
        return q.log_prob(z) - self.log_prob(z)

    def sample(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor:
        """Draw codes, shape (n_rows, n_components)."""
        raise OptionError(
            f"The prior {type(self).__name__} has no method 'sample' to draw codes with",
            hint="Write it, or call fit_density(X) first",
        )


class LaplacePrior(Prior):
    r"""Independent Laplace densities: the L1 penalty of the sparse autoencoder.

    .. math:: -\log p(h) = \lambda \sum_i |h_i| - k \log \frac{\lambda}{2}

    Parameters
    ----------
    rate : float
        lambda, in nats per unit of code.

    Examples
    --------
    >>> import torch
    >>> h = torch.tensor([[3.0, -1.0]])
    >>> -LaplacePrior(rate=2.0).log_prob(h)
    tensor([8.])
    """

    numbers = ("rate",)

    def __init__(self, rate: float = 1.0) -> None:
        super().__init__()
        self.rate = rate

    def setup(self, sizes: Sizes) -> None:
        self.require_number("rate")

    def log_prob(self, z: Tensor) -> Tensor:
        half = self.rate / 2
        log_half = half.log() if isinstance(half, Tensor) else math.log(half)
        return z.shape[-1] * log_half - self.rate * z.abs().sum(-1)

    def sample(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor:
        """Draw codes: differences of two exponential variables, shape (n_rows, n_components)."""
        one, other = torch.empty(2, n_rows, n_components, device=generator.device).exponential_(generator=generator)
        return (one - other) / self.rate

    def proximal(self, z: Tensor, step: Tensor | float) -> Tensor:
        """The soft threshold at step * rate: argmin over h of ``|h - z|^2 / 2 + step * rate * |h|_1``."""
        return soft_threshold(z, step * self.rate)


def soft_threshold(z: Tensor, threshold: Tensor | float) -> Tensor:
    """Numbers reduced in size by a threshold, and set to zero if they are smaller than it."""
    threshold = threshold.to(z) if isinstance(threshold, Tensor) else z.new_full((), threshold)
    return z - z.clamp(-threshold, threshold)


class StandardNormalPrior(Prior):
    r"""Independent standard normal densities: the prior of the variational autoencoder.

    .. math:: KL(q, p) = \frac12 \sum_i \mu_i^2 + \sigma_i^2 - 1 - \log \sigma_i^2

    for a normal posterior with mean mu and standard deviation sigma (Kingma & Welling, 2014). With a linear decoder
    and a Gaussian likelihood of variance v the optimum is probabilistic PCA (Lucas et al., 2019): the decoder has
    squared singular values (l - beta v)+, and a direction with less variance than beta v is switched off. With one
    variance a column it is factor analysis.

    Parameters
    ----------
    warmup : float
        Epochs over which training raises the divergence's weight from 0. In evaluation the weight is not reduced.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import GaussianCode
    >>> q = GaussianCode()(torch.tensor([[1.0, 0.0]]))  # mean 1, log-variance 0
    >>> StandardNormalPrior().divergence(q, q.mean)
    tensor([0.5000])
    """

    ignores_idle_components = True
    variance = 1.0

    rows_seen: Tensor
    warmup_rows: Tensor

    def __init__(self, warmup: float = 0.0) -> None:
        super().__init__()
        self.warmup = warmup

    def setup(self, sizes: Sizes) -> None:
        """Check the warm-up, and make the count of rows."""
        self.require_number("warmup", closed=True)
        self.register_buffer("rows_seen", torch.zeros(()))
        n_rows = known_length(sizes.n_rows, "A warm-up in epochs") if self.warmup else 0
        self.register_buffer("warmup_rows", torch.tensor(float(self.warmup) * n_rows))

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> Mapping[str, Tensor]:
        """Count the rows."""
        return {"rows_seen": self.rows_seen + n_rows} if self.warmup else {}

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi))

    def divergence(self, q: Posterior, z: Tensor) -> Tensor:
        """KL(q, p) in closed form if q has a variance, -log p(z) for a point; shape (n,)."""
        variance = q.variance
        if variance is None:
            found = -self.log_prob(z)
        else:
            found = 0.5 * (q.mean.square() + variance - 1 - variance.log()).sum(-1)
        return self._warmed(found)

    def _warmed(self, divergence: Tensor) -> Tensor:
        """The divergence with the weight that it has at this time of the warm-up."""
        if self.training and self.warmup:
            return divergence * ((self.rows_seen + 1) / (self.warmup_rows + 1)).clamp(max=1.0)
        return divergence

    def sample(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor:
        """Draw standard normal codes."""
        return torch.randn((n_rows, n_components), generator=generator, device=generator.device)

    def linear_start(self, problem: LinearProblem) -> LinearStart | None:
        """Probabilistic PCA, or factor analysis, with its exact posterior; a point code has no optimum."""
        composition = problem.composition
        if composition.code.width(1) == 1:
            return None
        beta, eigenvalues = problem.objective.beta, problem.eigenvalues
        if composition.likelihood.expansion.has_variances and problem.has_exact_covariance:
            return problem.factor_analysis(beta)
        noise = composition.likelihood.expansion.variance
        if noise is None:
            noise = _learned_noise(problem, beta)
        threshold = max(beta * noise, 1e-12)
        lengths = (eigenvalues - threshold).clamp(min=0).sqrt()
        precision = lengths.square() + threshold
        return problem.along_directions(
            lengths / precision, lengths, code_variance=threshold / precision, noise_variance=noise
        )


class MixturePrior(StandardNormalPrior):
    r"""A mixture of Gaussians, learned with the model, with full covariances of at most 64 components of the code.

    .. math:: p(z) = \sum_{c=1}^m \pi_c N(z; \mu_c, \Sigma_c), \qquad \Sigma_c^{-1} = P_c^\top P_c

    Codes of rows that form clusters have no normal distribution, and a better prior is a better density of the rows
    (Dilokthanakul et al., 2016). Training begins at the mixture that fits the rows' codes, with as many Gaussians as
    validation rows justify, or at the standard normal if no mixture is better; the others have small weights.

    Parameters
    ----------
    size : int
        m, the largest number of Gaussians.
    warmup : float
        As for `StandardNormalPrior`.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import Sizes
    >>> prior = MixturePrior(size=4)
    >>> prior.setup(Sizes(n_features=5, n_components=2))
    >>> prior.log_prob(torch.zeros(1, 2))  # before training begins it is standard normal
    tensor([-1.8379], grad_fn=<LogsumexpBackward0>)
    """

    def __init__(self, size: int = 16, warmup: float = 0.0) -> None:
        super().__init__(warmup)
        self.size = size

    def setup(self, sizes: Sizes) -> None:
        """Make the tensors; each Gaussian is standard normal."""
        super().setup(sizes)
        self.require_number("size", 1, closed=True)
        m, k = int(self.size), sizes.n_components
        self.logits = nn.Parameter(torch.zeros(m))
        self.means = nn.Parameter(torch.zeros(m, k))
        # P_c below the diagonal, its logarithm on it; the diagonal alone for many components.
        self.roots = nn.Parameter(torch.zeros(m, k, k) if k <= MOST_FULL else torch.zeros(m, k))

    def first_state(self, batch: Batch, composition: Composition) -> Mapping[str, Tensor]:
        """The mixture of the codes."""
        found = composition.mixture_of_codes(batch, int(self.size))
        if found is None:
            return {}
        used, n_idle = len(found.weights), len(self.logits) - len(found.weights)
        weights = torch.full_like(self.logits, IDLE / max(n_idle, 1))
        weights[:used] = (1 - IDLE * (n_idle > 0)) * torch.tensor(found.weights)
        means, roots = torch.zeros_like(self.means), torch.zeros_like(self.roots)
        means[:used] = torch.tensor(found.means)
        if self.roots.dim() == 2:
            roots[:used] = -0.5 * torch.tensor(found.covariances).diagonal(dim1=-2, dim2=-1).log()
        else:
            precision_roots = torch.linalg.inv(torch.linalg.cholesky(torch.tensor(found.covariances)))
            diagonal = precision_roots.diagonal(dim1=-2, dim2=-1)
            roots[:used] = (precision_roots.tril(-1) + torch.diag_embed(diagonal.log())).to(roots)
        return {"logits": weights.log(), "means": means, "roots": roots}

    @property
    def _log_diagonals(self) -> Tensor:
        """The logarithms of the diagonals of P_c, shape (m, k)."""
        return self.roots if self.roots.dim() == 2 else self.roots.diagonal(dim1=-2, dim2=-1)

    @property
    def _precision_roots(self) -> Tensor:
        """P_c, lower triangular, shape (m, k, k)."""
        diagonals = torch.diag_embed(self._log_diagonals.exp())
        return diagonals if self.roots.dim() == 2 else self.roots.tril(-1) + diagonals

    def log_prob(self, z: Tensor) -> Tensor:
        if self.roots.dim() == 2:
            whitened = self.roots.exp() * (z[..., None, :] - self.means)
        else:  # one product for all Gaussians
            roots = self._precision_roots
            centers = (roots @ self.means[..., None]).flatten()
            whitened = linear(z, roots.flatten(0, 1), -centers).unflatten(-1, self.means.shape)
        squares, log_determinants = whitened.square().sum(-1), self._log_diagonals.sum(-1)
        constant = 0.5 * z.shape[-1] * math.log(2 * math.pi)
        joint = self.logits.log_softmax(0) + log_determinants - 0.5 * squares - constant
        # A smaller share changes no digit of the sum, and its gradient would be a subnormal number, of which a
        # processor takes a hundred times as long to add and multiply.
        return joint.clamp(min=joint.detach().amax(-1, keepdim=True) - NEGLIGIBLE).logsumexp(-1)

    def divergence(self, q: Posterior, z: Tensor) -> Tensor:
        """Log q(z|x) - log p(z) at the code drawn; where q is the posterior, its noise is that of log p(x|z)."""
        return self._warmed(q.log_prob(z) - self.log_prob(z))

    @property
    def gaussians(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, means and covariances, of shape (m,), (m, k) and (m, k, k)."""
        roots = torch.linalg.inv(self._precision_roots.double())
        return self.logits.double().softmax(0), self.means.double(), roots @ roots.mT

    def sample(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor:
        """Draw codes of Gaussians that are drawn by their weights."""
        noise = super().sample(n_rows, n_components, generator).to(self.means)
        drawn = torch.multinomial(self.logits.softmax(0), n_rows, replacement=True, generator=generator)
        roots = self._precision_roots[drawn]
        return self.means[drawn] + torch.linalg.solve_triangular(roots, noise[..., None], upper=False)[..., 0]


def _learned_noise(problem: LinearProblem, beta: float) -> float:
    """The maximum-likelihood variance: the variance outside the a active directions, divided by d - beta a.

    With beta 1 it is the mean of the discarded eigenvalues (Tipping & Bishop, 1999).
    """
    spectrum, d = problem.spectrum, len(problem.inward)
    for active in range(min(len(problem.eigenvalues), d - 1), 0, -1):
        left = max(spectrum.total - float(spectrum.eigenvalues[:active].sum()), 0.0)
        if d > beta * active:
            noise = left / (d - beta * active)
            if beta * noise < float(spectrum.eigenvalues[active - 1]):
                return noise
    return spectrum.total / d
