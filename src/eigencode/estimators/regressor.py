"""AutoencoderRegressor: an encoder and a head that predicts numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from eigencode import fitting
from eigencode.domains import Count
from eigencode.errors import DataError
from eigencode.estimators.inputs import float_type, read_targets, read_weights_of_score
from eigencode.estimators.supervised import SupervisedAutoencoder
from eigencode.options import LikelihoodName, Object, documented, option

if TYPE_CHECKING:
    from eigencode.parts import Likelihood


@documented
@dataclass(eq=False, repr=False, kw_only=True)
class AutoencoderRegressor(RegressorMixin, SupervisedAutoencoder):
    r"""A regressor on an autoencoder's code: y = head(f(x)).

    As `AutoencoderClassifier`, with numbers for labels: it minimises the mean over rows of

    .. math:: -\log p(y \mid z = f(x)) - \alpha \log p(x \mid z = f(x))

    where p(y|z) is any likelihood: Gaussian for squared, Laplace for absolute, Student's t for robust errors, Poisson
    for counts. Labels of a continuous likelihood are standardised in training. Training starts at the best constant. An
    autoencoder that is fitted here uses the same validation rows.

    {parameters}

    Attributes
    ----------
    autoencoder_ : estimator
        The fitted autoencoder with the encoder as it is now: ``autoencoder_.transform`` returns the fine-tuned codes.
    model_ : LabelledAutoencoder
        The model trained on the labels, with its ``seed_``, ``execution_`` and so on.
    n_outputs_ : int
        Number of columns of y.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import train_test_split
    >>> from eigencode import AutoencoderRegressor
    >>> X, X_test, y, y_test = train_test_split(
    ...     *load_diabetes(return_X_y=True), random_state=0
    ... )
    >>> model = AutoencoderRegressor(random_state=0).fit(X, y)
    >>> model.score(X_test, y_test) > 0.3
    True
    """

    likelihood: LikelihoodName | Object = option(
        "gaussian", "Distribution p(y|z) of the labels given the code: a name or a part."
    )

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        return super().saved_attributes() | {
            "n_outputs_": Count,
            "labels_fit_float32_": bool | None,
        }

    def predict(self, X: Any) -> np.ndarray:
        """The mean of p(y|z) for each row.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n,), or (n, c) for c > 1 columns of y
            In y's units; in float32 if the types of X and y fit into it, else in float64.
        """
        means = self._label_means(X)
        return means[:, 0] if self.n_outputs_ == 1 else means

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination of ``predict``, R^2; 1 is best.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        y : array-like of shape (n,) or (n, c)
            Their labels.
        sample_weight : array-like of shape (n,), optional
            Weight of each row.

        Returns
        -------
        float
            R^2, the mean over the columns of y.
        """
        found = self.predict(X)
        targets = read_targets(y, len(found), type(self).__name__)
        weights = None if sample_weight is None else read_weights_of_score(sample_weight, len(found))
        if targets.shape[1] != self.n_outputs_:
            raise DataError(f"y must have {self.n_outputs_} columns, as fitted", got=f"{targets.shape[1]}")
        return float(r2_score(targets, found, sample_weight=weights))

    def _answer_type(self, dtype: np.dtype) -> np.dtype:
        return float_type(dtype) if getattr(self, "labels_fit_float32_", None) else np.dtype(np.float64)

    def _known_targets(self, y: Any, n_rows: int) -> np.ndarray:
        columns = read_targets(y, n_rows, type(self).__name__)
        if columns.shape[1] != self.n_outputs_:
            raise DataError(
                f"The labels of validation_data must have {self.n_outputs_} columns", got=f"{columns.shape[1]}"
            )
        return columns

    def _targets(self, y: Any, n_rows: int) -> np.ndarray:
        columns = read_targets(y, n_rows, type(self).__name__)
        self.n_outputs_ = columns.shape[1]
        self.labels_fit_float32_ = float_type(columns.dtype) == np.float32
        return columns

    def _label_likelihood(self) -> Likelihood:
        return fitting.likelihood_of(self.likelihood)

    @property
    def _n_label_columns(self) -> int:
        return self.n_outputs_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
