"""Bundles: blocks of columns with the same kind of likelihood, which are evaluated as one block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from sklearn.base import clone
from torch import Tensor, nn

from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods.base import Likelihood
from eigencode.parts.likelihoods.categorical import Categorical, CategoricalLikelihood
from eigencode.parts.likelihoods.continuous import GaussianLikelihood
from eigencode.parts.likelihoods.discrete import BernoulliLikelihood


@dataclass(frozen=True)
class Categories(Distribution):
    """Several categories, each a block of one-hot columns.

    Attributes
    ----------
    logits : Tensor
        The logits of the blocks side by side, shape (..., d).
    widths : sequence of int
        The number of columns of each block.
    padded : Tensor
        The column of each class of each block; d for the classes that a block has less than the largest.
    columns : Tensor
        The position of each column among the padded ones.
    """

    logits: Tensor
    widths: Sequence[int]
    padded: Tensor
    columns: Tensor

    @cached_property
    def _log_shares(self) -> Tensor:
        nothing = self.logits.new_full((*self.logits.shape[:-1], 1), -math.inf)
        padded = torch.cat([self.logits, nothing], dim=-1).index_select(-1, self.padded)
        found = padded.unflatten(-1, (len(self.widths), -1)).log_softmax(-1)
        return found.flatten(-2).index_select(-1, self.columns)

    @property
    def mean(self) -> Tensor:
        """Probabilities of the classes, shape (..., d)."""
        return self._log_shares.exp()

    def log_prob(self, x: Tensor) -> Tensor:
        return x * self._log_shares

    def sample(self, generator: torch.Generator) -> Tensor:
        blocks = self.logits.split(list(self.widths), dim=-1)
        return torch.cat([Categorical(block).sample(generator) for block in blocks], dim=-1)


class CategoriesLikelihood(CategoricalLikelihood):
    """The likelihood of several categories: the same numbers as those of each by itself.

    Parameters
    ----------
    widths : sequence of int
        The number of columns of each.
    """

    expansion_type = None  # type: ignore[assignment]
    padded: Tensor
    columns: Tensor

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = widths
        most, n_columns = max(widths), sum(widths)
        numbers = torch.arange(most).expand(len(widths), most)
        is_own = numbers < torch.tensor(widths)[:, None]
        first = torch.tensor([0, *accumulate(widths)][:-1])[:, None]
        self.register_buffer("padded", torch.where(is_own, first + numbers, n_columns).flatten(), persistent=False)
        self.register_buffer("columns", is_own.flatten().nonzero()[:, 0], persistent=False)

    def forward(self, output: Tensor) -> Categories:  # type: ignore[override]
        return Categories(output, self.widths, self.padded, self.columns)


class Bundles(nn.Module):
    """Blocks of columns next to each other, of which those of a kind without tensors are evaluated as one.

    Many blocks of few columns take most of the time of a step, whatever their number of rows.

    Parameters
    ----------
    likelihoods : sequence of Likelihood
        The likelihood of each block.
    widths : sequence of int
        The number of columns of each block.

    Attributes
    ----------
    likelihoods : list of Likelihood
        The likelihood of each bundle.
    numbers : list of list of int
        The numbers of its blocks.
    """

    def __init__(self, likelihoods: Sequence[Likelihood], widths: Sequence[int]) -> None:
        super().__init__()
        groups: dict[object, list[int]] = {}
        for number, likelihood in enumerate(likelihoods):
            groups.setdefault(_kind(likelihood, number), []).append(number)
        self.numbers, self.widths = list(groups.values()), list(widths)
        together = [number for numbers in self.numbers for number in numbers]
        self._in_order = None if together == sorted(together) else [together.index(i) for i in range(len(widths))]
        self._widths_together = [self.widths[number] for number in together]
        # A block alone has its own likelihood, which is another module's.
        self._made = nn.ModuleList(_made(likelihoods, numbers, widths) for numbers in self.numbers if len(numbers) > 1)
        self._alone = tuple(likelihoods[numbers[0]] if len(numbers) == 1 else None for numbers in self.numbers)

    @property
    def likelihoods(self) -> list[Likelihood]:
        """The likelihood of each bundle."""
        made = iter(self._made)
        return [next(made) if likelihood is None else likelihood for likelihood in self._alone]  # type: ignore[misc]

    def of_blocks(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """The blocks of each bundle side by side."""
        return [
            blocks[numbers[0]] if len(numbers) == 1 else torch.cat([blocks[number] for number in numbers], dim=-1)
            for numbers in self.numbers
        ]

    def of_columns(self, x: Tensor) -> list[Tensor]:
        """The columns of each bundle, of rows of shape (..., d)."""
        return self.of_blocks(x.split(self.widths, dim=-1))

    def apart(self, bundles: Sequence[Tensor]) -> Tensor:
        """The inverse: all columns in their order, from those of each bundle."""
        found = torch.cat(list(bundles), dim=-1)
        if self._in_order is None:
            return found
        blocks = found.split(self._widths_together, dim=-1)
        return torch.cat([blocks[number] for number in self._in_order], dim=-1)


def _made(likelihoods: Sequence[Likelihood], numbers: Sequence[int], widths: Sequence[int]) -> Likelihood:
    """One likelihood for several blocks of a kind."""
    first = likelihoods[numbers[0]]
    if isinstance(first, CategoricalLikelihood):
        return CategoriesLikelihood([widths[number] for number in numbers])
    return clone(first)


def _kind(likelihood: Likelihood, number: int) -> object:
    """What likelihoods have in common that are evaluated together; the block's number if that is none other's."""
    if type(likelihood) in (BernoulliLikelihood, CategoricalLikelihood):
        return type(likelihood)
    if type(likelihood) is GaussianLikelihood and not likelihood.is_learned:
        return float(likelihood.spread)
    return number
