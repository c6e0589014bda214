"""The likelihood of mixed columns: one likelihood for each block of them."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from numbers import Real
from typing import Literal

import torch
from torch import Tensor, nn

from eigencode.batch import Batch
from eigencode.errors import OptionError, is_int
from eigencode.parts.base import Sizes, Units
from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods.base import Cell, Likelihood
from eigencode.parts.likelihoods.bundles import Bundles
from eigencode.parts.likelihoods.expansion import ROUGH_CELLS, ROUGH_ROWS, Expansion
from eigencode.words import counted

FEWEST_NATS = 0.1
"""A column that differs less from its best constant, in nats a row, weighs as if it had this many."""


Weights = Literal["balanced", "nats"] | Sequence[float] | None
"""How much columns count in the training objective."""


@dataclass(frozen=True)
class Joined(Distribution):
    """Independent blocks of columns, each with a distribution of its own.

    Attributes
    ----------
    parts : sequence of Distribution
        The distributions of bundles of blocks.
    bundles : Bundles
        The blocks of each.
    """

    parts: Sequence[Distribution]
    bundles: Bundles

    @property
    def mean(self) -> Tensor:
        """The blocks' means side by side, shape (..., d)."""
        return self.bundles.apart([part.mean for part in self.parts])

    def log_prob(self, x: Tensor) -> Tensor:
        given = zip(self.parts, self.bundles.of_columns(x), strict=True)
        return self.bundles.apart([part.log_prob(columns) for part, columns in given])

    def sample(self, generator: torch.Generator) -> Tensor:
        return self.bundles.apart([part.sample(generator) for part in self.parts])


class ColumnsExpansion(Expansion):
    """The expansions of blocks of columns, side by side."""

    likelihood: ColumnsLikelihood
    is_rough = False

    @property
    def rough(self) -> Expansion:
        """The rough expansions of the blocks."""
        found = copy.copy(self)
        found.is_rough = True
        return found

    def few(self, batch: Batch) -> Batch:
        """Fewer rows, if it is rough."""
        return batch.thinned(max(ROUGH_CELLS // batch.x.shape[-1], ROUGH_ROWS)) if self.is_rough else batch

    @property
    def blocks(self) -> list[Expansion]:
        """The expansion of each block."""
        found = [likelihood.expansion for likelihood in self.likelihood.likelihoods]
        return [block.rough for block in found] if self.is_rough else found

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
        root = self.weights(batch).sqrt()
        n_choices = max(map(len, found))
        choices = ([units[min(number, len(units) - 1)] for units in found] for number in range(n_choices))
        pairs = (map(torch.cat, zip(*choice, strict=True)) for choice in choices)
        return [(root * inward, outward / root) for inward, outward in pairs]

    def weights(self, batch: Batch) -> Tensor:
        """The weights of the columns, shape (d,), in float64."""
        given = self.likelihood.weights
        if given in (None, "nats"):
            return torch.ones(batch.x.shape[-1], dtype=torch.float64)
        if given == "balanced":
            parts = zip(self.blocks, self._split(batch), strict=True)
            return 1 / torch.cat([block.explainable(own) for block, own in parts]).clamp(min=FEWEST_NATS)
        return torch.tensor(given, dtype=torch.float64).repeat_interleave(torch.tensor(self.likelihood.widths))

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
    weights : {'balanced', 'nats'} or sequence of float, optional
        How much each column counts in the training objective; scores are in nats all the same. 'balanced': a column's
        log-likelihood is divided by what separates its best constant from an exact reconstruction, such as the entropy
        of a category, so that a category with one frequent class counts as much as one with many classes; 'nats': all
        by 1; or one number for each block. None leaves it to the estimator's option 'column_weights'.

    Examples
    --------
    A number and a category of two classes:

    >>> import torch
    >>> from eigencode.parts import CategoricalLikelihood, GaussianLikelihood, Sizes
    >>> likelihood = ColumnsLikelihood(
    ...     [(GaussianLikelihood(), 1), (CategoricalLikelihood(), 2)]
    ... )
    >>> likelihood.setup(Sizes(n_features=3, n_components=1))
    >>> likelihood(torch.tensor([[3.0, 0.0, 0.0]])).mean
    tensor([[3.0000, 0.5000, 0.5000]])
    >>> likelihood.block_widths(3)
    (1, 2)
    """

    numbers = ()
    expansion_type = ColumnsExpansion
    balance: Tensor

    def __init__(self, blocks: Sequence[tuple[Likelihood, int]], weights: Weights = None) -> None:
        super().__init__()
        self.blocks = blocks
        self.weights = weights
        self._likelihoods = nn.ModuleList(likelihood for likelihood, _ in blocks)  # registers their tensors

    def __str__(self) -> str:
        """How many columns each likelihood has."""
        columns: Counter[str] = Counter()
        for likelihood, n_columns in self.blocks:
            columns[repr(likelihood)] += n_columns
        return ", ".join(f"{name} of {counted(n, 'cell')}" for name, n in columns.items())

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
        self._require_width(sizes.n_features)
        self._set_units(sizes.units)
        for likelihood, columns in zip(self.likelihoods, self.slices, strict=True):
            likelihood.setup(sizes.of_columns(columns))
        self._check_weights()
        if self.weights not in (None, "nats"):
            self.register_buffer("balance", torch.ones(sizes.n_features))
        n_outputs = [likelihood.n_outputs(width) for likelihood, width in self.blocks]
        self._first = [min(n, width) for n, width in zip(n_outputs, self.widths, strict=True)]
        self._more = [n - first for n, first in zip(n_outputs, self._first, strict=True)]
        self.bundles = self._bundles()

    def _bundles(self) -> Bundles:
        outputs = torch.arange(sum(self._first) + sum(self._more))
        return Bundles(self.likelihoods, self.widths, self.divided(outputs))

    def _check_weights(self) -> None:
        """Raise an error for weights that are neither a rule nor positive numbers."""
        given = self.weights
        if given in (None, "balanced", "nats"):
            return
        is_sequence = isinstance(given, Sequence) and not isinstance(given, str) and len(given) == len(self.blocks)
        if not is_sequence or not all(isinstance(weight, Real) and 0 < weight < math.inf for weight in given):
            raise OptionError(
                "The weights of columns must be 'balanced', 'nats' or one positive number for each block",
                got=f"{given!r} for {len(self.blocks)} blocks",
            )

    def _set_units(self, units: Units) -> None:
        """Keep the data's units of the columns in these units, and the unit 1 of the scaled ones."""
        cells = self.cells(len(units.center))
        own = torch.tensor([cell.in_data_units for cell in cells])
        self.register_buffer("center", torch.where(own, units.center, 0.0).double(), persistent=False)
        self.register_buffer("divisor", torch.where(own, units.divisor, 1.0).double(), persistent=False)
        logarithmic = None if units.logarithmic is None else units.logarithmic & own
        self.register_buffer("logarithmic", logarithmic, persistent=False)

    @property
    def column_weights(self) -> Tensor | None:
        return None if self.weights in (None, "nats") else self.balance

    def with_weights(self, weights: Literal["balanced", "nats"]) -> ColumnsLikelihood:
        return ColumnsLikelihood(self.blocks, weights) if self.weights is None else self

    def prepare(self, batch: Batch, n_rows: float) -> None:
        for likelihood, own in zip(self.likelihoods, ColumnsExpansion(self)._split(batch), strict=True):
            likelihood.prepare(own, n_rows)
        if self.column_weights is not None:
            self.balance.copy_(ColumnsExpansion(self).weights(batch))

    def constant_spread(self, batch: Batch, output: Tensor) -> Tensor:
        """The best spread of each column whose own is a constant."""
        given = zip(self.likelihoods, ColumnsExpansion(self)._split(batch), self.divided(output), strict=True)
        return torch.cat([likelihood.constant_spread(own, part) for likelihood, own, part in given])

    def with_spread(self, spread: Tensor) -> ColumnsLikelihood:
        """The blocks with the given spreads of the columns whose own is a constant."""
        found = copy.copy(self)
        blocks = zip(self.blocks, spread.split(self.widths), strict=True)
        found.blocks = [(likelihood.with_spread(own), width) for (likelihood, width), own in blocks]
        found._modules = {**self._modules, "bundles": found._bundles().to(spread.device)}
        return found

    def has_normal_residuals(self, n_features: int) -> tuple[bool, ...]:
        return tuple(chain.from_iterable(likelihood.has_normal_residuals(width) for likelihood, width in self.blocks))

    def n_outputs(self, n_features: int) -> int:
        """Number of outputs of the decoder: the sum over the blocks."""
        return sum(likelihood.n_outputs(width) for likelihood, width in self.blocks)

    def cells(self, n_features: int) -> tuple[Cell, ...]:
        self._require_width(n_features)
        return tuple(chain.from_iterable(likelihood.cells(width) for likelihood, width in self.blocks))

    def block_widths(self, n_features: int) -> tuple[int, ...]:
        return tuple(chain.from_iterable(likelihood.block_widths(width) for likelihood, width in self.blocks))

    def target(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Scaled rows of shape (..., d) in the units of each block's distribution."""
        rows = self.unscaled(x)
        bundles = self.bundles
        masks = [None] * len(bundles.likelihoods) if observed is None else bundles.of_columns(observed)
        given = zip(bundles.likelihoods, bundles.of_columns(rows), masks, strict=True)
        return bundles.apart([likelihood.within_support(columns, mask) for likelihood, columns, mask in given])

    def unscaled(self, x: Tensor) -> Tensor:
        """Scaled rows in the units of each block's distribution."""
        return self.units.in_data_units(x)  # all blocks at once: scaled columns have the unit 1 here

    def scaled(self, rows: Tensor) -> Tensor:
        return self.units.scaled(rows)

    def forward(self, output: Tensor) -> Joined:
        given = zip(self.bundles.likelihoods, self.bundles.of_outputs(output), strict=True)
        return Joined([likelihood(own) for likelihood, own in given], self.bundles)

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
        if not all(is_int(width) and int(width) > 0 for width in widths):
            raise OptionError("The numbers of columns of blocks must be positive whole numbers", got=f"{widths}")
        if sum(widths) != n_features:
            raise OptionError(
                "The blocks of a likelihood must have as many columns as the rows",
                got=f"{sum(widths)} columns in {len(widths)} blocks for rows of {n_features}",
            )
