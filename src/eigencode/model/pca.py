"""PCA: the principal directions of scaled rows, with missing cells or without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from eigencode.batch import Batch

EXACT_SIZE = 2048
"""Up to this many columns or rows the spectrum is computed by a full eigendecomposition, in about a second."""

SEARCHED_DIRECTIONS = 256
"""Number of directions for larger problems, if none is given."""

FEW_COLUMNS = 256
"""Up to so many columns all directions are computed."""

EXACT_PRODUCTS = 2e9
"""Up to this many multiply-adds the covariance is computed in float64 throughout, in a tenth of a second."""

BLOCK = 256
"""Columns of the covariance that are computed at once; half of it follows by symmetry."""


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
        if self.total == 0:
            return 1
        kept = self.eigenvalues.cumsum(0) / self.total
        # With a tolerance for rounding: the shares of a full basis may sum up to 1 - 1e-16.
        return min(int((kept < share - 1e-9).sum()) + 1, len(kept))

    def explained_variance_ratio(self, n_components: int) -> list[float]:
        """Share of the variance along each of the leading directions."""
        return (self.eigenvalues[:n_components] / (self.total or 1.0)).tolist()


def spectrum(batch: Batch, n_components: int | None, seed: int) -> Spectrum:
    """Principal directions of centred rows of shape (n, d), in float64.

    Small problems are solved exactly from the covariance (or, with fewer rows than columns, from the rows' inner
    products); large ones by randomised SVD (Halko et al., 2011) with its own seed. With missing cells, each covariance
    is over the rows in which both cells are known, and inner products are of columns scaled up to their observed
    variance.
    """
    rows = batch.x
    n_rows, n_features = rows.shape
    if has_small_moment(batch):
        # Of covariances over different rows all eigenvalues are needed: some may be negative.
        return spectrum_of_moment(second_moment(rows, batch.observed), n_components if batch.observed is None else None)
    if batch.observed is not None:
        rows = rows / observed_shares(batch).sqrt().to(rows)
    if n_rows <= EXACT_SIZE:
        values, left = torch.linalg.eigh(second_moment(rows.T) * (n_features / n_rows))
        keep = values > values.max().clamp(min=torch.finfo(values.dtype).tiny) * 1e-12
        values, left = values[keep].flip(0), left[:, keep].flip(1)
        parts = rows.T.split(max(CELLS // n_rows, 1))  # a copy of all in float64 would be twice as large as they are
        vectors = torch.cat([part.double() @ left for part in parts]) / (values * n_rows).sqrt()
        total = float(values.sum())
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


def spectrum_of_moment(moment: Tensor, n_components: int | None = None) -> Spectrum:
    """Principal directions of centred rows with a second moment of shape (d, d), in float64.

    If few directions of many are asked for, no others are computed.
    """
    d = len(moment)
    if n_components is not None and d > FEW_COLUMNS and n_components <= d // 4:
        found = scipy.linalg.eigh(moment.numpy(), subset_by_index=(d - n_components, d - 1), check_finite=False)
        leading, basis = (torch.from_numpy(array).flip(-1) for array in found)
        return Spectrum(leading.clamp(min=0), with_positive_peaks(basis), float(moment.trace()))
    values, vectors = torch.linalg.eigh(moment)
    values = values.flip(0).clamp(min=0)
    return Spectrum(values, with_positive_peaks(vectors.flip(1)), float(values.sum()))


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
    for part in rows.split(chunk):
        wide = part.double() if n_rows * n_features**2 < EXACT_PRODUCTS else part
        for first in range(0, n_features, BLOCK):  # the upper triangle alone
            moment[first : first + BLOCK, first:] += wide[:, first : first + BLOCK].T @ wide[:, first:]
    moment = moment.triu() + moment.triu(1).T
    if observed is None:
        return moment / n_rows
    counts = sum(part.float().T @ part.float() for part in observed.split(chunk))
    return moment / counts.double().clamp(min=1)


def with_positive_peaks(vectors: Tensor) -> Tensor:
    """Flip each column so that its entry of largest size is positive."""
    peaks = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return vectors * torch.where(peaks < 0, -1.0, 1.0)
