"""Codes: what the encoder's output means, q(z|x)."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from eigencode.errors import OptionError
from eigencode.parts.base import Sizes, Word
from eigencode.parts.distributions import Delta
from eigencode.parts.networks import activation_module, is_elementwise

if TYPE_CHECKING:
    from eigencode.composition import Composition
    from eigencode.starts import LinearProblem, LinearStart


class Posterior(Protocol):
    """A distribution of codes that can be drawn from with noise given from outside."""

    @property
    def mean(self) -> Tensor:
        """The expected code, shape (n, k)."""

    @property
    def variance(self) -> Tensor | None:
        """Variance of each component, shape (n, k), or None for a point."""

    def draw(self, noise: Tensor | None) -> Tensor:
        """A code for each row, differentiable, shape (n, k)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log q(z|x) in nats, for codes of shape (..., n, k); 0 for a point."""


class Code(Word):
    """Turns the encoder's output into a distribution of codes.

    A subclass says how many numbers it wants from the encoder for k codes, what noise one draw takes, and the
    distribution itself.
    """

    is_stochastic: bool = False
    """Whether a code is drawn, so that a pass takes noise."""

    is_ordered: bool = False
    """Whether the first components are worth the most, so that a shorter code is a prefix of a longer one."""

    is_elementwise: bool = False
    """Whether component j of the mean code is a function of number j of the encoder's output alone.

    The Jacobian of an encoder of one layer is then known in closed form. A subclass with a ``forward`` of its own
    declares it anew; see `declares`.
    """

    is_identity: bool = False
    """Whether the mean code is the first k numbers of the encoder's output, as they are."""

    def width(self, n_components: int) -> int:
        """Numbers the encoder gives for each row."""
        return n_components

    def draw_noise(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor | None:
        """The noise of one draw, or None where the code is deterministic."""
        return None

    def outputs_of_variance(self, variance: Tensor) -> Tensor:
        """What the encoder has to give past the first k numbers for codes of a variance, shape (width - k,)."""
        return variance.new_empty(0)

    @abstractmethod
    def forward(self, output: Tensor) -> Posterior:
        """The distribution q(z|x) of an encoder's output of shape (n, width)."""


def declares(code: Code, name: str) -> bool:
    """Whether a code says a property of its ``forward``, by an attribute that is at least as near as that method.

    What a class says of itself is not taken for true of a subclass that computes something else.

    Examples
    --------
    >>> class Softmax(Point):
    ...     def forward(self, output):
    ...         return Delta(output.softmax(-1))
    >>> declares(Point(), "is_elementwise"), declares(Softmax(), "is_elementwise")
    (True, False)
    """
    if name in vars(code):
        return bool(vars(code)[name])
    said = next(cls for cls in type(code).__mro__ if name in vars(cls) or "forward" in vars(cls))
    return name in vars(said) and bool(getattr(code, name))


class Point(Code):
    """The deterministic code z = a(f(x)).

    Parameters
    ----------
    activation : str or torch.nn.Module, optional
        Elementwise nonlinearity a of the code's units, as "sigmoid" for activities from 0 to 1; None is linear.

    Examples
    --------
    >>> import torch
    >>> Point()(torch.tensor([[1.0, 2.0]])).mean
    tensor([[1., 2.]])
    """

    ignores_idle_components = True

    def __init__(self, activation: str | nn.Module | None = None) -> None:
        super().__init__()
        self.activation = activation

    @property
    def is_elementwise(self) -> bool:  # type: ignore[override]
        """Whether the activation is known to be an elementwise function."""
        return self.activation is None or is_elementwise(self.activation)

    @property
    def is_identity(self) -> bool:  # type: ignore[override]
        """Whether there is no activation."""
        return self.activation in (None, "identity")

    def setup(self, sizes: Sizes) -> None:
        """Make the nonlinearity."""
        self.nonlinearity = activation_module("identity" if self.activation is None else self.activation)

    def shrinkage(self, eigenvalues: Tensor) -> Tensor | None:
        """All of every direction for linear units: squared error alone is minimised by PCA (Baldi & Hornik, 1989)."""
        return torch.ones_like(eigenvalues) if self.is_identity else None

    def forward(self, output: Tensor) -> Delta:
        """A point mass at the activated output."""
        return Delta(output if self.activation is None else self.nonlinearity(output))


@dataclass(frozen=True)
class TruncatedDelta(Delta):
    """A point whose components past a drawn place are dropped, in training only."""

    def draw(self, noise: Tensor | None) -> Tensor:
        """The point, its components kept where the noise is 1."""
        return self.value if noise is None else self.value * noise


class NestedDropout(Code):
    """An ordered code: each training row keeps only its first b components, b drawn at random.

    Every prefix of the code so learns to reconstruct as well as it can alone, and one fit serves all smaller sizes
    (Rippel, Gelbart & Adams, 2014). The optimal linear components are the principal ones, in order. b is uniform on
    1..k, so that all sizes weigh the same.

    Examples
    --------
    >>> import torch
    >>> code = NestedDropout()
    >>> mask = code.draw_noise(3, 4, torch.Generator().manual_seed(0))
    >>> bool((mask.diff(dim=1) <= 0).all() and (mask[:, 0] == 1).all())
    True
    """

    is_stochastic = True
    is_ordered = True
    is_elementwise = True
    is_identity = True
    reweights = True

    def draw_noise(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor:
        """1 for the components kept and 0 for those dropped, shape (n, k)."""
        kept = torch.randint(n_components, (n_rows, 1), generator=generator, device=generator.device)
        return (torch.arange(n_components, device=generator.device) <= kept).float()

    def shrinkage(self, eigenvalues: Tensor) -> Tensor:
        """All of every direction: each prefix of PCA is the best of its size."""
        return torch.ones_like(eigenvalues)

    def forward(self, output: Tensor) -> TruncatedDelta:
        """A point that can be truncated."""
        return TruncatedDelta(output)


WIDEST = 4.0
"""Variance of a posterior, against that of its prior, that is not exceeded."""

LOG_VARIANCE_BOUND = 30.0
"""A posterior's log-variance is kept within this, far from where its exponential would be no number."""


@dataclass(frozen=True)
class DiagonalPosterior:
    r"""A normal with independent components, q(z|x) = N(mu, diag(sigma^2)), drawn as z = mu + sigma * eps."""

    location: Tensor
    log_variance: Tensor

    @property
    def mean(self) -> Tensor:
        """The location mu, shape (n, k)."""
        return self.location

    @property
    def variance(self) -> Tensor:
        """sigma^2, shape (n, k)."""
        return self.log_variance.exp()

    @property
    def entropy(self) -> Tensor:
        """H(q) in nats, shape (n,)."""
        return 0.5 * (self.log_variance + (1 + math.log(2 * math.pi))).sum(-1)

    def draw(self, noise: Tensor | None) -> Tensor:
        """Draw mu + sigma * eps for standard normal noise of shape (..., n, k); mu without noise."""
        if noise is None:
            return self.location
        return self.location + (0.5 * self.log_variance).exp() * noise.to(self.location)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log q(z|x) in nats, for codes of shape (..., n, k); shape (..., n)."""
        squares = (z - self.location).square() / self.variance
        return -0.5 * (squares + self.log_variance + math.log(2 * math.pi)).sum(-1)


class GaussianCode(Code):
    r"""The variational autoencoder's stochastic code: the encoder gives each component a mean and a log-variance.

    .. math:: q(z|x) = N(\mu(x), \mathrm{diag}(\sigma^2(x))), \qquad z = \mu + \sigma \epsilon, \quad
        \epsilon \sim N(0, I)

    Written so, a draw is differentiable in mu and sigma (Kingma & Welling, 2014). With several draws a row the
    objective weighs them by importance and is a tighter bound on log p(x) (Burda, Grosse & Salakhutdinov, 2016).

    Parameters
    ----------
    n_draws : int
        Codes drawn for each row.

    Examples
    --------
    >>> import torch
    >>> q = GaussianCode()(torch.tensor([[2.0, -1.0, 0.0, 0.0]]))
    >>> q.mean, q.variance
    (tensor([[ 2., -1.]]), tensor([[1., 1.]]))
    >>> q.draw(torch.tensor([[0.5, 0.5]]))
    tensor([[ 2.5000, -0.5000]])
    """

    ignores_idle_components = True

    is_stochastic = True
    is_elementwise = True
    is_identity = True

    _ceiling: float = LOG_VARIANCE_BOUND

    def __init__(self, n_draws: int = 1) -> None:
        super().__init__()
        self.n_draws = n_draws

    def setup(self, sizes: Sizes) -> None:
        """Check the number of draws."""
        if not isinstance(self.n_draws, Integral) or self.n_draws < 1:
            raise OptionError("The 'n_draws' parameter of GaussianCode must be a positive int", got=f"{self.n_draws!r}")

    def join(self, composition: Composition) -> None:
        """Bound the variance by a few times the prior's, beyond which no posterior has a reason to be.

        A row can narrow its codes down but hardly widen them, and a variance that is an exponential of what the
        encoder makes of an unusual row may be anything.
        """
        variance = None if composition.prior is None else composition.prior.variance
        self._ceiling = LOG_VARIANCE_BOUND if variance is None else math.log(WIDEST * variance)

    def width(self, n_components: int) -> int:
        """Two numbers a component."""
        return 2 * n_components

    def draw_noise(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise, shape (n, k), or (m, n, k) for m draws a row."""
        draws = () if self.n_draws == 1 else (int(self.n_draws),)
        return torch.randn((*draws, n_rows, n_components), generator=generator, device=generator.device)

    def outputs_of_variance(self, variance: Tensor) -> Tensor:
        """The logarithms, shape (k,)."""
        return variance.log()

    def linear_start(self, problem: LinearProblem) -> LinearStart | None:
        """Nothing of its own beside a prior; without one the variance would fall to nothing."""
        return None if problem.composition.prior is None else problem.shrunk(torch.ones_like(problem.eigenvalues))

    def forward(self, output: Tensor) -> DiagonalPosterior:
        """The normal with the output's first half as its mean and its second half as its log-variance."""
        mean, log_variance = output.chunk(2, dim=-1)
        return DiagonalPosterior(mean, log_variance.clamp(-LOG_VARIANCE_BOUND, self._ceiling))
