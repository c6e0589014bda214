"""Requirements of all parts, and the error messages if one is not met."""

from __future__ import annotations

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

from eigencode.parts.base import Part, is_declared
from eigencode.training.rng import generator

STANDARD_ERRORS = 4
"""Largest distance of a mean of draws from the expectation: one in 16,000 correct ones is further away."""

N_DRAWS = 20_000

AnyPart = TypeVar("AnyPart", bound=Part)


def fresh(part: AnyPart) -> AnyPart:
    """Test the requirements of all parts, and return a copy of the part."""
    name = type(part).__name__
    with explained(part, "a part must be clonable: its constructor stores its arguments and does nothing else"):
        again = clone(part)
    message = "tensors must be made in setup, not in the constructor"
    require(list(again.parameters()) == [], part, message, "some in the constructor")
    for key, value in part.get_params().items():
        require(_storable(value), part, f"the argument {key!r} must be storable as JSON", f"{value!r}")
    with explained(part, "a part must be made again from its own parameters"):
        rebuilt = type(part)(**part.get_params(deep=False))
    require(repr(again) == repr(part) == repr(rebuilt), part, "a copy must have the same repr", repr(again))
    require(repr(part).startswith(f"{name}("), part, "repr must read like the constructor's call", repr(part))
    _check_declared_numbers(part)
    return again


def _check_declared_numbers(part: Part) -> None:
    """Test that ``numbers`` names arguments, and that it is declared if there are float arguments."""
    arguments = part.get_params(deep=False)
    strange = [name for name in part.numbers if name not in arguments]
    require(not strange, part, "numbers must name arguments of the constructor", f"{strange}")
    unsaid = [name for name, value in arguments.items() if isinstance(value, float) and name not in part.numbers]
    message = "declare in numbers the arguments that are used in arithmetic on tensors alone, or numbers = () for none"
    require(not unsaid or is_declared(part, "numbers"), part, message, f"no declaration for {', '.join(unsaid)}")


def check_numbers(part: Part, function: Callable[[], Tensor]) -> None:
    """Test that two models with different values of a declared number give the same under ``vmap`` as separately."""
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

        promise = f"{name!r} is declared in numbers, so it must be used in arithmetic on tensors only"
        with explained(part, promise):
            together = torch.func.vmap(of)(values)
        for alone, one in zip(map(of, values.tolist()), together, strict=True):
            require_close(part, promise, alone, one)


def check_batch_axes(part: Part, name: str, function: Callable[..., Tensor], *arguments: Tensor) -> None:
    """Test that another axis before the rows is allowed."""
    with explained(part, f"{name} must allow any number of axes before the last"):
        several = function(*(torch.stack([a, a.flip(0)]) for a in arguments))
    expected = torch.stack([function(*arguments), function(*(a.flip(0) for a in arguments))])
    require_equal(part, f"{name} must be the same for rows with another axis before them", expected, several)


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
def no_global_draws(part: Part) -> Iterator[None]:
    """Raise an error if the state of a global generator changes."""
    before = _global_states()
    yield
    message = "noise must come from the given generator"
    require(_global_states() == before, part, message, "a draw from a global generator")


def _global_states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (the legacy state is the one meant)
    return random.getstate(), name, np.asarray(keys).tolist(), rest, torch.get_rng_state().tolist()


def check_many_models(part: Part, name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
    """Test that two models with different parameters give the same under ``vmap`` as separately."""
    parameters = {key: value.detach() for key, value in module.named_parameters()}
    stacked = {key: torch.stack([value, value + 0.1]) for key, value in parameters.items()}
    inputs = tuple(torch.stack([a, a.flip(0)]) for a in arguments)

    def one(own: dict[str, Tensor], *own_arguments: Tensor) -> Tensor:
        return torch.func.functional_call(module, own, own_arguments)

    with explained(part, f"{name} must run under torch.func.vmap: no Python branch on values, no boolean indexing"):
        together = torch.func.vmap(one)(stacked, *inputs)
    for i in range(2):
        alone = one({key: value[i] for key, value in stacked.items()}, *(a[i] for a in inputs))
        require_close(part, f"{name} of several models under vmap must be that of each model", alone, together[i])


def check_derivative(part: Part, name: str, function: Callable[[Tensor], Tensor], at: Tensor) -> None:
    """Compare analytic with numerical derivatives, in float64."""
    at = at.detach().clone().requires_grad_()
    require(function(at).requires_grad, part, f"{name} must have a gradient", "a value without one")
    with explained(part, f"the gradient of {name} must be the numerical one"):
        torch.autograd.gradcheck(function, (at,), eps=1e-6, atol=1e-5, rtol=1e-4)


@contextmanager
def explained(part: Part, promise: str) -> Iterator[None]:
    """Turn any error into an AssertionError that names the requirement."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{type(part).__name__}: {promise}. Got {type(error).__name__}: {error}") from error


def require(holds: bool, part: Part, promise: str, found: object) -> None:
    """Raise an error with the requirement and what was found, unless it holds."""
    if not holds:
        raise AssertionError(f"{type(part).__name__}: {promise}. Got {found}.")


def require_shape(part: Part, name: str, found: object, shape: tuple[int, ...]) -> None:
    """Require a tensor of a shape."""
    require(isinstance(found, Tensor), part, f"{name} must be a tensor", type(found).__name__)
    got = tuple(found.shape)  # type: ignore[attr-defined]
    require(got == shape, part, f"{name} must have shape {shape}", f"shape {got}")


def require_finite(part: Part, promise: str, found: Tensor) -> None:
    """Require finite numbers."""
    require(bool(found.isfinite().all()), part, promise, found)


def require_mean(part: Part, promise: str, draws: Tensor, mean: Tensor, slack: float | Tensor) -> None:
    """Require that draws of shape (n, d) have a mean, within ``STANDARD_ERRORS`` standard errors and a slack."""
    gap = (draws.mean(0) - mean).abs()
    allowed = STANDARD_ERRORS * draws.std(0) / math.sqrt(len(draws)) + slack
    message = f"{promise}, within {STANDARD_ERRORS} standard errors"
    require(bool((gap <= allowed).all()), part, message, f"gaps {short(gap)}, allowed {short(allowed)}")


def require_equal(part: Part, promise: str, left: Tensor, right: Tensor) -> None:
    """Require tensors equal up to rounding: batched products may round differently for other numbers of rows."""
    _compare(part, promise, left, right, 1e-12 if left.dtype == torch.float64 else 1e-5)


def require_close(part: Part, promise: str, left: Tensor, right: Tensor) -> None:
    """Require tensors equal to six digits, for two ways to compute one thing."""
    _compare(part, promise, left, right, 1e-6)


def _compare(part: Part, promise: str, left: Tensor, right: Tensor, tolerance: float) -> None:
    left, right = left.detach(), right.detach()
    require(left.shape == right.shape, part, promise, f"shapes {tuple(left.shape)} and {tuple(right.shape)}")
    if not torch.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True):
        require(False, part, promise, f"a difference of {float((left - right).abs().max()):.3g}")


def short(values: Tensor) -> str:
    """Numbers to three digits."""
    return "[" + ", ".join(f"{value:.3g}" for value in values.flatten().tolist()) + "]"


def source(seed: int) -> torch.Generator:
    """A random generator for these tests only."""
    return generator(seed, "testing")
