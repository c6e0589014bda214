"""PCA: the principal directions of scaled rows, with missing cells or without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from eigencode.batch import Batch, equal_parts

EXACT_SIZE = 2048
"""Up to this many columns or rows the spectrum is computed by a full eigendecomposition, in about a second."""

SEARCHED_DIRECTIONS = 256
"""Number of directions for larger problems, if none is given."""

FEW_COLUMNS = 256
"""Up to so many columns all directions are computed."""

EXACT_PRODUCTS = 2e9
"""Up to this many multiply-adds the covariance is computed in float64 throughout, in a tenth of a second."""

BLOCK = 256
"""Columns of a matrix that are computed at once; half of a covariance follows by symmetry."""

CELLS = 2**20
"""Cells of a part of the rows of which a copy is made."""


@dataclass(frozen=True)
class Spectrum:
    """Principal directions of centred rows.

    Attributes
    ----------
    eigenvalues : Tensor
        Variances along the leading directions, largest first, shape (m,).
    directions : Tensor
        Orthonormal columns, each with its largest entry positive, shape (d, m).
    total : float
        Variance over all directions.
    """

    eigenvalues: Tensor
    directions: Tensor
    total: float

    def n_components_for(self, share: float) -> int:
        """The smallest number of directions that keeps a share of the variance; at least 1."""
        return count_for(self.eigenvalues, share, self.total)

    def explained_variance_ratio(self, n_components: int) -> list[float]:
        """Share of the variance along each of the leading directions."""
        return (self.eigenvalues[:n_components] / (self.total or 1.0)).tolist()


def count_for(eigenvalues: Tensor, share: float | None, total: float) -> int:
    """How many of the eigenvalues, largest first, have a share of their total; at least 1. All, without a share."""
    if share is None:
        return len(eigenvalues)
    if total == 0:
        return 1
    kept = eigenvalues.cumsum(0) / total
    # With a tolerance for rounding: the shares of a full basis may sum up to 1 - 1e-16.
    return min(int((kept < share - 1e-9).sum()) + 1, len(kept))


def spectrum(batch: Batch, n_components: int | None, seed: int, share: float | None = None) -> Spectrum:
    """Principal directions of centred rows of shape (n, d), in float64.

    As many are kept as are asked for, or as have a share of the variance; all, if neither is given.

    Small problems are solved exactly from the covariance (or, with fewer rows than columns, from the rows' inner
    products); large ones by randomised SVD (Halko et al., 2011) with its own seed. With missing cells, each covariance
    is over the rows in which both cells are known, and inner products are of columns scaled up to their observed
    variance.
    """
    rows = batch.x
    n_rows, n_features = rows.shape
    if has_small_moment(batch):
        # Of covariances over different rows all eigenvalues are needed: some may be negative.
        wanted = (n_components, share) if batch.observed is None else (None, None)
        return spectrum_of_moment(second_moment(rows, batch.observed), *wanted)
    if batch.observed is not None:
        rows = rows / observed_shares(batch).sqrt().to(rows)
    if n_rows <= EXACT_SIZE:
        products = second_moment(rows.T).mul_(n_features / n_rows)
        values, left, total = _leading(products, n_components, share)
        keep = values > values.max().clamp(min=torch.finfo(values.dtype).tiny) * 1e-12
        values, left = values[keep], left[:, keep]
        vectors = torch.empty(n_features, len(values), dtype=left.dtype)
        parts = list(equal_parts(n_features, max(CELLS // n_rows, 1)))
        room = torch.empty(n_rows, len(vectors[parts[0]]), dtype=left.dtype)  # all rows would take twice their size
        for part in parts:
            some = room[:, : len(vectors[part])].copy_(rows[:, part])
            torch.matmul(some.T, left, out=vectors[part])
        vectors /= (values * n_rows).sqrt()
    else:
        wanted = min(n_components or SEARCHED_DIRECTIONS, *rows.shape)
        _, singular, right = randomized_svd(rows.numpy(), wanted, n_iter=4, random_state=seed % 2**32)
        values = torch.from_numpy(singular).double().square() / n_rows
        vectors = torch.from_numpy(right.T.copy()).double()
        # Without a copy of the rows, which torch makes of the squares, in float64.
        total = float(np.einsum("ij,ij->", rows.numpy(), rows.numpy(), dtype=np.float64)) / n_rows
    return Spectrum(values.clamp(min=0), with_positive_peaks(vectors), total)


def has_small_moment(batch: Batch) -> bool:
    """Whether the spectrum of rows is computed from their second moment."""
    n_rows, n_features = batch.x.shape
    return n_features <= min(EXACT_SIZE, max(n_rows, 256))


def spectrum_of_moment(moment: Tensor, n_components: int | None = None, share: float | None = None) -> Spectrum:
    """Principal directions of centred rows of a second moment of shape (d, d), in float64; how many, as `spectrum`."""
    values, vectors, total = _leading(moment, n_components, share)
    vectors = without_constants(vectors, moment)
    return Spectrum(values.clamp(min=0), with_positive_peaks(vectors), total)


def _leading(moment: Tensor, n_components: int | None, share: float | None) -> tuple[Tensor, Tensor, float]:
    """The largest eigenvalues of a second moment in descending order, their eigenvectors, and the sum of all.

    If few of many are asked for, no other eigenvectors are computed.
    """
    d = len(moment)
    if d <= FEW_COLUMNS:
        values, vectors = decomposed(moment)
        total = float(values.flip(0).clamp(min=0).sum())
        n_components = count_for(values.flip(0).clamp(min=0), share, total) if n_components is None else n_components
    else:
        total = float(moment.trace())
        if n_components is None and share is not None:
            found = torch.from_numpy(_in_place(moment, eigvals_only=True))
            n_components = count_for(found.flip(0).clamp(min=0), share, total)
        values, vectors = decomposed(moment, n_components)
    n = min(n_components or d, d)
    return values[-n:].flip(0), vectors[:, -n:].flip(1), total


def decomposed(moment: Tensor, n_largest: int | None = None) -> tuple[Tensor, Tensor]:
    """The eigenvalues of a second moment in ascending order, and their eigenvectors; of many, perhaps the largest only.

    The moment is symmetric to the last bit, and has the same numbers afterwards.
    """
    d = len(moment)
    if d <= FEW_COLUMNS:
        return torch.linalg.eigh(moment)
    first = d - min(n_largest or d, d)
    subset = (first, d - 1) if d - first <= d // 4 else None  # all are found in less time than half of them
    values, vectors = _in_place(moment, subset_by_index=subset)
    return torch.from_numpy(values), torch.from_numpy(vectors)


def _in_place(moment: Tensor, **options: Any) -> Any:
    """What `scipy.linalg.eigh` finds, which takes no copy of the matrix: it writes to one half and the diagonal.

    These are restored from the other half.
    """
    turned, diagonal = moment.T, moment.diagonal().clone()
    try:
        # This driver has its eigenvectors elsewhere.
        return scipy.linalg.eigh(turned.numpy(), driver="evr", overwrite_a=True, check_finite=False, **options)
    finally:
        _mirror(turned)
        moment.diagonal().copy_(diagonal)


def observed_shares(batch: Batch) -> Tensor:
    """Share of each column's cells that is observed, shape (d,), in float64; at least one cell is counted."""
    assert batch.observed is not None
    return batch.observed.sum(0).clamp(min=1).double() / len(batch)


def second_moment(rows: Tensor, observed: Tensor | None = None, chunk: int = 16_384) -> Tensor:
    """X'X / n in float64; large products are computed in the rows' precision and summed over chunks in float64.

    With missing cells, n is the number of rows in which both columns are known, for each pair of columns.
    """
    n_rows, n_features = rows.shape
    moment = torch.zeros(n_features, n_features, dtype=torch.float64)
    is_exact = n_rows * n_features**2 < EXACT_PRODUCTS
    for part in rows.split(min(chunk, max(CELLS // n_features, BLOCK)) if is_exact else chunk):
        wide = part.double() if is_exact else part
        for first in range(0, n_features, BLOCK):  # the upper triangle alone
            moment[first : first + BLOCK, first:] += wide[:, first : first + BLOCK].T @ wide[:, first:]
    _mirror(moment)
    if observed is None:
        return moment.div_(n_rows)
    counts = sum(part.float().T @ part.float() for part in observed.split(chunk))
    return moment.div_(counts.double().clamp_(min=1))


def _mirror(matrix: Tensor) -> None:
    """Set the lower triangle of a square matrix to the upper one, a few columns at a time."""
    for first in range(0, len(matrix), BLOCK):
        block = matrix[first : first + BLOCK, first : first + BLOCK]
        block.copy_(block.triu() + block.triu(1).T)
        matrix[first + BLOCK :, first : first + BLOCK] = matrix[first : first + BLOCK, first + BLOCK :].T


def without_constants(vectors: Tensor, moment: Tensor) -> Tensor:
    """Set what belongs to constant columns, rows of a matrix of shape (d, m), to 0, where rounding left more; in place.

    Products of such tiny numbers are subnormal, which some processors take a hundred times as long to add and multiply.
    """
    vectors[moment.diagonal() == 0] = 0.0
    return vectors


def with_positive_peaks(vectors: Tensor) -> Tensor:
    """Flip each column so that its entry of largest size is positive, in place."""
    for part in vectors.split(BLOCK, 1):
        peaks = part.gather(0, part.abs().argmax(0, keepdim=True))
        part.mul_(torch.where(peaks < 0, -1.0, 1.0))
    return vectors
