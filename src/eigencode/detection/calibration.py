r"""Calibration: what is known of the scores of normal rows, by rows held out of one model or of several.

With one model this is split conformal prediction. With K models, each of which leaves a K-th of the rows out, the
p-value of a row is

.. math:: p = \frac{1 + \#\{i : s_i \ge s_{k(i)}(x)\}}{n + 1}

where s_k is the score of model k, and k(i) the model that left row i out (cross-conformal prediction; Vovk, 2015). All
n rows count, so that small levels can be asked for. What is proved is weaker: P(p <= a) is at most 2 a, and
(1 - K/n) / (K + 1) more (CV+; Barber et al., 2021). It is near a where the models are about equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
    >>> two = Calibration(np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4), np.array([0, 0, 1, 1]))
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

    @property
    def guarantee(self) -> str:
        """What is promised of the share of false alarms, in one sentence."""
        if self.is_split:
            return "on average over fits, the share of false alarms is at most the rate (split conformal prediction)"
        return (
            "the share of false alarms is about the rate; what is proved is, on average over fits, at most "
            "twice the rate and a little more (cross-conformal prediction, CV+)"
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

    def drift(self, scores: np.ndarray) -> float:
        """The p-value of the hypothesis that new rows score as these, from their scores by each model."""
        n, n_models = scores.shape
        return conformal.drift(scores[np.arange(n), np.arange(n) % n_models], self.scores)
