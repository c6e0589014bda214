"""LabelledAutoencoder: the autoencoder of rows (x, y) that the supervised estimators train."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from eigencode import fitting, parts
from eigencode.data import Scaler
from eigencode.estimators.base import BaseAutoencoder
from eigencode.lazy import torch
from eigencode.options import AutoencoderOptions, changed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from eigencode.fitting import Data, Model, Start, TrainingTable
    from eigencode.model import Composition
    from eigencode.training import TrainingRun

BEFORE_LABELS = (
    "in the autoencoder, before the labels were learned: every prediction is the same; to continue, fit another model "
    "with autoencoder=model.autoencoder_"
)
"""When training was interrupted."""


@dataclass(eq=False, repr=False)
class LabelledAutoencoder(BaseAutoencoder):
    r"""An autoencoder of rows (x, y) whose encoder has x as its input and whose decoder predicts y.

    The supervised estimators train it, with -log p(y|z) instead of -log p(x|z). It starts with the encoder of a fitted
    autoencoder, and copies the trained weights back to it.
    """

    def begin_from(self, autoencoder: BaseAutoencoder, *, interrupted: bool = False) -> Self:
        """Take the encoder's weights and the scale of x from a fitted autoencoder.

        If its training was interrupted, this model is not trained.
        """
        self._autoencoder, self._is_interrupted = autoencoder, interrupted
        return self

    def label_means(self, features: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The mean of p(y|z) for features of shape (n, d), in the labels' own units and a type."""
        labels = self.scaler_.of_columns(slice(features.shape[1], None))

        def finish(means: Tensor) -> np.ndarray:
            found = means.cpu().numpy()
            if self.composition_.likelihood.in_data_units:
                return found.astype(dtype, copy=False)
            # In float64: with a large centre, float32 may round all values to one.
            return labels.inverse_transform(found, dtype)

        return self._answer_of(features, lambda model, rows, seen: model.reconstruct(*seen.cells).mean, finish)

    def _own_scaler(self, table: TrainingTable) -> Scaler:
        """Scale x as the autoencoder does, and y by itself."""
        features = self._autoencoder.scaler_
        own = getattr(table.array, "beside", None)
        own = table.array[:, len(features.center) :] if own is None else own
        labels = replace(table, array=own).scaler(self.scale, self.likelihood)
        center, divisor = (np.append(getattr(features, name), getattr(labels, name)) for name in ("center", "divisor"))
        columns = [scaler.logarithmic or (False,) * len(scaler.center) for scaler in (features, labels)]
        logarithmic = (*columns[0], *columns[1]) if any(map(any, columns)) else ()
        constant = [*features.constant, *(len(features.center) + column for column in labels.constant)]
        return replace(features, center=center, divisor=divisor, constant=constant, logarithmic=logarithmic)

    def _training_options(self) -> AutoencoderOptions:
        return changed(self, max_epochs=0) if self._is_interrupted else self

    def _own_start(self, model: Model, data: Data) -> Start:
        """The autoencoder's encoder and the best constant label."""
        with torch.no_grad():
            composition = model.built(data, self.seed_)
            for target, source in _shared(composition, self._autoencoder.composition_):
                target.load_state_dict(source.state_dict())
            codes = composition.encode(*data.sample.cells).mean
            spread = codes.std(0, correction=0)
            scaling, head = composition.decoder.networks  # type: ignore[misc]
            scaling.standardise(codes.mean(0), spread.where(spread > 0, 1.0))
            torch.nn.init.zeros_(head.last.weight)
            fitting.calibrate(composition, data.typical)
            return fitting.Start(composition, "random")

    @property
    def _was_interrupted(self) -> bool:
        """Whether an interruption ended the training of the autoencoder."""
        return self._is_interrupted

    def _conclude(self, run: TrainingRun) -> None:
        with torch.no_grad():
            super()._conclude(run)
            # Whether the code could copy its row does not matter to labels.
            self.notes_ = [note for note in self.notes_ if not note.startswith("overcomplete")]
            if self._is_interrupted:
                others = [note for note in self.notes_ if not note.startswith(fitting.INTERRUPTED)]
                self.notes_ = [f"{fitting.INTERRUPTED} {BEFORE_LABELS}", *others]
            for source, target in _shared(run.state.composition, self._autoencoder.composition_):
                if any(weights.requires_grad for weights in source.parameters()):
                    target.load_state_dict(source.state_dict())
                    self._autoencoder.__dict__.pop("stream_state_", None)
                    self._autoencoder._forget()


def _shared(composition: Composition, autoencoder: Composition) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Pairs of parts of a labelled autoencoder and the corresponding ones of the autoencoder."""
    encoding = next(part for part in composition.encoder.modules() if isinstance(part, parts.Encoding))
    yield encoding.network, autoencoder.encoder
    yield encoding.code, autoencoder.code
    for penalty in composition.penalties:
        if isinstance(penalty, parts.Reconstruction):
            yield penalty.decoder, autoencoder.decoder
            yield penalty.likelihood, autoencoder.likelihood
