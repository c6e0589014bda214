"""SupervisedAutoencoder: an encoder and a head that predicts labels from its code, for classes and for numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from eigencode import fitting, parts
from eigencode.data import fingerprint
from eigencode.errors import OptionError
from eigencode.estimators import fingerprints
from eigencode.estimators.base import BaseAutoencoder, unchanged_on_failure
from eigencode.estimators.composed import Composed
from eigencode.estimators.inputs import float_type, named, read_rows
from eigencode.estimators.labelled import LabelledAutoencoder
from eigencode.options import Activation, Object, TrainingOptions, check_options, option, values_of

if TYPE_CHECKING:
    from eigencode.data.containers import NamedArray
    from eigencode.model import Composition
    from eigencode.parts import Likelihood, Reconstruction, WeightPrior


@dataclass(eq=False, repr=False)
class HeadOptions:
    """The options of a head and of its encoder."""

    autoencoder: Object = option(
        None,
        "The autoencoder whose code predicts the labels. A fitted one is copied and used as it is; one that is not "
        "fitted is fitted to the rows first. None is `Autoencoder()`. Cloning forgets what was fitted, unless it "
        "is in scikit-learn's `FrozenEstimator`.",
        on_command_line=False,
        object="an autoencoder",
    )
    _: KW_ONLY
    hidden: tuple[int, ...] = option(
        (), "Widths of the head's hidden layers, from the code to the labels; () is a linear head.", low=1
    )
    activation: Activation | Object = option(
        "gelu", "Nonlinearity between the head's layers: a name, or any elementwise torch module."
    )
    head_variance: float | None = option(
        1.0,
        "Variance of the normal prior on the head's weights, counted once for all rows: C of scikit-learn's "
        "`LogisticRegression`. In fine-tuning, a classifier's encoder has the same around its weights at the start. "
        "None has no such term.",
        low=0,
        open_low=True,
        open_high=True,
    )
    fine_tune: bool = option(True, "Train the encoder together with the head; if not, only the head is trained.")
    alpha: float = option(
        0.0, "Weight of the reconstruction's negative log-likelihood beside the labels' in fine-tuning.", low=0
    )


@dataclass(eq=False, repr=False)
class SupervisedAutoencoder(TrainingOptions, HeadOptions, Composed):
    """The base class of the classifier and the regressor: an autoencoder, a head, and their training on labels."""

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        return super().saved_attributes() | {
            "model_": LabelledAutoencoder,
        }

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        validation_data: Any = None,
        groups: Any = None,
        checkpoint: Any = None,
    ) -> Self:
        """Fit the autoencoder, unless it is fitted, and the head.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows, as for an autoencoder.
        y : array-like of shape (n,)
            Their labels; for a regressor also of shape (n, c).
        sample_weight : array-like of shape (n,), optional
            Weight of each row.
        validation_data : (array-like of shape (m, d), array-like of shape (m,)), optional
            Rows and labels that decide which weights are kept; nothing else is learned from them.
        groups : array-like of shape (n,), optional
            The group of each row: rows of one group are all for validation, or none is.
        checkpoint : path-like or Checkpoint, optional
            A folder for the state of the training, from which the same call goes on after the process was killed.

        Returns
        -------
        self
            The fitted estimator, with the best weights found.
        """
        with unchanged_on_failure(self):
            rows, given = self._begin(X, y, sample_weight, validation_data, groups, checkpoint)
            self.model_.fit(rows, **given)
        return self

    def iter_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        validation_data: Any = None,
        groups: Any = None,
        checkpoint: Any = None,
        every: int | None = None,
    ) -> Generator[dict[str, float]]:
        """Fit step by step: an iterator that trains head and encoder until the next evaluation for each row it yields.

        The autoencoder, unless it is fitted, is fitted before the first.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As for ``fit``.
        y : array-like
            As for ``fit``.
        sample_weight, validation_data, groups, checkpoint : optional
            As for ``fit``.
        every : int, optional
            As an autoencoder's.

        Returns
        -------
        iterator of dict
            As an autoencoder's, with the objective of the labels.
        """
        with unchanged_on_failure(self):
            rows, given = self._begin(X, y, sample_weight, validation_data, groups, checkpoint)
            return self.model_.iter_fit(rows, **given, every=every)

    @property
    def composition_(self) -> Composition:
        """Encoder and head, a plain torch module on scaled rows."""
        return self.model_.composition_

    @property
    def history_(self) -> list[dict[str, float]]:
        """One row an epoch of the training on labels, the start's first."""
        return self.model_.history_

    @property
    def best_epoch_(self) -> int:
        """The epoch whose weights were kept; 0 is the best constant label."""
        return self.model_.best_epoch_

    @property
    def best_objective_(self) -> float:
        """The mean objective of these weights on the validation rows."""
        return self.model_.best_objective_

    @property
    def baseline_(self) -> BaseAutoencoder | None:
        """None: no closed form is known for labels."""
        return self.model_.baseline_

    @property
    def notes_(self) -> list[str]:
        """Sentences on possible problems; empty if there are none."""
        return self.model_.notes_

    @property
    def n_validation_(self) -> int | None:
        """Number of validation rows; None if it is not known, as of files of format 1."""
        return self.model_.n_validation_

    @property
    def _has_validation(self) -> bool:
        """Whether validation rows chose the weights that are kept."""
        return self.model_._has_validation

    def _misfits(self) -> Iterator[str]:
        d, names = self.n_features_in_, getattr(self, "feature_names_in_", None)
        if self.autoencoder_.n_features_in_ != d or self.columns_ != self.autoencoder_.columns_:
            yield "the autoencoder"
        if self.model_.n_features_in_ != self.autoencoder_._n_cells + self._n_label_columns:
            yield "a label"
        if names is not None and (names.shape != (d,) or len(set(names)) != d or not set(map(type, names)) <= {str}):
            yield "a column's name"

    @property
    def _n_label_columns(self) -> int:
        """The number c of label columns."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_") and hasattr(self.model_, "history_")

    # -- training

    def _begin(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, groups: Any, checkpoint: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Fit the autoencoder; return rows (x, y), and what ``fit`` of their model gets with them."""
        check_options(self)
        rows = read_rows(self, X, reset=True)
        targets = self._targets(y, len(rows.array))
        apart = labelled = None
        if validation_data is not None:
            apart, labels = _pair(validation_data)
            with named("validation_data"):
                apart = read_rows(self, apart)
                labelled = apart.followed_by(self._known_targets(labels, len(apart.array)))
        own = {"X": rows.array, "y": targets, "sample_weight": sample_weight, "validation_data": labelled}
        seed, folders = fingerprints.begun(checkpoint, self, self.random_state, **own)
        beside = {"validation_data": apart, "groups": groups, "checkpoint": folders and folders.within("autoencoder")}
        self.autoencoder_, interrupted = self._fitted_autoencoder(rows, sample_weight, seed, beside)
        model = self._model(self.autoencoder_.composition_, targets, seed)
        self.fingerprint_ = fingerprint(rows.array)
        self.model_ = model.begin_from(self.autoencoder_, interrupted=interrupted)
        beside |= {"validation_data": labelled, "checkpoint": folders and folders.within("labels")}
        return rows.followed_by(targets), {"sample_weight": sample_weight, **beside}

    def _known_targets(self, y: Any, n_rows: int) -> np.ndarray:
        """Labels of validation rows as columns of numbers, shape (n, c)."""
        raise NotImplementedError

    def _fitted_autoencoder(
        self, rows: NamedArray, sample_weight: Any, seed: int, beside: dict[str, Any]
    ) -> tuple[BaseAutoencoder, bool]:
        """A fitted copy of the given autoencoder, and whether an interruption ended its training."""
        fresh = self._copied(rows, seed)
        if fresh.__sklearn_is_fitted__():
            return fresh, False
        if self.max_seconds is not None and fresh.max_seconds is None:
            fresh.max_seconds = self.max_seconds / 2
        fresh.validation, fresh.validation_fraction = self.validation, self.validation_fraction
        run = fresh._begin(rows, sample_weight, **beside, split_seed=seed)
        with fresh._training(run, type(fresh).__name__, fresh.verbose) as evaluations:
            deque(evaluations, maxlen=0)
        return fresh, run.state.interrupted

    def _model(self, autoencoder: Composition, targets: np.ndarray, seed: int) -> LabelledAutoencoder:
        """The autoencoder of rows and labels, not fitted yet."""
        likelihood = self._label_likelihood()
        fitting.check_values(likelihood, targets)
        encoding = parts.Encoding(clone(autoencoder.encoder), clone(autoencoder.code))
        d, k = autoencoder.n_features, autoencoder.n_components
        training = values_of(self, TrainingOptions) | {"random_state": seed}
        if self.precision == "auto" and next(autoencoder.parameters()).dtype.itemsize == 8:
            training["precision"] = "float64"  # weights learned in float64 are not rounded
        if self.max_seconds is not None and not self._given.__sklearn_is_fitted__():
            training["max_seconds"] = self.max_seconds / 2
        return LabelledAutoencoder(
            k,
            encoder=parts.FirstColumns(encoding if self.fine_tune else parts.Frozen(encoding), d),
            decoder=parts.Chain([parts.Rescaling(), parts.MLP(tuple(self.hidden), self.activation)], [k]),
            likelihood=parts.LastColumns(likelihood, targets.shape[1]),
            penalties=self._penalties(autoencoder),
            weight_prior=None if self.head_variance is None else self._weight_prior(self.head_variance),
            scale="standard",
            init="random",
            **training,
        )

    def _penalties(self, autoencoder: Composition) -> list[Reconstruction]:
        """The reconstruction penalty of fine-tuning."""
        if not (self.alpha and self.fine_tune):
            return []
        if autoencoder.decoder.is_tied:
            raise OptionError(
                "A tied decoder cannot be trained together with a head", got=f"alpha={self.alpha}", hint="Use 0"
            )
        decoder, likelihood = clone(autoencoder.decoder), clone(autoencoder.likelihood)
        return [parts.Reconstruction(decoder, likelihood, autoencoder.n_features, float(self.alpha))]

    def _targets(self, y: Any, n_rows: int) -> np.ndarray:
        """Labels as columns of numbers, shape (n, c)."""
        raise NotImplementedError

    def _label_likelihood(self) -> Likelihood:
        """The likelihood p(y|z)."""
        raise NotImplementedError

    def _weight_prior(self, variance: float) -> WeightPrior:
        """The prior of the weights that are trained."""
        return parts.HeadWeights(variance)

    def _label_means(self, X: Any) -> np.ndarray:
        """The mean of p(y|z) for each row, shape (n, c)."""
        check_is_fitted(self)
        array = read_rows(self, X).array
        return self.model_.label_means(array, self._answer_type(array.dtype))

    def _answer_type(self, dtype: np.dtype) -> np.dtype:
        """The type of predictions for rows of a type."""
        return float_type(dtype)


def _pair(validation_data: Any) -> tuple[Any, Any]:
    """Rows and labels for validation."""
    if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
        raise OptionError(
            "The 'validation_data' of a supervised model must be a pair of rows and labels",
            got=type(validation_data).__name__,
            hint="Give validation_data=(X_val, y_val)",
        )
    return validation_data[0], validation_data[1]
