"""Conformance tests of penalties."""

from __future__ import annotations

import torch
from sklearn.base import clone
from torch import Tensor, nn

from eigencode.model.composition import Composition, Noise
from eigencode.model.objective import Objective, penalty_term
from eigencode.parts.base import Sizes
from eigencode.parts.codes.gaussian import GaussianCode
from eigencode.parts.networks.dense import MLP
from eigencode.parts.penalties.base import Penalty
from eigencode.testing import promises


def check_penalty(
    penalty: Penalty, composition: Composition | None = None, *, n_features: int = 4, n_components: int = 2
) -> None:
    """Test a penalty: one number for each row (or one for the batch), independent rows, a gradient for the weights.

    Parameters
    ----------
    penalty : Penalty
        An instance; it is copied and not changed.
    composition : Composition, optional
        A model that the penalty is for; by default a small one with a point code. It is copied too.
    n_features, n_components : int
        Sizes for the tests.

    Examples
    --------
    >>> from eigencode.parts import Penalty
    >>> from eigencode.testing import check_penalty
    >>> class Activity(Penalty):
    ...     def forward(self, trace, composition):
    ...         return trace.z.square().sum(1)
    >>> check_penalty(Activity())
    """
    part = promises.fresh(penalty)
    model = Composition(MLP((5,), "tanh"), MLP((5,), "tanh")) if composition is None else clone(composition)
    with promises.no_global_draws(part):
        model.setup(n_features, n_components, promises.source(0))
        part.setup(Sizes(n_features, n_components))
        part.join(model)
        model.double()
        part.double()
        n = 6
        x = torch.randn(n, n_features, dtype=torch.float64, generator=promises.source(1))
        noise = part.draw_noise(n, model, promises.source(6))
        message = "a penalty must declare is_stochastic = True if it draws noise, and only then"
        promises.require(
            part.is_stochastic == (noise is not None), part, message, f"is_stochastic = {part.is_stochastic}"
        )
        term = _Term(model, part, model.draw_noise(n, promises.source(2)), noise)
        value = term(x)
        message = "a penalty must be one number for each row, or a scalar"
        promises.require(tuple(value.shape) in [(n,), ()], part, message, f"shape {value.shape}")
        promises.require_finite(part, "a penalty must be finite", value)
        promises.require_equal(part, "the same batch must give the same penalty", value, term(x))
        if value.ndim:
            changed = x.clone()
            changed[1:] += 1
            promises.require_equal(part, "row i must depend on row i only", value[0], term(changed)[0])
        _check_penalty_gradient(part, term, x)
        promises.check_many_models(part, "a penalty", term, (x,))
        promises.check_numbers(part, lambda: term(x))
        if composition is None:
            _check_two_draws(part, x, n_components)
            _check_idle_component(part, model, x)


def _check_two_draws(part: Penalty, x: Tensor, n_components: int) -> None:
    """Test that in a model that draws two codes a row, the penalty is the mean of the penalties of each."""
    model = Composition(MLP((5,), "tanh"), MLP((5,), "tanh"), GaussianCode(n_draws=2), penalties=[promises.fresh(part)])
    model.setup(x.shape[1], n_components, promises.source(0))
    model.double()
    trace = model(x, model.draw_noise(len(x), promises.source(2)))
    with promises.explained(part, "a penalty must work where two codes are drawn for each row"):
        terms = Objective().terms(model, trace)
    (own,) = model.penalties
    noise = trace.noise.penalties[0]
    alone = [penalty_term(own, [draw], model, noise) for draw in trace.each_draw(model)]
    both = sum(alone[1:], alone[0]) / 2
    promises.require_equal(part, "a penalty of two draws must be the mean of both", both, terms[type(own).__name__])


def _check_idle_component(part: Penalty, model: Composition, x: Tensor) -> None:
    """Test that another component of zeros changes nothing, if the penalty declares ``ignores_idle_components``."""
    if not part.ignores_idle_components or part.is_stochastic:
        return
    wide, own = clone(model), promises.fresh(part)
    wide.setup(model.n_features, model.n_components + 1, promises.source(0))
    own.setup(Sizes(model.n_features, model.n_components + 1))
    own.join(wide.double())
    narrow = model.state_dict()
    for name, weights in wide.state_dict().items():
        weights.zero_()[tuple(map(slice, narrow[name].shape))] = narrow[name]
    with torch.no_grad():
        message = (
            "ignores_idle_components = True means that a component of zeros that the decoder ignores changes nothing"
        )
        promises.require_equal(part, message, part(model(x), model), own.double()(wide(x), wide))


class _Term(nn.Module):
    """A penalty of a model as a function of a batch."""

    def __init__(self, model: Composition, penalty: Penalty, noise: Noise, own_noise: Tensor | None) -> None:
        super().__init__()
        self.model, self.penalty, self.noise = model, penalty, noise
        self.own_noise = () if own_noise is None else (own_noise,)

    def forward(self, x: Tensor) -> Tensor:
        draws = self.model(x, self.noise).each_draw(self.model)
        return penalty_term(self.penalty, draws, self.model, *self.own_noise)


def _check_penalty_gradient(part: Penalty, term: _Term, x: Tensor) -> None:
    """Compare the gradient along one direction in the space of all weights with a central difference."""
    weights = {name: value.detach() for name, value in term.named_parameters() if value.requires_grad}
    total = term(x).sum()
    promises.require(total.requires_grad, part, "a gradient must reach the weights", "a value without a gradient")
    trained = [value for value in term.parameters() if value.requires_grad]
    gradients = torch.autograd.grad(total, trained, allow_unused=True)
    found = [g for g in gradients if g is not None and bool((g != 0).any())]
    promises.require(len(found) > 0, part, "a gradient must reach the weights", "zeros only")
    promises.require(
        all(bool(g.isfinite().all()) for g in found), part, "the gradient must be finite", "some that is not"
    )
    draws, step = promises.source(5), 1e-6
    way = {name: torch.randn(value.shape, dtype=value.dtype, generator=draws) for name, value in weights.items()}
    slope = sum(float((g * way[n]).sum()) for n, g in zip(weights, gradients, strict=True) if g is not None)

    def moved(length: float) -> float:
        there = {name: value + length * way[name] for name, value in weights.items()}
        return float(torch.func.functional_call(term, there, (x,)).sum().detach())

    numeric = (moved(step) - moved(-step)) / (2 * step)
    agree = abs(slope - numeric) <= 1e-4 * (1 + abs(numeric))
    promises.require(agree, part, f"the gradient must be the numerical one, {numeric:.6g}", f"{slope:.6g}")
