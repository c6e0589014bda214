"""Network: a map from rows to numbers, and the layers that its kinds are made of."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from eigencode.errors import OptionError, did_you_mean
from eigencode.parts.base import Part

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}


def activation_module(activation: str | nn.Module) -> nn.Module:
    """A fresh module for an activation given by name or as a module."""
    if isinstance(activation, nn.Module):
        return copy.deepcopy(activation)
    if activation not in ACTIVATIONS:
        raise OptionError(
            "The activation must be a known name or a torch module",
            got=f"{activation!r} instead",
            hint=did_you_mean(activation, ACTIVATIONS),
        )
    return ACTIVATIONS[activation]()


ELEMENTWISE: tuple[type[nn.Module], ...] = (
    *(type(make()) for make in ACTIVATIONS.values()),
    *(nn.CELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LogSigmoid, nn.Mish, nn.PReLU, nn.ReLU6),
    *(nn.SELU, nn.Softshrink, nn.Softsign, nn.Tanhshrink, nn.Threshold),
)
"""Torch's activations whose every output is a function of the one input in its place."""


def is_elementwise(activation: str | nn.Module) -> bool:
    """Whether an activation is known to be elementwise: by name, one of torch's, or declared by a module's own class.

    Examples
    --------
    >>> is_elementwise("tanh"), is_elementwise(nn.Softmax(dim=1))
    (True, False)
    >>> class Sine(nn.Module):
    ...     is_elementwise = True
    ...
    ...     def forward(self, x):
    ...         return x.sin()
    >>> is_elementwise(Sine())
    True
    """
    kind = type(activation)
    return isinstance(activation, str) or kind in ELEMENTWISE or vars(kind).get("is_elementwise", False) is True


class Undrawn:
    """A layer whose weights are left to `draw_weights`: torch's own layers would draw them from a global generator.

    ``torch.nn.utils.skip_init`` serves the same end, but imports a symbolic algebra for half a second.
    """

    def reset_parameters(self) -> None:
        """Draw nothing."""


class Linear(Undrawn, nn.Linear):
    """A linear layer, undrawn."""

    paddable = ("in_features", "out_features")


def linear_layer(n_inputs: int, n_outputs: int, generator: torch.Generator) -> nn.Linear:
    r"""A linear layer with Xavier's uniform weights, drawn from the generator, and zero biases.

    The weights have variance 2 / (n_inputs + n_outputs) (Glorot & Bengio, 2010).
    """
    layer = Linear(n_inputs, n_outputs)
    draw_weights(layer, n_inputs, n_outputs, generator)
    return layer


@torch.no_grad()
def draw_weights(layer: nn.Module, n_inputs: float, n_outputs: float, generator: torch.Generator) -> None:
    """Draw a layer's weights with variance 2 / (n_inputs + n_outputs), and set its biases, if any, to zero.

    What counts is the inputs that one output sees and the outputs that one input reaches.
    """
    bound = math.sqrt(6 / (n_inputs + n_outputs))
    layer.weight.uniform_(-bound, bound, generator=generator)  # type: ignore[operator]
    if layer.bias is not None:
        layer.bias.zero_()  # type: ignore[operator]


class Network(Part):
    """A map from rows of n_inputs numbers to rows of n_outputs numbers."""

    is_tied: bool = False
    """Whether the weights are another network's."""

    has_linear_path: bool = False
    """Whether a linear map runs from input to output, alone or beside a nonlinear one."""

    affine: nn.Linear | None = None
    """The network's linear path, whose weights a closed-form start may set, or None."""

    output_bias: Tensor | None = None
    """The bias added last, where a constant start may be set, or None."""

    def change_by(self, places: Tensor, values: Tensor, n_inputs: int) -> Tensor:
        """What a few inputs of each row, by place and value, both of shape (n, m), change in the output of zeros."""
        inputs = values.new_zeros(len(values), n_inputs).scatter(-1, places, values)
        output = self(torch.cat([inputs, torch.zeros_like(inputs[:1])]))
        return output[:-1] - output[-1:]

    def silence(self) -> None:
        """Set the last weights and the last bias to zero, after ``setup``.

        The map is then zero everywhere, while its gradient by the last weights is not.
        """
        raise OptionError(
            f"{type(self).__name__} does not know its last weights, and so cannot start silent beside a linear path",
            got=f"{self!r}",
            hint="Use LinearPath(..., gated=True), or give the network a method silence()",
        )

    def drop_output_bias(self) -> None:
        """Give up the bias added last, after ``setup``, where another map's is added anyway; few need to."""

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one row's way through, by which precision and threads are chosen."""
        return sum(p.numel() for p in self.parameters())

    def mirror(self, other: Network) -> None:
        """Take notice of the network on the code's other side, before ``setup``; tied decoders make use of it."""

    @abstractmethod
    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make the tensors."""
