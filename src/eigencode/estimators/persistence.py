"""Persistence: what of a fitted estimator a file keeps, and how the estimator is made of it again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import numpy as np
from sklearn.base import BaseEstimator

from eigencode import fitting, io, model, parts, training
from eigencode.batch import Batch
from eigencode.data.rows import ResidentRows
from eigencode.data.scaling import Scaler
from eigencode.domains import Count, Index, Positive, is_optional
from eigencode.errors import StorageError
from eigencode.estimators.streaming import run_of_block
from eigencode.lazy import torch

if TYPE_CHECKING:
    from eigencode.io import Decoder, Encoder
    from eigencode.model import Composition


class Saved(BaseEstimator):
    """An estimator that can be written to a file: its parameters, and the fitted attributes that it names.

    A subclass names attributes of its own by `saved_attributes`; what is neither a plain value nor a part is written by
    `_describe` and read by `_restore`.
    """

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        """The fitted attributes that a file keeps, with their types; a subclass adds its own to these.

        A type may be plain, an array or tensor, a dataclass, an autoencoder, or a list, tuple or dict of such. An
        attribute whose type admits None need not be there, and is forgotten when the weights change.
        """
        return {}

    def _saved_values(self) -> dict[str, Any]:
        """The values of these attributes, as far as they are there."""
        return {name: getattr(self, name) for name in self.saved_attributes() if hasattr(self, name)}

    def _describe(self, encoder: Encoder) -> dict[str, Any]:
        """What a file keeps beside parameters and attributes, as JSON; tensors go to the encoder."""
        return {}

    def _restore(self, description: dict[str, Any], decoder: Decoder) -> None:
        """Take what `_describe` gave."""

    def _misfits(self) -> Iterator[str]:
        """Fitted attributes that do not fit each other, in words; in a model that was fitted there are none."""
        return iter(())

    def _forget(self) -> None:
        """Drop what was made of other weights than the present ones."""
        for name, kind in self.saved_attributes().items():
            if is_optional(kind):
                self.__dict__.pop(name, None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one ``.safetensors`` file, whole or not at all.

        Parameters
        ----------
        path : path-like
            Where to; an existing file is replaced.
        """
        io.save(self, path)


class SavedAutoencoder(Saved):
    """An autoencoder in a file: its composition, its scale, and the linear model beside it."""

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        """The fitted attributes that a file keeps, with their types."""
        decisions = get_type_hints(fitting.Decisions, include_extras=True)
        own = {
            "n_features_in_": Count,
            "history_": list[dict[str, float]],
            "best_epoch_": Index,
            "best_objective_": float,
            "n_validation_": Annotated[Index | None, "kept if the weights change; None: not known"],
            "notes_": list[str],
            "mean_weight_": Positive,
            "image_shape_": tuple[Count, ...],
            "pixel_range_": tuple[float, ...],
        }
        return super().saved_attributes() | {f"{name}_": kind for name, kind in decisions.items()} | own

    def _saved_values(self) -> dict[str, Any]:
        """The values of these attributes; the history without its seconds, so that equal fits are equal files."""
        return super()._saved_values() | {"history_": _untimed(self.history_)}

    def _describe(self, encoder: Encoder) -> dict[str, Any]:
        """The composition with its objective, the columns, the execution; a stream's state and a baseline."""
        encoder.keep({f"composition.{name}": value for name, value in io.weights_of(self.composition_).items()})
        encoder.keep(
            {f"scaler.{name}": torch.from_numpy(getattr(self.scaler_, name)) for name in ("center", "divisor")}
        )
        names = getattr(self, "feature_names_in_", None)
        description = {
            "composition": encoder.argument("composition", self.composition_),
            "objective": {name: encoder.argument(name, value) for name, value in vars(self.objective_).items()},
            "scaler": _described_scaler(self.scaler_),
            "execution": vars(self.execution_),
            "feature_names": None if names is None else list(names),
        }
        if hasattr(self, "stream_state_"):
            stream = {**self.stream_state_, "history": _untimed(self.stream_state_["history"])}
            description["stream"] = encoder.attribute("stream", stream)
        if self.baseline_ is not None:
            description["baseline"] = encoder.model(self.baseline_, "baseline.")
        return description

    def _restore(self, description: dict[str, Any], decoder: Decoder) -> None:
        """Take what `_describe` gave, and try it out."""
        self._restore_columns(description, decoder)
        execution = io.typed(training.Execution, {**description["execution"], "device": decoder.device}, "execution")
        # Threads beyond the machine's would only wait for each other.
        self.execution_ = replace(execution, n_threads=min(execution.n_threads, os.cpu_count() or 1))
        self.objective_ = io.typed(model.Objective, description["objective"], "objective")
        training.resolve_seed(self.seed_)  # refuses what is none
        self.composition_ = self._restored_composition(description, decoder).to(decoder.device)
        if "stream" in description:
            self._restore_stream(decoder.attribute("stream", description["stream"], dict[str, Any]))
        self.baseline_ = None
        if "baseline" in description:
            # It is made before a subclass sets attributes of its own.
            self.baseline_ = decoder.model(description["baseline"], "baseline.", required=SavedAutoencoder)

    def _restore_columns(self, description: dict[str, Any], decoder: Decoder) -> None:
        """The columns' names and scale."""
        d, names = self.n_features_in_, description["feature_names"]
        if names is not None:
            self.feature_names_in_ = np.array(io.typed(list[str], names, "feature_names"), dtype=object)
        scaler = {name: decoder.tensor(f"scaler.{name}").numpy() for name in ("center", "divisor")}
        self.scaler_ = io.typed(Scaler, {**description["scaler"], **scaler}, "scaler")
        if any(len(values) != d for values in (*scaler.values(), names if names is not None else range(d))):
            raise StorageError("The model's columns do not fit its scale", got=f"{d} columns")

    def _restored_composition(self, description: dict[str, Any], decoder: Decoder) -> Composition:
        """The networks and other parts, with their weights."""
        with decoder.allocation:
            composition = io.typed(model.Composition, decoder.argument(description["composition"]), "composition")
            sizes = parts.Sizes(self.n_features_in_, self.n_components_, units=parts.Units.of(self.scaler_))
            composition.setup(sizes.n_features, sizes.n_components, torch.Generator(), sizes)
            composition.to(self.execution_.dtype)
        io.restore_weights(composition, decoder.tensors_of("composition."))
        return composition

    def _restore_stream(self, saved: dict[str, Any]) -> None:
        """The state of a stream, tried out on a copy of the model."""
        io.typed(training.SavedState, saved, "stream")
        rows = torch.zeros(1, self.n_features_in_, dtype=self.execution_.dtype)
        run_of_block(self, self, ResidentRows.of(Batch(rows)), saved)  # refuses what does not fit
        self.stream_state_ = saved


def _untimed(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Rows of history without the seconds they took."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def _described_scaler(scaler: Scaler) -> dict[str, Any]:
    """What a scaler has beside its tensors; columns scaled by their logarithms are named where there are any."""
    named = {"logarithmic": list(scaler.logarithmic)} if any(scaler.logarithmic) else {}
    gaps = {"has_gaps": True} if scaler.has_gaps else {}
    return {**{name: getattr(scaler, name) for name in ("kind", "limit", "constant")}, **named, **gaps}
