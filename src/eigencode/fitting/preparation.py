"""From options and scaled rows to a run that is ready to begin."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from eigencode.batch import Batch
from eigencode.data.memory import require_memory
from eigencode.data.rows import ResidentRows
from eigencode.data.sources import Source
from eigencode.data.support import check_support
from eigencode.domains import Count, Interval, OneOf
from eigencode.errors import OptionError
from eigencode.fitting.defaults import RECIPES, choose_optimizer, geometric_widths, hidden_widths
from eigencode.model.composition import Composition
from eigencode.model.initialization import (
    LinearStart,
    Spectrum,
    backtrack,
    linear_problem,
    linear_starts,
    set_linear,
    spectrum,
)
from eigencode.model.objective import Objective
from eigencode.parts.base import Part, Sizes, Units
from eigencode.parts.codes.base import Code
from eigencode.parts.codes.point import NestedDropout, Point
from eigencode.parts.corruptions import Corruption
from eigencode.parts.likelihoods.base import Likelihood
from eigencode.parts.likelihoods.continuous import GaussianLikelihood, LaplaceLikelihood, StudentTLikelihood
from eigencode.parts.likelihoods.discrete import BernoulliLikelihood, NegativeBinomialLikelihood, PoissonLikelihood
from eigencode.parts.likelihoods.observed import evenly_sampled
from eigencode.parts.networks.base import Network, activation_module
from eigencode.parts.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
from eigencode.parts.networks.custom import as_network
from eigencode.parts.networks.dense import MLP, LinearPath, Tied
from eigencode.parts.penalties.base import Penalty
from eigencode.parts.priors import Prior
from eigencode.parts.weight_priors import WeightPrior
from eigencode.training.evaluation import EVALUATION_ROWS, evaluate
from eigencode.training.execution import Execution, choose_execution
from eigencode.training.optimizers import OPTIMIZERS
from eigencode.training.prefetch import fit_on
from eigencode.training.rng import generator, has_random_layers
from eigencode.training.run import Clock, TrainingRun
from eigencode.training.schedule import Schedule
from eigencode.training.state import FlatParameters, TrainingState

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.options import AutoencoderOptions

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": GaussianLikelihood,
    "laplace": LaplaceLikelihood,
    "student_t": StudentTLikelihood,
    "bernoulli": BernoulliLikelihood,
    "poisson": PoissonLikelihood,
    "negative_binomial": NegativeBinomialLikelihood,
}

FITTING = {"counts": "poisson", "unit interval": "bernoulli", "real": "gaussian"}
"""The likelihood to suggest for columns of each kind, the narrowest first."""

RESCALED = "Divide them by {largest} first, or use likelihood='poisson' if they are counts"
"""What to try for whole numbers that should be shares, as pixels are."""

OUTLYING = 5.0
"""Median deviations from the median, 3.4 standard deviations of normal cells, beyond which a cell is an outlier."""

CALIBRATION_ROWS = 8192
"""Rows that settle a likelihood's own parameters at the start."""

TYPICAL_CELLS, TYPICAL_ROWS = 2**21, 256
"""Cells of the rows that stand for weighted ones, a few megabytes, but at least so many rows."""

DEEPEST = 16
"""More layers than that are a width that lost its brackets."""

STAGES, FIRST_CHANNELS = 2, 32
"""Convolutional stages, and channels of the first, which doubles from stage to stage."""

PATH_WEIGHTS = 2**23
"""Weights that a linear path beside other layers may have: with 10 codes, for images of 500 x 500 in 3 channels."""

NOTICEABLE = 0.01
"""Share of the objective by which one linear start has to be better than another that is tried before it."""

AUTO_VARIANCE = 0.9
"""Share of the variance that ``n_components="auto"`` keeps."""


ROUNDING = 1e-3
"""By how much a share may come out beyond its range."""


@dataclass(frozen=True)
class Decisions:
    """What was settled before training; a fitted model has each field as an attribute with an underscore behind it.

    Attributes
    ----------
    n_components : int
        Size of the code.
    hidden : tuple of int
        Widths of the hidden layers made here, from the data to the code; () where both networks are the user's own.
    init, optimizer : str
        What 'auto' became.
    seed : int
        Names every random draw.
    explained_variance_ratio : list of float
        Share of the scaled rows' variance along each of the first ``n_components`` principal directions.
    has_closed_form : bool
        Whether the linear start and the linear baseline are the optimum of linear maps for the whole objective; else
        they are PCA, or what some term of the formula would have alone.
    """

    n_components: Count
    hidden: tuple[Count, ...]
    init: Annotated[str, OneOf(["linear", "random", "pretrained"])]
    optimizer: Annotated[str, OneOf(["adam", "lbfgs"])]
    seed: Annotated[int, Interval(0)]
    explained_variance_ratio: list[Annotated[float, Interval(-ROUNDING, 1 + ROUNDING)]]
    has_closed_form: bool


@dataclass(frozen=True)
class Preparation:
    """A run that is ready to begin, and what was decided for it.

    Attributes
    ----------
    run : TrainingRun
        What the training loop takes.
    baseline : Composition or None
        The linear model of the same kind, where there is one.
    decisions : Decisions
        What was 'auto', settled.
    """

    run: TrainingRun
    baseline: Composition | None
    decisions: Decisions


def prepare(
    options: AutoencoderOptions,
    rows: Tensor,
    seed: int,
    units: Units | None = None,
    sample_weight: np.ndarray | None = None,
) -> Preparation:
    """Decide everything that is 'auto', build the model, and set it to its start."""
    began = time.monotonic()
    n_rows, n_features = rows.shape
    weights = None if sample_weight is None else torch.from_numpy(sample_weight).to(rows.dtype)
    terms = _terms(options)
    training, validation = _split(n_rows, options.validation_fraction, seed)
    units = units or Units(torch.zeros(n_features), torch.ones(n_features))
    table = _Table.of(rows, weights, units, len(training))
    views = _views(terms["likelihood"], table, options, seed)
    n_components = _asked(options) or views[0].spectrum.n_components_for(kept_variance(options) or 1.0)
    hidden = () if _has_own_networks(options) else _hidden(options, n_features, n_components, n_rows)
    _require_memory(options, rows, n_components, hidden)
    if options.tied and options.decoder is not None:
        raise OptionError("'tied' and 'decoder' are two decoders", got=f"tied=True and decoder={options.decoder!r}")
    objective = Objective(beta=options.beta, n_rows=len(training))
    linear = Composition(MLP(), Tied() if options.tied else MLP(), **terms)
    _build(linear, table, n_components, seed)
    best = _linear_start(linear, views, table, objective, seed)
    composition = _composition(options, hidden, n_components, n_features, best)
    init = _choose_init(options, composition, best)
    _build(composition, table, n_components, seed)
    for model in (composition,) if best is None else (linear, composition):
        is_linear = best is not None and (init == "linear" or model is linear)
        _begin_at(model, table, best if is_linear else None, is_newton=not views[0].is_plain)
    split = ResidentRows(Batch(rows, weight=weights), training, validation)
    run, optimizer = _run(options, composition, objective, split, seed, began)
    baseline = linear if best is not None else None
    explained = views[0].spectrum.explained_variance_ratio(n_components)
    is_optimum = best is not None and best.is_optimum
    decisions = Decisions(n_components, hidden, init, optimizer, seed, explained, is_optimum)
    return Preparation(run, baseline, decisions)


@dataclass(frozen=True)
class _Table:
    """Scaled rows as a start sees them.

    Attributes
    ----------
    typical : Tensor
        The rows, each as often as its weight says.
    weighed : Tensor
        The rows, each times the root of its weight, whose second moments are the weighted ones.
    sizes : Sizes
        What parts may know of them.
    """

    typical: Tensor
    weighed: Tensor
    sizes: Sizes

    @classmethod
    def of(cls, rows: Tensor, weights: Tensor | None, units: Units, n_training: int) -> _Table:
        typical = rows if weights is None else rows[_systematic_sample(weights, rows.shape[1])]
        weighed = rows if weights is None else rows * weights.sqrt()[:, None]
        return cls(typical, weighed, Sizes(rows.shape[1], 1, n_training, units, rows.amin(0), rows.amax(0)))

    @property
    def sample(self) -> Tensor:
        """As many rows as settle numbers of a start."""
        return self.typical[:: max(len(self.typical) // CALIBRATION_ROWS, 1)]


@dataclass(frozen=True)
class _View:
    """Working units, and the principal directions of the rows in them."""

    inward: Tensor
    outward: Tensor
    spectrum: Spectrum

    @property
    def is_plain(self) -> bool:
        """Whether they are the scaled columns' own."""
        return bool((self.inward == 1).all() and (self.outward == 1).all())


def _asked(options: AutoencoderOptions) -> int | None:
    """The size of the code asked for, None where a share of the variance settles it."""
    return None if kept_variance(options) else int(options.n_components)


def kept_variance(options: AutoencoderOptions) -> float | None:
    """The share of the variance that settles the size of the code, None where the size is given."""
    if options.n_components == "auto":
        return AUTO_VARIANCE
    return None if isinstance(options.n_components, Integral) else float(options.n_components)


def _views(likelihood: Likelihood, table: _Table, options: AutoencoderOptions, seed: int) -> list[_View]:
    """The likelihood's working units for scaled rows, with what is principal in each."""
    ready = clone(likelihood)
    ready.setup(table.sizes)
    found = []
    for inward, outward in ready.expansion.working_units(Batch(table.sample)):
        if options.tied and not torch.equal(inward, outward):
            inward = outward = (inward * outward).sqrt()  # so that what leads out is what leads in, transposed
        is_plain = bool((inward == 1).all())
        rows = table.weighed if is_plain else table.weighed * inward.to(table.weighed)
        found.append(_View(inward, outward, spectrum(Batch(rows), _asked(options), seed)))
        if ready.expansion.is_robust:
            kept = Batch(_without_outliers(table.typical))
            found.append(_View(inward, outward, spectrum(kept, _asked(options), seed)))
    return found


def _without_outliers(rows: Tensor) -> Tensor:
    """Centred rows whose cells end at a few median deviations from their column's median.

    A column of which more than half is one value has no such deviation, and stays as it is.
    """
    sample = evenly_sampled(Batch(rows)).x
    median = sample.median(0).values
    reach = OUTLYING * (sample - median).abs().median(0).values
    reach = torch.where(reach > 0, reach, torch.inf)
    kept = rows.clamp(median - reach, median + reach)
    return kept.sub_(kept.mean(0))


def _linear_start(
    linear: Composition, views: Sequence[_View], table: _Table, objective: Objective, seed: int
) -> LinearStart | None:
    """The best of the starts as a linear map, by the model's own objective; None where there is none."""
    starts = [
        start
        for view in views
        for start in linear_starts(
            linear_problem(Batch(table.weighed), view.spectrum, linear, objective, (view.inward, view.outward))
        )
    ]
    if len(starts) == 1 and starts[0].is_optimum:
        return starts[0]

    def cost(start: LinearStart) -> float:
        try:
            _begin_at(linear, table, start, is_newton=not views[0].is_plain)
            found = evaluate(linear, objective, Batch(table.sample).split(EVALUATION_ROWS), seed)
        except Exception:  # a part of others may rest on networks that are not linear
            return math.inf
        return found if math.isfinite(found) else math.inf

    best, least = None, math.inf
    for start in starts:
        found = cost(start)
        # PCA is learned from best, so that others have to be better by more than a trace.
        if found < (least if math.isinf(least) else least - NOTICEABLE * abs(least)):
            best, least = start, found
    return best


def _composition(
    options: AutoencoderOptions, hidden: tuple[int, ...], n_components: int, n_features: int, best: LinearStart | None
) -> Composition:
    """The model as asked for, with linear paths beside its layers where it can start as a linear map."""
    is_small = n_features * n_components <= PATH_WEIGHTS or not hidden
    path = best is not None and options.init != "random" and is_small
    return Composition(
        _network(options.encoder, _layers(options, hidden, ConvolutionalEncoder), path, gated=options.tied),
        Tied()
        if options.tied
        else _network(options.decoder, _layers(options, hidden[::-1], ConvolutionalDecoder), path),
        **_terms(options),
    )


def _begin_at(composition: Composition, table: _Table, start: LinearStart | None, is_newton: bool) -> None:
    """Set a model to a start, and settle what that leaves open."""
    if start is not None:
        set_linear(composition, start)
    settle(composition, table.typical, start, is_newton)


def _systematic_sample(weights: Tensor, n_columns: int) -> Tensor:
    """Row numbers, each as often as its weight says, up to rounding: what a statistic of the rows should see.

    As many as there are rows, and more of few rows so that little is rounded, but no more than take little memory.
    """
    cumulative = weights.double().cumsum(0)
    n_draws = min(max(len(weights), 2 * CALIBRATION_ROWS), max(TYPICAL_CELLS // n_columns, TYPICAL_ROWS))
    places = (torch.arange(n_draws, dtype=torch.float64) + 0.5) * (cumulative[-1] / n_draws)
    return torch.searchsorted(cumulative, places).clamp_(max=len(weights) - 1)


def _require_memory(options: AutoencoderOptions, rows: Tensor, n_components: int, hidden: tuple[int, ...]) -> None:
    """Refuse networks whose weights, with all that training keeps of each, would not fit into memory."""
    widths = [rows.shape[1], *hidden, n_components]
    layers = sum(a * b for a, b in pairwise(widths)) + widths[0] * widths[-1]
    # The weights, their gradient, two moments or the history of L-BFGS, the best ones, and the making of each.
    copies = 8 if options.optimizer != "lbfgs" else 110
    activations = 4 * sum(widths) * _or(options.batch_size, 256)
    n_bytes = rows.element_size() * (2 * layers * copies + activations)
    require_memory(n_bytes, "The network", "Try narrower hidden layers, or smaller batches")


def _run(
    options: AutoencoderOptions,
    composition: Composition,
    objective: Objective,
    rows: ResidentRows,
    seed: int,
    began: float,
) -> tuple[TrainingRun, str]:
    """The run that trains a composition from its start, and its optimiser."""
    is_noisy = composition.is_stochastic or has_random_layers(composition) or options.precision == "bfloat16"
    optimizer = _or(options.optimizer, choose_optimizer(rows.n_training, is_noisy))
    recipe = RECIPES[optimizer]
    precision = "float32" if options.precision == "auto" and optimizer == "lbfgs" else options.precision
    batch_size = _or(options.batch_size, recipe.batch_size(rows.n_training))
    work_a_row = composition.encoder.multiply_adds + composition.decoder.multiply_adds
    step_work = batch_size * work_a_row
    execution = choose_execution(options.device, precision, step_work)
    clock = Clock.starting_at(began, options.max_seconds, recipe.decay_share)
    n_batches = math.ceil(rows.n_training / batch_size)
    n_steps = n_batches * int(_or(options.max_epochs, recipe.n_epochs(n_batches)))
    peak = _peak(options, optimizer, batch_size, composition)
    schedule = Schedule.over(n_steps, peak, recipe.warmup, recipe.decay_share)
    state = _state(composition, optimizer, schedule, seed, execution)
    run = _training_run(options, optimizer, state, objective, rows, execution, clock)
    return replace(run, step_work=step_work), optimizer


def stream(
    model: BaseAutoencoder,
    options: AutoencoderOptions,
    rows: Tensor,
    weights: Tensor | None,
    saved: dict[str, Any] | None = None,
) -> TrainingRun:
    """The run of one pass over a block of scaled rows, by a copy of a fitted model's composition.

    ``saved`` is the ``state_dict`` that earlier blocks of the stream left, None at its beginning. Batch size and step
    size are the options', block by block. Adam moves as far for small gradients as for large ones, so a block of light
    rows takes smaller steps too.
    """
    optimizer, execution, past = model.optimizer_, model.execution_, model.history_
    batch_size = _or(options.batch_size, RECIPES[optimizer].batch_size(len(rows)))
    heaviness = 1.0 if weights is None else min(float(weights.mean()), 1.0)
    peak = _peak(options, optimizer, batch_size, model.composition_) * heaviness
    epoch, begins = (int(past[-1]["epoch"]), int(past[-1]["step"])) if past else (0, 0)
    schedule = Schedule.endless(peak, RECIPES[optimizer].warmup, begins)
    state = _state(copy.deepcopy(model.composition_), optimizer, schedule, model.seed_, execution)
    if saved is not None:
        state.load_state_dict(saved)
        state.schedule.peak = peak
    elif past:
        state.epoch, state.step, state.history = epoch, begins, [row.copy() for row in past]
        state.averaged_from = state.averaged_to = begins
    block = ResidentRows.of(rows, weights)
    return _training_run(options, optimizer, state, model.objective_, block, execution, Clock())


def _training_run(
    options: AutoencoderOptions,
    optimizer: str,
    state: TrainingState,
    objective: Objective,
    rows: ResidentRows,
    execution: Execution,
    clock: Clock,
) -> TrainingRun:
    """What a run trains on and how; rows go to its device where they fit."""
    recipe, device = RECIPES[optimizer], torch.device(execution.device)
    return TrainingRun(
        state=state,
        rows=rows.to(device) if fit_on(device, rows.every.x.nbytes) else rows,
        objective=objective,
        execution=execution,
        batch_size=_or(options.batch_size, recipe.batch_size(rows.n_training)),
        patience=_or(options.patience, recipe.patience),
        progress=recipe.progress,
        clock=clock,
    )


def _peak(options: AutoencoderOptions, optimizer: str, batch_size: int, composition: Composition) -> float:
    """The largest step size of a run."""
    n_weights = sum(p.numel() for p in composition.parameters() if p.requires_grad)
    return float(_or(options.learning_rate, RECIPES[optimizer].learning_rate(batch_size, max(n_weights, 1))))


def _state(
    composition: Composition, optimizer: str, schedule: Schedule, seed: int, execution: Execution
) -> TrainingState:
    """A training state without a past."""
    if not any(parameter.requires_grad for parameter in composition.parameters()):
        raise OptionError(
            "There are no weights to learn",
            got=f"the encoder {composition.encoder!r} and the decoder {composition.decoder!r}",
            hint="Give one of them layers, or leave one to 'hidden'",
        )
    parameters = FlatParameters(composition.to(execution.device))
    return TrainingState(composition, parameters, OPTIMIZERS[optimizer](parameters.vector), schedule, seed)


def _has_own_networks(options: AutoencoderOptions) -> bool:
    """Whether no layers are made here, both networks being the user's."""
    return options.encoder is not None and (options.decoder is not None or options.tied)


def _hidden(options: AutoencoderOptions, n_features: int, n_components: int, n_rows: int) -> tuple[int, ...]:
    """Widths of the hidden layers, or channels of the stages for images."""
    if options.image_shape is None:
        return hidden_of(options.hidden, n_features, n_components, n_rows)
    n_stages = STAGES if options.hidden == "auto" else options.hidden
    return (
        tuple(FIRST_CHANNELS * 2**stage for stage in range(n_stages))
        if isinstance(n_stages, int)
        else hidden_of(options.hidden, n_features, n_components, n_rows)
    )


def hidden_of(asked: Any, n_features: int, n_components: int, n_rows: int) -> tuple[int, ...]:
    """Widths of the hidden layers: those asked for, of the depth asked for, or derived from the data."""
    if asked == "auto":
        return hidden_widths(n_features, n_components, n_rows)
    if isinstance(asked, Integral):
        if int(asked) > DEEPEST:
            raise OptionError(
                "One number for 'hidden' is a depth",
                got=f"{asked} layers",
                hint=f"For one layer write hidden=({asked},)",
            )
        return geometric_widths(n_features, n_components, int(asked))
    return tuple(int(width) for width in asked)


def _or(option: Any, automatic: Any) -> Any:
    """The option, or what 'auto' means for it."""
    return automatic if option == "auto" else option


def _split(n_rows: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Row numbers to learn from and to judge by; at least one row stays to learn from."""
    order = torch.randperm(n_rows, generator=generator(seed, "split"))
    n_held_out = min(round(n_rows * fraction), n_rows - 1)
    return order[n_held_out:].sort().values, order[:n_held_out].sort().values


def likelihood_of(options: AutoencoderOptions) -> Likelihood:
    """A fresh likelihood, given by name or as a part."""
    given = options.likelihood
    if given is None:
        raise OptionError("The 'likelihood' parameter must be a name or a part", got="None", hint="Try 'gaussian'")
    return LIKELIHOODS[given]() if isinstance(given, str) else _part(given, Likelihood, "likelihood")


def check_values(likelihood: Likelihood, source: Source, names: Any = None) -> None:
    """Raise `DataError` where a likelihood cannot be asked about the values of a column."""
    advice = {kind: f"Use likelihood={name!r}" for kind, name in FITTING.items()}
    owner = type(likelihood).__name__
    check_support(source, likelihood.support, names, owner=owner, advice=advice, shares=RESCALED)


def _terms(options: AutoencoderOptions) -> dict[str, Any]:
    """The parts that say which kind of autoencoder this is."""
    return {
        "code": _code(options),
        "likelihood": likelihood_of(options),
        "corruption": _part(options.corruption, Corruption, "corruption"),
        "prior": _part(options.prior, Prior, "prior"),
        "penalties": _penalties(options.penalties),
        "weight_prior": _part(options.weight_prior, WeightPrior, "weight_prior"),
    }


def _code(options: AutoencoderOptions) -> Code:
    """The code asked for, by a part or by the wish for an ordered one."""
    if options.ordered and options.code is not None:
        raise OptionError(
            "'ordered' and 'code' are two words for one thing", got=f"ordered=True and code={options.code!r}"
        )
    return NestedDropout() if options.ordered else _part(options.code, Code, "code") or Point()


def _penalties(option: Any) -> tuple[Penalty, ...]:
    if not isinstance(option, Sequence):
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


def _layers(
    options: AutoencoderOptions,
    hidden: tuple[int, ...],
    convolutional: type[ConvolutionalEncoder | ConvolutionalDecoder],
) -> Network:
    """Layers of the given widths, convolutional ones for images."""
    for width in hidden:
        _require_elementwise(options.activation, width)
    if options.image_shape is None or not hidden:
        return MLP(hidden, options.activation)
    return convolutional(tuple(options.image_shape), hidden, options.activation)  # type: ignore[arg-type]


def _network(given: Any, layers: Network, linear_path: bool, gated: bool = False) -> Network:
    """The user's network, or layers of our own, with a linear path beside them where wanted."""
    if given is not None:
        if not isinstance(given, nn.Module):
            raise OptionError("A network must be a part or a torch module", got=f"{given!r} instead")
        return as_network(clone(given, safe=False))
    return LinearPath(layers, gated=gated) if linear_path and not layers.has_linear_path else layers


def _require_elementwise(activation: Any, width: int) -> None:
    """Refuse what cannot stand behind a layer of a width."""
    if isinstance(activation, str):
        return  # a name, and the options know them
    found: Any = None
    try:
        if isinstance(activation, nn.Module):
            probe = torch.zeros(2, width, dtype=next((p.dtype for p in activation.parameters()), torch.float32))
            with torch.no_grad():
                found = activation_module(activation).eval()(probe)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        found = error
    if not isinstance(found, Tensor) or found.shape != (2, width):
        raise OptionError(
            "The activation must be a known name or an elementwise torch module",
            got=f"{activation!r} instead" + (f", and the error {found}" if isinstance(found, Exception) else ""),
        )


def _build(composition: Composition, table: _Table, n_components: int, seed: int) -> None:
    """Make the composition's tensors, in the rows' precision, its decoder's bias at the best constant."""
    rows = table.typical
    composition.setup(rows.shape[1], n_components, generator(seed, "weights"), table.sizes)
    composition.to(rows.dtype).eval()
    bias = composition.decoder.output_bias
    if bias is not None:
        with torch.no_grad():
            bias.copy_(composition.likelihood.expansion.constant(Batch(rows)))


@torch.no_grad()
def settle(composition: Composition, rows: Tensor, start: LinearStart | None, is_newton: bool) -> None:
    """Settle what a start leaves open, by as many rows as it takes: a linear one's step length, states, a spread."""
    device = next(composition.parameters(), rows).device
    sample = rows[:: max(len(rows) // CALIBRATION_ROWS, 1)].to(device)
    expansion = composition.likelihood.expansion
    if start is not None and is_newton:
        backtrack(composition, Batch(sample))
    composition.begin(sample)
    if start is not None and start.noise_variance is not None:
        expansion.set_spread(start.noise_variance)
    else:
        expansion.calibrate(Batch(sample), composition.decoder(composition.encode(sample).mean))


def _choose_init(options: AutoencoderOptions, composition: Composition, best: LinearStart | None) -> str:
    """What 'auto' becomes; a linear start that cannot be had is refused with the reason."""
    has_paths = composition.encoder.has_linear_path and composition.decoder.has_linear_path
    # Convolutions learn less from the linear start than from random weights (docs/log.md), so it is theirs on request.
    if best is not None and has_paths and (options.init == "linear" or options.image_shape is None):
        return "random" if options.init == "random" else "linear"
    if options.init == "linear":
        raise OptionError(
            "init='linear' needs a code that is the encoder's output, a likelihood whose output lies among the "
            "columns, and networks with a linear path",
            got=f"{composition!r}",
            hint="Use init='auto' or init='random'",
        )
    return "random"
