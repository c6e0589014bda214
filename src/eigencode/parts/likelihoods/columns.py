"""The likelihood of mixed columns: one likelihood for each block of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from numbers import Integral

import torch
from torch import Tensor, nn

from eigencode.batch import Batch
from eigencode.errors import OptionError
from eigencode.parts.base import Sizes
from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods.base import Cell, Likelihood
from eigencode.parts.likelihoods.expansion import Expansion


@dataclass(frozen=True)
class Joined(Distribution):
    """Independent blocks of columns, each with a distribution of its own.

    Attributes
    ----------
    parts : sequence of Distribution
        The distribution of each block.
    widths : list of int
        The number of columns of each block.
    """

    parts: Sequence[Distribution]
    widths: list[int]

    @property
    def mean(self) -> Tensor:
        """The blocks' means side by side, shape (..., d)."""
        return torch.cat([part.mean for part in self.parts], dim=-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of each cell, in nats, shape (..., d)."""
        blocks = x.split(self.widths, dim=-1)
        return torch.cat([part.log_prob(block) for part, block in zip(self.parts, blocks, strict=True)], dim=-1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One draw for each row, shape (..., d)."""
        return torch.cat([part.sample(generator) for part in self.parts], dim=-1)


class ColumnsExpansion(Expansion):
    """The expansions of blocks of columns, side by side."""

    likelihood: ColumnsLikelihood

    @property
    def blocks(self) -> list[Expansion]:
        """The expansion of each block."""
        return [likelihood.expansion for likelihood in self.likelihood.likelihoods]

    @property
    def is_exact(self) -> bool:  # type: ignore[override]
        """Whether PCA in working units is the linear optimum for all blocks."""
        return all(block.is_exact for block in self.blocks)

    @property
    def moves_means(self) -> bool:  # type: ignore[override]
        """Whether ``calibrate`` may change the means of any block."""
        return any(block.moves_means for block in self.blocks)

    @property
    def is_robust(self) -> bool:  # type: ignore[override]
        """Whether any block has residuals with a bounded gradient."""
        return any(block.is_robust for block in self.blocks)

    @property
    def has_linear_start(self) -> bool:  # type: ignore[override]
        """Whether the first outputs of every block are the locations of its columns."""
        parts = self.likelihood
        fits = (part.n_outputs(n) >= n for part, n in zip(parts.likelihoods, parts.widths, strict=True))
        return all(fits) and all(block.has_linear_start for block in self.blocks)

    @property
    def reweights(self) -> bool:  # type: ignore[override]
        """Whether any block has a learned spread."""
        return any(block.reweights for block in self.blocks)

    def constant(self, batch: Batch) -> Tensor:
        """The best constant output of each block."""
        found = [block.constant(own) for block, own in zip(self.blocks, self._split(batch), strict=True)]
        return self.likelihood.arranged(found)

    def calibrate(self, batch: Batch, output: Tensor) -> None:
        """Set the parameters of each block to their best values."""
        for block, own, part in zip(self.blocks, self._split(batch), self.likelihood.divided(output), strict=True):
            block.calibrate(own, part)

    def intercept(self, batch: Batch, output: Tensor, bias: Tensor) -> Tensor:
        """The best bias of each block."""
        outputs, biases = self.likelihood.divided(output), self.likelihood.divided(bias)
        given = zip(self.blocks, self._split(batch), outputs, biases, strict=True)
        return self.likelihood.arranged([block.intercept(own, part, first) for block, own, part, first in given])

    def working_units(self, batch: Batch) -> Sequence[tuple[Tensor, Tensor]]:
        """The working units of the blocks, in which the squared error of each has a variance of 1."""
        found = [block.unit_variance(own) for block, own in zip(self.blocks, self._split(batch), strict=True)]
        n_choices = max(map(len, found))
        choices = ([units[min(number, len(units) - 1)] for units in found] for number in range(n_choices))
        return [(torch.cat([a for a, _ in choice]), torch.cat([b for _, b in choice])) for choice in choices]

    def _split(self, batch: Batch) -> Iterator[Batch]:
        """The columns of each block."""
        for columns in self.likelihood.slices:
            yield batch.map(lambda tensor, columns=columns: tensor[..., columns])  # type: ignore[misc]


class ColumnsLikelihood(Likelihood):
    r"""Blocks of columns next to each other, each with a likelihood of its own.

    .. math:: \log p(x|z) = \sum_b \log p_b(x_b|z)

    The likelihood of each block has its own outputs, parameters, support and units: some columns may be in the data's
    units and others scaled. The first outputs are the locations of all columns; further outputs of the blocks follow.

    Parameters
    ----------
    blocks : sequence of (Likelihood, int)
        For each block its likelihood and its number of columns.

    Examples
    --------
    A number and a category of two classes:

    >>> import torch
    >>> from eigencode.parts import CategoricalLikelihood, GaussianLikelihood, Sizes
    >>> likelihood = ColumnsLikelihood([(GaussianLikelihood(), 1), (CategoricalLikelihood(), 2)])
    >>> likelihood.setup(Sizes(n_features=3, n_components=1))
    >>> likelihood(torch.tensor([[3.0, 0.0, 0.0]])).mean
    tensor([[3.0000, 0.5000, 0.5000]])
    >>> likelihood.block_widths(3)
    (1, 2)
    """

    numbers = ()
    expansion_type = ColumnsExpansion

    def __init__(self, blocks: Sequence[tuple[Likelihood, int]]) -> None:
        super().__init__()
        self.blocks = blocks
        self._likelihoods = nn.ModuleList(likelihood for likelihood, _ in blocks)  # registers their tensors

    @property
    def likelihoods(self) -> list[Likelihood]:
        """The likelihood of each block."""
        return [likelihood for likelihood, _ in self.blocks]

    @property
    def widths(self) -> list[int]:
        """The number of columns of each block."""
        return [width for _, width in self.blocks]

    @property
    def slices(self) -> list[slice]:
        """The columns of each block."""
        return [slice(end - width, end) for width, end in zip(self.widths, accumulate(self.widths), strict=True)]

    def setup(self, sizes: Sizes) -> None:
        """Check the blocks and make their tensors."""
        self._require_width(sizes.n_features)
        for likelihood, columns in zip(self.likelihoods, self.slices, strict=True):
            likelihood.setup(sizes.of_columns(columns))
        n_outputs = [likelihood.n_outputs(width) for likelihood, width in self.blocks]
        self._first = [min(n, width) for n, width in zip(n_outputs, self.widths, strict=True)]
        self._more = [n - first for n, first in zip(n_outputs, self._first, strict=True)]

    def n_outputs(self, n_features: int) -> int:
        """Number of outputs of the decoder: the sum over the blocks."""
        return sum(likelihood.n_outputs(width) for likelihood, width in self.blocks)

    def cells(self, n_features: int) -> tuple[Cell, ...]:
        """The support and the units of each column."""
        self._require_width(n_features)
        return tuple(chain.from_iterable(likelihood.cells(width) for likelihood, width in self.blocks))

    def block_widths(self, n_features: int) -> tuple[int, ...]:
        """The numbers of columns that are one variable each."""
        return tuple(chain.from_iterable(likelihood.block_widths(width) for likelihood, width in self.blocks))

    def target(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Scaled rows of shape (..., d) in the units of each block's distribution."""
        masks = [None] * len(self.blocks) if observed is None else observed.split(self.widths, dim=-1)
        given = zip(self.likelihoods, x.split(self.widths, dim=-1), masks, strict=True)
        return torch.cat([likelihood.target(*own) for likelihood, *own in given], dim=-1)

    def scaled(self, rows: Tensor) -> Tensor:
        """Rows of shape (..., d) in the units of each block's distribution, scaled."""
        given = zip(self.likelihoods, rows.split(self.widths, dim=-1), strict=True)
        return torch.cat([likelihood.scaled(block) for likelihood, block in given], dim=-1)

    def forward(self, output: Tensor) -> Joined:
        """The distributions of the blocks."""
        given = zip(self.likelihoods, self.divided(output), strict=True)
        return Joined([likelihood(own) for likelihood, own in given], self.widths)

    def divided(self, output: Tensor) -> list[Tensor]:
        """The outputs of each block, its locations first, from outputs of shape (..., n_outputs)."""
        first, more = self._first, self._more
        parts = output.split([*first, *(n for n in more if n)], dim=-1)
        rest = iter(parts[len(first) :])
        return [torch.cat([own, next(rest)], dim=-1) if n else own for own, n in zip(parts, more, strict=False)]

    def arranged(self, outputs: Sequence[Tensor]) -> Tensor:
        """The inverse of ``divided``: outputs of all blocks in the order of the decoder's outputs."""
        given = list(zip(outputs, self._first, strict=True))
        return torch.cat([*(own[..., :n] for own, n in given), *(own[..., n:] for own, n in given)], dim=-1)

    def _require_width(self, n_features: int) -> None:
        """Raise an error unless the blocks have this many columns."""
        widths = self.widths
        if not all(isinstance(width, Integral) and width > 0 for width in widths):
            raise OptionError("The numbers of columns of blocks must be positive whole numbers", got=f"{widths}")
        if sum(widths) != n_features:
            raise OptionError(
                "The blocks of a likelihood must have as many columns as the rows",
                got=f"{sum(widths)} columns in {len(widths)} blocks for rows of {n_features}",
            )
