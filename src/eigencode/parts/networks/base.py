"""Network: a map from rows to rows, and its layers."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from eigencode.errors import OptionError, did_you_mean
from eigencode.parts.base import Part

MOST_DIRECT = 2**14
"""Most numbers whose GELU takes less time by torch's own kernel than by the library that it calls for more (oneDNN)."""


class GELU(nn.GELU):
    r"""Gaussian error linear units, which take less time for few numbers in training on a processor.

    .. math:: a(x) = x \, P(Z \le x), \quad Z \sim N(0, 1)

    For contiguous numbers torch calls oneDNN, which takes 20 microseconds forward and 40 to 60 backward even for one
    number; torch's own kernel, which it calls for others, takes 10 and 10 for 2,000. Both are the same function, but
    for rounding. Source: Hendrycks & Gimpel, 2016.

    Examples
    --------
    >>> import torch
    >>> x = torch.linspace(-3, 3, 12).reshape(3, 4)
    >>> torch.allclose(GELU()(x), nn.functional.gelu(x), atol=1e-6)
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function to each number."""
        is_direct = self.training and x.device.type == "cpu" and x.dim() == 2 and x.numel() <= MOST_DIRECT
        return super().forward(x.t()).t() if is_direct else super().forward(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": GELU,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}

PART_CELLS, PART_ROWS = 2**18, 256
"""Most numbers in one layer's results for a part of the rows (1 MB in float32), unless that is fewer rows."""


def activation_module(activation: str | nn.Module) -> nn.Module:
    """A new module for an activation given by name or as a module."""
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
    *(nn.CELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LogSigmoid, nn.Mish, nn.PReLU),
    *(nn.ReLU6, nn.SELU, nn.Softshrink, nn.Softsign, nn.Tanhshrink, nn.Threshold),
)
"""Torch's elementwise activations."""


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
    """A layer without initial weights, which `draw_weights` sets: torch's layers use a global generator.

    ``torch.nn.utils.skip_init`` would do the same, but imports sympy, which takes half a second.
    """

    def reset_parameters(self) -> None:
        """Do nothing."""


class Linear(Undrawn, nn.Linear):
    """A linear layer without initial weights."""

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

    ``n_inputs`` is the number of inputs of each output, and ``n_outputs`` the number of outputs of each input.
    """
    bound = math.sqrt(6 / (n_inputs + n_outputs))
    layer.weight.uniform_(-bound, bound, generator=generator)  # type: ignore[operator]
    if layer.bias is not None:
        layer.bias.zero_()  # type: ignore[operator]


def in_parts(layers: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """Apply layers that treat each row alone; ``width`` is the most numbers that one of them has for a row.

    Without gradients, results of layers are not kept: then rows pass in parts whose results stay in the processor's
    cache, so that memory does not grow with their number.
    """
    n_rows = max(PART_CELLS // width, PART_ROWS)
    keeps_results = torch.is_grad_enabled() or x.dim() != 2 or x.device.type != "cpu"
    if keeps_results or torch.compiler.is_compiling() or len(x) <= n_rows:  # a graph is for any number of rows
        return layers(x)
    return torch.cat([layers(part) for part in x.split(n_rows)])


class Network(Part):
    """A map from rows of n_inputs numbers to rows of n_outputs numbers."""

    is_tied: bool = False
    """Whether the weights are another network's."""

    has_linear_path: bool = False
    """Whether the network is a linear map, or the sum of a linear and a nonlinear one."""

    affine: nn.Linear | None = None
    """The network's linear path, whose weights a closed-form start may set, or None."""

    sees_gaps: bool = False
    """Whether hidden cells of rows are NaN, which the network fills itself; else they are 0."""

    output_bias: Tensor | None = None
    """The bias of the last layer, which a constant start may set, or None."""

    output_layers: tuple[nn.Linear, ...] = ()
    """Linear layers whose sum is the output, if it is one."""

    def change_by(self, indices: Tensor, values: Tensor, n_inputs: int) -> Tensor:
        """The output for inputs with m nonzero numbers per row, minus the output for zeros.

        ``indices`` and ``values`` of the numbers have shape (n, m).
        """
        inputs = values.new_zeros(len(values), n_inputs).scatter(-1, indices, values)
        output = self(torch.cat([inputs, torch.zeros_like(inputs[:1])]))
        return output[:-1] - output[-1:]

    def silence(self) -> None:
        """Set the last weights and the last bias to zero, after ``setup``.

        The output is then zero everywhere, but its gradient in the last weights is not.
        """
        raise OptionError(
            f"{type(self).__name__} has no method silence(), so its output cannot start at zero beside a linear path",
            got=f"{self!r}",
            hint="Use LinearPath(..., gated=True), or define silence()",
        )

    def drop_output_bias(self) -> None:
        """Remove the bias of the last layer, after ``setup``, if another map's bias is added anyway; optional."""

    @property
    def terms_read(self) -> tuple[Tensor, ...]:
        """Tensors of the model's terms on which the output depends, as the rate of a prior; most depend on none."""
        return ()

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one row, by which precision and threads are chosen."""
        return sum(p.numel() for p in self.parameters())

    def mirror(self, other: Network) -> None:
        """Get the network on the other side of the code, before ``setup``; tied decoders use the encoder."""

    @abstractmethod
    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make the tensors."""


class EndsLinear(Network):
    """A network whose last layer is linear."""

    last: nn.Linear

    @property
    def output_bias(self) -> Tensor:  # type: ignore[override]
        """Bias of the last layer."""
        return self.last.bias

    @property
    def output_layers(self) -> tuple[nn.Linear, ...]:  # type: ignore[override]
        """The last layer."""
        return (self.last,)

    def silence(self) -> None:
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def drop_output_bias(self) -> None:
        self.last.bias = None  # type: ignore[assignment]
