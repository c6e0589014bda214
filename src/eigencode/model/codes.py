"""Codes and weights as checked arrays, their units, and rows drawn in proportion to weights."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from eigencode.data.containers import read
from eigencode.errors import DataError

SPREAD_FLOOR = 1e-3
"""A column is standardised by no less than this share of the columns' common standard deviation."""

LEVEL_FLOOR = 1e-4
"""A column is standardised by no less than this share of its mean: with the regularisation that blurs it by 1e-7 of its
mean, which is float32's rounding."""

LARGEST_CODE = 1e100
"""Larger codes are refused, and codes below its inverse are taken as zero, since squares would over- or underflow."""


def standards(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Center and divisor of each column; (nearly) constant columns have a small share of the others' divisor."""
    center, deviation = rows.mean(0), rows.std(0)
    floor = np.maximum(SPREAD_FLOOR * math.sqrt(np.square(deviation).mean()), LEVEL_FLOOR * np.abs(center))
    divisor = np.maximum(deviation, floor)
    divisor[divisor == 0] = divisor.max() or LEVEL_FLOOR  # for a column of zeros, any divisor will do
    return center, np.maximum(divisor, 1 / LARGEST_CODE)


def systematic(weights: np.ndarray) -> np.ndarray:
    """Row numbers in proportion to weights: the rows in whose part of the cumulative weights equidistant points lie.

    There are as many points as rows with positive weight, so that with equal weights each row occurs once.
    """
    cumulated = np.cumsum(weights / weights.max())
    n = np.count_nonzero(weights)
    return np.searchsorted(cumulated, (np.arange(n) + 0.5) * (cumulated[-1] / n), side="right")


def as_codes(codes: ArrayLike) -> np.ndarray:
    """Codes as a checked array of float64, shape (n, k)."""
    rows = read(codes, "codes").array.astype(np.float64)
    if rows.ndim != 2 or not rows.shape[1]:
        raise DataError("Codes must be a table of rows and columns", got=f"shape {rows.shape}")
    if rows.size and not np.abs(rows).max() <= LARGEST_CODE:
        raise DataError(f"Codes must be finite numbers, of size {LARGEST_CODE:g} at most", got="larger ones or NaN")
    return rows


def as_weights(sample_weight: ArrayLike, n_rows: int) -> np.ndarray:
    """Weights of rows as a checked array of float64, shape (n,)."""
    weights = read(sample_weight, "sample_weight").array.astype(np.float64)
    if weights.shape != (n_rows,) or not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise DataError(
            f"sample_weight must be {n_rows} finite numbers, none negative and not all zero",
            got=f"shape {weights.shape}" if weights.shape != (n_rows,) else "others",
        )
    return weights
