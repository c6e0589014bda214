"""Checks that a code and a likelihood give distributions of the right shapes: once for a model, before training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from eigencode.errors import OptionError, is_int
from eigencode.parts.base import Part
from eigencode.parts.codes.base import Code
from eigencode.parts.likelihoods.base import Likelihood


def require_width(part: Part, method: str, count: Callable[[int], Any], n: int) -> int:
    """The number of outputs that a part asks a network for; an error if it is no positive whole number.

    Examples
    --------
    >>> from eigencode.parts import GaussianLikelihood
    >>> part = GaussianLikelihood()
    >>> require_width(part, "n_outputs", part.n_outputs, 3)
    3
    """
    found = count(n)
    if not is_int(found) or int(found) < 1:
        raise OptionError(f"{type(part).__name__}.{method}({n}) must be a positive whole number", got=f"{found!r}")
    return int(found)


@torch.no_grad()
def require_distribution(likelihood: Likelihood, n_features: int) -> None:
    """Raise an error unless a likelihood, after ``setup``, gives a distribution of the columns, cell by cell."""
    width = require_width(likelihood, "n_outputs", likelihood.n_outputs, n_features)
    p = _applied(likelihood, width, "a distribution with a mean and a method log_prob, as eigencode.parts.Distribution")
    target = likelihood.target(torch.zeros(2, n_features))
    for name, cells in (("mean", lambda: p.mean), ("log_prob", lambda: p.log_prob(target))):
        what = f"The {name} of a likelihood's distribution"
        _require_shape(likelihood, what, cells(), target, "n_outputs", width)


def require_posterior(code: Code, n_components: int) -> None:
    """Raise an error unless a code, after ``join``, gives a distribution of codes."""
    width = require_width(code, "width", code.width, n_components)
    q = _applied(code, width, "a distribution with a mean and methods draw and log_prob, as eigencode.parts.Delta")
    _require_shape(code, "The mean of a code's distribution", q.mean, torch.zeros(2, n_components), "width", width)


@torch.no_grad()
def _applied(part: Code | Likelihood, width: int, wanted: str) -> Any:
    """A part's distribution for two rows of zeros; an error if it gives anything without a mean."""
    name = type(part).__name__
    was_training = part.training
    try:
        found: Any = part.eval()(torch.zeros(2, width))
    except (RuntimeError, ValueError) as error:
        what = f"{name} failed for {width} outputs a row, as many as it asks for"
        raise OptionError(what, got=f"the error {type(error).__name__}: {error}") from error
    finally:
        part.train(was_training)
    methods = ("log_prob",) if isinstance(part, Likelihood) else ("log_prob", "draw")
    if not isinstance(getattr(found, "mean", None), Tensor) or not all(hasattr(found, each) for each in methods):
        raise OptionError(f"The forward method of {name} must return {wanted}", got=f"a {type(found).__name__}")
    return found


def _require_shape(part: Part, what: str, found: Any, like: Tensor, method: str, width: int) -> None:
    """Raise an error unless something is a tensor of the shape of ``like``."""
    if not isinstance(found, Tensor) or found.shape != like.shape:
        raise OptionError(
            f"{what} must have the shape {tuple(like.shape)} for two rows: {type(part).__name__}",
            got=f"the shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}",
            hint=f"Its forward gets {width} numbers a row, as its {method} says",
        )
