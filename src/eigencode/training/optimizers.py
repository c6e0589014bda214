"""The optimisers: Adam with adaptive clipping for mini-batches, L-BFGS for all rows at once."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from eigencode.errors import DataError
from eigencode.whole_operations import as_one_operation

CLIP_FACTOR = 5.0
"""A gradient longer than this multiple of the running mean length is clipped to it."""

BETAS = 0.9, 0.99
"""Adam's decay rates of the means of the gradient and of its square."""

EPSILON = 0.01
"""Adam's epsilon, as a share of the root mean square of a model's gradient: weights with very small gradients, such as
those of a pixel that is not 0 in few rows, change in proportion to their gradient and not as much as all others."""

FORGETTING = 0.02
"""Share of the newest gradient in the running mean length."""

MOST_PIECES = 64
"""Most pieces of a model's weights, of one factor each, that are stepped one by one: each takes a call of a kernel."""

SMALLEST = torch.finfo(torch.float32).tiny
"""Smallest length of a gradient, to divide by it."""


@torch.no_grad()
def copy_alike(own: Tensor, saved: Tensor, name: str, finite: bool = True) -> None:
    """Copy a saved tensor into one of the same shape and type; `DataError` if these differ or it is not finite."""
    is_alike = isinstance(saved, Tensor) and (saved.shape, saved.dtype) == (own.shape, own.dtype)
    if not is_alike or (finite and not saved.isfinite().all()):
        raise DataError("The state of a stream does not fit its model", got=f"another tensor for {name!r}")
    own.copy_(saved)


class Optimizer(Protocol):
    """Steps one vector of weights by its gradient.

    Attributes
    ----------
    memory : float
        Length of a useful average over recent weights, as a share of the steps made.
    """

    memory: float

    def step(self, rate: float, loss: Tensor, recompute: Callable[[], Tensor]) -> None:
        """Update the weights by the gradient of the loss; a line search calls ``recompute`` for both at others."""

    def shrink(self, rate: float) -> None:
        """Let the weights decay as in steps of this size in all, apart from their gradient."""

    def state_dict(self) -> dict[str, Any]:
        """The state on which the next step depends."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""

    def restart(self) -> None:
        """Continue after the vector was set to other weights."""


AVERAGED = 1 / 12
"""Length of the average for Adam: averaging over the last twelfth of the steps removes the noise of single batches."""


class ClippedAdam:
    """Adam (Kingma & Ba, 2015) with clipping, for one model or for several; gradients that are not finite are skipped.

    A gradient is compared with the running mean of its lengths, so neither the clipping nor epsilon depends on the
    data's units or width. Each row of a matrix is a model with its own clipping and step size. Weights decay apart from
    their gradient, as in AdamW (Loshchilov & Hutter, 2019).

    Parameters
    ----------
    weights : Tensor of shape (P,) or (K, P)
        The weights of one model, or of K.
    gradient : Tensor
        Their gradients; ``weights.grad`` if it is not given.
    n_weights : sequence of int
        Number of weights of each of K models; the gradients of the other columns are zero.
    factors : Tensor, optional
        Factors of the step size of each weight, of the shape of the weights.
    decay : Tensor, optional
        Decay of each weight, as a share of it for a step of size 1, of the shape of the weights.
    """

    memory = AVERAGED

    def __init__(
        self,
        weights: Tensor,
        gradient: Tensor | None = None,
        n_weights: Sequence[int] | None = None,
        factors: Tensor | None = None,
        decay: Tensor | None = None,
    ) -> None:
        self._weights, self._gradient, self._factors, self._decay = weights, gradient, factors, decay
        self.mean, self.square = torch.zeros_like(weights.data), torch.zeros_like(weights.data)
        # In float32 for the fused kernel; the last are the sizes of steps that were skipped since weights decayed.
        self.n_steps, self.running, self.skipped = torch.zeros((3, *weights.shape[:-1], 1), device=weights.device)
        # Factor from a length to a root mean square.
        shares = [n**-0.5 for n in n_weights or [weights.shape[-1]] * self.running.numel()]
        self._share = torch.tensor(shares, device=weights.device).view_as(self.running)
        self._divide()

    def of_models(self, chosen: Tensor, weights: Tensor, gradient: Tensor) -> ClippedAdam:
        """The same for some of the models, with new tensors of weights and gradients."""
        fewer = copy.copy(self)
        fewer._weights, fewer._gradient = weights, gradient
        for name in ("mean", "square", "n_steps", "running", "skipped", "_share"):
            setattr(fewer, name, getattr(self, name).index_select(0, chosen))
        for name in ("_factors", "_decay"):
            own = getattr(self, name)
            setattr(fewer, name, None if own is None else own.index_select(0, chosen))
        fewer._divide()
        return fewer

    def _divide(self) -> None:
        """Divide the weights into models, and these into pieces of one factor each, if they have few.

        A single model on a GPU stays whole, and its step is blended with the weights before: that is two passes over
        the weights, and each piece would be a kernel too small for the device.
        """
        n_weights = self._weights.shape[-1]
        whole = [(1.0, slice(n_weights))]
        pieces = [whole] * self.running.numel()
        self._blends = self._weights.dim() == 1 and self._weights.device.type != "cpu"
        if self._factors is not None and not self._blends:
            pieces = list(map(_pieces, self._factors.reshape(-1, n_weights).cpu()))
            self._blends = max(map(len, pieces)) > MOST_PIECES
        own = (self._weights.detach(), self.mean, self.square)
        models = zip(*(one.view(-1, n_weights).unbind() for one in own), strict=True)
        n_steps = self.n_steps.view(-1, 1).unbind()
        self._lists: dict[tuple[int, tuple[int, ...]], list[tuple[float, list[list[Tensor]]]]] = {}  # by `_together`
        self._models = [
            [
                (factor, part, [*(one[part] for one in model), made])
                for factor, part in (whole if self._blends else of_one)
            ]
            for model, made, of_one in zip(models, n_steps, pieces, strict=True)
        ]

        # The vectors of one model are not kept where its pieces say the same: each is as large as the weights.
        self._parts: list[tuple[float, slice]] = []
        if self._weights.dim() == 1 and self._factors is not None and not self._blends:
            self._factors, self._parts = None, pieces[0]
        decays = [] if self._decay is None else _pieces(self._decay)
        self._decays = [(share, part) for share, part in decays if torch.as_tensor(share).any()]
        if self._weights.dim() == 1:
            self._decay = None

    @property
    def factors(self) -> Tensor | None:
        """Factors of the step size of each weight."""
        return self._joined(self._parts) if self._parts else self._factors

    @property
    def decay(self) -> Tensor | None:
        """Decay of each weight, as a share of it for a step of size 1."""
        return self._joined(self._decays) if self._decay is None and self._decays else self._decay

    def _joined(self, pieces: Sequence[tuple[float, slice]]) -> Tensor:
        """What differs between the pieces of one model's weights, one number a weight."""
        found = torch.zeros_like(self._weights.detach())
        for value, part in pieces:
            found[part] = value
        return found

    @torch.no_grad()
    def shrink(self, rate: float | Tensor) -> None:
        """Let the weights decay as in steps of this size in all, or of one for each model, shape (K,); at most to 0."""
        weights = self._weights.detach()
        many = isinstance(rate, Tensor)
        # Skipped steps do not count. On a GPU their size is not looked at, for which the device would be waited for.
        is_read = not many and weights.device.type == "cpu"
        rate = (rate[:, None] if many else rate) - (float(self.skipped.numpy()[0]) if is_read else self.skipped)  # type: ignore[index]
        self.skipped.zero_()
        for share, part in self._decays:  # in place: a matrix of factors would be three passes more over memory
            left = 1 - share * rate
            weights[..., part].mul_(left.clamp_(min=0) if isinstance(left, Tensor) else max(left, 0.0))

    @torch.no_grad()
    def step(self, rate: float | Tensor, *_: object) -> None:
        """Make one step by the current gradient, with one step size or, of shape (K,), one for each model."""
        gradient = self._weights.grad if self._gradient is None else self._gradient
        assert gradient is not None  # set before each step
        if self._factors is None or not self._blends:
            self._step(gradient, rate)
            return
        before = self._weights.detach().clone()
        self._step(gradient, rate)
        torch.lerp(before, self._weights, self._factors, out=self._weights.detach())

    def _step(self, gradient: Tensor, rate: float | Tensor) -> None:
        """The step, with the factors of pieces only."""
        if gradient.device.type == "cpu":
            as_one_operation(self._step_each, gradient, rate)
        else:
            self._step_all(gradient, rate)

    def _step_all(self, gradient: Tensor, rate: float | Tensor) -> None:
        """The step on a GPU: lengths are tensors, so that nothing waits for the device."""
        norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True).float()
        is_broken = (~norm.isfinite()).float()
        norm = norm.nan_to_num_(0.0, 0.0)
        # The first gradient is compared with itself.
        self.running.copy_(torch.where(self.running == 0, norm, self.running))
        scale = (norm / (CLIP_FACTOR * self.running)).nan_to_num_(1.0).clamp_(min=1.0)
        self.running.lerp_(norm / scale, FORGETTING)
        self.n_steps.add_(1 - is_broken)
        size = rate.clamp(max=LONGEST_STEP).view_as(norm) if isinstance(rate, Tensor) else min(rate, LONGEST_STEP)
        self.skipped.add_(is_broken * size)
        unit = scale * (self.running.clamp(min=SMALLEST) * self._share)
        if gradient.dim() == 1:
            for factor, part, own in self._models[0]:
                steps = rate if factor == 1 else rate * factor
                each = gradient[part], *own[:-1], self.n_steps
                fused_adam(*([one] for one in each), rate=steps, unit=unit, is_broken=is_broken)
        else:
            self._update_rows(gradient, rate, unit, is_broken)

    def _step_each(self, gradient: Tensor, rates: float | Tensor) -> None:
        """The step on a processor, where reading a length takes less time than an operation on it.

        What follows from the lengths is computed for all models at once, and models of the same step size are stepped
        by one call.
        """
        each, lengths = _listed(rates), _listed(torch.linalg.vector_norm(gradient, dim=-1).float())
        n_steps, running, skipped, units, shares = self._numbers
        alike: dict[float, list[int]] = {}
        known = zip(lengths, running.tolist(), shares, each, strict=True)
        for k, (norm, mean_norm, share, rate) in enumerate(known):
            is_finite = math.isfinite(norm)
            norm = norm if is_finite else 0.0
            mean_norm = mean_norm or norm  # the first gradient is compared with itself
            scale = max(norm / (CLIP_FACTOR * mean_norm), 1.0) if mean_norm else 1.0
            mean_norm += FORGETTING * (norm / scale - mean_norm)
            running[k], units[k] = mean_norm, scale * max(mean_norm, SMALLEST) * share
            if is_finite:
                n_steps[k] += 1
                alike.setdefault(rate, []).append(k)
            else:
                skipped[k] += min(rate, LONGEST_STEP)
        unit = torch.from_numpy(units)
        if len(each) > 1:  # the kernel takes one unit for all
            gradient.div_(unit[:, None])
        for rate, chosen in alike.items():
            for factor, tensors in self._together(gradient, tuple(chosen)):
                fused_adam(*tensors, rate=rate * factor, unit=unit if len(each) == 1 else None)

    @cached_property
    def _numbers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[float]]:
        """Steps, running lengths, what was skipped, units and shares of each model: entries of arrays are fast."""
        steps, running, skipped = (one.numpy().reshape(-1) for one in (self.n_steps, self.running, self.skipped))
        return steps, running, skipped, np.empty_like(running), self._share.reshape(-1).tolist()

    def __getstate__(self) -> dict[str, Any]:
        """What copies have: the arrays, which are memory of the tensors, are made anew."""
        return {name: value for name, value in vars(self).items() if name != "_numbers"}

    def _together(self, gradient: Tensor, chosen: tuple[int, ...]) -> Iterable[tuple[float, Sequence[list[Tensor]]]]:
        """For each factor the pieces of some models: gradients, weights, moments and numbers of steps, as lists.

        They are the same in most steps, and views take longer to make than the arithmetic: two a model are kept.
        """
        key = gradient.data_ptr(), chosen
        if key not in self._lists:
            self._lists = dict([k for k in self._lists.items() if k[0][0] == key[0]][1 - 2 * len(self._models) :])
            gradients = gradient.view(len(self._models), -1)
            pieces: dict[float, list[Sequence[Tensor]]] = {}
            for k in chosen:
                for factor, part, tensors in self._models[k]:
                    pieces.setdefault(factor, []).append((gradients[k, part], *tensors))
            self._lists[key] = [(factor, [*map(list, zip(*own, strict=True))]) for factor, own in pieces.items()]
        return self._lists[key]

    def _update_rows(self, gradient: Tensor, rates: Any, unit: Tensor, is_broken: Tensor) -> None:
        """Adam's steps of all rows; the fused kernel has one step size for all."""
        weights, (beta1, beta2) = self._weights, BETAS
        whole = 1 - is_broken.to(weights)
        gradient.masked_fill_(is_broken > 0, 0.0)
        gradient.div_(unit.to(weights))
        self.mean.lerp_(gradient, (1 - beta1) * whole)
        self.square.lerp_(gradient.square_(), (1 - beta2) * whole)
        n_steps = self.n_steps.to(weights).clamp(min=1)
        correction1, correction2 = (1 - beta**n_steps for beta in BETAS)
        factors = 1.0 if self._factors is None or self._blends else self._factors
        rate = (rates.to(weights)[:, None] * whole / correction1 * factors).clamp(min=NO_STEP)
        # The denominator includes each row's step size, which saves three passes over the matrix.
        denominator = torch.sqrt(self.square)
        torch.addcmul(EPSILON / rate, denominator, 1 / (rate * correction2.sqrt()), out=denominator)
        weights.addcdiv_(self.mean, denominator, value=-1)

    def state_dict(self) -> dict[str, Tensor]:
        """The moments, the number of steps and the running length."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from there; earlier states do not say what was skipped."""
        for name, own in self.state_dict().items():
            copy_alike(own, state.get(name, own) if name == "skipped" else state[name], name)

    def restart(self) -> None:
        """Continue from other weights. The moments are kept, since gradients that are not finite never change them."""


def _listed(values: float | Tensor) -> list[float]:
    """A number, or numbers, as a list."""
    found = values if isinstance(values, float | int) else values.tolist()
    return found if isinstance(found, list) else [found]


def _pieces(factors: Tensor) -> list[tuple[Any, slice]]:
    """The factors, or the decays, of neighbouring weights that have the same, and where these are.

    Those of several models have the same in each model, and are tensors of shape (K, 1).

    Examples
    --------
    >>> _pieces(torch.tensor([1.0, 1.0, 0.5]))
    [(1.0, slice(0, 2, None)), (0.5, slice(2, 3, None))]
    """
    # `unique_consecutive` along an axis makes a tensor of each column: seconds for a million weights.
    differ = factors[..., 1:] != factors[..., :-1]
    begins = [0, *(differ.reshape(-1, differ.shape[-1]).any(0).nonzero().flatten() + 1).tolist()]
    values = factors[..., begins]
    each = values.tolist() if values.dim() == 1 else values.split(1, dim=1)
    return list(zip(each, map(slice, begins, [*begins[1:], factors.shape[-1]]), strict=True))


def fused_adam(*lists: Sequence[Tensor], rate: Any, unit: Tensor | None, is_broken: Tensor | None = None) -> None:
    """Adam's steps in one pass over the weights: gradients in a unit, weights, means, squares and numbers of steps.

    Torch's fused kernel is called directly, since the class in ``torch.optim`` imports a compiler at its first use, for
    a second or more, and its step takes longer than that of a small network.
    """
    gradients, weights, means, squares, n_steps = map(list, lists)
    torch._fused_adam_(
        weights, gradients, means, squares, [], n_steps,
        lr=rate, beta1=BETAS[0], beta2=BETAS[1], weight_decay=0.0, eps=EPSILON, amsgrad=False, maximize=False,
        grad_scale=unit, found_inf=is_broken,
    )  # fmt: skip


class FullBatchLBFGS(torch.optim.LBFGS):
    """L-BFGS with a strong Wolfe line search (Nocedal & Wright, 2006), with the step size as an argument of each step.

    Each step uses all rows, and the last weights are the best, so no average is needed.
    """

    memory = 0.0

    def __init__(self, vector: nn.Parameter, factors: Tensor | None = None, decay: Tensor | None = None) -> None:
        # Its steps have the length of the line search, without factors, and find a minimum.
        settings: Any = {"max_iter": 5, "history_size": 50, "line_search_fn": "strong_wolfe"}
        super().__init__([vector], tolerance_grad=1e-12, tolerance_change=0.0, **settings)

    def restart(self) -> None:
        """Continue from other weights: the curvature is discarded, since it is not theirs and may not be finite."""
        self.state.clear()

    def shrink(self, rate: float) -> None:
        """Do nothing: the weights have no decay."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add the vector; torch's method would import a compiler, for a second or more."""
        self.param_groups.append({**self.defaults, **param_group})

    def state_dict(self) -> dict[str, Any]:
        """The state of the vector; torch's method would import a compiler, too."""
        (vector,) = self.param_groups[0]["params"]
        return {"state": {0: dict(self.state[vector])} if vector in self.state else {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state, with this object's settings."""
        (vector,) = self.param_groups[0]["params"]
        saved = state["state"].get(0, {})
        for name, value in saved.items():
            for tensor in value if isinstance(value, list) else [value]:
                if isinstance(tensor, Tensor) and tensor.dim():
                    copy_alike(torch.empty_like(vector), tensor, name)
        for name, kind in self._STATE.items() if saved else ():
            if not isinstance(saved.get(name), kind):
                raise DataError("The state of a stream does not fit its optimiser", got=f"another {name!r}")
        pairs = [saved[name] for name in ("old_dirs", "old_stps", "ro")] if saved else []
        if len({*map(len, pairs)}) > 1 or not all(isinstance(item, Tensor) for items in pairs for item in items):
            raise DataError("The state of a stream does not fit its optimiser", got="another history of steps")
        saved.pop("al", None)  # temporary values of a step
        self.state[vector].update(saved)

    _STATE: ClassVar[dict[str, Any]] = {
        "func_evals": int, "n_iter": int, "d": Tensor, "t": int | float | Tensor, "old_dirs": list, "old_stps": list,
        "ro": list, "H_diag": int | float | Tensor, "prev_flat_grad": Tensor | None, "prev_loss": float | Tensor,
    }  # fmt: skip
    """The entries of torch's state, with their types."""

    def step(self, rate: float, loss: Tensor, recompute: Callable[[], Tensor]) -> None:  # type: ignore[override]
        """Make five L-BFGS steps."""
        group = self.param_groups[0]
        group["lr"] = min(rate, LONGEST_STEP)
        (vector,) = group["params"]
        known = [loss]  # torch asks for the objective at the current weights first

        def scaled() -> Tensor:
            loss = known.pop() if known else recompute()
            scale = self._scale(vector)
            if scale == 1:
                return loss
            vector.grad.mul_(scale)
            return loss * scale

        super().step(scaled)

    def _scale(self, vector: Tensor) -> float:
        """A factor for the objective, a power of two chosen from the first gradient; usually 1.

        The line search computes the fourth power of a gradient's length, which overflows float32 for large counts.
        Multiplying by a power of two is exact.
        """
        kept = self.state[vector]
        if "scale" not in kept:
            length = 1.0 if "old_dirs" in kept or vector.grad is None else float(torch.linalg.vector_norm(vector.grad))
            is_large = math.isfinite(length) and length > LONG_GRADIENT
            kept["scale"] = 2.0 ** -math.floor(math.log2(length)) if is_large else 1.0
        return float(kept["scale"])


LONG_GRADIENT = 2.0**12
"""Length of a gradient from which the objective is multiplied by a factor below 1 for L-BFGS."""

LONGEST_STEP = 1e30
"""Largest step size of L-BFGS, and of a step that is skipped: far above useful ones and finite in float32."""

NO_STEP = 1e-30
"""Step size with which no weight changes."""

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": ClippedAdam, "lbfgs": FullBatchLBFGS}
"""The optimisers by name, each for one vector of weights, with each weight's factor of the step size and its decay."""
