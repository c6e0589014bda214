r"""The normal density of a row's hidden cells given the known ones, by one small system for each pattern of gaps.

With covariance W W' + D, where D is diagonal, the hidden cells h of a row have, given the known ones o, the covariance

.. math:: C_h = \big((W W^\top + D)^{-1}_{hh}\big)^{-1} = D_h + W_h (I + W_o^\top D_o^{-1} W_o)^{-1} W_h^\top

The first form has a system of the size of h, the second one of the rank of W: patterns take the smaller one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

CHUNK_NUMBERS = 2**21
"""Numbers of the matrices of some patterns at a time: 16 MB."""

SHARED = 8
"""Rows a pattern from which it is faster to take the patterns one by one than to copy a matrix for each row."""


@dataclass(frozen=True, eq=False)
class Patterns:
    """Patterns of about equally many hidden cells, and the rows that have them.

    Attributes
    ----------
    rows : Tensor
        The numbers of the rows in the order of their patterns, shape (n,).
    counts : Tensor
        Rows of each pattern, shape (p,).
    cells : Tensor
        The hidden cells of each pattern, shape (p, h); those of patterns with fewer are filled up with known ones.
    is_hidden : Tensor
        Which of them are hidden, shape (p, h).
    """

    rows: Tensor
    counts: Tensor
    cells: Tensor
    is_hidden: Tensor

    @property
    def pairs(self) -> Tensor:
        """Which pairs of cells are both hidden, shape (p, h, h)."""
        return self.is_hidden[:, :, None] & self.is_hidden[:, None, :]

    def to_rows(self, of_patterns: Tensor) -> Tensor:
        """For each row what its pattern has."""
        return of_patterns if len(self.rows) == len(self.counts) else of_patterns.repeat_interleave(self.counts, 0)

    def inverses(self, blocks: Tensor) -> Tensor:
        """The inverses of the hidden cells' blocks of a matrix, shape (p, h, h), 0 where a cell is known."""
        return torch.cholesky_inverse(self._factors(blocks)) * self.pairs

    def solved(self, blocks: Tensor, vectors: Tensor) -> Tensor:
        """The inverse of each row's block times the row's vector, shape (n, h), which is 0 where a cell is known."""
        if len(self.rows) == len(self.counts):
            return torch.cholesky_solve(vectors[:, :, None], self._factors(blocks))[:, :, 0]
        return self.times(self.inverses(blocks), vectors)

    def _factors(self, blocks: Tensor) -> Tensor:
        """The Cholesky factors of blocks, with cells that are known apart from the others."""
        eye = torch.eye(blocks.shape[1], dtype=blocks.dtype, device=blocks.device)
        return torch.linalg.cholesky_ex(torch.where(self.pairs, blocks, eye)).L

    def whole(self, n_cells: int) -> Tensor:
        """Which of all cells are hidden, shape (p, d)."""
        none = torch.zeros(len(self.cells), n_cells, dtype=torch.bool, device=self.cells.device)
        return none.scatter_(1, self.cells, self.is_hidden)

    def times(self, matrices: Tensor, vectors: Tensor) -> Tensor:
        """The symmetric matrix of each row's pattern, shape (p, m, m), times the row's vector, shape (n, m)."""
        if len(self.rows) < SHARED * len(self.counts):
            return (self.to_rows(matrices) @ vectors[:, :, None])[:, :, 0]
        parts = vectors.split(self.counts.tolist())
        return torch.cat([part @ matrix for part, matrix in zip(parts, matrices, strict=True)])


def patterns_of(hidden: Tensor, numbers: Callable[[int], int]) -> Iterator[Patterns]:
    """The patterns of rows with gaps, shape (n, d), in groups with equally many hidden cells within a factor of 2.

    ``numbers`` says how many numbers are needed for a pattern of so many hidden cells; a group has as many patterns as
    fit into little memory.
    """
    mask = hidden.cpu().numpy()
    n_hidden = torch.from_numpy(np.count_nonzero(mask, axis=1))  # torch would copy the mask as 64-bit numbers
    gapped = n_hidden.nonzero()[:, 0]
    bits = np.packbits(mask, axis=1)[gapped.numpy()]
    found = np.unique(bits.view(f"V{bits.shape[1]}")[:, 0], return_index=True, return_inverse=True)
    first, pattern = (torch.from_numpy(numbers) for numbers in found[1:])
    sizes, order = n_hidden[gapped[first]].sort(stable=True)
    rows = gapped[order.argsort()[pattern].argsort(stable=True)].to(hidden.device)
    counts, firsts = pattern.bincount(minlength=len(order))[order], gapped[first[order]].to(hidden.device)
    first_row, begin = counts.cumsum(0) - counts, 0
    while begin < len(order):
        size = min(2 * int(sizes[begin]) - 1, hidden.shape[1])
        last = min(int(torch.searchsorted(sizes, size, right=True)), begin + max(CHUNK_NUMBERS // numbers(size), 1))
        own, row = slice(begin, last), int(first_row[begin])
        n_rows, own_counts = int(counts[own].sum()), counts[own].to(hidden.device)
        cells = _cells_of(hidden[firsts[own]], sizes[own].to(hidden.device))
        yield Patterns(rows[row : row + n_rows], own_counts, *cells)
        begin = last


def _cells_of(hidden: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The hidden cells of patterns, filled up with the first known one, and which of them are hidden, shape (p, h).

    ``hidden`` has the shape (p, d), and ``sizes`` the number of hidden cells of each pattern, in ascending order.
    """
    pattern, cell = hidden.nonzero(as_tuple=True)
    places = torch.arange(int(sizes[-1]), device=hidden.device)
    cells = hidden.view(torch.uint8).argmin(1, keepdim=True).repeat(1, len(places))
    cells[pattern, torch.arange(len(cell), device=hidden.device) - (sizes.cumsum(0) - sizes)[pattern]] = cell
    return cells, places < sizes[:, None]


@dataclass(frozen=True, eq=False)
class Covariance:
    """A covariance W W' + D, and that of hidden cells given the known ones.

    Attributes
    ----------
    loadings : Tensor
        W, shape (d, k).
    noise : Tensor
        The diagonal of D, shape (d,).
    """

    loadings: Tensor
    noise: Tensor

    @property
    def rank(self) -> int:
        """Number of columns of W."""
        return self.loadings.shape[1]

    @cached_property
    def weighted(self) -> Tensor:
        """W over D, shape (d, k)."""
        return self.loadings / self.noise[:, None]

    @cached_property
    def roots(self) -> Tensor:
        """A matrix R of shape (d, k) with which the inverse covariance is 1 / D - R R'."""
        return torch.linalg.solve_triangular(
            self._factor(self.loadings.T @ self.weighted), self.weighted.T, upper=False
        ).T

    def pull(self, cells: Tensor) -> Tensor:
        """Minus the inverse covariance times rows of shape (n, d), for the cells in which they are 0."""
        roots = self.roots
        return (cells @ roots) @ roots.T

    def times(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The conditional covariance of the hidden cells of each row times these cells, shape (n, d), 0 elsewhere."""
        found = torch.zeros_like(x)
        for each in patterns_of(hidden, self._numbers):
            if self._is_direct(each):
                cells = each.to_rows(each.cells)
                own = x[each.rows[:, None], cells] * each.to_rows(each.is_hidden)
                found[each.rows[:, None], cells] = each.solved(self._blocks(each), own)
            else:
                own, is_hidden = x[each.rows].where(hidden[each.rows], 0.0), hidden[each.rows]
                codes = each.times(self._of_codes(each), own @ self.loadings)
                found[each.rows] = torch.where(is_hidden, self.noise * own + codes @ self.loadings.T, 0.0)
        return found

    def times_by_codes(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The same with a system of the rank of W for each row, and shapes that depend on no value."""
        own = x.where(hidden, 0.0)
        factor = self._precision_factors(hidden)
        # Not cholesky_solve, which a CUDA graph cannot record.
        half = torch.linalg.solve_triangular(factor, (own @ self.loadings)[..., None], upper=False)
        codes = torch.linalg.solve_triangular(factor.mT, half, upper=True)[..., 0]
        return (self.noise * own + codes @ self.loadings.T).where(hidden, 0.0)

    def variances(self, hidden: Tensor) -> Tensor:
        """The variance of each hidden cell given the known cells of its row, shape (n, d), 0 for known ones."""
        found = torch.zeros(hidden.shape, dtype=self.noise.dtype, device=self.noise.device)
        for each in patterns_of(hidden, self._numbers):
            if self._is_direct(each):
                own = each.inverses(self._blocks(each)).diagonal(dim1=1, dim2=2)
                found[each.rows[:, None], each.to_rows(each.cells)] = each.to_rows(own)
            else:
                found[each.rows] = each.to_rows(self.variances_by_codes(each.whole(hidden.shape[1])))
        return found

    def variances_by_codes(self, hidden: Tensor) -> Tensor:
        """The same with a system of the rank of W for each row, and shapes that depend on no value."""
        # Not cholesky_inverse, which ONNX does not have.
        half = torch.linalg.solve_triangular(
            self._precision_factors(hidden), torch.eye(self.rank).to(self.noise), upper=False
        )
        # One product with l l', the other way about, would take rank times the memory of the rows.
        squares = (self.loadings[:, :, None] * self.loadings[:, None, :]).flatten(1)
        return (self.noise + (half.mT @ half).flatten(-2) @ squares.T).where(hidden, 0.0)

    def _is_direct(self, patterns: Patterns) -> bool:
        """Whether the system of the hidden cells is not larger than that of the codes."""
        return patterns.cells.shape[1] <= self.rank

    def _numbers(self, n_hidden: int) -> int:
        """Numbers for a pattern of so many hidden cells."""
        return min(n_hidden, self.rank) * self.rank + n_hidden

    @cached_property
    def inverse(self) -> Tensor:
        """The inverse covariance, shape (d, d)."""
        return self.noise.reciprocal().diag() - self.roots @ self.roots.T

    def _blocks(self, patterns: Patterns) -> Tensor:
        """The inverse covariance of each pattern's hidden cells, shape (p, h, h)."""
        cells, d = patterns.cells, len(self.noise)
        if d * d <= cells.numel() * cells.shape[1]:
            return self.inverse.flatten()[cells[:, :, None] * d + cells[:, None, :]]
        roots = self.roots[cells]
        return self.noise.reciprocal()[cells].diag_embed() - roots @ roots.mT

    def _of_codes(self, patterns: Patterns) -> Tensor:
        """The covariance of the codes given each pattern's known cells, shape (p, k, k)."""
        return torch.cholesky_inverse(self._precision_factors(patterns.whole(len(self.noise))))

    def _precision_factors(self, hidden: Tensor) -> Tensor:
        """Cholesky factors of the codes' inverse covariance given the known cells of rows, shape (..., n, k, k)."""
        products = (self.loadings[:, :, None] * self.weighted[:, None, :]).flatten(1)
        return self._factor(((~hidden).to(products) @ products).unflatten(-1, (self.rank, self.rank)))

    def _factor(self, matrix: Tensor) -> Tensor:
        """The Cholesky factor of I and a matrix."""
        return torch.linalg.cholesky_ex(matrix + torch.eye(self.rank, dtype=matrix.dtype, device=matrix.device)).L


LIBRARY = torch.library.Library("eigencode", "FRAGMENT")
"""One operator, which the recording of a step takes as a whole, and calls anew: what is in it depends on values."""

LIBRARY.define("covariance_times(Tensor hidden, Tensor x, Tensor loadings, Tensor noise) -> Tensor")
LIBRARY.impl("covariance_times", lambda hidden, x, loadings, noise: Covariance(loadings, noise).times(hidden, x), "CPU")


class CovarianceTimes(torch.autograd.Function):
    """The conditional covariance of hidden cells times rows (n, d): symmetric, so it is its own derivative."""

    @staticmethod
    def forward(hidden: Tensor, x: Tensor, loadings: Tensor, noise: Tensor) -> Tensor:
        return torch.ops.eigencode.covariance_times(hidden, x, loadings, noise)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        hidden, _, loadings, noise = inputs
        ctx.save_for_backward(hidden, loadings, noise)
        ctx.save_for_forward(hidden, loadings, noise)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, loadings, noise = ctx.saved_tensors
        return None, CovarianceTimes.apply(hidden, gradient, loadings, noise), None, None

    @staticmethod
    def jvp(ctx: Any, hidden: None, x: Tensor, loadings: None, noise: None) -> Tensor:
        known, *covariance = ctx.saved_tensors
        return CovarianceTimes.apply(known, x, *covariance)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Tensor) -> tuple[Tensor, int]:
        """Rows of all members as rows of one; a member at a time where the covariances differ."""
        size = info.batch_size
        hidden, x, loadings, noise = (
            one.expand(size, *one.shape) if dim is None else one.movedim(dim, 0)
            for one, dim in zip(given, in_dims, strict=True)
        )
        if in_dims[2] is None and in_dims[3] is None:
            found = CovarianceTimes.apply(hidden.flatten(0, 1), x.flatten(0, 1), *given[2:])
            return found.unflatten(0, x.shape[:2]), 0
        return torch.stack([CovarianceTimes.apply(*each) for each in zip(hidden, x, loadings, noise, strict=True)]), 0


def covariance_times(hidden: Tensor, x: Tensor, loadings: Tensor, noise: Tensor) -> Tensor:
    """The conditional covariance of the hidden cells of rows (..., n, d) times these cells, 0 elsewhere."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return Covariance(loadings, noise).times_by_codes(hidden, x)
    rows = hidden.reshape(-1, hidden.shape[-1]), x.reshape(-1, x.shape[-1])
    return CovarianceTimes.apply(*rows, loadings, noise).view_as(x)
