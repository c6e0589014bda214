"""The normal density of rows with gaps, by expectation and maximisation (EM)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.model.pca import spectrum

EXACT_COLUMNS = 64
"""Up to this many columns the covariance is any; for more it is a low rank and a diagonal."""

FLAT = 0.003
"""Directions with a smaller share of the mean variance are noise: what the indicators of categories determine."""

LOW_RANK = 16
"""Rank of the covariance of more columns, beside its diagonal."""

MOST_PRODUCTS = 2**27
"""Products of one iteration, about; rows are left out beyond that, but not below `FEWEST_ROWS`."""

FEWEST_ROWS = 1024

CHUNK_NUMBERS = 2**22
"""Numbers of the matrices of some rows at a time: 32 MB."""

GROUPS = 8
"""Groups of rows by their number of gaps, at least."""

PRIOR_ROWS = 1.0
"""Weight of independent columns beside the rows, in rows: the covariance of few rows with many gaps overfits."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal density of rows: mean, and covariance W W' + D with a diagonal D.

    Attributes
    ----------
    center : Tensor
        The mean, shape (d,).
    loadings : Tensor
        W, shape (d, k).
    noise : Tensor
        The diagonal of D, shape (d,).
    """

    center: Tensor
    loadings: Tensor
    noise: Tensor

    @property
    def rank(self) -> int:
        """Number of columns of W."""
        return self.loadings.shape[1]

    @property
    def rows_of_moment(self) -> Batch:
        """Rows with the density's covariance as their second moment, without gaps."""
        rows = torch.cat([self.loadings.T, self.noise.sqrt().diag()])
        return Batch(rows * len(rows) ** 0.5)


def fit_gaussian(batch: Batch, prior_rows: float = PRIOR_ROWS, tolerance: float = 3e-3, most: int = 20) -> Gaussian:
    """The most likely normal density of rows of shape (n, d) with gaps, in float64.

    Parameters
    ----------
    batch : Batch
        Scaled rows; weights are not used.
    prior_rows : float
        Weight of a prior, in rows: columns with their own variances, without correlation. With 0 it is EM for a normal
        density with any covariance (Dempster, Laird & Rubin, 1977).
    tolerance : float
        Largest change of the covariance at which the iteration ends, beside the mean variance.
    most : int
        Most iterations. The conditional means of hidden cells are best after 15 to 30 (docs/log.md).
    """
    assert batch.observed is not None
    n_rows, d = batch.x.shape
    cost = d**3 if d <= EXACT_COLUMNS else d * LOW_RANK**2
    few = batch.thinned(min(max(MOST_PRODUCTS // cost, FEWEST_ROWS), n_rows))
    rows = Batch(few.x.double(), few.observed)
    counts = rows.observed.sum(0).clamp(min=1)  # type: ignore[union-attr]
    center = rows.x.sum(0) / counts
    variances = (rows.selected(rows.x - center).square().sum(0) / counts).clamp(min=1e-12)
    if d > EXACT_COLUMNS:
        return _low_rank(rows, center, variances, most=20)
    return _any_covariance(rows, center, variances, prior_rows, tolerance, most)


def _any_covariance(
    rows: Batch, center: Tensor, variances: Tensor, prior_rows: float, tolerance: float, most: int
) -> Gaussian:
    """EM for any covariance: each row is completed by its conditional mean and covariance."""
    covariance, prior, n_rows = variances.diag(), prior_rows * variances.diag(), len(rows)
    groups = list(_groups(rows))
    for _ in range(most):
        precision = torch.linalg.inv(covariance)
        found = [group.expected(center, precision) for group in groups]
        completed, spread = torch.cat([rows for rows, _ in found]), sum(moments for _, moments in found)
        center = completed.mean(0)
        centred = completed - center
        before, covariance = covariance, (centred.T @ centred + spread + prior) / (n_rows + prior_rows)
        if (covariance - before).abs().max() <= tolerance * variances.mean():
            break
    return _decomposed(center, covariance)


@dataclass(frozen=True, eq=False)
class _Group:
    """Rows with about equally many gaps.

    Attributes
    ----------
    x : Tensor
        The rows, shape (n, d), in the order of their patterns.
    pattern : Tensor
        The number of each row's pattern, shape (n,).
    counts : Tensor
        Rows of each pattern, shape (p,).
    cells : Tensor
        The hidden cells of each pattern, shape (p, h); those of patterns with fewer are filled up with known ones.
    is_hidden : Tensor
        Which of them are hidden.
    """

    x: Tensor
    pattern: Tensor
    counts: Tensor
    cells: Tensor
    is_hidden: Tensor

    def expected(self, center: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
        """The conditional mean of each row, and the sum of the conditional covariances."""
        d = len(center)
        pairs = self.is_hidden[:, :, None] & self.is_hidden[:, None, :]
        numbers = self.cells[:, :, None] * d + self.cells[:, None, :]
        blocks = torch.where(pairs, precision.flatten()[numbers], torch.eye(pairs.shape[1], dtype=torch.float64))
        conditional = torch.linalg.inv(blocks) * pairs
        weighted = self.counts[:, None, None] * conditional
        spread = torch.bincount(numbers.flatten(), weighted.flatten(), d * d).unflatten(0, (d, d))
        gaps = self.cells[self.pattern]
        is_gap = torch.zeros_like(self.x, dtype=torch.bool).scatter_(1, gaps, self.is_hidden[self.pattern])
        pull = ((self.x - center).masked_fill(is_gap, 0.0) @ precision).gather(1, gaps)
        moved = center[gaps] - torch.einsum("nij,nj->ni", conditional[self.pattern], pull)
        return torch.where(is_gap, self.x.scatter(1, gaps, moved), self.x), spread


def _groups(rows: Batch) -> Iterator[_Group]:
    """The rows in groups whose patterns have about equally many hidden cells, so that few are filled up."""
    assert rows.observed is not None
    patterns, pattern = torch.unique(rows.observed, dim=0, return_inverse=True)
    n_hidden, by_number = (~patterns).sum(1).sort(stable=True)
    patterns, pattern = patterns[by_number], by_number.argsort()[pattern]
    size = max(min(CHUNK_NUMBERS // patterns.shape[1] ** 2, -(-len(patterns) // GROUPS)), 1)
    for first in range(0, len(patterns), size):
        own = (pattern >= first) & (pattern < first + size)
        some, most = patterns[first : first + size], int(n_hidden[first : first + size].max())
        cells = some.to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        number = pattern[own] - first
        counts = number.bincount(minlength=len(some)).double()
        yield _Group(rows.x[own], number, counts, cells, ~some.gather(1, cells))


def _decomposed(center: Tensor, covariance: Tensor) -> Gaussian:
    """The same density as W W' + D, with D the smallest eigenvalue everywhere.

    Of several directions without much variance, D has the diagonal of their covariance, and W is smaller.
    """
    values, vectors = torch.linalg.eigh(covariance)
    least, n_flat = values[-1] * 1e-9, int((values <= FLAT * values.mean()).sum())
    if 1 < n_flat < len(values):
        noise = (vectors[:, :n_flat].square() * values[:n_flat]).sum(1).clamp(min=least)
        return Gaussian(center, vectors[:, n_flat:] * values[n_flat:].sqrt(), noise)
    noise = values[0].clamp(min=least)
    loadings = vectors[:, 1:] * (values[1:] - noise).clamp(min=0).sqrt() if len(values) > 1 else vectors * 0
    return Gaussian(center, loadings, noise.expand(len(values)).clone())


def _low_rank(rows: Batch, center: Tensor, variances: Tensor, most: int) -> Gaussian:
    """EM of factor analysis with gaps (Rubin & Thayer, 1982), from the principal directions of pairs of known cells."""
    assert rows.observed is not None
    known = rows.observed.double()
    counts = known.sum(0).clamp(min=1)
    found = spectrum(Batch(rows.x - center, rows.observed), LOW_RANK, seed=0)
    loadings = found.directions[:, :LOW_RANK] * found.eigenvalues[:LOW_RANK].sqrt()
    noise, eye = variances.clone(), torch.eye(loadings.shape[1], dtype=torch.float64)
    for _ in range(most):
        cells = rows.selected(rows.x - center)
        weighted = loadings / noise[:, None]
        precision = (known @ (loadings[:, :, None] * weighted[:, None]).flatten(1)).unflatten(1, eye.shape) + eye
        spread = torch.linalg.inv(precision)
        codes = torch.einsum("nij,nj->ni", spread, cells @ weighted)
        second = (known.T @ (spread + codes[:, :, None] * codes[:, None]).flatten(1)).unflatten(1, eye.shape)
        cross = cells.T @ codes
        loadings = torch.linalg.solve(second + 1e-9 * counts[:, None, None] * eye, cross)
        noise = torch.maximum((cells.square().sum(0) - (loadings * cross).sum(1)) / counts, 1e-4 * variances)
        center = center + (cells - rows.selected(codes @ loadings.T)).sum(0) / counts
    return Gaussian(center, loadings, noise)
