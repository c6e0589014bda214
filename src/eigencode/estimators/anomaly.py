"""AnomalyDetector: rows unlike those fitted, at a rate of false alarms that is kept on new rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Self

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from eigencode.data import BlockSource, answers_of, fingerprint, opened, windows
from eigencode.data.containers import NamedArray
from eigencode.detection.calibration import Calibration
from eigencode.errors import DataError, OptionError, warn
from eigencode.estimators import fingerprints, members
from eigencode.estimators.base import unchanged_on_failure
from eigencode.estimators.composed import Composed
from eigencode.estimators.inputs import framed, read_rows, read_weights, require_in_memory
from eigencode.estimators.reasons import ChosenRows, check_question, explained, in_form, joined
from eigencode.estimators.unlikeness import Unlikeness, bounded
from eigencode.options import Object, check_options, documented, option

FEWEST_ROWS = 4

RATIO = "density_ratio"


@documented
@dataclass(eq=False, repr=False)
class AnomalyDetector(OutlierMixin, Composed):
    r"""A detector of rows that are unlike those fitted, which should be normal ones.

    It measures how badly the autoencoder reconstructs a row and how rare its code is, together

    .. math:: D(x) = \frac{\lVert x - g(f(x)) \rVert^2}{2 s^2} - \log p(f(x))

    in nats, for scaled rows, with a mixture of Gaussians p on the codes and the variance s^2 of the residuals; how far
    the row is from the nearest known row, and from the nearest twentieth of them; and how far it is beside how far the
    rows about it are from each other (`eigencode.detection.neighbors`). All are brought to one scale by :math:`-\log`
    of the share of the rows fitted that have as much (`eigencode.detection.tails`), and added. Rows farther out than
    all those fitted score more: at twice the distance of the farthest one, in scaled cells, above every row fitted
    (`eigencode.estimators.unlikeness`). A variational model's bound on log p(x), at the mean of the code, is its -D.

    A share of the rows is held out of the autoencoder, of these scales, and of the labels that are known. A row is an
    alarm if its score is among the highest of theirs: if new rows come from the same distribution as those fitted,
    independently, then on average over fits the share of them that are false alarms is at most ``false_alarms`` (split
    conformal prediction, `eigencode.detection.conformal`). Where a fifth of the rows is too few for that rate, each of
    five models leaves a fifth out; the share is then about the rate, and what is proved is weaker
    (`eigencode.detection.calibration`, and ``guarantee_`` in figures). A fitted autoencoder must not have seen these
    rows.

    As everywhere in scikit-learn, scores are lower for anomalies, and ``predict`` gives -1 for them; PyOD has the
    opposite sign.

    {parameters}

    Attributes
    ----------
    autoencoder_ : estimator
        The fitted autoencoder.
    unlikeness_ : Unlikeness
        What is measured; it keeps rows fitted, in ``unlikeness_.known.rows``, unless ``neighbors`` is False.
    folds_ : list of Member
        The models that leave a fifth of the rows out each, where the rows are few; else empty.
    calibration_ : Calibration
        Scores of the rows held out, ascending, and what they promise.
    n_trimmed_ : int
        Number of rows that were left out of the fit, since they are in small groups apart from the others.
    offset_ : float
        The score below which a row is an alarm.
    false_alarms_ : float
        The rate in force: ``false_alarms``, or the smallest rate that m rows give.
    guarantee_ : str
        What is promised of the share of false alarms.
    notes_ : list of str
        Possible problems, one sentence each.
    seed_ : int
        The seed of all random numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from eigencode import AnomalyDetector, LinearAutoencoder
    >>> X = np.random.default_rng(0).normal(size=(400, 1)) * [1.0, 2.0, 3.0] + 10
    >>> X += np.random.default_rng(1).normal(scale=0.1, size=X.shape)
    >>> model = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(X)
    >>> model.predict([[10.5, 11.0, 11.5], [10.5, 11.0, 8.5]])  # the second is unlike X
    array([ 1, -1])
    """

    false_alarms: float = option(
        0.05, "Share of normal rows that may be alarms.", low=0, high=1, open_low=True, open_high=True
    )
    _: KW_ONLY
    autoencoder: Object = option(
        None,
        "The autoencoder that knows the rows. A fitted one is copied and used as it is; one that is not fitted is "
        "fitted first. None is `Autoencoder()`.",
        on_command_line=False,
        object="an autoencoder",
    )
    trim: bool = option(
        True,
        "Leave rows of small groups apart out of the fit: anomalies of one kind would make each other look normal.",
    )
    neighbors: bool = option(
        True,
        "Measure distances to rows fitted too. The model then keeps rows, at most 'known_rows', and its file has them.",
    )
    known_rows: int = option(
        10_000,
        "Rows kept for 'neighbors', at most, 8 bytes a cell; of more, some are drawn at random. More than 10,000 have "
        "an index of faiss (pip install 'eigencode[index]'), 4 bytes a cell, which may miss some of the nearest.",
        low=100,
    )
    window: int | None = option(
        None,
        "Rows are a series in time, each compared with those before it, so many in all; the last set the offset.",
        low=2,
    )
    time: str | None = option(
        None,
        "The column of times, with 'window': no window goes beyond a gap in time, which is a step longer than 1.5 "
        "times the median step.",
    )
    random_state: int | Object | None = option(
        None,
        "Seed of all random numbers; None draws a seed, which is kept as `seed_`.",
        low=0,
        object="a NumPy random generator",
    )

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        """The fitted attributes that a file keeps, with their types."""
        return super().saved_attributes() | {
            "unlikeness_": Unlikeness,
            "folds_": list[members.Member],
            "calibration_": Calibration,
            "n_trimmed_": int,
            "offset_": float,
            "false_alarms_": float,
            "notes_": list[str],
            "seed_": int,
        }

    def fit(self, X: Any, y: Any = None, *, density_ratio: Any = None, checkpoint: Any = None) -> Self:
        """Fit the autoencoder to normal rows, and measure those held out.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows, as for an autoencoder; few or none of them anomalies.
        y : None
            Ignored.
        density_ratio : array-like of shape (n,), optional
            Weight of each row, where new normal rows have another distribution: how many times as likely the row is
            among these as among those fitted. The autoencoder is trained with these weights, and rates hold for new
            rows (Tibshirani et al., 2019).
        checkpoint : path-like or Checkpoint, optional
            A folder for the state of the training, from which the same call goes on after the process was killed.

        Returns
        -------
        self
        """
        with unchanged_on_failure(self):
            check_options(self)
            rows, starts = self._rows(X, reset=True)
            weights = None if density_ratio is None else read_weights(density_ratio, len(rows.array), RATIO)
            if weights is not None:
                if self.window is not None:
                    raise OptionError("'density_ratio' is for rows that are independent", got="windows")
                rows, weights = rows[weights > 0], weights[weights > 0]
            if (n := len(rows.array)) < FEWEST_ROWS:
                what = f"A detector takes at least {FEWEST_ROWS} rows of a weight above 0"
                raise DataError(what, got=f"{n} sample(s)")
            own = {"X": rows.array, "density_ratio": weights}
            self.seed_, folders = fingerprints.begun(checkpoint, self, self.random_state, **own)
            if self.window is None:
                divisions = members.divisions_of(rows, self._given, self.false_alarms, self.trim, self.seed_)
            else:
                divisions = [members.Division.of_windows(rows, starts, self.window, self.false_alarms)]
            models = [self._copied(replace(rows, frame=None), self.seed_) for _ in divisions]
            if self.window is not None and self.autoencoder is None:
                models[0].validation = "last"
            found = members.fitted(models, weights, divisions, self.neighbors * self.known_rows, self.seed_, folders)
            self.autoencoder_, self.unlikeness_ = found[-1].autoencoder, found[-1].unlikeness
            self.columns_, self.fingerprint_ = self.autoencoder_.columns_, fingerprint(divisions[-1].rows.array)
            self.folds_, self.n_trimmed_ = found[:-1], divisions[-1].n_trimmed
            self.calibration_ = members.calibration(self._members, weights, divisions[: len(self._members)])
            self._calibrate()
            if (note := members.compared(self._members[0], divisions[0], self.seed_)) is not None:
                self.notes_.append(note)
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Minus the score of each row: the lower, the more unlike the rows fitted.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n,)
        """
        return self._scores(self._found(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """``score_samples`` minus ``offset_``: below 0 for alarms, shape (n,)."""
        return np.asarray(self.score_samples(X) - self.offset_)

    def predict(self, X: Any) -> np.ndarray:
        """-1 for alarms and 1 for other rows, shape (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def score_and_p_values(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """``score_samples`` and ``p_values`` of rows, for which these are measured once, each of shape (n,)."""
        found = self._found(X)
        return self._scores(found), self.calibration_.p_values(found)

    def p_values(self, X: Any, *, density_ratio: Any = None) -> np.ndarray:
        """The p-value of each row: the share of rows held out, and of the row itself, with scores as low as its own.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        density_ratio : array-like of shape (n,), optional
            Their weights, where those fitted had some; the largest of these is taken if not given, which is safe.

        Returns
        -------
        ndarray of shape (n,)
            From 1 / (m + 1), for m rows held out, to 1.
        """
        found = self._found(X)
        own = None if density_ratio is None else read_weights(density_ratio, len(found), RATIO)
        return self.calibration_.p_values(found, own)

    def discoveries(self, X: Any, rate: float) -> np.ndarray:
        """Which of many rows to report, so that the expected share of normal ones among them is at most a rate.

        By Benjamini and Hochberg's procedure. What is proved takes one model, equal weights, rows that are
        independent, and ``neighbors=False``; otherwise it is what was found in tests.

        Parameters
        ----------
        X : array-like of shape (n, d)
            All rows of interest; the answer for one depends on the others.
        rate : float
            The false-discovery rate. With n rows of which one is an anomaly, it takes n / rate rows held out to report
            it.

        Returns
        -------
        ndarray of bool of shape (n,)
        """
        return self.calibration_.discoveries(self._found(X), rate)

    def require_rate(self, rate: float) -> None:
        """Raise an error for a rate that is no probability, or smaller than the rows held out can give."""
        check_is_fitted(self)
        self.calibration_.require_level(rate)

    def drift(self, X: Any, *, anomalies: float = 0.0) -> float:
        """The p-value of the hypothesis that new normal rows score as those held out did; a warning below 0.01.

        Parameters
        ----------
        X : array-like of shape (n, d)
            New rows, in the order of time if they are windows.
        anomalies : float, default 0
            The largest share of them that may be anomalies.

        Returns
        -------
        float
            By the two-sample test of Kolmogorov and Smirnov (`eigencode.detection.conformal.drift`). Of windows, every
            ``window``-th one counts, since these hardly overlap.
        """
        return self.drift_from(self.p_values(X), anomalies)

    def drift_from(self, p_values: np.ndarray, anomalies: float = 0.0) -> float:
        """The same from the p-values of the rows, shape (n,)."""
        check_is_fitted(self)
        p_values = self.calibration_.checked(p_values)
        step = self.window or 1
        found = self.calibration_.drift(p_values[min(step, len(p_values)) - 1 :: step], anomalies)
        if (note := members.drift_note(found, anomalies)) is not None:
            warn(note)
        return found

    def compare(self, X: Any, y: Any) -> dict[str, float]:
        """The area under the ROC curve of this detector, and of simple methods that know the same rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        y : array-like of bool of shape (n,)
            Which of them are anomalies.

        Returns
        -------
        dict of str to float
            'detector', and PCA, the norm, the Mahalanobis distance, the nearest row and IsolationForest; these take
            ``neighbors=True``.
        """
        found, (rows, _) = self._scores(self._found(X)), self._rows(X)
        return members.areas(self.autoencoder_, self.unlikeness_, rows, -found, y, self.seed_)

    def explain(self, X: Any, *, rows: Any = None, n_columns: int | None = None, output: str = "frame") -> Any:
        """Why each row is unlike those fitted: its columns, by what they add to D.

        Suspicious columns are found first, and what is expected of each column is computed without them, so that one
        wrong cell does not make others look wrong (`eigencode.estimators.reasons`).

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        rows : array-like of bool of shape (n,), or of int, optional
            Which rows of X to explain, as a mask or by their numbers from 0; the answer has them in the order of X. A
            mask is taken by position, but a Series whose labels are those of X's index in another order by its labels.
            Windows need the other rows too, and reasons take several times as long as scores.
        n_columns : int, optional
            Give the first columns of each row only.
        output : {'frame', 'records'}, default 'frame'
            'records': a list with a dictionary for each row, of values that `json.dumps` takes, with the columns as the
            list ``reasons``.

        Returns
        -------
        frame, or list of dict
            For each row, its columns in order. ``row``: the label in X's index, or the number; ``rank``, from 1;
            ``column``; ``contribution``, in nats: those of all columns add up to the row's D; ``observed`` and
            ``expected``, in the column's units; ``direction``: 'above' or 'below' what is expected, 'other' for a
            label, 'unseen' for a value that no row fitted had, 'as expected', or 'missing'. And for the row as a whole:
            ``nats``, its D; and the terms of its score, ``nats_tail``, ``neighbors`` for the distances to the
            rows fitted, and ``beyond`` for rows farther out than all of these. The frame is of the library of the one
            fitted, of pandas where an array was fitted; values of several types are text but in pandas.

        Examples
        --------
        >>> import numpy as np
        >>> from eigencode import AnomalyDetector, LinearAutoencoder
        >>> noise = np.random.default_rng(0).normal(size=(400, 4))
        >>> X = noise[:, :1] + 0.1 * noise[:, 1:]
        >>> model = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(X)
        >>> new = [[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]]
        >>> model.explain(new, rows=model.predict(new) < 0, n_columns=1)[
        ...     ["row", "column", "direction"]
        ... ]
           row column direction
        0    1     x2     below
        """
        check_is_fitted(self)
        check_question(n_columns, output)
        X = opened(X)
        chosen = ChosenRows.of(rows, X)

        def ask(block: Any, first: int) -> tuple[Any, ...]:
            given, _ = self._rows(block)
            own = chosen.among(first, n := len(given.array))
            return *explained(self.unlikeness_, self.autoencoder_, given, own, n_columns), first + own, n

        tables, parts, numbers, sizes = zip(*self._in_blocks(X, ask), strict=True)
        chosen.check(sum(sizes))
        index = X.index if hasattr(X, "iloc") else np.arange(sum(sizes))
        of_rows = {"row": index[np.concatenate(numbers)], **joined(parts)}
        return in_form(joined(tables), of_rows, output, "pandas" if self.columns_ is None else self.columns_.library)

    def _rows(self, X: Any, reset: bool = False) -> tuple[NamedArray, np.ndarray]:
        """The rows, or the windows that end with them, and the number of the first row of the series of each."""
        if self.window is None and self.time is not None:
            raise OptionError("'time' is for windows", got="no window", hint="Give 'window' too")
        X, times = windows.without_time(X, self.time)
        rows = framed(read_rows(self, X, reset=reset), X)
        require_in_memory(type(self).__name__, rows)
        starts = windows.series_starts(len(rows.array), times)
        if self.window is not None:
            rows = windows.as_windows(rows, starts, self.window)
            self.columns_ = None
        return rows if reset else replace(rows, array=bounded(self.autoencoder_, rows.array)), starts

    @property
    def guarantee_(self) -> str:
        """What is promised of the share of false alarms at the rate in force, in one sentence."""
        return self.calibration_.guarantee(self.false_alarms_)

    @property
    def _members(self) -> list[members.Member]:
        """The models whose scores are compared with those of rows held out of each."""
        return self.folds_ or [members.Member(self.autoencoder_, self.unlikeness_)]

    def _found(self, X: Any) -> np.ndarray:
        """The score of each row by each of these models, shape (n, K); higher for rows more unlike those fitted."""
        check_is_fitted(self)
        given = self._in_blocks(opened(X), lambda block, _: self._rows(block)[0])
        return np.concatenate([np.stack([own.scores(rows) for own in self._members], axis=1) for rows in given])

    def _in_blocks(self, X: Any, ask: Callable[[Any, int], Any]) -> Iterator[Any]:
        """The answers to a question about rows: a block at a time of files and frames, whose cells take more memory."""
        is_table = isinstance(X, BlockSource) or (hasattr(X, "__len__") and len(X) and hasattr(X, "columns"))
        return answers_of(X, self.autoencoder_._n_cells, ask) if is_table and self.window is None else iter([ask(X, 0)])

    def _scores(self, found: np.ndarray) -> np.ndarray:
        """``score_samples`` of rows, from their scores by each model."""
        return -(found[:, 0] if self.calibration_.is_split else self.calibration_.margins(found, self.false_alarms_))

    def _calibrate(self) -> None:
        """Set the offset by the rows held out, and say what it does not promise."""
        known = self.calibration_
        self.false_alarms_ = max(self.false_alarms, known.smallest_level)
        self.offset_ = -known.threshold(self.false_alarms_) if known.is_split else 0.0
        self.notes_ = members.notes_on(known, self.false_alarms, self.false_alarms_, self.window is not None)
        if known.smallest_level > self.false_alarms:
            warn(f"{type(self).__name__}: {self.notes_[0]}")
        self.notes_ += self.autoencoder_.notes_
        if n := self.n_trimmed_:
            self.notes_.append(f"Rows left out of the fit, in small groups apart from the others: {n}")

    def _misfits(self) -> Iterator[str]:
        """Names of fitted attributes that contradict others, as in a damaged file."""
        known = self.calibration_
        for member in [members.Member(self.autoencoder_, self.unlikeness_), *self.folds_]:
            if not member.is_of(self.columns_, self.n_features_in_ * (self.window or 1)):
                yield "the autoencoder"
            if not member.unlikeness.fits(member.autoencoder):
                yield "what is measured"
        if not known.is_sound(len(self._members)) or math.isnan(self.offset_):
            yield "a score of a row held out"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "offset_")
