r"""Calibration: what is known of the scores of normal rows, by rows held out of one model or of several.

With one model this is split conformal prediction. With K models, each of which leaves a K-th of the rows out, the
p-value of a row is

.. math:: p = \frac{1 + \#\{i : s_i \ge s_{k(i)}(x)\}}{n + 1}

where s_k is the score of model k, k(i) the model that left row i out, and n the number of rows that any left out
(cross-conformal prediction; Vovk, 2015). Nearly all rows count, so that small levels can be asked for. As many are left
out as use a level up: of 178 rows p-values are at most 0.01 for 1 of 179 new rows, of 99 for 1 of 100.

What is proved is weaker. With the p-values p_k of each model by itself,
:math:`\sum_k (n_k + 1) p_k = (n + 1) p + K - 1`, and a mean of p-values is at most a with a probability of at most 2 a
(Vovk & Wang, 2020), so

.. math:: P(p \le a) \le 2 \, \frac{(n + 1) a + K - 1}{n + K}

which is .096 for a = .01 and n = 99. It is near a where the models are about equal, and below it where they differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eigencode.detection import conformal


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores of rows that the model that scored them has not seen.

    Attributes
    ----------
    scores, weights : ndarray of shape (m,)
        Of these rows; larger scores are more unusual.
    models : ndarray of int of shape (m,)
        Number of the model that scored each.

    Examples
    --------
    >>> two = Calibration(
    ...     np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4), np.array([0, 0, 1, 1])
    ... )
    >>> two.p_values(np.array([[2.5, 2.5], [1.5, 9.0]]))
    array([0.6, 0.4])
    >>> two.margins(np.array([[2.5, 2.5], [1.5, 9.0]]), level=0.4)
    array([-0.5,  0.5])
    """

    scores: np.ndarray
    weights: np.ndarray
    models: np.ndarray

    @cached_property
    def is_split(self) -> bool:
        """Whether one model scored all rows."""
        return not self.models.any()

    @property
    def n_models(self) -> int:
        """The number of models."""
        return int(self.models.max()) + 1

    def is_sound(self, n_models: int) -> bool:
        """Whether the values fit together, as those of a damaged file may not."""
        shapes = {self.scores.shape, self.weights.shape, self.models.shape}
        is_known = len(shapes) == 1 and self.scores.ndim == 1 and len(self.scores) > 0
        return is_known and not (np.unique(self.models) >= n_models).any() and bool((self.weights > 0).all())

    @property
    def smallest_level(self) -> float:
        """The smallest p-value that these rows can give."""
        own = float(self.weights.max())
        return own / (own + float(self.weights.sum()))

    def proved(self, level: float) -> float:
        """What is proved of the share of rows with a p-value of at most a level: it is at most so much.

        Examples
        --------
        >>> round(Calibration(np.arange(99.0), np.ones(99), np.arange(99) % 5).proved(0.01), 4)
        0.0962
        """
        n, k = len(self.scores), self.n_models
        return level if self.is_split else min(2 * ((n + 1) * level + k - 1) / (n + k), 1.0)

    def guarantee(self, level: float) -> str:
        """What is promised of the share of false alarms, in one sentence."""
        if self.is_split:
            return (
                f"on average over fits, at most {level:.3g} of new normal rows are alarms (split conformal prediction)"
            )
        return (
            f"about {level:.3g} of new normal rows are alarms; what is proved is, on average over fits, "
            f"at most {self.proved(level):.2g} (cross-conformal prediction)"
        )

    def p_values(self, scores: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
        """The p-value of each row, from its scores by each model, shape (n, K), and its own weight, shape (n,)."""
        parts = [self.models == k for k in range(scores.shape[1])]
        largest = self.weights.max() if own is None else own
        above = sum(
            conformal.weight_above(scores[:, k], self.scores[part], self.weights[part]) for k, part in enumerate(parts)
        )
        found: np.ndarray = (largest + above) / (largest + self.weights.sum())
        return found

    def discoveries(self, scores: np.ndarray, rate: float) -> np.ndarray:
        """Which rows to report, from their scores by each model, shape (n,), at a false-discovery rate."""
        return self.reported(self.p_values(scores), rate)

    def reported(self, p_values: np.ndarray, rate: float) -> np.ndarray:
        """The same from the rows' p-values, shape (n,)."""
        self.require_level(rate)
        return conformal.discoveries(p_values, rate)

    def require_level(self, level: float) -> None:
        """Raise an error for a level that is no probability, or that these rows cannot give."""
        conformal.require_level(level, len(self.scores))

    @staticmethod
    def rows_needed(level: float) -> int:
        """The number of rows from which a p-value can be at most a level, where their weights are equal."""
        return conformal.rows_needed(level)

    def margins(self, scores: np.ndarray, level: float) -> np.ndarray:
        """By how much each row scores above what is an alarm: positive where the p-value is at most the level."""
        if self.is_split:
            found: np.ndarray = scores[:, 0] - self.threshold(level)
            return found
        return np.concatenate([self._margins(part, level) for part in np.array_split(scores, len(scores) // 1000 + 1)])

    def threshold(self, level: float) -> float:
        """The score above which a row is an alarm, for one model."""
        return conformal.threshold(self.scores, level, self.weights)

    def _margins(self, scores: np.ndarray, level: float) -> np.ndarray:
        differences = scores[:, self.models] - self.scores
        order = np.argsort(differences, axis=1)
        own = self.weights.max()
        # The weight of the rows that score as much must stay within what the level allows.
        # Divided as in `p_values`, so that rounding is the same.
        n_allowed = ((own + np.cumsum(self.weights[order], axis=1)) / (own + self.weights.sum()) <= level).sum(1)
        found: np.ndarray = np.take_along_axis(differences, order, 1)[np.arange(len(scores)), n_allowed]
        return found

    @staticmethod
    def checked(p_values: Any) -> np.ndarray:
        """P-values as an array of shape (n,), or an error."""
        return conformal.checked(p_values)

    def drift(self, p_values: np.ndarray, anomalies: float = 0.0) -> float:
        """The p-value of the hypothesis that new rows are as these, from their p-values (`conformal.drift`).

        Of rows with weights w, each counts with the probability w / max w, which makes them rows of the distribution
        that the weights stand for.
        """
        own = conformal.p_values(self.scores, self.scores, self.weights)  # new rows with equal scores have these too
        counts = np.random.default_rng(0).uniform(0, self.weights.max(), len(own)) < self.weights
        return conformal.drift(p_values, own[counts], anomalies)
