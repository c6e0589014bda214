r"""Conformal p-values: how unusual a score is among the scores of rows that were held out.

With the scores :math:`s_1 \dots s_m` of rows that nothing was learned from, the p-value of a new row's score s is

.. math:: p = \frac{1 + \#\{i : s_i \ge s\}}{m + 1}

If the new row comes from the same distribution as these rows, independently, then P(p <= a) <= a for every a, whatever
the model and the distribution (split conformal; Vovk et al., 2005). With weights that are likelihood ratios, it holds
where new rows come from another distribution (Tibshirani et al., 2019). It is a mean over fits: for one fit, the share
of false alarms varies about the level as a beta distribution of m rows.
"""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from eigencode.errors import DataError, OptionError


def p_values(
    scores: ArrayLike, held_out: ArrayLike, weights: ArrayLike | None = None, own: ArrayLike | None = None
) -> np.ndarray:
    """The p-value of each score; larger scores are more unusual.

    Parameters
    ----------
    scores : array of shape (n,)
        Scores of new rows.
    held_out : array of shape (m,)
        Scores of the rows that were held out.
    weights : array of shape (m,), optional
        Their weights.
    own : array of shape (n,), optional
        Weights of the new rows; None takes the largest of ``weights``, which gives the largest p-values.

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> p_values([0.0, 2.5, 9.0], held_out=[1.0, 2.0, 3.0])
    array([1.  , 0.5 , 0.25])
    """
    weights = np.ones(len(np.asarray(held_out))) if weights is None else np.asarray(weights, dtype=np.float64)
    own = weights.max(initial=0.0) if own is None else np.asarray(own, dtype=np.float64)
    found: np.ndarray = (own + weight_above(scores, held_out, weights)) / (own + weights.sum())
    return found


def weight_above(scores: ArrayLike, held_out: ArrayLike, weights: np.ndarray) -> np.ndarray:
    """The weight of the held-out rows that score at least as much as each score, shape (n,)."""
    scores, held_out = np.asarray(scores, dtype=np.float64), np.asarray(held_out, dtype=np.float64)
    order = np.argsort(held_out)
    # Summed from the largest score down, so that equal weights are counted exactly.
    at_least = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
    found: np.ndarray = at_least[np.searchsorted(held_out[order], scores, side="left")]
    return found


def threshold(held_out: ArrayLike, level: float, weights: ArrayLike | None = None) -> float:
    """The score above which p-values are at most a level; infinite where no score has such a p-value."""
    known = np.unique(np.asarray(held_out, dtype=np.float64))
    is_enough = p_values(np.nextafter(known, np.inf), held_out, weights) <= level
    return float(known[is_enough.argmax()]) if is_enough.any() else math.inf


def smallest_level(n_rows: int) -> float:
    """The smallest p-value that so many held-out rows can give, 1 / (m + 1)."""
    return 1 / (n_rows + 1)


def rows_needed(level: float) -> int:
    """The number of held-out rows from which a p-value can be at most a level: 99 for 0.01.

    Examples
    --------
    >>> rows_needed(0.01), rows_needed(0.05), rows_needed(1.0)
    (99, 19, 0)
    """
    return _rows_for(1, level)


def rows_near(n_rows: int, level: float) -> int:
    """The number of held-out rows near another one with which p-values are at most the level as often as it says.

    That is m with (m + 1) level a whole number, or slightly above: with other numbers they are less often.

    Examples
    --------
    >>> rows_near(20, 0.05), rows_near(50, 0.05), rows_near(3, 0.05)
    (19, 59, 19)
    """
    return _rows_for(max(round((n_rows + 1) * level), 1), level)


def rows_within(n_rows: int, level: float) -> int:
    """The largest such number that is at most another one; this one itself if it is too small for the level.

    Examples
    --------
    >>> rows_within(178, 0.01), rows_within(199, 0.01), rows_within(50, 0.01)
    (99, 199, 50)
    """
    found = rows_near(n_rows, level)
    return found if found <= n_rows else min(_rows_for(max(round((n_rows + 1) * level) - 1, 1), level), n_rows)


def _rows_for(k: int, level: float) -> int:
    """The least m for which the k-th smallest p-value, k / (m + 1), is at most the level."""
    least = max(math.floor(k / level) - 2, 0)
    return next(m for m in range(least, least + 4) if k / (m + 1) <= level)


def require_level(level: float, n_rows: int) -> None:
    """Raise an error for a level that is no probability, or that so many held-out rows cannot give."""
    if not (isinstance(level, Real) and 0 < level < 1):
        raise OptionError("A rate must be a number between 0 and 1", got=f"{level!r}")
    if n_rows < rows_needed(level):
        raise DataError(
            f"A rate of {level:g} takes at least {rows_needed(level)} rows held out of the fit",
            got=f"{n_rows}, which give rates from {smallest_level(n_rows):.2g} on",
            hint="Fit with more rows, or ask for a larger rate",
        )


def checked(p_values: ArrayLike) -> np.ndarray:
    """P-values as an array of shape (n,), or an error."""
    found = np.asarray(p_values)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iuf" or not ((found >= 0) & (found <= 1)).all():
        got = f"the shape {found.shape}, type {found.dtype}"
        raise DataError("P-values must be numbers from 0 to 1, one for each row", got=got)
    return found


def discoveries(p: ArrayLike, rate: float) -> np.ndarray:
    r"""Which of many rows to report, so that the expected share of false ones among them is at most a rate.

    The procedure of Benjamini and Hochberg (1995): the rows with the k smallest p-values, for the largest k with
    :math:`p_{(k)} \le k \, \text{rate} / n`. It holds for p-values of one set of held-out rows (Bates et al., 2023).

    Examples
    --------
    >>> discoveries([0.01, 0.02, 0.9], rate=0.05)
    array([ True,  True, False])
    """
    found = np.asarray(p, dtype=np.float64)
    return scipy.stats.false_discovery_control(found) <= rate if len(found) else found.astype(bool)


def drift(values: ArrayLike, held_out: ArrayLike, anomalies: float = 0.0) -> float:
    r"""The p-value of the hypothesis that new rows are as the held-out ones, but for a share of anomalies at most.

    It is that of the two-sample test of Kolmogorov and Smirnov. That p-values of new rows are uniform is the same
    hypothesis, but a test of them by themselves would take the held-out scores for the whole distribution, and reject
    too often. A share a of anomalies, whatever they are, moves the distribution function by at most a, so a is
    subtracted from the largest difference; the distribution is then that of one sample of :math:`m n / (m + n)` rows.

    Parameters
    ----------
    values, held_out : array of shape (n,) and (m,)
        Scores or p-values of new rows, and those of held-out rows in the same units.
    anomalies : float, default 0
        The share.
    """
    if not (isinstance(anomalies, Real) and 0 <= anomalies < 1):
        raise OptionError("'anomalies' must be a share, from 0 on and below 1", got=f"{anomalies!r}")
    values, held_out = np.asarray(values), np.asarray(held_out)
    found = scipy.stats.ks_2samp(values, held_out)
    if not anomalies:
        return float(found.pvalue)
    effective = max(round(len(values) * len(held_out) / (len(values) + len(held_out))), 1)
    return float(scipy.stats.kstwo.sf(max(found.statistic - anomalies, 0.0), effective))
