"""Corruptions C(x~|x): noise on the network's input, while the target is the clean row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from eigencode.errors import OptionError
from eigencode.parts.base import Sizes, Term

if TYPE_CHECKING:
    from eigencode.model.initialization import LinearProblem, LinearStart


class Corruption(Term):
    """Corrupts the input by given noise."""

    ignores_idle_components = True
    is_stochastic = True

    @abstractmethod
    def draw_noise(self, n_rows: int, n_features: int, generator: torch.Generator) -> Tensor:
        """The noise of one batch."""

    @abstractmethod
    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """The corrupted input x~, shape (n, d)."""

    def cell_moments(self, variance: Tensor) -> tuple[float, Tensor, Tensor] | None:
        """q, c, D with E[x~_j | x] = q x_j + c_j and mean residual variance D_j, for scaled columns of a variance.

        None if cells are not known to be corrupted independently.
        """
        return None

    def linear_start(self, problem: LinearProblem) -> LinearStart | None:
        """The best linear denoiser of the code's rank, if the corruption's moments are known."""
        variance = problem.mean_squares
        moments = self.cell_moments(variance)
        return None if moments is None else problem.denoised(*moments)


class GaussianNoise(Corruption):
    r"""Adds independent normal noise to each cell of the scaled row.

    .. math:: \tilde x = x + \sqrt v \, \epsilon, \qquad \epsilon \sim N(0, I)

    The optimal linear denoiser keeps the share l / (l + v) of a direction with eigenvalue l.

    Parameters
    ----------
    variance : float
        v, in units of the scaled columns.

    Examples
    --------
    >>> import torch
    >>> noise = GaussianNoise(variance=0.25)
    >>> noise(torch.zeros(1, 2), torch.tensor([[1.0, -2.0]]))
    tensor([[ 0.5000, -1.0000]])
    """

    numbers = ("variance",)

    def __init__(self, variance: float = 0.1) -> None:
        super().__init__()
        self.variance = variance

    def setup(self, sizes: Sizes) -> None:
        self.require_number("variance", closed=True)

    def draw_noise(self, n_rows: int, n_features: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise, shape (n, d)."""
        return torch.randn((n_rows, n_features), generator=generator, device=generator.device)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return x + self.variance**0.5 * noise.to(x.dtype)

    def cell_moments(self, variance: Tensor) -> tuple[float, Tensor, Tensor]:
        """1, 0 and v."""
        return 1.0, torch.zeros_like(variance), torch.full_like(variance, self.variance)


class CellwiseCorruption(Corruption):
    r"""Replaces each cell with probability p, independently of all others.

    .. math:: \tilde x_j = \begin{cases} x_j & \text{with probability } 1 - p \\ r_j & \text{with probability } p
        \end{cases}

    A subclass has the argument ``fraction``, which is p, and defines the new value r of a cell.
    """

    numbers: ClassVar[tuple[str, ...]] = ("fraction",)

    fraction: float

    def setup(self, sizes: Sizes) -> None:
        self.require_number("fraction", 0, 1, closed=True)

    def draw_noise(self, n_rows: int, n_features: int, generator: torch.Generator) -> Tensor:
        """Uniform noise, shape (n, d)."""
        return uniform_noise(n_rows, n_features, generator)

    def moments(self, mean: Tensor, square: Tensor, variance: Tensor) -> tuple[float, Tensor, Tensor]:
        r"""The moments of a cell that is replaced by r, from E[r] and E[r^2], each of shape (d,).

        .. math:: q = 1 - p, \qquad c = p E[r], \qquad D = p (E[r^2] - p E[r]^2) + q p S

        since E[x~^2] = q S + p E[r^2] for a centred column of variance S, and D = E[x~^2] - E[(q x + c)^2].
        """
        p = float(self.fraction)
        return 1 - p, p * mean, p * (square - p * mean.square()) + (1 - p) * p * variance


class SaltAndPepper(CellwiseCorruption):
    """Sets a fraction of the cells to their column's smallest or largest value, with equal probabilities.

    The noise of Vincent et al. (2010) for images, which sets random pixels to black or white. The extremes are those
    of the training rows.

    Parameters
    ----------
    fraction : float
        Share of the cells that is replaced, from 0 to 1.

    Raises
    ------
    OptionError
        In ``setup``, if the fraction is not between 0 and 1.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import Sizes
    >>> noise = SaltAndPepper(fraction=0.5)
    >>> noise.setup(
    ...     Sizes(n_features=3, n_components=1, low=-torch.ones(3), high=2 * torch.ones(3))
    ... )
    >>> noise(torch.zeros(1, 3), torch.tensor([[0.1, 0.4, 0.9]]))
    tensor([[-1.,  2.,  0.]])
    """

    low: Tensor
    high: Tensor

    def __init__(self, fraction: float = 0.25) -> None:
        super().__init__()
        self.fraction = fraction

    def setup(self, sizes: Sizes) -> None:
        """Check the fraction and store the columns' extremes."""
        super().setup(sizes)
        self.register_buffer("low", sizes.low.clone())
        self.register_buffer("high", sizes.high.clone())

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        extreme = torch.where(noise < self.fraction / 2, self.low.to(x), self.high.to(x))
        return torch.where(noise < self.fraction, extreme, x)

    def cell_moments(self, variance: Tensor) -> tuple[float, Tensor, Tensor]:
        """The moments of a cell that is replaced by its column's extremes."""
        low, high = self.low.to(variance), self.high.to(variance)
        return self.moments((low + high) / 2, (low.square() + high.square()) / 2, variance)


class Masking(CellwiseCorruption):
    r"""Masks a fraction of the cells: each is set to a fixed value of its column.

    The noise of denoising autoencoders (Vincent et al., 2008), and a model of missing inputs. The network can recognise
    masked cells if the value is rare in its column; the default is the column's mean. The optimal linear map is then
    the marginalised denoiser of Chen et al. (2012), with q = 1 - fraction and S the covariance:

    .. math:: W = q S Q^{-1}, \qquad Q_{ij} = q^2 S_{ij} \text{ off the diagonal, } q S_{ii} \text{ on it}

    Parameters
    ----------
    fraction : float
        Share of the cells that is masked, from 0 to 1.
    value : 'mean', float or array-like of shape (d,)
        The value of masked cells: the column's mean, or a value in the data's units, one for all columns or one each.

    Raises
    ------
    OptionError
        In ``setup``, if the fraction is not between 0 and 1, or the value is neither a number nor one for each column.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import Sizes
    >>> noise = Masking(fraction=0.5)
    >>> noise.setup(Sizes(n_features=3, n_components=1))
    >>> noise(torch.ones(1, 3), torch.tensor([[0.1, 0.4, 0.9]]))
    tensor([[0., 0., 1.]])
    """

    numbers = ("fraction", "value")

    filling: Tensor

    def __init__(self, fraction: float = 0.25, value: float | str | Sequence[float] = "mean") -> None:
        super().__init__()
        self.fraction = fraction
        self.value = value

    def setup(self, sizes: Sizes) -> None:
        """Check the arguments and store the value in scaled units, where a column's mean is 0."""
        super().setup(sizes)
        center = sizes.units.center
        is_mean = isinstance(self.value, str) and self.value == "mean"
        filling = torch.zeros_like(center) if is_mean else sizes.units.scaled(self._values(sizes.n_features).to(center))
        self.register_buffer("filling", filling)

    def _values(self, n_features: int) -> Tensor:
        """The given values, one for each column, shape (d,)."""
        values = np.asarray(self.value)
        if values.dtype.kind in "iuf" and values.shape in ((), (n_features,)) and np.isfinite(values).all():
            return torch.from_numpy(np.broadcast_to(values, n_features).astype(np.float64))
        raise OptionError(
            "The 'value' parameter of Masking must be 'mean', a finite number, or one for each column",
            got=f"{self.value!r} for {n_features} columns",
        )

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return torch.where(noise < self.fraction, self.filling.to(x), x)

    def cell_moments(self, variance: Tensor) -> tuple[float, Tensor, Tensor]:
        """The moments of a cell that is replaced by a fixed value."""
        filling = self.filling.to(variance)
        return self.moments(filling, filling.square(), variance)


class CallableCorruption(Corruption):
    """A corruption that is a function of the clean rows and of uniform noise.

    Parameters
    ----------
    function : callable
        Called with scaled rows and with independent noise, uniform on the open interval (0, 1), both tensors of shape
        (n, d) and of the same type; returns the corrupted rows. It should not draw random numbers itself, so that fits
        can be repeated: ``noise < p`` is an event of probability p, and ``torch.special.ndtri(noise)`` is normal. For
        other noise, write a subclass of `Corruption`. A function cannot be saved in a model file, but your own torch
        module or subclass can; read it with ``eigencode.load(path, parts=[module])``.

    Raises
    ------
    OptionError
        In ``setup``, if the function cannot be called, or does not return rows of the shape of its argument.

    Examples
    --------
    >>> import torch
    >>> noise = CallableCorruption(lambda x, noise: x * (0.5 + noise))
    >>> noise(torch.ones(1, 2), torch.tensor([[0.25, 0.5]]))
    tensor([[0.7500, 1.0000]])
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def setup(self, sizes: Sizes) -> None:
        """Try the function on two rows."""
        if not callable(self.function):
            raise OptionError("A corruption must be a part or a function", got=f"{self.function!r} instead")
        rows = torch.zeros(2, sizes.n_features)
        with torch.no_grad():
            found = self.function(rows, torch.full_like(rows, 0.5))
        if not isinstance(found, Tensor) or found.shape != rows.shape:
            shape = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"{type(found).__name__} instead"
            raise OptionError("A corruption must return a tensor of the shape of its first argument", got=shape)

    def draw_noise(self, n_rows: int, n_features: int, generator: torch.Generator) -> Tensor:
        """Uniform noise, shape (n, d)."""
        return uniform_noise(n_rows, n_features, generator)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.function(x.clone(), noise.to(x.dtype))


def uniform_noise(n_rows: int, n_features: int, generator: torch.Generator) -> Tensor:
    """Independent numbers in the open interval (0, 1), so that quantiles of any distribution at them are finite."""
    noise = torch.rand((n_rows, n_features), generator=generator, device=generator.device)
    return noise.clamp_(min=torch.finfo(noise.dtype).eps / 4)
