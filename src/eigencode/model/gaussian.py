"""The normal density of rows with gaps, by expectation and maximisation (EM)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.model.pca import spectrum
from eigencode.parts.networks.hidden_cells import Patterns, patterns_of

EXACT_COLUMNS = 64
"""Up to this many columns the covariance is any; for more it is a low rank and a diagonal."""

FLAT = 0.003
"""Directions with a smaller share of the mean variance are noise: what the indicators of categories determine."""

LOW_RANK = 16
"""Rank of the covariance of more columns, beside its diagonal."""

MOST_PRODUCTS = 2**27
"""Products of one iteration, about; rows are left out beyond that, but not below `FEWEST_ROWS`."""

FEWEST_ROWS = 1024

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
    hidden = ~rows.observed  # type: ignore[operator]
    whole, groups = rows.x[~hidden.any(1)], list(patterns_of(hidden, lambda n: n**2))
    for _ in range(most):
        precision = torch.linalg.inv(covariance)
        cells = rows.selected(rows.x - center)
        found = [_expected(each, cells[each.rows], center, precision) for each in groups]
        completed, spread = torch.cat([whole, *(rows for rows, _ in found)]), sum(moments for _, moments in found)
        center = completed.mean(0)
        centred = completed - center
        before, covariance = covariance, (centred.T @ centred + spread + prior) / (n_rows + prior_rows)
        if (covariance - before).abs().max() <= tolerance * variances.mean():
            break
    return _decomposed(center, covariance)


def _expected(patterns: Patterns, cells: Tensor, center: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    """The conditional mean of rows of some patterns, and the sum of the conditional covariances.

    ``cells`` are the centred rows, with 0 in their gaps.
    """
    d, each = len(center), patterns
    numbers = each.cells[:, :, None] * d + each.cells[:, None, :]
    conditional = each.inverses(precision.flatten()[numbers])
    spread = torch.bincount(numbers.flatten(), (each.counts[:, None, None] * conditional).flatten(), d * d)
    gaps = each.to_rows(each.cells)
    moved = each.times(conditional, (cells @ precision).gather(1, gaps) * each.to_rows(each.is_hidden))
    return cells.scatter_add(1, gaps, -moved) + center, spread.unflatten(0, (d, d))


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
