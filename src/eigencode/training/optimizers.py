"""The optimisers: Adam with adaptive clipping for mini-batches, L-BFGS for all rows at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

CLIP_FACTOR = 5.0
"""A gradient longer than this many times the running mean length is shortened to it."""


class ClippedAdam(torch.optim.Adam):
    """Adam (Kingma & Ba, 2015) on one vector, whose step shortens outlying gradients and leaves out broken ones.

    A gradient is clipped against the running mean of its own lengths, so no threshold depends on the data's units or
    width. The factor is handed to the fused kernel, which applies it as it reads the gradient: clipping costs one
    norm. A gradient that is not finite moves nothing.
    """

    def __init__(self, vector: nn.Parameter, lr: float) -> None:
        super().__init__([vector], lr=lr, betas=(0.9, 0.99), fused=True)
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


def make_optimizer(name: str, vector: nn.Parameter, learning_rate: float) -> torch.optim.Optimizer:
    """The optimiser of a name, on one vector of weights."""
    if name == "adam":
        return ClippedAdam(vector, learning_rate)
    settings: dict[str, Any] = {"max_iter": 5, "history_size": 50, "line_search_fn": "strong_wolfe"}
    return torch.optim.LBFGS([vector], lr=learning_rate, tolerance_grad=1e-12, tolerance_change=0.0, **settings)
