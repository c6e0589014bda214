r"""AutoencoderSearch: choosing the size of a code, and any other option, by cross-validation.

The models of all candidates and folds are trained in a few batches (`eigencode.fit_many`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Real
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GroupKFold, KFold, ParameterGrid, check_cv
from sklearn.utils.validation import check_is_fitted

from eigencode import progress
from eigencode.checkpoint import Checkpoint
from eigencode.constructors import told
from eigencode.data.containers import NamedArray, as_array
from eigencode.errors import DataError, OptionError, did_you_mean, is_int, warn
from eigencode.estimators import fingerprints
from eigencode.estimators.base import BaseAutoencoder, unchanged_on_failure
from eigencode.estimators.fit_many import Job, fit_jobs
from eigencode.estimators.inputs import mean_of_rows, read_groups, read_rows, read_weights
from eigencode.options import options_of
from eigencode.search_rounds import Halving, comparable, settings_of
from eigencode.search_scores import SCORES, Fold, Score, results, score_of, score_on, scoring_of

P = ParamSpec("P")
Answer = TypeVar("Answer")


def _of_choice(method: Callable[Concatenate[Any, P], Answer]) -> Callable[Concatenate[Any, P], Answer]:
    """The same method of the chosen model, with its signature and docstring."""

    @wraps(method)
    def of_choice(search: AutoencoderSearch, *args: P.args, **kwargs: P.kwargs) -> Answer:
        answer: Answer = getattr(search._chosen(), method.__name__)(*args, **kwargs)
        return answer

    return of_choice


@told
class AutoencoderSearch(MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    r"""Fit an autoencoder with each of many settings, and keep the simplest that is as good as the best.

    Every candidate is fitted on each fold's training rows and scored on its validation rows. With the
    one-standard-error rule (Breiman et al., 1984), the choice is the candidate with the fewest components, and then the
    fewest weights, whose mean score is within one standard error of the best candidate's:

    .. math:: \bar s_c \ge \bar s_{best} - \mathrm{SE}(\bar s_{best})

    The standard error is that of the mean over folds or over rows, whichever is larger: few folds may agree by chance.
    Candidates of the same structure are trained in one batch, on all folds, so that thirty small models take only a few
    times as long as one.

    Parameters
    ----------
    estimator : autoencoder
        The estimator, which is cloned and never fitted itself.
    param_grid : dict or list of dict
        Lists of values for each parameter, nested ones as ``outer__inner``; every combination is a candidate.
    cv : int, cross-validation generator or iterable, default 5
        Number of folds, shuffled by ``random_state``, of whole groups if ``fit`` gets groups; or any other ``cv`` of
        scikit-learn, such as ``ShuffleSplit(1)``.
    rule : {"one_standard_error", "best"}, default "one_standard_error"
        How the choice is made.
    scoring : {"auto", "leave_one_out", "log_likelihood", "reconstruction"} or callable, default "auto"
        The score of a validation row, larger is better: the log-likelihood of its cells given the others, in nats
        (``leave_one_out_score``), its own (``score_samples``), minus its squared error (``reconstruction_error``), or
        the result of ``scoring(model, X)``, of shape (n,). 'auto' is 'log_likelihood' where that is a density or a
        bound of one, as for variational autoencoders, and else 'leave_one_out': the likelihood of a row given its own
        code grows with every component, even if all that is left is noise.
    factor : int or None, default None
        Of candidates that differ in ``hidden``, ``activation``, ``tied``, ``learning_rate`` or ``batch_size`` alone,
        only 1/sqrt(factor) go on after a fifth of the steps, and 1/factor after half of them, or of the time limit if
        that is earlier: those with the lowest objective on the validation rows of their fits and, on average, of the
        fits of other sizes with the same settings (successive halving, Jamieson & Talwalkar, 2016). Others, such as
        sizes of the code, are compared at the end only. None trains all candidates to the end.
    refit : bool, default True
        Whether to fit the choice to all rows.
    random_state : int or None, default None
        Seed of the folds. The seed of the models is the estimator's.
    verbose : bool, default False
        Whether to show a progress bar.

    Attributes
    ----------
    cv_results_ : dict of arrays
        One row for each candidate, as in scikit-learn's searches: ``params``, ``param_*``, ``split*_test_score``,
        ``mean_test_score``, ``std_test_score``, ``rank_test_score``; and ``standard_error``, ``n_components``,
        ``n_weights``, ``mean_fit_time`` (seconds of all fits, divided by their number), ``budget`` (the share of its
        steps after which a candidate was ended, whose score is NaN then; 1 for the others).
    best_index_, best_params_, best_score_
        The choice: its row, its settings, its mean score.
    best_estimator_ : autoencoder
        The choice, fitted to all rows.
    n_splits_ : int
        Number of folds.
    scoring_ : str or callable
        The score that was used.
    trained_ : list of str
        Sentences on how the candidates were trained.
    notes_ : list of str
        The same sentences, and one for each chosen number that is the largest or the smallest of those tried.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from eigencode import Autoencoder, AutoencoderSearch
    >>> estimator = Autoencoder(hidden=(16,), max_epochs=3, random_state=0)
    >>> grid = {"n_components": [2, 4, 8]}
    >>> search = AutoencoderSearch(estimator, grid, cv=3, random_state=0)
    >>> search.fit(load_digits().data).trained_
    ['9 models in one program']
    >>> search.notes_[1]
    'n_components=8 is the largest value tried, so the best may lie beyond it: try larger ones too'
    >>> search.best_params_["n_components"], search.transform(load_digits().data).shape
    (8, (1797, 8))
    """

    def __init__(
        self,
        estimator: BaseAutoencoder,
        param_grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]],
        *,
        cv: Any = 5,
        rule: Literal["one_standard_error", "best"] = "one_standard_error",
        scoring: str | Score = "auto",
        factor: int | None = None,
        refit: bool = True,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.estimator = estimator
        self.param_grid = param_grid
        self.cv = cv
        self.rule = rule
        self.scoring = scoring
        self.factor = factor
        self.refit = refit
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, groups: Any = None, *, checkpoint: Any = None
    ) -> Self:
        """Fit every candidate on every fold, choose one, and fit it to all rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As for the estimator's ``fit``.
        y : None
            Used only by a ``cv`` that stratifies.
        sample_weight : array-like of shape (n,), optional
            Weight of each row, in fits and scores.
        groups : array-like of shape (n,), optional
            The group of each row: rows of one group are in one fold, and in each fit all for validation, or none is.
        checkpoint : path-like or Checkpoint, optional
            A folder for the models: the same call does not fit those again that were finished when the process was
            killed. The others are trained in other batches then, which changes them by rounding.

        Returns
        -------
        self

        Raises
        ------
        EigencodeError
            The first candidate's error, if none could be fitted. If only some fail, they are scored NaN, with a
            warning.
        """
        with unchanged_on_failure(self):
            self._fit(X, y, sample_weight, groups, checkpoint)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, checkpoint: Any) -> None:
        """Fit and choose; the caller undoes changes if this fails."""
        candidates = self._checked()
        fresh = clone(self.estimator)
        rows = read_rows(fresh, X, reset=True)
        self.n_features_in_ = fresh.n_features_in_
        self.__dict__.pop("feature_names_in_", None)
        if rows.names is not None:
            self.feature_names_in_ = fresh.feature_names_in_
        array = rows.array if rows.layout is None else rows.layout.images(rows.array)
        weights = None if sample_weight is None else read_weights(sample_weight, len(array))
        groups = None if groups is None else read_groups(groups, len(array))
        own = {"X": rows.array, "sample_weight": weights, "groups": groups}
        seed, folders = fingerprints.begun(checkpoint, self, self.random_state, **own)
        folds = self._folds(array, y, groups, seed)
        results = self._evaluate(candidates, folds, rows if rows.is_mixed else array, weights, groups, folders)
        self.cv_results_, self.n_splits_ = results, len(folds)
        self.best_index_ = self._choose(results)
        self.best_params_ = candidates[self.best_index_]
        self.notes_ = [*self.trained_, *_edges(self.estimator, candidates, self.best_params_, self.n_features_in_)]
        self.best_score_ = float(results["mean_test_score"][self.best_index_])
        if self.refit:
            self.best_estimator_ = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
            checkpoint = folders and folders.within("best")
            self.best_estimator_.fit(rows, sample_weight=weights, groups=groups, checkpoint=checkpoint)

    def _checked(self) -> list[dict[str, Any]]:
        """Check all arguments; return the candidates' settings."""
        if not isinstance(self.estimator, BaseAutoencoder):
            raise OptionError(
                "AutoencoderSearch searches among autoencoders",
                got=f"{self.estimator!r}",
                hint="For other estimators use sklearn.model_selection.GridSearchCV",
            )
        rules = ("one_standard_error", "best")
        if self.rule not in rules:
            raise OptionError("There is no such rule", got=repr(self.rule), hint=did_you_mean(str(self.rule), rules))
        if self.factor is not None and (not is_int(self.factor) or self.factor < 2):
            raise OptionError("The 'factor' must be None or an integer from 2", got=repr(self.factor))
        if not callable(self.scoring) and self.scoring not in ("auto", *SCORES):
            hint = did_you_mean(str(self.scoring), ("auto", *SCORES))
            raise OptionError("There is no such scoring", got=repr(self.scoring), hint=hint)
        try:
            candidates = list(ParameterGrid(self.param_grid))
            for params in candidates:
                clone(self.estimator).set_params(**params)
        except OptionError:
            raise
        except (TypeError, ValueError) as error:
            raise OptionError("The 'param_grid' cannot be searched", got=f"the error {error}") from error
        if not candidates:
            raise OptionError("The 'param_grid' has no candidates", got=repr(self.param_grid))
        return candidates

    def _folds(self, array: np.ndarray, y: Any, groups: Any, seed: int) -> list[Fold]:
        """Each fold's row numbers."""
        cv = self.cv
        if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
            if not 2 <= cv <= len(array):
                raise OptionError("The number of folds must be between 2 and the number of rows", got=f"cv={cv}")
            kind = KFold if groups is None else GroupKFold
            cv = kind(int(cv), shuffle=True, random_state=seed % 2**32)
        try:
            labels = None if y is None else as_array(y, "y")
            folds = [Fold(*map(np.asarray, split)) for split in check_cv(cv).split(array, labels, groups)]
        except (TypeError, ValueError) as error:
            raise OptionError("The 'cv' cannot split the rows", got=f"the error {error}") from error
        if not folds or min(len(fold.validation) for fold in folds) == 0:
            raise DataError("Every fold needs validation rows", got=f"{len(folds)} folds")
        return folds

    def _evaluate(
        self,
        candidates: Sequence[dict[str, Any]],
        folds: Sequence[Fold],
        array: np.ndarray | NamedArray,
        weights: np.ndarray | None,
        groups: np.ndarray | None,
        folders: Checkpoint | None,
    ) -> dict[str, Any]:
        """Fit and score all candidates on all folds; return ``cv_results_``."""
        tables = [fold.of_training(array, weights, groups) for fold in folds]
        models = [clone(self.estimator).set_params(**clone(params, safe=False)) for params in candidates for _ in folds]
        names = [f"candidate-{c}-fold-{f}" for c in range(len(candidates)) for f in range(len(folds))]
        jobs = [
            Job(model, *tables[i % len(folds)], folders and folders.within(names[i])) for i, model in enumerate(models)
        ]
        began = time.perf_counter()

        def scored(number: int) -> tuple[float, float]:
            score = score_of(scoring_of(self.scoring, jobs))
            return score_on(jobs[number], folds[number % len(folds)], array, weights, score)

        alike, settings = comparable(self.estimator, candidates), settings_of(self.estimator, candidates)
        halving = Halving(self.factor or 1, jobs, alike, settings)
        self.trained_ = fit_jobs(jobs, verbose=self.verbose, rounds=None if self.factor is None else halving)
        seconds = (time.perf_counter() - began) / len(jobs)
        self.scoring_ = scoring_of(self.scoring, jobs)
        whole = np.repeat(halving.budgets == 1, len(folds))
        with progress.stage("scoring", self.verbose):
            scores = [scored(number) if whole[number] else (np.nan, np.nan) for number in range(len(jobs))]
        self._report(jobs)
        shape = len(candidates), len(folds), 2
        return results(candidates, jobs, np.array(scores).reshape(shape), seconds, halving.budgets)

    @staticmethod
    def _report(jobs: Sequence[Job]) -> None:
        """Warn of fits that failed; if all did, raise the first error."""
        failed = [job for job in jobs if job.error is not None]
        if len(failed) == len(jobs):
            raise failed[0].error  # type: ignore[misc]
        if failed:
            what = f"{len(failed)} of {len(jobs)} fits failed and are scored NaN"
            warn(f"{what}; the first error: {failed[0].error}", FitFailedWarning)

    def _choose(self, results: Mapping[str, Any]) -> int:
        """The row of the candidate that the rule chooses."""
        means = results["mean_test_score"]
        if np.isnan(means).all():
            advice = "Give more rows, or fewer folds"
            raise DataError("No candidate could be scored on all folds", got="NaN for each", hint=advice)
        best = int(np.nanargmax(means))
        if self.rule == "best":
            return best
        near = np.flatnonzero(means >= means[best] - results["standard_error"][best])
        return int(min(near, key=lambda c: (results["n_components"][c], results["n_weights"][c], -means[c])))

    # -- methods of the choice

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        own = self.estimator.__sklearn_tags__()
        tags.transformer_tags, tags.input_tags = own.transformer_tags, own.input_tags
        return tags

    def _chosen(self) -> BaseAutoencoder:
        check_is_fitted(self, "cv_results_")
        if not self.refit:
            raise OptionError("The choice was not fitted", got="refit=False", hint="Use refit=True")
        return self.best_estimator_

    transform = _of_choice(BaseAutoencoder.transform)
    inverse_transform = _of_choice(BaseAutoencoder.inverse_transform)
    reconstruct = _of_choice(BaseAutoencoder.reconstruct)
    reconstruction_error = _of_choice(BaseAutoencoder.reconstruction_error)
    reconstruction_error_by_size = _of_choice(BaseAutoencoder.reconstruction_error_by_size)
    score_samples = _of_choice(BaseAutoencoder.score_samples)
    jacobian = _of_choice(BaseAutoencoder.jacobian)
    jacobian_spectrum = _of_choice(BaseAutoencoder.jacobian_spectrum)
    local_dimension = _of_choice(BaseAutoencoder.local_dimension)
    sample = _of_choice(BaseAutoencoder.sample)
    save = _of_choice(BaseAutoencoder.save)

    def fit_density(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit a mixture of Gaussians to the chosen model's codes of rows, from which ``sample`` then draws."""
        self._chosen().fit_density(X, y, sample_weight)
        return self

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The mean of the search's score over rows, weighted by ``sample_weight``, by the chosen model."""
        chosen = self._chosen()
        return mean_of_rows(score_of(self.scoring_)(chosen, X, sample_weight), sample_weight)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Names of the chosen model's components."""
        return self._chosen().get_feature_names_out(input_features)


def _edges(
    estimator: BaseAutoencoder, candidates: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], n_features: int
) -> list[str]:
    """A sentence for each chosen number that is the largest or smallest of those tried, if others could be tried."""
    found = []
    for name, chosen_value in chosen.items():
        sizes = [_size(name, params[name]) for params in candidates if name in params]
        tried, value = {size for size in sizes if size is not None}, _size(name, chosen_value)
        if value is None or len(tried) < 2 or value not in (min(tried), max(tried)):
            continue
        side, further = ("largest", "larger") if value == max(tried) else ("smallest", "smaller")
        if value not in _ends(estimator, name, n_features)[side]:
            found.append(
                f"{name}={value:.12g} is the {side} value tried, so the best may lie beyond it: try {further} ones too"
            )
    return found


def _size(name: str, value: Any) -> float | None:
    """A parameter's value as a float if it is a number, or a sequence of one, and not a seed; else None."""
    if isinstance(value, tuple | list) and len(value) == 1:
        value = value[0]
    is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    return float(value) if is_number and not name.endswith("random_state") else None


def _ends(estimator: BaseAutoencoder, name: str, n_features: int) -> dict[str, tuple[float, ...]]:
    """Values beyond which none can be tried: the ends of an option's range, and a code as wide as the table."""
    kind: Any = type(estimator)
    options = {option.name: option.info for option in options_of(kind)}
    option = options.get(name)
    low, high = (0.0, math.inf) if option is None else (option.low, option.high)
    return {"smallest": (low,), "largest": (high, n_features) if name == "n_components" else (high,)}
