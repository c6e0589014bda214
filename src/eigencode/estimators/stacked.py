"""StackedAutoencoder: shallow layers trained one after the other, then one deep network."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import clone

from eigencode import fitting, parts, training
from eigencode.checkpoint import Checkpoint
from eigencode.data.containers import NamedArray
from eigencode.data.scaling import Scaler
from eigencode.errors import InterruptedWarning, OptionError, is_int, warn
from eigencode.estimators.autoencoder import Autoencoder
from eigencode.estimators.base import BaseAutoencoder
from eigencode.lazy import torch
from eigencode.options import (
    Activation,
    AutoencoderOptions,
    Object,
    TrainingOptions,
    changed,
    documented,
    option,
    values_of,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from eigencode.fitting import Data, Model, Start, TrainingTable
    from eigencode.model import Composition
    from eigencode.parts import Likelihood, Network
    from eigencode.training import TrainingRun

LIKELIHOODS_OF_CODES = {"sigmoid": "bernoulli", "identity": "gaussian"}
"""Likelihoods for codes of units by their activation; other activations need an `ActivatedLikelihood`."""

NETWORKS = ("encoder", "decoder", "image_shape")
"""Options that describe one layer's networks."""

SHORTEST_RUN = 1e-3
"""Smallest time limit of a run, in seconds."""


@documented
@dataclass(eq=False, repr=False, kw_only=True)
class StackedAutoencoder(BaseAutoencoder):
    r"""A deep autoencoder that is trained layer by layer first, and then as a whole.

    Layer j is a shallow autoencoder (f_j, g_j) of the codes of the layers below (Bengio et al., 2007; with corrupted
    codes, Vincent et al., 2010):

    .. math:: h_0 = x, \qquad h_j = f_j(h_{j-1}), \qquad (f_j, g_j) \text{ fitted to the rows } h_{j-1}

    Unrolled, they are one deep autoencoder, f = f_m ... f_1 and g = g_1 ... g_m, which is then fine-tuned as one
    network from there (Hinton & Salakhutdinov, 2006): the weights kept are never worse than the unrolled ones on the
    validation rows. The likelihood and the scale are the first layer's; the code and its prior and penalties are the
    last one's, unless given here. The next layer gets the mean of a stochastic code.

    Noise and penalties given here are those of the deep network in fine-tuning; the noise is also that of layers
    given by width.

    All layers and the whole network use the same validation rows, so that no layer is trained on rows that later
    decide which weights are kept.

    {parameters}

    Attributes
    ----------
    layers_ : list of estimator
        The fitted layers, each with its own ``history_``; empty without pretraining.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from eigencode import Autoencoder, StackedAutoencoder
    >>> from eigencode.parts import GaussianNoise, Point
    >>> X = load_digits().data
    >>> options = {"hidden": (), "corruption": GaussianNoise(0.1), "max_epochs": 5}
    >>> layers = [
    ...     Autoencoder(32, code=Point("sigmoid"), **options),
    ...     Autoencoder(8, **options),
    ... ]
    >>> model = StackedAutoencoder(layers=layers, max_epochs=5, random_state=0).fit(X)
    >>> model.transform(X).shape
    (1797, 8)
    >>> objectives = [row["validation_objective"] for row in model.history_]
    >>> objectives[-1] < objectives[0]
    True
    """

    layers: tuple[int, ...] | Literal["auto"] | Object = option(
        "auto",
        "The layers from the data to the code, each a width or an autoencoder of any kind, with its own noise and "
        "penalties on the codes below. A width is a layer of that many units with `activation`, `corruption` and "
        "the training options given here. 'auto': the widths in `hidden`, then `n_components`. The seed of every "
        "layer comes from `random_state`.",
        low=1,
        object="a sequence of widths and autoencoders",
    )
    activation: Activation | Object = option(
        "gelu",
        "Nonlinearity of the units of layers given by width: a name, or any elementwise torch module. The code's "
        "own are linear, unless `code` says otherwise.",
    )
    pretrain: bool = option(
        True, "Fit the layers one after the other first; else the same network starts at random weights."
    )
    fine_tune: bool = option(True, "Train the unrolled network as a whole in the end.")

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        return super().saved_attributes() | {
            "layers_": list[BaseAutoencoder],
        }

    def _begin(self, X: Any, *args: Any, **given: Any) -> TrainingRun:
        """Fit the layers first; after an interruption the layers fitted so far are kept."""
        self._learned: list[BaseAutoencoder] = []  # a list that is changed in place survives a failure
        self._folders = Checkpoint.of(given.get("checkpoint"))
        try:
            return super()._begin(X, *args, **given)
        except KeyboardInterrupt:
            if not self._learned:
                raise
            warn(InterruptedWarning.of_fit(self._folders is not None))
            return super()._begin(X, *args, **given)
        finally:
            del self._learned, self._folders

    def _pretrain(self, table: TrainingTable) -> None:
        """Fit the layers, each to the codes of the layers below."""
        self._began = time.monotonic()
        kept: list[BaseAutoencoder] = vars(self).get("_learned", [])
        n_learned = len(kept)  # before an interruption
        self._interrupted_in = n_learned or None
        self.layers_: list[BaseAutoencoder] = []
        codes = table
        for index, layer in enumerate(self._layers(*table.array.shape)):
            if index < n_learned:
                layer = kept[index]
            else:
                self._fit_layer(layer, codes, index)
                kept.append(layer)
            self.layers_.append(layer)
            apart = None if codes.validation is None else layer._codes(self._named(codes.validation, index))
            codes = replace(codes, array=layer._codes(self._named(codes.array, index)), validation=apart)

    def _own_scaler(self, table: TrainingTable) -> Scaler:
        """The first layer's scale."""
        return self.layers_[0].scaler_

    def _fit_layer(self, layer: BaseAutoencoder, codes: TrainingTable, index: int) -> None:
        """Fit a layer; after an interruption it is made without training, so that the model is complete."""
        layer.set_params(random_state=training.generator(self.seed_, "layer", index).initial_seed())
        layer.validation, layer.validation_fraction = self.validation, codes.fraction
        checkpoint = self._folders and self._folders.within(f"layer-{index + 1}", is_derived=index > 0)
        if self._interrupted_in is not None:
            layer.max_epochs, checkpoint = 0, None
        rows = [None if array is None else self._named(array, index) for array in (codes.array, codes.validation)]
        run = layer._begin(rows[0], codes.weights, rows[1], codes.groups, codes.split_seed, checkpoint=checkpoint)
        with layer._training(run, f"layer {index + 1}", self.verbose) as evaluations:
            deque(evaluations, maxlen=0)
        if run.state.interrupted:
            self._interrupted_in = index

    def _named(self, array: np.ndarray, index: int) -> Any:
        """The rows of a layer: the first one's are the cells of the columns fitted."""
        return array if index or self.columns_ is None else NamedArray(array, schema=self.columns_)

    @property
    def _has_auto_likelihood(self) -> bool:
        first = self.layers[0] if isinstance(self.layers, Sequence) and len(self.layers) else None
        return first._has_auto_likelihood if isinstance(first, BaseAutoencoder) else super()._has_auto_likelihood

    def _own_start(self, model: Model, data: Data) -> Start | None:
        """The weights of the layers; None without pretraining."""
        if not self.pretrain:
            return None
        composition = model.built(data, self.seed_)
        with torch.no_grad():
            _unroll(self.layers_, composition)
        fitting.calibrate(composition, data.typical, is_pretrained=True)
        return fitting.Start(composition, "pretrained")

    def _prepared(self, table: TrainingTable, model: Model, start: Start, run: TrainingRun) -> None:
        super()._prepared(table, model, start, run)
        self.hidden_ = tuple(layer.n_components_ for layer in self.layers_[:-1])
        if not self.pretrain:
            self.layers_ = []

    @property
    def _was_interrupted(self) -> bool:
        """Whether an interruption ended the training of a layer."""
        return self._interrupted_in is not None

    def _conclude(self, run: TrainingRun) -> None:
        super()._conclude(run)
        if self._interrupted_in is not None:
            last, n = self._interrupted_in + 1, len(self.layers_)
            where = f"in layer {last} of {n}" if last <= n else "after the last layer"
            left = "neither the layers above it nor the network as a whole were trained"
            left = left if last < n else "the network as a whole was not trained"
            others = [note for note in self.notes_ if not note.startswith(fitting.INTERRUPTED)]
            self.notes_ = [f"{fitting.INTERRUPTED} {where}; {left}", *others]

    def _training_options(self) -> AutoencoderOptions:
        """The options of the deep network made of the layers."""
        layers = [layer.composition_ for layer in self.layers_]
        first, last, is_own = layers[0], layers[-1], self.prior is not None
        left = None
        if self.max_seconds is not None:
            left = max(self.max_seconds - (time.monotonic() - self._began), SHORTEST_RUN)
        return changed(
            self,
            n_components=last.n_components,
            encoder=_encoder(layers),
            decoder=_decoder(layers),
            tied=False,
            likelihood=first.likelihood,
            code=last.code,
            prior=self.prior if is_own else last.prior,
            beta=self.beta if is_own else self.layers_[-1].objective_.beta,
            penalties=self.penalties or last.penalties,
            init="random",
            max_epochs=self.max_epochs if self.fine_tune and self._interrupted_in is None else 0,
            max_seconds=left,
        )

    def _misfits(self) -> Iterator[str]:
        yield from super()._misfits()
        sizes = [(layer._n_cells, layer.n_components_) for layer in getattr(self, "layers_", [])]
        widths = [self._n_cells, *(k for _, k in sizes)]
        if sizes and (widths[:-1] != [d for d, _ in sizes] or widths[-1] != self.n_components_):
            yield "a layer"

    def _as_baseline(self, composition: Composition, run: TrainingRun) -> BaseAutoencoder:
        baseline = super()._as_baseline(composition, run)
        baseline.__dict__["layers_"] = []
        return baseline

    # -- the layers

    def _layers(self, n_rows: int, n_features: int) -> Iterator[BaseAutoencoder]:
        """The layers as estimators, not fitted yet."""
        given = self._given_layers(n_rows, n_features)
        self._check_terms(given)
        for index, item in enumerate(given):
            is_width = not isinstance(item, BaseAutoencoder)
            layer = self._of_width(item, index, len(given)) if is_width else clone(item)
            if self.max_seconds is not None and (is_width or layer.max_seconds is None):
                layer.max_seconds = self.max_seconds / (len(given) + 1)
            if not self.pretrain:
                layer.max_epochs = 0  # only its sizes and scale are used
            yield layer

    def _given_layers(self, n_rows: int, n_features: int) -> Sequence[Any]:
        """Widths and estimators, the last width perhaps 'auto'."""
        if isinstance(self.layers, str):
            is_given = fitting.kept_variance(self.n_components) is None
            n_components = int(self.n_components) if is_given else min(n_features, 16)
            return [*fitting.hidden_of(self.hidden, n_features, n_components, n_rows), self.n_components]
        if not isinstance(self.layers, Sequence) or not len(self.layers):
            raise OptionError("The layers must be a sequence of widths and autoencoders", got=f"{self.layers!r}")
        for item in self.layers:
            if not (isinstance(item, BaseAutoencoder) or (is_int(item) and int(item) > 0)):
                raise OptionError("A layer must be a width or an autoencoder of this package", got=f"{item!r}")
        if self.hidden != "auto" or self.n_components != "auto":
            raise OptionError(
                "Set either 'layers' or 'hidden' and 'n_components', not both",
                got=f"hidden={self.hidden!r} and n_components={self.n_components!r}",
            )
        return self.layers

    def _check_terms(self, layers: Sequence[Any]) -> None:
        """Raise an error for options that must be set for a layer."""
        options = {name: getattr(self, name) for name in NETWORKS if getattr(self, name) is not None}
        options |= {"ordered": True} if self.ordered else {}
        if isinstance(layers[0], BaseAutoencoder):
            options |= {"likelihood": self.likelihood} if self.likelihood != "auto" else {}
            options |= {"scale": self.scale} if self.scale != "auto" else {}
        if isinstance(layers[-1], BaseAutoencoder) and self.code is not None:
            options["code"] = self.code
        if options:
            name, value = next(iter(options.items()))
            raise OptionError(
                f"{name!r} belongs to the first or the last layer",
                got=f"{name}={value!r} for the stack",
                hint="Give it to an autoencoder in 'layers'",
            )

    def _of_width(self, width: int | str, index: int, n_layers: int) -> Autoencoder:
        """A layer of a width, with the noise, activation and training options of the stack."""
        is_first, is_last = index == 0, index == n_layers - 1
        share = None if is_first else fitting.kept_variance(width)
        if share is not None:  # of the rows' variance: that of random units has few large directions
            kept = np.cumsum(self.layers_[0].explained_variance_ratio_)
            width = min(int(np.searchsorted(kept, share)) + 1, len(kept))
        return Autoencoder(
            width,
            hidden=(),
            code=clone(self.code, safe=False) if is_last else parts.Point(clone(self.activation, safe=False)),
            likelihood=clone(self.likelihood, safe=False) if is_first else self._likelihood_of_codes(),
            scale=self.scale if is_first else "common",  # the units of a layer are commensurate
            corruption=clone(self.corruption, safe=False),
            tied=self.tied,
            init=self.init,
            **values_of(self, TrainingOptions),
        )

    def _likelihood_of_codes(self) -> Likelihood | str:
        """The likelihood of the codes below, for layers above the first that are given by width."""
        named = LIKELIHOODS_OF_CODES.get(self.activation)
        return named or parts.ActivatedLikelihood(clone(self.activation, safe=False))


def _encoder(layers: Sequence[Composition]) -> Network:
    """The layers' encoders in turn, each but the last with its code, all without tensors."""
    *below, last = layers
    stages: list[Network] = []
    for layer in below:
        stages += [parts.Encoding(clone(layer.encoder), clone(layer.code)), parts.Rescaling()]
    return parts.Chain([*stages, clone(last.encoder)], _twice(layers))


def _decoder(layers: Sequence[Composition]) -> Network:
    """The layers' decoders in reverse, each but the first layer's with its likelihood's mean, all without tensors."""
    first, *above = layers
    stages: list[Network] = []
    for layer in reversed(above):
        stages += [parts.Decoding(clone(layer.decoder), clone(layer.likelihood)), parts.Rescaling()]
    return parts.Chain([*stages, clone(first.decoder)], _twice(layers)[::-1])


def _twice(layers: Sequence[Composition]) -> list[int]:
    """The widths between stages and rescalings."""
    return [layer.n_components for layer in layers[:-1] for _ in range(2)]


def _unroll(layers: Sequence[BaseAutoencoder], composition: Composition) -> None:
    """Copy the layers' weights, and the scales of the codes between them, into the deep network."""
    deep: Any = composition
    encodings, decodings = deep.encoder.networks[::2], deep.decoder.networks[::-2]
    for layer, encoding, decoding in zip(layers, encodings, decodings, strict=True):
        own = layer.composition_
        is_last, is_first = layer is layers[-1], layer is layers[0]
        _copy(own.encoder, encoding if is_last else encoding.network)
        _copy(own.code, deep.code if is_last else encoding.code)
        _copy(own.decoder, decoding if is_first else decoding.network)
        _copy(own.likelihood, deep.likelihood if is_first else decoding.likelihood)
    inward, outward = deep.encoder.networks[1::2], deep.decoder.networks[-2::-2]
    for layer, before, after in zip(layers[1:], inward, outward, strict=True):
        units = [torch.from_numpy(values) for values in (layer.scaler_.center, layer.scaler_.divisor)]
        before.standardise(*units)
        if not layer.composition_.likelihood.in_data_units:
            after.restore(*units)


def _copy(source: nn.Module, target: nn.Module) -> None:
    """Copy all tensors of a part into another of the same kind."""
    target.load_state_dict(source.state_dict())
