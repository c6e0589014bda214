"""Models of different widths as the rows of one matrix: the weights of each, padded by zeros that never change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from eigencode.model.composition import Composition


class NotBatchable(Exception):
    """The reason why models cannot be trained in one batch."""


@dataclass(frozen=True)
class Layout:
    """The columns of the matrix for each weight.

    Attributes
    ----------
    shapes : dict of str to tuple
        The largest shape of each trained parameter, by name, in the order of the columns.
    columns : list of Tensor
        For each model, the columns of its weights.
    is_padded : bool
        Whether some model is narrower than another.
    """

    shapes: Mapping[str, tuple[int, ...]]
    columns: Sequence[Tensor]
    is_padded: bool

    @classmethod
    def of(cls, compositions: Sequence[Composition]) -> Layout:
        """The layout of the smallest matrix for all models."""
        named = [dict(c.named_parameters()) for c in compositions]
        trained = [name for name, p in named[0].items() if p.requires_grad]
        shapes = {name: _hull([n[name].shape for n in named]) for name in trained}
        columns = [_columns(c, shapes) for c in compositions]
        is_padded = any(len(own) < sum(map(math.prod, shapes.values())) for own in columns)
        return cls(shapes, columns, is_padded)

    def of_models(self, chosen: Sequence[int]) -> Layout:
        """The layout of some of the models, for the same columns."""
        return replace(self, columns=[self.columns[k] for k in chosen])

    def filled(self, vectors: Sequence[Tensor]) -> Tensor:
        """The matrix with the models' weights, each given as one vector."""
        width = sum(map(math.prod, self.shapes.values()))
        matrix = vectors[0].detach().new_zeros(len(vectors), width)
        for row, own, vector in zip(matrix, self.columns, vectors, strict=True):
            row[own] = vector.detach()
        return matrix

    def continued(self, matrix: Tensor) -> Tensor:
        """The matrix with each number in the padding behind it too, so that few neighbours differ."""
        mask = self.mask(matrix)
        if mask is None:
            return matrix
        numbers = torch.arange(matrix.shape[1], device=matrix.device).expand_as(matrix)
        return matrix.gather(1, torch.where(mask > 0, numbers, 0).cummax(1).values)

    def views(self, matrix: Tensor) -> dict[str, Tensor]:
        """Each parameter of all models, as a view of the matrix."""
        pieces = matrix.split([math.prod(shape) for shape in self.shapes.values()], dim=1)
        shaped = zip(self.shapes.items(), pieces, strict=True)
        return {name: piece.unflatten(1, shape).detach().requires_grad_() for (name, shape), piece in shaped}

    def mask(self, matrix: Tensor) -> Tensor | None:
        """1 for the weights of each model and 0 for padding; None if there is no padding."""
        return self.filled([matrix.new_ones(len(own)) for own in self.columns]) if self.is_padded else None


def stacked(leaves: Sequence[Tensor | None], width: int) -> Tensor | None:
    """Noise of all models along a new first axis, padded by zeros to the widest and to at least ``width``."""
    drawn = [leaf for leaf in leaves if leaf is not None]
    if not drawn:
        return None
    if len(drawn) < len(leaves):
        raise NotBatchable("some draw noise and others do not")
    *lengths, widest = _hull([leaf.shape for leaf in drawn])
    shape = (*lengths, max(widest, width))
    padding = [
        [p for axis in (-1 - i for i in range(len(shape))) for p in (0, shape[axis] - leaf.shape[axis])]
        for leaf in drawn
    ]
    return torch.stack([nn.functional.pad(leaf, room) for leaf, room in zip(drawn, padding, strict=True)])


def _hull(shapes: Sequence[torch.Size]) -> tuple[int, ...]:
    """The elementwise maximum of shapes."""
    return tuple(max(sizes) for sizes in zip(*shapes, strict=True))


def _columns(composition: Composition, shapes: Mapping[str, tuple[int, ...]]) -> Tensor:
    """The columns of a model's weights in a row with parameters of the given shapes."""
    device = next(composition.parameters()).device
    found, offset = [], 0
    n_blocks = composition.code.width(1)
    for name, shape in shapes.items():
        index = torch.arange(math.prod(shape), device=device).view(shape) + offset
        offset += index.numel()
        own = composition.get_parameter(name).shape
        for axis, (size, full) in enumerate(zip(own, shape, strict=True)):
            # An encoder's output of several numbers per component consists of blocks, and each is padded at its end.
            is_code = name.startswith("encoder") and size == composition.code.width(composition.n_components)
            blocks = n_blocks if is_code and size < full else 1
            kept = torch.arange(full, device=device).view(blocks, -1)[:, : size // blocks].reshape(-1)
            index = index.index_select(axis, kept)
        found.append(index.reshape(-1))
    return torch.cat(found)
