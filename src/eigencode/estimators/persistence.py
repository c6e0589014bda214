"""Persistence: which attributes of a fitted estimator a file has, and how the estimator is restored from them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from eigencode import export, fitting, io, model, parts, report, training
from eigencode.data import Scaler, Schema
from eigencode.domains import Count, Index, Positive, is_optional
from eigencode.errors import StorageError
from eigencode.estimators.streaming import check_fit
from eigencode.lazy import torch

if TYPE_CHECKING:
    from eigencode.io import Decoder, Encoder
    from eigencode.model import Composition


class Saved(BaseEstimator):
    """An estimator that can be written to a file: its parameters and some fitted attributes.

    `saved_attributes` names the attributes. Values that are neither plain nor parts are written by `_describe` and
    read by `_restore`.
    """

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        """The fitted attributes that a file has, with their types; a subclass adds its own.

        A type may be plain, an array or tensor, a dataclass, an autoencoder, or a list, tuple or dict of these. An
        attribute whose type includes None may be absent, and is deleted when the weights change.
        """
        return {"fingerprint_": str | None}

    def _saved_values(self) -> dict[str, Any]:
        """The values of those attributes that exist."""
        return {name: getattr(self, name) for name in self.saved_attributes() if hasattr(self, name)}

    def _describe(self, encoder: Encoder) -> dict[str, Any]:
        """Further values as JSON; tensors are given to the encoder."""
        return {}

    def _restore(self, description: dict[str, Any], decoder: Decoder) -> None:
        """Restore the values that `_describe` returned."""

    def _misfits(self) -> Iterator[str]:
        """Names of fitted attributes that contradict others, as in a damaged file."""
        return iter(())

    def _forget(self) -> None:
        """Delete attributes that were computed from earlier weights."""
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

    def export(self, path: str | os.PathLike[str], methods: Sequence[str] | str | None = None) -> None:
        """Write a graph that answers without this package: ONNX for a path in ``.onnx``, `torch.export` for ``.pt2``.

        Scaling and gaps are inside. The graph's answers are compared with the model's before the file is written. ONNX
        takes ``pip install 'eigencode[export]'``.

        Parameters
        ----------
        path : path-like
            Where to; an existing file is replaced.
        methods : str or sequence of str, optional
            The methods whose answers are the graph's outputs, as 'transform'; by default all that take rows.
            'inverse_transform', which takes codes, is a graph of its own.

        Raises
        ------
        FileError
            If the file's ending is another one, or it cannot be written.
        OptionError
            If a method or a part of the model cannot be exported.
        DataError
            If the graph's answers differ from the model's.
        """
        check_is_fitted(self)
        export.write(self, path, methods)

    def _repr_html_inner(self) -> str:
        """The estimator in a notebook, and of a fitted one its key figures and training."""
        return str(super()._repr_html_inner() + report.card(self))

    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:
        bundle: dict[str, str] = super()._repr_mimebundle_(**options)
        return bundle | ({"text/html": self._repr_html_inner()} if "text/html" in bundle else {})

    def report(self, X: Any, path: str | os.PathLike[str], *, y: Any = None) -> None:
        """Write a page about this model and some rows: one HTML file that opens in any browser, without a network.

        It says what the model found and whether it was worth it beside the linear one, and shows training, errors by
        column, the rows with the largest errors, codes, components, gaps, and for a detector alarms with reasons. The
        reader can select codes, and decode new ones. It takes ``pip install 'eigencode[report]'``. Of more than 20,000
        rows, so many are drawn at random. The page contains values of about 2,000 of them.

        Parameters
        ----------
        X : array-like or frame of shape (n, d)
            Rows like those fitted, preferably others.
        path : path-like
            A file ending in ``.html`` or ``.htm``; an existing file is replaced.
        y : array-like of shape (n,), optional
            The rows' labels, with which the predictions of a classifier or regressor are compared.
        """
        report.write(self, X, path, y)


@cache
def _types_of_decisions() -> dict[str, Any]:
    return get_type_hints(fitting.Decisions, include_extras=True)


class SavedAutoencoder(Saved):
    """An autoencoder in a file: its composition, its scaler, and its linear baseline."""

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        decisions = _types_of_decisions()
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
            "columns_": Annotated[Schema | None, "kept if the weights change; None: fitted on an array"],
        }
        return super().saved_attributes() | {f"{name}_": kind for name, kind in decisions.items()} | own

    def _saved_values(self) -> dict[str, Any]:
        """The values of these attributes; the history without its seconds, so that equal fits are equal files."""
        return super()._saved_values() | {"history_": _untimed(self.history_)}

    def _describe(self, encoder: Encoder) -> dict[str, Any]:
        """The composition with its objective, the columns, the execution, the state of a stream, and the baseline."""
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
        """Restore the values that `_describe` returned, and check them."""
        self._restore_columns(description, decoder)
        execution = io.typed(training.Execution, {**description["execution"], "device": decoder.device}, "execution")
        self.execution_ = execution.of_loaded()
        self.objective_ = io.typed(model.Objective, description["objective"], "objective")
        training.resolve_seed(self.seed_)  # raises an error if it is no seed
        self.composition_ = self._restored_composition(description, decoder).to(decoder.device)
        if "stream" in description:
            self._restore_stream(decoder.attribute("stream", description["stream"], dict[str, Any]))
        self.baseline_ = None
        if "baseline" in description:
            # Made before a subclass sets its own attributes.
            self.baseline_ = decoder.model(description["baseline"], "baseline.", required=SavedAutoencoder)

    def _restore_columns(self, description: dict[str, Any], decoder: Decoder) -> None:
        """The columns' names and scale."""
        d, names = self.n_features_in_, description["feature_names"]
        if names is not None:
            self.feature_names_in_ = np.array(io.typed(list[str], names, "feature_names"), dtype=object)
        scaler = {name: decoder.tensor(f"scaler.{name}").numpy() for name in ("center", "divisor")}
        self.scaler_ = io.typed(Scaler, {**description["scaler"], **scaler}, "scaler")
        if (names is not None and len(names) != d) or any(len(values) != self._n_cells for values in scaler.values()):
            raise StorageError("The model's columns do not fit its scale", got=f"{d} columns")

    def _restored_composition(self, description: dict[str, Any], decoder: Decoder) -> Composition:
        """The networks and other parts, with their weights."""
        with decoder.allocation:
            composition = io.typed(model.Composition, decoder.argument(description["composition"]), "composition")
            sizes = parts.Sizes(self._n_cells, self.n_components_, units=parts.Units.of(self.scaler_))
            composition.setup(sizes.n_features, sizes.n_components, torch.Generator(), sizes)
            composition.to(self.execution_.dtype)
        io.restore_weights(composition, decoder.tensors_of("composition."))
        return composition

    def _restore_stream(self, saved: dict[str, Any]) -> None:
        """Restore the state of a stream, checked on a copy of the model."""
        saved = io.with_added(saved, dict(self.composition_.named_buffers()))
        io.typed(training.SavedState, saved, "stream")
        check_fit(self, saved)
        self.stream_state_ = saved


def _untimed(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Rows of history without the seconds they took."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def _described_scaler(scaler: Scaler) -> dict[str, Any]:
    """The values of a scaler that are not tensors."""
    named = {"logarithmic": list(scaler.logarithmic)} if any(scaler.logarithmic) else {}
    gaps = {"has_gaps": True} if scaler.has_gaps else {}
    return {**{name: getattr(scaler, name) for name in ("kind", "limit", "constant")}, **named, **gaps}
