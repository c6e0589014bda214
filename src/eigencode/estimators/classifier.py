"""AutoencoderClassifier: an encoder and a head that predicts classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin

from eigencode import parts
from eigencode.errors import DataError
from eigencode.estimators.inputs import mean_of_rows, read_classes
from eigencode.estimators.supervised import SupervisedAutoencoder
from eigencode.options import documented

if TYPE_CHECKING:
    from eigencode.parts import Likelihood, WeightPrior


@documented
@dataclass(eq=False, repr=False)
class AutoencoderClassifier(ClassifierMixin, SupervisedAutoencoder):
    r"""A classifier on an autoencoder's code: p(y|x) = softmax(head(f(x))).

    The encoder is trained without labels, possibly on more rows, and then fine-tuned with the head on the labelled ones
    (Hinton & Salakhutdinov, 2006; Vincent et al., 2010), to minimise the mean over rows of

    .. math:: -\log p(y \mid z = f(x)) - \alpha \log p(x \mid z = f(x))

    with a normal prior of the head's weights, and of the encoder's around their start, without which the weights would
    grow without bound where classes are separable. Validation rows choose the weights that are kept; training starts at
    the shares of the classes. An autoencoder that is fitted here uses the same validation rows.

    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (c,)
        The labels in y, sorted.
    autoencoder_ : estimator
        The fitted autoencoder with the encoder as it is now: ``autoencoder_.transform`` returns the fine-tuned codes.
    model_ : LabelledAutoencoder
        The model trained on the labels, with its ``seed_``, ``execution_`` and so on.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import train_test_split
    >>> from eigencode import Autoencoder, AutoencoderClassifier
    >>> X, X_test, y, y_test = train_test_split(*load_wine(return_X_y=True), random_state=0)
    >>> autoencoder = Autoencoder(4, max_epochs=20, random_state=0).fit(X)
    >>> model = AutoencoderClassifier(autoencoder=autoencoder, random_state=0).fit(X, y)
    >>> model.score(X_test, y_test) > 0.9
    True
    >>> model.predict_proba(X_test).shape
    (45, 3)
    """

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        return super().saved_attributes() | {
            "classes_": np.ndarray,
        }

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n, c)
            In the order of ``classes_``, in X's float type.
        """
        return self._label_means(X)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n,)
            Labels.
        """
        indices = self._label_means(X).argmax(1)
        return self.classes_[indices]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy of ``predict``, the share of correct classes.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        y : array-like of shape (n,)
            Their labels.
        sample_weight : array-like of shape (n,), optional
            Weight of each row.

        Returns
        -------
        float
            From 0 to 1.
        """
        found = self.predict(X)
        classes = read_classes(y, len(found), type(self).__name__)
        return mean_of_rows(classes == found, sample_weight)

    def _known_targets(self, y: Any, n_rows: int) -> np.ndarray:
        y = read_classes(y, n_rows, type(self).__name__)
        unknown = sorted(set(y.tolist()) - set(self.classes_.tolist()))
        if unknown:
            raise DataError("validation_data has labels that y does not have", got=f"{unknown[0]!r}")
        return np.eye(len(self.classes_))[np.searchsorted(self.classes_, y)]

    def _targets(self, y: Any, n_rows: int) -> np.ndarray:
        y = read_classes(y, n_rows, type(self).__name__)
        self.classes_, indices = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                "A classifier needs labels of at least two classes", got=f"one class, {self.classes_.tolist()[0]!r}"
            )
        return np.eye(len(self.classes_))[indices]

    def _label_likelihood(self) -> Likelihood:
        return parts.CategoricalLikelihood()

    def _weight_prior(self, variance: float) -> WeightPrior:
        # Numbers have an optimum at weights of some size; separable classes have none.
        return parts.FineTunedWeights(variance) if self.fine_tune else super()._weight_prior(variance)

    @property
    def _n_label_columns(self) -> int:
        return len(self.classes_)

    def _misfits(self) -> Iterator[str]:
        if self.classes_.ndim != 1 or len(np.unique(self.classes_)) != self.classes_.size or self.classes_.size < 2:
            yield "a class"
        else:
            yield from super()._misfits()
