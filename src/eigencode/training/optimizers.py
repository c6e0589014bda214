"""The optimisers: Adam with adaptive clipping for mini-batches, L-BFGS for all rows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

CLIP_FACTOR = 5.0
"""A gradient longer than this many times the running mean length is shortened to it."""


BETAS, EPSILON = (0.9, 0.99), 1e-8
"""Adam's memory of the gradient and of its square, and what keeps its division from zero."""


class ClippedAdam(torch.optim.Adam):
    """Adam (Kingma & Ba, 2015) on one vector, whose step shortens outlying gradients and leaves out broken ones.

    A gradient is clipped against the running mean of its own lengths, so no threshold depends on the data's units or
    width. The factor is handed to the fused kernel, which applies it as it reads the gradient: clipping costs one
    norm. A gradient that is not finite moves nothing.
    """

    def __init__(self, vector: nn.Parameter, lr: float) -> None:
        super().__init__([vector], lr=lr, betas=BETAS, eps=EPSILON, fused=True)
        self.param_groups[0]["gradient_norm"] = torch.zeros((), device=vector.device)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Evaluate the closure, which leaves the gradient behind, and take one step."""
        with torch.enable_grad():
            loss = closure()
        (group,) = self.param_groups
        (vector,) = group["params"]
        # The fused kernel takes both factors in float32, whatever the weights' type.
        running, norm = group["gradient_norm"], torch.linalg.vector_norm(vector.grad).float()
        self.found_inf = (~norm.isfinite()).float()
        norm = norm.nan_to_num_(0.0, 0.0)
        # The first gradient is its own measure.
        running.copy_(torch.where(running == 0, norm, running))
        self.grad_scale = (norm / (CLIP_FACTOR * running)).nan_to_num_(1.0).clamp_(min=1.0)
        running.lerp_(norm / self.grad_scale, 0.02)
        super().step()
        return loss


class ClippedAdamOfRows:
    """`ClippedAdam` for many models at once: each row of a matrix is one, with its own clipping and step size.

    Parameters
    ----------
    matrix, gradient : Tensor of shape (K, P)
        The weights of each model, and where their gradients will be.
    """

    def __init__(self, matrix: Tensor, gradient: Tensor) -> None:
        self._matrix, self._gradient = matrix, gradient
        self._mean, self._square = torch.zeros_like(matrix), torch.zeros_like(matrix)
        self._steps = matrix.new_zeros(len(matrix), 1)
        self._running = torch.zeros(len(matrix), 1, device=matrix.device)

    def of(self, chosen: Tensor, matrix: Tensor, gradient: Tensor) -> ClippedAdamOfRows:
        """The same for some of the models, whose weights and gradients now lie elsewhere."""
        fewer = ClippedAdamOfRows(matrix, gradient)
        for name in ("_mean", "_square", "_steps", "_running"):
            setattr(fewer, name, getattr(self, name).index_select(0, chosen))
        return fewer

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """Take one step by the gradients that are there, with a step size for each row."""
        matrix, gradient = self._matrix, self._gradient
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True).float()
        is_whole = norm.isfinite()
        norm = norm.nan_to_num_(0.0, 0.0)
        self._running = torch.where(self._running == 0, norm, self._running)
        scale = (norm / (CLIP_FACTOR * self._running)).nan_to_num_(1.0).clamp_(min=1.0)
        self._running.lerp_(norm / scale, 0.02)
        # A row that is no number moves nothing, and neither do its moments.
        if not (matrix.device.type == "cpu" and bool(is_whole.all())):
            gradient.copy_(torch.where(is_whole, gradient, 0.0))
        beta1, beta2 = BETAS
        whole = is_whole.to(matrix)
        self._steps += whole
        gradient.div_(scale.to(matrix))
        self._mean.lerp_(gradient, (1 - beta1) * whole)
        self._square.lerp_(gradient.square_(), (1 - beta2) * whole)
        correction1, correction2 = (1 - beta**self._steps for beta in BETAS)
        denominator = torch.sqrt(self._square).div_(correction2.sqrt()).add_(EPSILON)
        rate = matrix.new_tensor(rates)[:, None] * whole / correction1.clamp(min=EPSILON)
        matrix.sub_(rate * (self._mean / denominator))


def make_optimizer(name: str, vector: nn.Parameter, learning_rate: float) -> torch.optim.Optimizer:
    """The optimiser of a name, on one vector of weights."""
    if name == "adam":
        return ClippedAdam(vector, learning_rate)
    settings: dict[str, Any] = {"max_iter": 5, "history_size": 50, "line_search_fn": "strong_wolfe"}
    return torch.optim.LBFGS([vector], lr=learning_rate, tolerance_grad=1e-12, tolerance_change=0.0, **settings)
