"""Conformance tests for parts: what every part of this package passes, and one of your own should.

Each function takes an instance, tries it in the ways that training, saving and scoring will, and raises an
``AssertionError`` whose message says what is promised and what was found. They draw from generators of their own, so
that they say the same at every call.
"""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from eigencode.batch import Batch
from eigencode.model.composition import Composition, Noise
from eigencode.model.objective import Objective, penalty_term
from eigencode.parts.base import Part, Sizes, Units, is_declared
from eigencode.parts.codes.base import Code
from eigencode.parts.codes.gaussian import GaussianCode
from eigencode.parts.corruptions import Corruption
from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods.base import Likelihood
from eigencode.parts.networks.dense import MLP
from eigencode.parts.penalties.base import Penalty
from eigencode.training.rng import generator

__all__ = ["check_code", "check_corruption", "check_likelihood", "check_penalty"]

STANDARD_ERRORS = 4
"""How far a mean of draws may lie from the expectation: one in 16,000 honest ones lies further."""

N_DRAWS = 20_000

AnyPart = TypeVar("AnyPart", bound=Part)


def check_likelihood(likelihood: Likelihood, *, n_features: int = 3, normalised: bool = True) -> None:
    """Test a likelihood against everything that training, saving and scoring rely on.

    It is its arguments (clone, ``repr``, JSON); its distributions have one number a cell, and draw from the generator
    given and from no other; densities integrate to 1 and agree with numerical gradients; the mean is the draws'; the
    constant start is the best; learned parameters are calibrated and stay finite for constant columns; rows do not mix,
    and ``torch.func.vmap`` runs through.

    Parameters
    ----------
    likelihood : Likelihood
        An instance; it is copied and left as it is.
    n_features : int
        Columns to try it with.
    normalised : bool
        Whether probabilities are to add up to 1; False for a pseudo-likelihood.

    Raises
    ------
    AssertionError
        If a promise is not kept.

    Examples
    --------
    >>> from eigencode.parts import PoissonLikelihood
    >>> from eigencode.testing import check_likelihood
    >>> check_likelihood(PoissonLikelihood())
    """
    part = _fresh(likelihood)
    with _no_global_draws(part):
        units = Units(torch.full((n_features,), 0.5), torch.full((n_features,), 2.0))
        part.setup(Sizes(n_features, 2, units=units))
        part.double()
        width = part.n_outputs(n_features)
        _that(isinstance(width, int) and width > 0, part, "n_outputs must be a positive int", width)
        outputs = 0.7 * torch.randn(6, width, dtype=torch.float64, generator=_source(0))
        _check_distribution(part, outputs, n_features)
        _check_rows_and_models_apart(part, outputs)
        _check_numbers(part, lambda: part(outputs).log_prob(part(outputs).mean.detach()))
        _check_gradients(part, outputs)
        _check_moments(part, outputs[:1])
        if normalised:
            _check_score(part, outputs[:1])
            _check_normalised(part, outputs[:1])
        _check_units(part, outputs)
        _check_constant(part, outputs[:1])
        _check_finite(part, n_features)


def check_code(code: Code, *, n_components: int = 4, n_rows: int = 5, unbiased: bool = True) -> None:
    """Test a code: its width, its draws given their noise, their mean and their gradient.

    Parameters
    ----------
    code : Code
        An instance; it is copied and left as it is.
    n_components, n_rows : int
        Sizes to try it with.
    unbiased : bool
        Whether the mean is the draws'; False for a code that only training truncates or drops.

    Raises
    ------
    AssertionError
        If a promise is not kept.

    Examples
    --------
    >>> from eigencode.parts import Point
    >>> from eigencode.testing import check_code
    >>> check_code(Point())
    """
    part = _fresh(code)
    with _no_global_draws(part):
        part.setup(Sizes(n_components + 1, n_components))
        width = part.width(n_components)
        _that(isinstance(width, int) and width > 0, part, "width must be a positive int", width)
        output = torch.randn(n_rows, width, dtype=torch.float64, generator=_source(0))
        first, again, other = (part.draw_noise(n_rows, n_components, _source(seed)) for seed in (1, 1, 2))
        _check_noise_of_code(part, first, again, n_rows)
        q = part(output)
        draws = q.draw(first)
        _check_shape(part, "the mean", q.mean, (n_rows, n_components))
        _check_shape(part, "a draw", draws, (n_rows, n_components))
        _that(bool(draws.isfinite().all()), part, "a draw must be finite", draws)
        _same(part, "two draws with the same noise must be equal", draws, part(output).draw(again))
        _same(part, "without noise the draw must be the mean", q.mean, q.draw(None))
        if part.is_stochastic:
            _that(not torch.equal(draws, q.draw(other)), part, "fresh noise must give another draw", "the same")
        for some in (torch.arange(n_rows).flip(0), torch.arange(1)):
            own = None if first is None else first[some] if len(first) == n_rows else first
            _same(part, "row i must depend on row i alone", draws[some], part(output[some]).draw(own))
        _check_batch_axes(part, "the mean", lambda o: part(o).mean, output)
        _check_components(part, output, n_components)
        _check_numbers(part, lambda: part(output).mean)
        _check_derivative(part, "a draw", lambda o: part(o).draw(first), output)
        if part.is_stochastic and unbiased:
            _check_code_mean(part, output[:1], n_components)


def check_corruption(corruption: Corruption, *, n_features: int = 4, n_rows: int = 6) -> None:
    """Test a corruption: it keeps the shape, uses the noise it is given and no other, and does not mix rows.

    Parameters
    ----------
    corruption : Corruption
        An instance; it is copied and left as it is.
    n_features, n_rows : int
        Sizes to try it with; enough cells that noise would show.

    Raises
    ------
    AssertionError
        If a promise is not kept.

    Examples
    --------
    >>> from eigencode.parts import GaussianNoise
    >>> from eigencode.testing import check_corruption
    >>> check_corruption(GaussianNoise(variance=0.1))
    """
    part = _fresh(corruption)
    n_rows = max(n_rows, 2)
    with _no_global_draws(part):
        part.setup(Sizes(n_features, 2))
        x = torch.randn(64 * n_rows, n_features, generator=_source(0))
        n = len(x)
        first, again, other = (part.draw_noise(n, n_features, _source(seed)) for seed in (1, 1, 2))
        _that(isinstance(first, Tensor) and len(first) == n, part, "the noise must be a tensor with a row a row", first)
        _same(part, "noise must be the same from the same generator", first, again)
        before = x.clone()
        corrupted = part(x, first)
        _same(part, "the clean rows must be left as they are", before, x)
        _check_shape(part, "the corrupted rows", corrupted, tuple(x.shape))
        _that(bool(corrupted.isfinite().all()), part, "the corrupted rows must be finite", corrupted)
        _same(part, "the same noise must do the same damage", corrupted, part(x, again))
        _that(not torch.equal(corrupted, part(x, other)), part, "fresh noise must do other damage", "the same damage")
        for some in (torch.randperm(n, generator=_source(3)), torch.arange(n // 3)):
            alone = part(x[some], first[some])
            _same(part, "row i must depend on row i and its noise alone", corrupted[some], alone)
        _check_batch_axes(part, "the corrupted rows", part, x, first)
        _check_numbers(part, lambda: part(x, first))
        for dtype in (torch.float64, torch.float32):
            found = part(x.to(dtype), first).dtype
            _that(found == dtype, part, f"rows in {dtype} must stay so", found)


def check_penalty(
    penalty: Penalty, composition: Composition | None = None, *, n_features: int = 4, n_components: int = 2
) -> None:
    """Test a penalty: one number a row (or one for the batch), rows apart, and a gradient that reaches the weights.

    Parameters
    ----------
    penalty : Penalty
        An instance; it is copied and left as it is.
    composition : Composition, optional
        The kind of model it is for; a small one with a point code by default. It is copied too.
    n_features, n_components : int
        Sizes to try it with.

    Raises
    ------
    AssertionError
        If a promise is not kept.

    Examples
    --------
    >>> from eigencode.parts import Penalty
    >>> from eigencode.testing import check_penalty
    >>> class Activity(Penalty):
    ...     def forward(self, trace, composition):
    ...         return trace.z.square().sum(1)
    >>> check_penalty(Activity())
    """
    part = _fresh(penalty)
    model = Composition(MLP((5,), "tanh"), MLP((5,), "tanh")) if composition is None else clone(composition)
    with _no_global_draws(part):
        model.setup(n_features, n_components, _source(0))
        part.setup(Sizes(n_features, n_components))
        part.join(model)
        model.double()
        part.double()
        n = 6
        x = torch.randn(n, n_features, dtype=torch.float64, generator=_source(1))
        noise = part.draw_noise(n, model, _source(6))
        message = "a penalty that draws noise must declare is_stochastic = True, and no other one"
        _that(part.is_stochastic == (noise is not None), part, message, f"is_stochastic = {part.is_stochastic}")
        term = _Term(model, part, model.draw_noise(n, _source(2)), noise)
        value = term(x)
        shapes = [(n,), ()]
        _that(tuple(value.shape) in shapes, part, "a penalty is one number a row, or a scalar", f"shape {value.shape}")
        _that(bool(value.isfinite().all()), part, "a penalty must be finite", value)
        _same(part, "the same batch must give the same penalty", value, term(x))
        if value.ndim:
            changed = x.clone()
            changed[1:] += 1
            _same(part, "row i must depend on row i alone", value[0], term(changed)[0])
        _check_penalty_gradient(part, term, x)
        _check_many_models(part, "a penalty", term, (x,))
        _check_numbers(part, lambda: term(x))
        if composition is None:
            _check_two_draws(part, x, n_components)
            _check_idle_component(part, model, x)


# -- what all parts promise


def _fresh(part: AnyPart) -> AnyPart:
    """A copy to work with, after the promises that all parts make."""
    name = type(part).__name__
    with _words(part, "a part must be clonable: its constructor stores its arguments and does nothing else"):
        again = clone(part)
    _that(list(again.parameters()) == [], part, "tensors appear in setup, not in the constructor", "some before")
    for key, value in part.get_params().items():
        _that(_storable(value), part, f"the argument {key!r} must be storable as JSON", f"{value!r}")
    with _words(part, "a part must be made again from its own parameters"):
        rebuilt = type(part)(**part.get_params(deep=False))
    _that(repr(again) == repr(part) == repr(rebuilt), part, "a copy must have the same repr", repr(again))
    _that(repr(part).startswith(f"{name}("), part, "repr must read like the constructor's call", repr(part))
    _check_declared_numbers(part)
    return again


def _check_declared_numbers(part: Part) -> None:
    """What ``numbers`` names are arguments, and of each float something is said."""
    arguments = part.get_params(deep=False)
    strange = [name for name in part.numbers if name not in arguments]
    _that(not strange, part, "numbers must name arguments of the constructor", f"{strange}")
    unsaid = [name for name, value in arguments.items() if isinstance(value, float) and name not in part.numbers]
    message = "declare in numbers the arguments that are used in arithmetic on tensors alone, or numbers = () for none"
    _that(not unsaid or is_declared(part, "numbers"), part, message, f"nothing said of {', '.join(unsaid)}")


def _check_numbers(part: Part, function: Callable[[], Tensor]) -> None:
    """Two models that differ in a declared number give as one program what each gives alone."""
    for name in part.numbers:
        value = getattr(part, name)
        if not isinstance(value, Real) or isinstance(value, bool):
            continue
        values = torch.tensor([1.0, 0.9], dtype=torch.float64) * float(value)

        def of(number: Any, name: str = name) -> Tensor:
            before = getattr(part, name)
            setattr(part, name, number)
            try:
                return function()
            finally:
                setattr(part, name, before)

        promise = f"{name!r} is declared in numbers, so it must be used in arithmetic on tensors alone"
        with _words(part, promise):
            together = torch.func.vmap(of)(values)
        for alone, one in zip(map(of, values.tolist()), together, strict=True):
            _close(part, promise, alone, one)


def _check_batch_axes(part: Part, name: str, function: Callable[..., Tensor], *arguments: Tensor) -> None:
    """Another axis before the rows is another batch."""
    with _words(part, f"{name} must keep any number of axes before the last"):
        several = function(*(torch.stack([a, a.flip(0)]) for a in arguments))
    expected = torch.stack([function(*arguments), function(*(a.flip(0) for a in arguments))])
    _same(part, f"{name} must be the same for rows with another axis before them", expected, several)


def _storable(value: Any) -> bool:
    """Whether an argument can be written into a model file."""
    if isinstance(value, nn.Module):
        return True  # a nested part or a torch module, which has rules of its own
    if isinstance(value, list | tuple | np.ndarray):
        return all(map(_storable, value))
    try:
        json.dumps(value.item() if isinstance(value, np.generic) else value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, dict)


@contextmanager
def _no_global_draws(part: Part) -> Iterator[None]:
    before = _global_states()
    yield
    _that(_global_states() == before, part, "noise must come from the generator given", "a global generator moved")


def _global_states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (the legacy state is the one meant)
    return random.getstate(), name, np.asarray(keys).tolist(), rest, torch.get_rng_state().tolist()


# -- likelihoods


def _check_distribution(part: Likelihood, outputs: Tensor, n_features: int) -> None:
    """Shapes, types, and draws from the generator given."""
    shape = (len(outputs), n_features)
    p = part(outputs)
    draws, again = (p.sample(_source(1)) for _ in range(2))
    for name, found in {"the mean": p.mean, "a draw": draws, "log_prob": p.log_prob(draws)}.items():
        _check_shape(part, name, found, shape)
        _that(bool(found.isfinite().all()), part, f"{name} must be finite", found)
        _that(found.dtype == torch.float64, part, f"{name} of float64 outputs must be float64", found.dtype)
    _same(part, "draws from equal generators must be equal", draws, again)
    many = part(outputs[:1].expand(64, -1))
    differ = not torch.equal(many.sample(_source(1)), many.sample(_source(2)))
    _that(differ, part, "draws from different generators must differ", "the same draws")
    p32 = copy.deepcopy(part).float()(outputs.float())
    for name, found in {"the mean": p32.mean, "log_prob": p32.log_prob(draws.float())}.items():
        _that(found.dtype == torch.float32, part, f"{name} of float32 outputs must be float32", found.dtype)
        _that(bool(found.isfinite().all()), part, f"{name} must be finite in float32", found)


def _check_rows_and_models_apart(part: Likelihood, outputs: Tensor) -> None:
    """Rows, cells and models do not see each other."""
    x = part(outputs).sample(_source(1))
    together = part(outputs).log_prob(x)
    apart = torch.cat([part(outputs[i : i + 1]).log_prob(x[i : i + 1]) for i in range(len(x))])
    _same(part, "row i of log_prob must depend on row i alone", together, apart)
    changed = x.clone()
    changed[:, 0] = x[:, 0].flip(0)
    cells = part(outputs).log_prob(changed)[:, 1:]
    _same(part, "log_prob of a cell must not depend on other cells, which may be missing", together[:, 1:], cells)
    _check_many_models(part, "log_prob", _LogProb(part), (outputs, x))


class _LogProb(nn.Module):
    """log_prob as a module, whose parameters are the likelihood's."""

    def __init__(self, part: Likelihood) -> None:
        super().__init__()
        self.part = part

    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        return self.part(output).log_prob(x)


def _check_gradients(part: Likelihood, outputs: Tensor) -> None:
    x = part(outputs).sample(_source(1))
    _check_derivative(part, "log_prob", lambda o: part(o).log_prob(x), outputs)
    for name, parameter in part.named_parameters():

        def as_function(value: Tensor, name: str = name) -> Tensor:
            return torch.func.functional_call(part, {name: value}, (outputs,)).log_prob(x)

        _check_derivative(part, f"log_prob by its parameter {name!r}", as_function, parameter.detach())


def _check_moments(part: Likelihood, output: Tensor) -> None:
    p = part(output.expand(N_DRAWS, -1))
    draws, mean = p.sample(_source(3)), p.mean[0]
    error = draws.std(0) / math.sqrt(N_DRAWS)
    gap = (draws.mean(0) - mean).abs()
    allowed = STANDARD_ERRORS * error + 1e-9 * (1 + mean.abs())
    message = f"the mean must be the draws' within {STANDARD_ERRORS} standard errors"
    _that(bool((gap <= allowed).all()), part, message, f"gaps {_short(gap)}, allowed {_short(allowed)}")


def _check_score(part: Likelihood, output: Tensor) -> None:
    """The expected gradient of a log-density in its parameters is zero under the density itself."""
    outputs = output.repeat(N_DRAWS, 1).requires_grad_()
    p = part(outputs)
    (score,) = torch.autograd.grad(p.log_prob(p.sample(_source(7)).detach()).sum(), outputs)
    allowed = STANDARD_ERRORS * score.std(0) / math.sqrt(N_DRAWS) + 1e-9
    message = (
        f"log_prob must be of the draws' distribution: its mean gradient 0 within {STANDARD_ERRORS} standard errors"
    )
    gap = score.mean(0).abs()
    _that(bool((gap <= allowed).all()), part, message, f"gaps {_short(gap)}, allowed {_short(allowed)}")


def _check_normalised(part: Likelihood, output: Tensor) -> None:
    """Sum or integrate exp(log_prob) over the support of each column."""
    draws = part(output.expand(N_DRAWS, -1)).sample(_source(4))
    if part.support == "counts":
        total = _summed(part, output, torch.arange(4 * int(draws.max()) + 1000, dtype=torch.float64))
    elif part.support == "unit interval" and bool(((draws == 0) | (draws == 1)).all()):
        total = _summed(part, output, torch.tensor([0.0, 1.0], dtype=torch.float64))
    else:
        total = _integrated(part, output, draws)
    allowed = (total - 1).abs() <= 1e-4
    _that(bool(allowed.all()), part, "probabilities must add up to 1 in each column", f"totals {_short(total)}")


def _summed(part: Likelihood, output: Tensor, values: Tensor) -> Tensor:
    cells = _at(part, output, values[:, None])
    return cells.exp().sum(0)


def _integrated(part: Likelihood, output: Tensor, draws: Tensor) -> Tensor:
    """The double-exponential rule of Takahasi & Mori (1974), centred where the draws are."""
    t = torch.linspace(-3.6, 3.6, 20_001, dtype=torch.float64)[:, None]
    step, inner = float(t[1] - t[0]), math.pi / 2 * t.sinh()
    if part.support == "unit interval":
        x, slope = inner.tanh() / 2 + 0.5, 0.5 / inner.cosh().square()
        inside = (x > 0) & (x < 1)
        x, slope = x.clamp(1e-300, 1 - 1e-16), slope * inside
    else:
        low, middle, high = draws.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=draws.dtype), dim=0)
        spread = (high - low).clamp(min=1e-12)
        x, slope = middle + spread * inner.sinh(), spread * inner.cosh()
    return (_at(part, output, x).exp() * slope * math.pi / 2 * t.cosh()).sum(0) * step


def _at(part: Likelihood, output: Tensor, x: Tensor) -> Tensor:
    """log_prob of many rows under one output; ``x`` is of shape (m, d), or (m, 1) for the same in each column."""
    p = part(output.expand(len(x), -1))
    return p.log_prob(x.expand(p.mean.shape)).detach()


def _check_units(part: Likelihood, outputs: Tensor) -> None:
    """The way between the model's units and the distribution's."""
    p = part(outputs)
    draws = p.sample(_source(5))
    scaled = _scaled(part, draws)
    _close(part, "target must bring scaled rows to the units of log_prob", draws, part.target(scaled))
    _close(part, "scaled_mean must be the mean in scaled units", _scaled(part, p.mean), part.scaled_mean(p))


def _scaled(part: Likelihood, x: Tensor) -> Tensor:
    return (x - part.center) / part.divisor if part.in_data_units else x


def _check_constant(part: Likelihood, output: Tensor) -> None:
    """No output near the constant start does better, nor a value near the calibrated parameters."""
    x = _scaled(part, part(output.expand(500, -1)).sample(_source(6)))
    before = x.clone()
    constant = part.expansion.constant(Batch(x))
    _check_shape(part, "constant", constant, tuple(output.shape[1:]))
    _that(bool(constant.isfinite().all()), part, "constant must be finite", constant)
    part.expansion.calibrate(Batch(x), constant.expand(len(x), -1))
    _same(part, "constant and calibrate must leave the rows as they are", before, x)
    target = part.target(x)

    def worth(o: Tensor, parameters: dict[str, Tensor]) -> float:
        with torch.no_grad():
            p: Distribution = torch.func.functional_call(part, parameters, (o.expand(len(x), -1),))
            return float(p.log_prob(target).mean())

    best = worth(constant, {})
    tolerance = 1e-7 * (1 + abs(best))
    for step in (1e-2, -1e-2, 0.3, -0.3):
        for place in range(len(constant)):
            near = constant.clone()
            near[place] += step
            message = f"constant must be the best output that ignores the code; number {place} moved by {step} is"
            gain = worth(near, {}) - best
            _that(gain <= tolerance, part, message, f"better by {gain:.3g} nats a cell")
        if abs(step) > 0.1:
            continue
        for name, parameter in part.named_parameters():
            moved = {name: parameter.detach() + step}
            gain = worth(constant, moved) - best
            message = f"calibrate must set parameters to their best; {name!r} moved by {step} is"
            _that(gain <= 1e-5 * (1 + abs(best)), part, message, f"better by {gain:.3g} nats a cell")


def _check_finite(part: Likelihood, n_features: int) -> None:
    """Constant columns, rebuilt to the last bit, and outputs far away must not reach infinity, in float32 either."""
    part = copy.deepcopy(part).float()
    for value in (0.0, 1.0):
        x = _scaled(part, torch.full((50, n_features), value)).float()
        constant = part.expansion.constant(Batch(x))
        _that(bool(constant.isfinite().all()), part, "constant must be finite for a constant column", constant)
        output = constant.expand(len(x), -1)
        part.expansion.calibrate(Batch(x), output)
        for shift in (0.0, 60.0, -60.0):
            shifted = (output + shift).requires_grad_()
            cells = part(shifted).log_prob(part.target(x))
            (gradient,) = torch.autograd.grad(cells.sum(), shifted)
            for name, found in {"log_prob": cells, "its gradient": gradient}.items():
                message = f"{name} must be finite for constant columns, at outputs {shift:g} from the best"
                _that(bool(found.isfinite().all()), part, message, _short(found[0]))


# -- codes


def _check_noise_of_code(part: Code, noise: Tensor | None, again: Tensor | None, n_rows: int) -> None:
    if noise is None:
        _that(not part.is_stochastic, part, "a stochastic code must draw noise", None)
        return
    _that(part.is_stochastic, part, "a code with noise must say is_stochastic = True", part.is_stochastic)
    _that(isinstance(noise, Tensor), part, "noise must be a tensor", noise)
    assert again is not None
    _same(part, "noise must be the same from the same generator", noise, again)


def _check_components(part: Code, output: Tensor, n_components: int) -> None:
    """What is declared of the mean code as a function of the encoder's output."""
    mean, others = part(output).mean, torch.ones(n_components, dtype=torch.bool)
    is_elementwise = n_components > 1
    for place in range(output.shape[1]):
        moved = output.clone()
        moved[:, place] += 10.0
        kept = others.clone()
        kept[place : place + 1] = False
        is_elementwise &= torch.equal(part(moved).mean[:, kept], mean[:, kept])
    is_identity = torch.equal(mean, output[:, :n_components])
    for name, holds, said in [
        ("is_elementwise", is_elementwise, "component j of the mean follows from output j alone"),
        ("is_identity", is_identity, "the mean is the first outputs as they are"),
    ]:
        claimed = getattr(part, name)
        _that(not claimed or holds or n_components == 1, part, f"{name} = True says that {said}", "another mean")
        message = f"declare {name} = True (or False), since {said}"
        _that(claimed or not holds or is_declared(part, name), part, message, "nothing said")


def _check_code_mean(part: Code, output: Tensor, n_components: int) -> None:
    many = output.expand(N_DRAWS, -1)
    draws = part(many).draw(part.draw_noise(N_DRAWS, n_components, _source(4)))
    gap = (draws.mean(0) - part(output).mean[0]).abs()
    allowed = STANDARD_ERRORS * draws.std(0) / math.sqrt(N_DRAWS) + 1e-6
    message = f"the mean must be the draws' within {STANDARD_ERRORS} standard errors"
    _that(bool((gap <= allowed).all()), part, message, f"gaps {_short(gap)}, allowed {_short(allowed)}")


# -- penalties


def _check_two_draws(part: Penalty, x: Tensor, n_components: int) -> None:
    """In a model that draws two codes a row, the penalty is the mean of what it is of each."""
    model = Composition(MLP((5,), "tanh"), MLP((5,), "tanh"), GaussianCode(n_draws=2), penalties=[_fresh(part)])
    model.setup(x.shape[1], n_components, _source(0))
    model.double()
    trace = model(x, model.draw_noise(len(x), _source(2)))
    with _words(part, "a penalty must work where two codes are drawn for each row"):
        terms = Objective().terms(model, trace)
    (own,) = model.penalties
    noise = trace.noise.penalties[0]
    alone = [penalty_term(own, [draw], model, noise) for draw in trace.each_draw(model)]
    _same(
        part, "a penalty of two draws must be the mean of both", sum(alone[1:], alone[0]) / 2, terms[type(own).__name__]
    )


def _check_idle_component(part: Penalty, model: Composition, x: Tensor) -> None:
    """Where idle components are said to be nothing to it, one more of them changes nothing."""
    if not part.ignores_idle_components or part.is_stochastic:
        return
    wide, own = clone(model), _fresh(part)
    wide.setup(model.n_features, model.n_components + 1, _source(0))
    own.setup(Sizes(model.n_features, model.n_components + 1))
    own.join(wide.double())
    narrow = model.state_dict()
    for name, weights in wide.state_dict().items():
        weights.zero_()[tuple(map(slice, narrow[name].shape))] = narrow[name]
    with torch.no_grad():
        message = (
            "ignores_idle_components = True says that a component of zeros, which reaches nothing, changes nothing"
        )
        _same(part, message, part(model(x), model), own.double()(wide(x), wide))


class _Term(nn.Module):
    """A penalty on top of its model, as a function of a batch."""

    def __init__(self, model: Composition, penalty: Penalty, noise: Noise, own_noise: Tensor | None) -> None:
        super().__init__()
        self.model, self.penalty, self.noise = model, penalty, noise
        self.own_noise = () if own_noise is None else (own_noise,)

    def forward(self, x: Tensor) -> Tensor:
        draws = self.model(x, self.noise).each_draw(self.model)
        return penalty_term(self.penalty, draws, self.model, *self.own_noise)


def _check_penalty_gradient(part: Penalty, term: _Term, x: Tensor) -> None:
    """The gradient by all weights, along one direction, against a central difference."""
    weights = {name: value.detach() for name, value in term.named_parameters() if value.requires_grad}
    total = term(x).sum()
    _that(total.requires_grad, part, "a gradient must reach the weights", "a value cut off from them")
    trained = [value for value in term.parameters() if value.requires_grad]
    gradients = torch.autograd.grad(total, trained, allow_unused=True)
    found = [g for g in gradients if g is not None and bool((g != 0).any())]
    _that(len(found) > 0, part, "a gradient must reach the weights", "zeros only")
    _that(all(bool(g.isfinite().all()) for g in found), part, "the gradient must be finite", "some that is not")
    source, step = _source(5), 1e-6
    way = {name: torch.randn(value.shape, dtype=value.dtype, generator=source) for name, value in weights.items()}
    slope = sum(float((g * way[n]).sum()) for n, g in zip(weights, gradients, strict=True) if g is not None)

    def moved(length: float) -> float:
        there = {name: value + length * way[name] for name, value in weights.items()}
        return float(torch.func.functional_call(term, there, (x,)).sum())

    numeric = (moved(step) - moved(-step)) / (2 * step)
    agree = abs(slope - numeric) <= 1e-4 * (1 + abs(numeric))
    _that(agree, part, f"the gradient must be the numerical one, {numeric:.6g}", f"{slope:.6g}")


# -- helpers


def _check_many_models(part: Part, name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
    """Two models with other parameters as one program give what each gives alone."""
    parameters = {key: value.detach() for key, value in module.named_parameters()}
    stacked = {key: torch.stack([value, value + 0.1]) for key, value in parameters.items()}
    inputs = tuple(torch.stack([a, a.flip(0)]) for a in arguments)

    def one(own: dict[str, Tensor], *own_arguments: Tensor) -> Tensor:
        return torch.func.functional_call(module, own, own_arguments)

    with _words(part, f"{name} must run under torch.func.vmap: no Python branch on values, no boolean indexing"):
        together = torch.func.vmap(one)(stacked, *inputs)
    for place in range(2):
        alone = one({key: value[place] for key, value in stacked.items()}, *(a[place] for a in inputs))
        _close(part, f"{name} of many models at once must be each one's own", alone, together[place])


def _check_derivative(part: Part, name: str, function: Callable[[Tensor], Tensor], at: Tensor) -> None:
    """Analytic against numerical derivatives, in float64."""
    at = at.detach().clone().requires_grad_()
    _that(function(at).requires_grad, part, f"a gradient must flow through {name}", "a value cut off from its input")
    with _words(part, f"the gradient of {name} must be the numerical one"):
        torch.autograd.gradcheck(function, (at,), eps=1e-6, atol=1e-5, rtol=1e-4)


@contextmanager
def _words(part: Part, promise: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{type(part).__name__}: {promise}. Got {type(error).__name__}: {error}") from error


def _that(holds: bool, part: Part, promise: str, found: object) -> None:
    if not holds:
        raise AssertionError(f"{type(part).__name__}: {promise}. Got {found}.")


def _check_shape(part: Part, name: str, found: object, shape: tuple[int, ...]) -> None:
    _that(isinstance(found, Tensor), part, f"{name} must be a tensor", type(found).__name__)
    got = tuple(found.shape)  # type: ignore[attr-defined]
    _that(got == shape, part, f"{name} must have shape {shape}", f"shape {got}")


def _same(part: Part, promise: str, left: Tensor, right: Tensor) -> None:
    """Equal to rounding: batched products may round differently by the number of rows."""
    _compare(part, promise, left, right, 1e-12 if left.dtype == torch.float64 else 1e-5)


def _close(part: Part, promise: str, left: Tensor, right: Tensor) -> None:
    _compare(part, promise, left, right, 1e-6)


def _compare(part: Part, promise: str, left: Tensor, right: Tensor, tolerance: float) -> None:
    left, right = left.detach(), right.detach()
    _that(left.shape == right.shape, part, promise, f"shapes {tuple(left.shape)} and {tuple(right.shape)}")
    if not torch.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True):
        _that(False, part, promise, f"a difference of {float((left - right).abs().max()):.3g}")


def _short(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in values.flatten().tolist()) + "]"


def _source(seed: int) -> torch.Generator:
    return generator(seed, "testing")
