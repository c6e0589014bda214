"""Conformance tests of corruptions."""

from __future__ import annotations

import torch
from torch import Tensor

from eigencode.parts.base import Sizes
from eigencode.parts.corruptions import Corruption
from eigencode.testing import promises


def check_corruption(corruption: Corruption, *, n_features: int = 4, n_rows: int = 6) -> None:
    """Test a corruption: it keeps the shape, uses only the noise that it is given, and does not mix rows.

    Parameters
    ----------
    corruption : Corruption
        An instance; it is copied and not changed.
    n_features, n_rows : int
        Sizes for the tests; with enough cells that some are corrupted.

    Examples
    --------
    >>> from eigencode.parts import GaussianNoise
    >>> from eigencode.testing import check_corruption
    >>> check_corruption(GaussianNoise(variance=0.1))
    """
    part = promises.fresh(corruption)
    n_rows = max(n_rows, 2)
    with promises.no_global_draws(part):
        part.setup(Sizes(n_features, 2))
        x = torch.randn(64 * n_rows, n_features, generator=promises.source(0))
        n = len(x)
        first, again, other = (part.draw_noise(n, n_features, promises.source(seed)) for seed in (1, 1, 2))
        is_noise = isinstance(first, Tensor) and len(first) == n
        promises.require(is_noise, part, "the noise must be a tensor with one row for each row", first)
        promises.require_equal(part, "noise must be the same from the same generator", first, again)
        before = x.clone()
        corrupted = part(x, first)
        promises.require_equal(part, "the clean rows must not be changed", before, x)
        promises.require_shape(part, "the corrupted rows", corrupted, tuple(x.shape))
        promises.require_finite(part, "the corrupted rows must be finite", corrupted)
        promises.require_equal(part, "the same noise must give the same rows", corrupted, part(x, again))
        promises.require(
            not torch.equal(corrupted, part(x, other)), part, "other noise must give other rows", "the same rows"
        )
        for some in (torch.randperm(n, generator=promises.source(3)), torch.arange(n // 3)):
            alone = part(x[some], first[some])
            promises.require_equal(part, "row i must depend on row i and its noise only", corrupted[some], alone)
        promises.check_batch_axes(part, "the corrupted rows", part, x, first)
        promises.check_numbers(part, lambda: part(x, first))
        for dtype in (torch.float64, torch.float32):
            found = part(x.to(dtype), first).dtype
            promises.require(found == dtype, part, f"corrupted rows in {dtype} must have this type", found)
