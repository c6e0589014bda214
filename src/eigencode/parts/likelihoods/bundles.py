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
from eigencode.parts.likelihoods.base import Likelihood, SpreadLikelihood
from eigencode.parts.likelihoods.categorical import Categorical, CategoricalLikelihood
from eigencode.parts.likelihoods.continuous import GaussianLikelihood, LaplaceLikelihood, StudentTLikelihood
from eigencode.parts.likelihoods.discrete import BernoulliLikelihood, NegativeBinomialLikelihood


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


class SpreadsLikelihood(Likelihood):
    """The likelihood of several blocks of a kind, in which each column has a learned spread.

    Parameters
    ----------
    blocks : sequence of SpreadLikelihood
        The likelihood of each; they keep their tensors.
    """

    def __init__(self, blocks: Sequence[SpreadLikelihood]) -> None:
        super().__init__()
        self.blocks = tuple(blocks)  # no modules of this one: their tensors would be registered twice

    def within_support(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        return self.blocks[0].within_support(x, observed)

    def forward(self, output: Tensor) -> Distribution:
        # As in `SpreadLikelihood.current_spread`, with one exponential for all.
        smallest = [block.smallest for block in self.blocks if isinstance(block.smallest, Tensor)]
        excess = torch.cat([block.log_excess for block in self.blocks], dim=-1).exp()
        spreads = (torch.cat(smallest, dim=-1) if smallest else self.blocks[0].smallest) + excess
        return self.blocks[0]._around(output, spreads)


class Selection(nn.Module):
    """Some columns of a tensor, in an order: a view if they are next to each other.

    Parameters
    ----------
    numbers : Tensor
        The numbers of the columns.

    Examples
    --------
    >>> Selection(torch.tensor([2, 0]))(torch.tensor([[10, 11, 12]]))
    tensor([[12, 10]])
    """

    numbers: Tensor

    def __init__(self, numbers: Tensor) -> None:
        super().__init__()
        self.register_buffer("numbers", numbers, persistent=False)
        self.first, self.length = int(numbers[0]), len(numbers)
        self.is_view = torch.equal(numbers, torch.arange(self.first, self.first + self.length))

    def forward(self, x: Tensor) -> Tensor:
        """The columns, from a tensor of shape (..., d)."""
        return x.narrow(-1, self.first, self.length) if self.is_view else x.index_select(-1, self.numbers)


class Bundles(nn.Module):
    """Blocks of columns next to each other, of which those of a kind are evaluated as one.

    Many blocks of few columns take most of the time of a step, whatever their number of rows.

    Parameters
    ----------
    likelihoods : sequence of Likelihood
        The likelihood of each block.
    widths : sequence of int
        The number of columns of each block.
    outputs : sequence of Tensor
        The numbers of the decoder's outputs of each block.

    Attributes
    ----------
    likelihoods : list of Likelihood
        The likelihood of each bundle.
    """

    def __init__(self, likelihoods: Sequence[Likelihood], widths: Sequence[int], outputs: Sequence[Tensor]) -> None:
        super().__init__()
        groups: dict[object, list[int]] = {}
        for number, likelihood in enumerate(likelihoods):
            groups.setdefault(_kind(likelihood, number), []).append(number)
        # A block alone has its own likelihood, which is another module's.
        self._made = nn.ModuleList(_made(likelihoods, group, widths) for group in groups.values() if len(group) > 1)
        self._alone = tuple(likelihoods[group[0]] if len(group) == 1 else None for group in groups.values())
        columns = torch.arange(sum(widths)).split(list(widths))
        self._columns, self._outputs = (
            nn.ModuleList(Selection(torch.cat([numbers[block] for block in group])) for group in groups.values())
            for numbers in (columns, outputs)
        )
        together = [columns[block] for group in groups.values() for block in group]
        self._in_order = Selection(torch.cat(together).argsort())

    @property
    def likelihoods(self) -> list[Likelihood]:
        """The likelihood of each bundle."""
        made = iter(self._made)
        return [next(made) if likelihood is None else likelihood for likelihood in self._alone]  # type: ignore[misc]

    def of_outputs(self, output: Tensor) -> list[Tensor]:
        """The outputs of each bundle, from those of the decoder of shape (..., n_outputs)."""
        return [select(output) for select in self._outputs]

    def of_columns(self, x: Tensor) -> list[Tensor]:
        """The columns of each bundle, of rows of shape (..., d)."""
        return [select(x) for select in self._columns]

    def apart(self, bundles: Sequence[Tensor]) -> Tensor:
        """The inverse: all columns in their order, from those of each bundle."""
        found: Tensor = self._in_order(torch.cat(list(bundles), dim=-1))
        return found


def _made(likelihoods: Sequence[Likelihood], numbers: Sequence[int], widths: Sequence[int]) -> Likelihood:
    """One likelihood for several blocks of a kind."""
    first = likelihoods[numbers[0]]
    if isinstance(first, CategoricalLikelihood):
        return CategoriesLikelihood([widths[number] for number in numbers])
    if isinstance(first, SpreadLikelihood) and first.is_learned:
        return SpreadsLikelihood([likelihoods[number] for number in numbers])  # type: ignore[misc]
    return clone(first)


def _kind(likelihood: Likelihood, number: int) -> object:
    """What likelihoods have in common that are evaluated together; the block's number if that is none other's."""
    kind = type(likelihood)
    if kind in (BernoulliLikelihood, CategoricalLikelihood):
        return kind
    if kind not in SPREADS or likelihood.spread == "learned":  # one spread for the columns of a block
        return number
    return kind, *(value for _, value in sorted(likelihood.get_params(deep=False).items()))


SPREADS = {GaussianLikelihood, LaplaceLikelihood, NegativeBinomialLikelihood, StudentTLikelihood}
"""Likelihoods with a spread."""
