"""The user's torch module as a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from eigencode.errors import NetworkError, OptionError
from eigencode.parts.networks.base import Network


class Custom(Network):
    """The user's torch module, deep-copied so that fitting does not change the original.

    Parameters
    ----------
    module : torch.nn.Module
        Maps (n, n_inputs) to (n, n_outputs); its initial weights are kept.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._n_outputs: int | None = None

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Check that the module maps between the two widths."""
        if not isinstance(self.module, nn.Module):
            raise OptionError("The 'module' parameter of Custom must be a torch module", got=f"{self.module!r}")
        probe = torch.zeros(2, n_inputs, dtype=next((p.dtype for p in self.module.parameters()), torch.float32))
        was_training = self.module.training
        name, self._n_outputs = type(self.module).__name__, n_outputs
        try:
            with torch.no_grad():
                found: Any = self.module.eval()(probe)
        except Exception as error:  # whatever a module of the user's raises
            raise OptionError(f"{name} cannot take rows of {n_inputs} numbers", got=_text_of(error)) from error
        finally:
            self.module.train(was_training)
        if not isinstance(found, Tensor):
            hint = "Wrap it in a module whose forward returns one tensor of shape (n, n_outputs)"
            raise OptionError(f"{name} must return a tensor", got=f"a {type(found).__name__}", hint=hint)
        if not found.is_floating_point():
            raise OptionError(f"{name} must return floating-point numbers", got=f"the type {found.dtype}")
        if tuple(found.shape) != (2, n_outputs):
            raise OptionError(
                f"{name} must map rows of {n_inputs} numbers to rows of {n_outputs}",
                got=f"an output of shape {tuple(found.shape)} for two rows",
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to rows of shape (n, n_inputs); the result has their type."""
        name = type(self.module).__name__
        try:
            with _statistics_kept(self.module, is_single=x.shape[:-1].numel() == 1):
                found: Any = self.module(x)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a module of the user's raises
            raise NetworkError(f"{name} failed for {len(x)} rows", got=_text_of(error)) from error
        wanted = (*x.shape[:-1], self._n_outputs or getattr(found, "shape", (0,))[-1])
        if not isinstance(found, Tensor) or tuple(found.shape) != wanted:
            shape = f"the shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise NetworkError(f"{name} must return a tensor of shape {wanted}", got=shape)
        is_mixed = torch.is_autocast_enabled(x.device.type) and found.dtype != torch.float64
        return found if is_mixed else found.to(x.dtype)


def _text_of(error: Exception) -> str:
    """A description of a module's error in one line."""
    first = str(error).strip().partition("\n")[0]
    return f"the error {type(error).__name__}: {first}"


@contextmanager
def _statistics_kept(module: nn.Module, *, is_single: bool) -> Iterator[None]:
    """Use the running statistics of batch normalisation for a single row, which has no variance."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]
    layers = layers if is_single else []
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()


def as_network(module: nn.Module) -> Network:
    """A network part, or any torch module as one."""
    return module if isinstance(module, Network) else Custom(module)
