"""From options and scaled rows to a run that is ready to begin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from sklearn.base import clone
from torch import Tensor, nn

from eigencode.composition import Composition
from eigencode.errors import OptionError
from eigencode.estimators.automatic import RECIPES, hidden_widths
from eigencode.objectives import Objective
from eigencode.parts.base import Part
from eigencode.parts.codes import Code, Point
from eigencode.parts.corruptions import Corruption
from eigencode.parts.likelihoods import GaussianLikelihood, Likelihood, Units
from eigencode.parts.networks import MLP, LinearPath, Network, as_network
from eigencode.parts.penalties import Penalty
from eigencode.parts.priors import Prior
from eigencode.starts import Spectrum, linear_shares, set_linear, spectrum
from eigencode.training.execution import choose_execution
from eigencode.training.loop import Work
from eigencode.training.noise import generator
from eigencode.training.optimizers import make_optimizer
from eigencode.training.schedule import Schedule
from eigencode.training.state import FlatParameters, TrainingState

if TYPE_CHECKING:
    from eigencode.options import AutoencoderOptions

LIKELIHOODS: dict[str, type[Likelihood]] = {"gaussian": GaussianLikelihood}

CALIBRATION_ROWS = 8192
"""Rows that settle a likelihood's own parameters at the start."""

AUTO_VARIANCE = 0.9
"""Share of the variance that ``n_components="auto"`` keeps."""


@dataclass(frozen=True)
class Preparation:
    """A run that is ready to begin, and what was decided for it.

    Attributes
    ----------
    state, work
        What the training loop takes.
    baseline : Composition or None
        The linear model of the same kind, where its optimum is known in closed form.
    spectrum : Spectrum
        Principal directions of the scaled rows.
    hidden : tuple of int
        Widths of the encoder's hidden layers.
    start, optimizer : str
        What 'auto' became.
    """

    state: TrainingState
    work: Work
    baseline: Composition | None
    spectrum: Spectrum
    hidden: tuple[int, ...]
    start: str
    optimizer: str


def prepare(options: AutoencoderOptions, rows: Tensor, seed: int, units: Units | None = None) -> Preparation:
    """Decide everything that is 'auto', build the model, and set it to its start."""
    n_rows, n_features = rows.shape
    asked = None if options.n_components == "auto" else int(options.n_components)
    principal = spectrum(rows, asked, seed)
    n_components = asked or principal.n_components_for(AUTO_VARIANCE)
    hidden = hidden_widths(n_features, n_components, n_rows) if options.hidden == "auto" else options.hidden
    words = _words(options)
    objective = Objective(options.beta, _penalties(options.penalties))

    linear = Composition(MLP(), MLP(), **words)
    shares = linear_shares(linear, objective, principal.eigenvalues[:n_components])
    path = shares is not None and options.start != "plain"
    composition = Composition(
        _network(options.encoder, hidden, options.activation, path),
        _network(options.decoder, hidden[::-1], options.activation, path),
        **{name: clone(word, safe=False) for name, word in words.items()},
    )
    start = _choose_start(options.start, composition, shares)
    models = [linear, composition] if shares is not None else [composition]
    for model in models:
        _build(model, rows, n_components, seed, units)
        if shares is not None and (start == "linear" or model is linear):
            set_linear(model, principal.directions[:, : len(shares)], shares)
        _calibrate(model, rows)
    state, work, optimizer = _run(options, composition, objective, rows, seed)
    baseline = linear if shares is not None else None
    return Preparation(state, work, baseline, principal, tuple(hidden), start, optimizer)


def _run(
    options: AutoencoderOptions, composition: Composition, objective: Objective, rows: Tensor, seed: int
) -> tuple[TrainingState, Work, str]:
    """The state and the work of training a composition that stands at its start."""
    optimizer = "adam" if options.optimizer == "auto" else options.optimizer
    recipe = RECIPES[optimizer]
    training, held_out = _split(len(rows), options.validation_fraction, seed)
    batch_size = _or(options.batch_size, recipe.batch_size(len(training)))
    n_weights = sum(p.numel() for p in composition.parameters())
    execution = choose_execution(options.device, options.precision, batch_size * n_weights)
    work = Work(
        rows=rows.to(execution.device),
        training=training,
        held_out=held_out.to(execution.device),
        objective=objective,
        execution=execution,
        batch_size=batch_size,
        patience=_or(options.patience, recipe.patience),
        progress=recipe.progress,
    )
    peak = float(_or(options.learning_rate, recipe.learning_rate(batch_size)))
    n_steps = work.n_batches * int(_or(options.max_epochs, recipe.n_epochs(work.n_batches)))
    parameters = FlatParameters(composition.to(execution.device))
    state = TrainingState(
        composition=composition,
        parameters=parameters,
        optimizer=make_optimizer(optimizer, parameters.vector, peak),
        schedule=Schedule.over(n_steps, peak, recipe.warmup, recipe.decay_share),
        seed=seed,
    )
    return state, work, optimizer


def _or(option: Any, automatic: Any) -> Any:
    """The option, or what 'auto' means for it."""
    return automatic if option == "auto" else option


def _split(n_rows: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Row numbers to learn from and to judge by; at least one row stays to learn from."""
    order = torch.randperm(n_rows, generator=generator(seed, "split"))
    n_held_out = min(round(n_rows * fraction), n_rows - 1)
    return order[n_held_out:].sort().values, order[:n_held_out].sort().values


def _words(options: AutoencoderOptions) -> dict[str, Any]:
    """The parts that say which kind of autoencoder this is."""
    likelihood = options.likelihood
    if isinstance(likelihood, str):
        likelihood = LIKELIHOODS[likelihood]()
    return {
        "code": _part(options.code, Code, "code") or Point(),
        "likelihood": _part(likelihood, Likelihood, "likelihood"),
        "corruption": _part(options.corruption, Corruption, "corruption"),
        "prior": _part(options.prior, Prior, "prior"),
    }


def _penalties(option: Any) -> tuple[Penalty, ...]:
    if not isinstance(option, Iterable):
        raise OptionError("The 'penalties' parameter must be a sequence of penalty parts", got=f"{option!r} instead")
    return tuple(_part(item, Penalty, "penalties") for item in option)


def _part(option: Any, kind: type[Part], name: str) -> Any:
    """A fresh copy of a part, checked to be of its kind."""
    if option is not None and not isinstance(option, kind):
        raise OptionError(
            f"The {name!r} parameter must be a {kind.__name__} part from eigencode.parts, or your own subclass",
            got=f"{option!r} instead",
        )
    return None if option is None else clone(option)


def _network(given: Any, hidden: Iterable[int], activation: str | nn.Module, linear_path: bool) -> Network:
    """The user's network, or layers of the given widths, with a linear path beside them where wanted."""
    if given is not None:
        if not isinstance(given, nn.Module):
            raise OptionError("A network must be a part or a torch module", got=f"{given!r} instead")
        return as_network(clone(given, safe=False))
    layers = MLP(tuple(hidden), activation)
    return LinearPath(layers) if linear_path and layers.hidden else layers


def _build(composition: Composition, rows: Tensor, n_components: int, seed: int, units: Units | None) -> None:
    """Make the composition's tensors, in the rows' precision, its decoder's bias at the best constant."""
    composition.setup(rows.shape[1], n_components, generator(seed, "weights"), units)
    composition.to(rows.dtype)
    bias = composition.decoder.output_bias
    if bias is not None:
        with torch.no_grad():
            bias.copy_(composition.likelihood.constant(rows))


def _calibrate(composition: Composition, rows: Tensor) -> None:
    """Set the likelihood's own parameters to their best for the start, by as many rows as settle them."""
    sample = rows[:: max(len(rows) // CALIBRATION_ROWS, 1)]
    with torch.no_grad():
        composition.likelihood.calibrate(sample, composition.decoder(composition.encode(sample).mean))


def _choose_start(asked: str, composition: Composition, shares: Tensor | None) -> str:
    """What 'auto' becomes; a linear start that cannot be had is refused with the reason."""
    has_paths = composition.encoder.has_linear_path and composition.decoder.has_linear_path
    if asked == "linear" and (shares is None or not has_paths):
        raise OptionError(
            "start='linear' needs a kind of autoencoder whose linear optimum is known in closed form, and networks "
            "with a linear path",
            got=f"{composition!r}",
            hint="Use start='auto' or start='plain'",
        )
    return "linear" if asked != "plain" and shares is not None and has_paths else "plain"
