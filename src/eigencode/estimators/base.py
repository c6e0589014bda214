"""BaseAutoencoder: the base class of all autoencoders, with fit, iter_fit and partial_fit."""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone

from eigencode import fitting, progress, training
from eigencode.data import (
    Scaler,
    fingerprint,
    has_numbers,
    pixel_range,
    refuse_empty_columns,
    told_of_shortage,
)
from eigencode.errors import DataError, InterruptedWarning, OptionError, TrainingError, positive_int, warn
from eigencode.estimators import fingerprints
from eigencode.estimators.generation import Generation
from eigencode.estimators.geometry import Geometry
from eigencode.estimators.inputs import named, read_first_rows, read_groups, read_rows, read_weights
from eigencode.estimators.persistence import SavedAutoencoder
from eigencode.estimators.streaming import FitIterator, learn_block
from eigencode.options import AutoencoderOptions, changed, check_options

if TYPE_CHECKING:
    from eigencode.fitting import Data, Model, Start, TrainingTable
    from eigencode.model import Composition
    from eigencode.parts import Likelihood
    from eigencode.training import TrainingRun


@dataclass(eq=False, repr=False)
class BaseAutoencoder(
    AutoencoderOptions,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    Generation,
    Geometry,
    SavedAutoencoder,
):
    """Fits a composition to rows; its mixins have the methods of fitted models."""

    # -- fitting

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        validation_data: Any = None,
        groups: Any = None,
        checkpoint: Any = None,
    ) -> Self:
        """Fit the autoencoder to rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Numbers: a NumPy array, a torch tensor, nested lists. Or a pandas, polars or pyarrow frame of mixed
            columns: ``columns_`` says what each is, and answers are frames like it. Gaps are NaN, nulls, or the masked
            cells of a masked array. Or images: an array of type uint8 of shape (n, h, w) or (n, h, w, c). Or the name
            of a file, a folder or a pattern, a sparse matrix, a dataset, or an iterator of blocks: many rows are read a
            block at a time.
        y : None
            Ignored; present for pipelines.
        sample_weight : array-like of shape (n,), optional
            Weight of each row in scale, start, objective and choice of the best epoch. Only their ratios matter; a row
            of weight zero is left out.
        validation_data : array-like of shape (m, d), optional
            Validation rows, which decide which weights are kept, instead of a share of X. Nothing else is learned from
            them, but for the thresholds of sparse codes ('l1' and 'kl'), which are set by rows that the weights have
            not seen.
        groups : array-like of shape (n,), optional
            The group of each row, as a patient or a document: rows of one group are all for validation, or none is.
        checkpoint : path-like or Checkpoint, optional
            A folder for the state of the training, from which the same call goes on after the process was killed.

        Returns
        -------
        self
            The fitted estimator, with the best weights found.
        """
        with progress.stage("preparing", self.verbose):
            run = self._begin(X, sample_weight, validation_data, groups, checkpoint=checkpoint)
        with self._training(run, type(self).__name__, self.verbose) as evaluations:
            deque(evaluations, maxlen=0)
        if self.verbose:
            for note in self.notes_:
                progress.say(f"note: {note}")
        return self

    def iter_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        validation_data: Any = None,
        groups: Any = None,
        checkpoint: Any = None,
        every: int | None = None,
    ) -> Generator[dict[str, float]]:
        """Fit step by step: an iterator that trains until the next evaluation for each row of history it yields.

        Evaluations come after each epoch, or after each 1,024 steps where an epoch has more. Options and rows are
        checked at once, before the first step. Inside the loop the model has an average over recent weights; when the
        iterator ends, or is left by ``break`` and dropped, it has the best ones, of the row left at or an evaluation.
        Several processes have to leave it at the same row.

        Parameters
        ----------
        X, sample_weight, validation_data, groups, checkpoint
            As for ``fit``; y is ignored.
        every : int, optional
            Yield, too, each time that about so many rows have been seen, a multiple of four steps: without an
            evaluation, so that the result of the fit does not depend on it.

        Returns
        -------
        iterator of dict
            ``epoch``, ``step``, ``rows`` (seen so far), ``seconds`` (since training began), ``learning_rate``, and the
            mean objective a row (in the model's units) on the training rows since the last evaluation and on the
            validation rows now.
        """
        every = None if every is None else positive_int("'every'", every)
        run = self._begin(X, sample_weight, validation_data, groups, checkpoint=checkpoint)
        return FitIterator(self._epochs(run.looking(every)))

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take one pass over a block of rows, and keep what was learned from earlier blocks.

        The first block determines scale, code size, smallest variances and start, so it should be typical and not
        small. After ``fit`` training continues from the fitted weights, with their scale and a new optimiser. There are
        no validation rows. The step size does not decay: the model is the average over recent steps. ``learning_rate``
        and ``batch_size`` are read for each block; the other options cannot change. A block that raises an error
        changes nothing.

        Parameters
        ----------
        X : array-like of shape (n, d)
            A block of rows; after the first, one row is enough.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), optional
            Weight of each row, relative to the mean weight of the first block (or of ``fit``). A block of small
            weights changes little, and a block whose weights are all 0 nothing.

        Returns
        -------
        self
        """
        with unchanged_on_failure(self):
            learn_block(self, X, sample_weight)
        return self

    def _begin(
        self,
        X: Any,
        sample_weight: Any = None,
        validation_data: Any = None,
        groups: Any = None,
        split_seed: int | None = None,
        changes: Mapping[str, Any] | None = None,
        checkpoint: Any = None,
    ) -> TrainingRun:
        """Check everything, and return the run of a fit at its start, by four stages: data, model, start, run.

        ``split_seed`` is that of the models that this one is trained with, ``changes`` are options of a stream. A run
        with a checkpoint goes on from there.
        """
        opened = fingerprints.opened(checkpoint, self.verbose)
        with unchanged_on_failure(self), told_of_shortage(), training.own_share(), opened as folder:
            table = self._table(X, sample_weight, validation_data, groups)
            if folder is not None:
                fingerprints.require_rereadable(table)
                self.seed_ = fingerprints.begin(folder, self, table.described(self._cell_names), self.seed_)
            fraction = (changes or {}).get("validation_fraction", self.validation_fraction)
            seed = self.seed_ if split_seed is None else split_seed
            table = replace(table, fraction=fraction, takes_last=self.validation == "last", split_seed=seed).surveyed()
            self._pretrain(table)
            began, options = time.monotonic(), self._training_options()
            options = changed(options, **changes) if changes else options
            self.scaler_ = self._own_scaler(table) or table.scaler(options.scale, options.likelihood, self.columns_)
            dtype = training.weights_dtype(options.precision)
            data = fitting.Data.of(table, self.scaler_, dtype, self.columns_, self.image_shape_)
            model = fitting.describe(options, data, self.seed_)
            start = self._own_start(model, data) or fitting.find_start(options, model, data, self.seed_)
            run = fitting.make_run(options, data, model, start, self.seed_, began)
            if folder is not None:
                run = folder.recording(run) if not self._was_interrupted else folder.not_recording(run)
            self._prepared(table, model, start, run)
        return run

    @contextmanager
    def _training(self, run: TrainingRun, title: str, verbose: bool) -> Iterator[Iterator[list[dict[str, Any]]]]:
        """The evaluations of what `_begin` began; then set the best weights, and make an interruption a warning."""
        was_interrupted = run.state.interrupted
        try:
            try:
                with training.show(title, [run], verbose):
                    yield training.train_all(training.runner_of(run))
            finally:
                self._end(run)
            self._require_finite()
        except KeyboardInterrupt:
            run.state.interrupted = True
            self._end(run)  # again, if it was this that was interrupted
        if run.state.interrupted and not was_interrupted:
            warn(InterruptedWarning.of_fit(run.recorder is not None))

    def _epochs(self, run: TrainingRun) -> Generator[dict[str, float]]:
        """Train what `_begin` began, a row of history at a time."""
        # Before the first step the model is the start, so an iterator that is never used needs no clean-up.
        try:
            runner = training.runner_of(run)
            for (row,) in training.train_all(runner):
                if not self._is_of(run):
                    return
                self.best_epoch_ = run.state.epoch  # the weights that answer inside the loop
                with runner.hears_changes():
                    yield row
                runner.require_agreement(leaves=False)
                if not self._is_of(run):
                    return
        except (GeneratorExit, KeyboardInterrupt) as end:
            if isinstance(end, GeneratorExit):
                runner.require_agreement(leaves=True)
            if run.recorder is not None and not run.state.interrupted:  # which no step was asked to write
                run.recorder.write(run)
            run.state.interrupted |= isinstance(end, KeyboardInterrupt)
            if self._is_of(run):
                training.conclude_look(run)
            raise
        finally:
            self._end(run)
        self._require_finite()

    def _end(self, run: TrainingRun, *, gives_answers: bool = True) -> None:
        """Set the best weights of a run that `_begin` began, and what answers need unless the model gives none."""
        if run.recorder is not None:
            run.recorder.close()
        training.keep_start_if_in_doubt(run)
        run.state.restore_best()
        run.state.parameters.release()
        if self._is_of(run):
            if run.state.best is not None:
                self.best_epoch_, self.best_objective_ = run.state.best.epoch, run.state.best.objective
            if gives_answers:
                self._conclude(run)

    def _is_of(self, run: TrainingRun) -> bool:
        """Whether this run's model is the current one, not replaced by a later fit, block or iterator."""
        return self.composition_ is run.state.composition

    def _require_finite(self) -> None:
        """Raise `TrainingError` if training found no weights with a finite objective."""
        if not math.isfinite(self.best_objective_):
            raise TrainingError(
                "Training found no weights with a finite objective",
                got=f"{self.best_objective_} at the start and at every epoch",
                hint="Look for extreme weights, penalties or learning rates",
            )

    def _table(self, X: Any, sample_weight: Any, validation_data: Any, groups: Any) -> TrainingTable:
        """The rows to fit, checked, with their weights, groups and validation rows."""
        check_options(self)
        self.__dict__.pop("stream_state_", None)
        self._forget()
        self.seed_ = training.seed_of_fit(self.random_state)
        array, rest = read_first_rows(self, X)
        likelihood = fitting.likelihood_of(self.likelihood, self.columns_)
        fitting.check_values(likelihood, array, self._cell_names)
        if self.image_shape == "auto" and not self.image_shape_:
            hint = "Give image_shape as (channels, height, width) of the rows"
            raise OptionError("image_shape='auto' is for arrays and files of images", got="rows", hint=hint)
        apart = None if validation_data is None else self._validation_rows(validation_data, likelihood)
        if groups is not None and apart is not None:
            raise OptionError("Give either 'validation_data' or 'groups', not both", got="both")
        groups = None if groups is None else read_groups(groups, len(array))
        table, self.mean_weight_ = fitting.TrainingTable(array, rest, validation=apart, groups=groups), 1.0
        if sample_weight is not None:
            table, self.mean_weight_ = table.weighted(read_weights(sample_weight, len(array)))
        if len(table.array) < 2:
            raise DataError("Fitting takes at least two rows of positive weight", got=f"{len(table.array)}")
        refuse_empty_columns(table.array, self._cell_names)
        return table

    def _validation_rows(self, validation_data: Any, likelihood: Likelihood) -> np.ndarray:
        """Validation rows that were given apart, checked as the rows to fit are."""
        with named("validation_data"):
            array = read_rows(self, validation_data).array
            fitting.check_values(likelihood, array, self._cell_names)
            if not has_numbers(array):
                raise DataError("There is no number", got=f"gaps (NaN) in {len(array)} rows")
        return array

    def _prepared(self, table: TrainingTable, model: Model, start: Start, run: TrainingRun) -> None:
        """Set every attribute that is known before the training, and evaluate the start."""
        self.pixel_range_ = pixel_range(table.source) if self.image_shape_ else ()
        self.n_validation_ = run.rows.n_validation
        self.fingerprint_ = fingerprint(table.array) if table.rest is None else None
        self.composition_, self.history_ = run.state.composition, run.state.history
        self.objective_, self.execution_ = run.objective, run.execution
        for name, value in vars(fitting.Decisions.of(model, start, run)).items():
            setattr(self, f"{name}_", value)
        self.notes_ = fitting.warnings_about(self.composition_, is_trained=False)
        for note in self.notes_:
            warn(f"{type(self).__name__}: {note}")
        run.state.interrupted = self._was_interrupted
        training.begin(run)
        self.best_epoch_, self.best_objective_ = 0, self.history_[0]["validation_objective"]
        baseline = model.baseline
        self.baseline_ = None if baseline is None else self._as_baseline(baseline.composition, run)

    # -- hooks of subclasses

    def _pretrain(self, table: TrainingTable) -> None:
        """Fit other models first, as a stack does."""

    def _own_scaler(self, table: TrainingTable) -> Scaler | None:
        """The scale of the rows, if it is not that of the options."""
        return None

    def _own_start(self, model: Model, data: Data) -> Start | None:
        """The weights that training begins with, if they are those of models that were trained before."""
        return None

    @property
    def _has_auto_likelihood(self) -> bool:
        """Whether each column of a frame has the likelihood of its kind."""
        return isinstance(self.likelihood, str) and self.likelihood == "auto"

    @property
    def _was_interrupted(self) -> bool:
        """Whether an interruption ended the training of the models that are fitted first."""
        return False

    def _training_options(self) -> AutoencoderOptions:
        """The options for training; named autoencoders may fix some."""
        return self

    def _conclude(self, run: TrainingRun) -> None:
        """Set the other attributes that are known after training."""
        is_linear = not self.hidden_ and self.encoder is None and self.decoder is None
        linear = None if is_linear else self.baseline_
        baseline = None if linear is None else linear.history_[0]["validation_objective"]
        wanted = fitting.kept_variance(self.n_components)
        explained = None if wanted is None else (sum(self.explained_variance_ratio_), wanted)
        self.notes_ = fitting.notes(run, baseline, explained)
        self.notes_ += [] if self.columns_ is None else self.columns_.notes
        self._learn_imputation(run)
        self._remember_codes(run)

    def _as_baseline(self, composition: Composition, run: TrainingRun) -> BaseAutoencoder:
        """The linear model with the same terms, as a fitted estimator."""
        options = {"hidden": (), "init": "linear", "max_epochs": 0}
        networks = dict.fromkeys(["image_shape", "encoder", "decoder"])
        # A subclass whose constructor fixes some options cannot be the linear model itself.
        classes = (cls for cls in type(self).__mro__ if issubclass(cls, BaseAutoencoder))
        owner = next(cls for cls in classes if {*options, *networks} <= set(cls._get_param_names()))
        own = {name: clone(getattr(self, name), safe=False) for name in owner._get_param_names()}
        baseline: BaseAutoencoder = owner(**own | options | networks)
        shared = {name: value for name, value in vars(self).items() if name.endswith("_")}
        baseline.__dict__.update(shared)
        baseline.composition_ = composition.to(self.execution_.device)
        baseline.hidden_, baseline.init_, baseline.baseline_ = (), "linear", None
        if run.alike is None:
            rows = run.rows.validation(training.EVALUATION_ROWS)
            baseline.best_objective_ = training.evaluate(composition, run.objective, rows, self.seed_)
        baseline.history_ = [{"epoch": 0, "step": 0, "validation_objective": baseline.best_objective_}]
        return baseline

    def _misfits(self) -> Iterator[str]:
        names = getattr(self, "feature_names_in_", None)
        if names is not None and len(set(names)) != len(names):
            yield "a column's name"
        if self.columns_ is not None and not self.columns_.is_sound(self.n_features_in_, len(self.scaler_.center)):
            yield "a column"
        if not self.history_ or not all(_is_counted(row) for row in self.history_):
            yield "the history"
        elif self.best_epoch_ > self.history_[-1]["epoch"] + 1:  # at a look, in the epoch after the last evaluation
            yield "the best epoch"
        if self.baseline_ is not None and "validation_objective" not in self.baseline_.history_[0]:
            yield "the objective of the linear baseline"
        if len(self.explained_variance_ratio_) > self.n_components_:
            yield "the variance explained"
        if (shape := self.image_shape_) and (len(shape) != 3 or math.prod(shape) != self.n_features_in_):
            yield "the shape of the images"
        if (limits := self.pixel_range_) and (len(limits) != 2 or not 0 < limits[1] - limits[0] < math.inf):
            yield "the range of the pixels"
        yield from super()._misfits()

    def __getstate__(self) -> dict[str, Any]:
        """The state for copies and pickles."""
        state = super().__getstate__()
        composition = state.get("composition_")
        # Inside ``iter_fit`` the weights are views of one vector, and each would be written with all of it.
        if composition is not None and any(p.untyped_storage().nbytes() > p.nbytes for p in composition.parameters()):
            state = {**state, "composition_": copy.deepcopy(composition)}
        return state

    # -- scikit-learn's interface

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "history_")


def _is_counted(row: Mapping[str, float]) -> bool:
    """Whether a row of history has an epoch and a step."""
    counters = row.get("epoch"), row.get("step")
    return all(isinstance(value, int) and value >= 0 for value in counters)


@contextmanager
def unchanged_on_failure(estimator: object) -> Iterator[None]:
    """Restore an estimator's attributes if the block raises an error."""
    before = estimator.__dict__.copy()
    try:
        yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise
