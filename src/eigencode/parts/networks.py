"""Networks: the deterministic maps f and g, and the linear path that runs beside them."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from eigencode.errors import NetworkError, OptionError, did_you_mean
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
    """Whether an activation is known to be elementwise: by name or one of torch's, while a module of others may be any.

    Examples
    --------
    >>> is_elementwise("tanh"), is_elementwise(nn.Softmax(dim=1))
    (True, False)
    """
    return isinstance(activation, str) or type(activation) in ELEMENTWISE


class Undrawn:
    """A layer whose weights are left to `draw_weights`: torch's own layers would draw them from a global generator.

    ``torch.nn.utils.skip_init`` serves the same end, but imports a symbolic algebra for half a second.
    """

    def reset_parameters(self) -> None:
        """Draw nothing."""


class Linear(Undrawn, nn.Linear):
    """A linear layer, undrawn."""


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


class MLP(Network):
    r"""Layers of weights with an activation between them.

    .. math:: f(x) = W_m \, a(W_{m-1} \cdots a(W_1 x + b_1) \cdots + b_{m-1}) + b_m

    Parameters
    ----------
    hidden : sequence of int
        Widths of the hidden layers; () is a linear map.
    activation : str or torch.nn.Module
        Elementwise nonlinearity.

    Examples
    --------
    >>> import torch
    >>> network = MLP(hidden=(5,), activation="tanh")
    >>> network.setup(3, 2, torch.Generator().manual_seed(0))
    >>> network(torch.zeros(4, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(self, hidden: Sequence[int] = (), activation: str | nn.Module = "gelu") -> None:
        super().__init__()
        self.hidden = hidden
        self.activation = activation

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make the layers, input first."""
        widths = [n_inputs, *self.hidden, n_outputs]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [linear_layer(before, after, generator), activation_module(self.activation)]
        self.layers = nn.Sequential(*layers[:-1])

    @property
    def has_linear_path(self) -> bool:  # type: ignore[override]
        """Whether the whole map is linear."""
        return not self.hidden

    @property
    def last(self) -> nn.Linear:
        """The layer nearest the output."""
        return self.layers[-1]  # type: ignore[return-value]

    @property
    def affine(self) -> nn.Linear | None:  # type: ignore[override]
        """The single layer of a linear map; a deep network has no linear path of its own."""
        return None if self.hidden else self.last

    @property
    def output_bias(self) -> Tensor:  # type: ignore[override]
        """Bias of the last layer."""
        return self.last.bias

    def silence(self) -> None:
        """Set the last layer to zero."""
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def drop_output_bias(self) -> None:
        """Leave the last layer without a bias."""
        self.last.bias = None  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to rows of shape (n, n_inputs)."""
        return self.layers(x)


class LinearPath(Network):
    r"""A linear map beside a nonlinear one.

    .. math:: z = A x + b + f(x)

    The nonlinear map starts silent, so that the whole starts as the linear map alone: set to the linear optimum,
    training can only improve on it.

    Parameters
    ----------
    network : Network
        The nonlinear map f: layers, convolutions, or a network of the user's own.
    gated : bool, default False
        How f is silenced: by its last weights at zero (``Network.silence``), or by a factor at zero for each output
        (Bachlechner et al., 2021). Tied networks need the latter: a mirrored zero layer would leave both maps at a
        stationary point. It also serves networks that do not know their last weights, such as `Custom` ones.

    Raises
    ------
    OptionError
        In ``setup``, if the network is not gated and cannot be silenced.

    Examples
    --------
    >>> import torch
    >>> path = LinearPath(MLP(hidden=(5,)))
    >>> path.setup(3, 2, torch.Generator().manual_seed(0))
    >>> x = torch.ones(4, 3)
    >>> bool((path(x) == path.affine(x)).all())
    True
    """

    has_linear_path = True

    def __init__(self, network: Network, gated: bool = False) -> None:
        super().__init__()
        self.network = network
        self.gated = gated

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make both maps, the nonlinear one silent."""
        self.linear = linear_layer(n_inputs, n_outputs, generator)
        self.network.setup(n_inputs, n_outputs, generator)
        if self.gated:
            self.gate = nn.Parameter(torch.zeros(n_outputs))
        else:
            self.network.silence()
        self.network.drop_output_bias()  # the linear map's is enough

    @property
    def multiply_adds(self) -> int:
        """Those of both maps."""
        return self.linear.weight.numel() + self.network.multiply_adds

    @property
    def affine(self) -> nn.Linear:  # type: ignore[override]
        """The linear map."""
        return self.linear

    @property
    def output_bias(self) -> Tensor:  # type: ignore[override]
        """Bias of the linear map."""
        return self.linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Add both maps of rows of shape (n, n_inputs)."""
        nonlinear = self.network(x)
        return self.linear(x) + (self.gate * nonlinear if self.gated else nonlinear)


class Tied(Network):
    r"""The encoder's weights, transposed, with biases of its own: W_decoder = W_encoder'.

    For an encoder of layers, a linear map, or a linear path with layers beside it; each is mirrored.
    """

    is_tied = True
    has_linear_path = True

    def mirror(self, encoder: Network) -> None:
        """Keep the encoder in sight, without owning its weights."""
        if not isinstance(_nonlinear(encoder), MLP):
            raise OptionError("Only encoders made of layers can be mirrored by tied weights", got=f"{encoder!r}")
        if isinstance(encoder, LinearPath) and not encoder.gated:
            raise OptionError("A linear path that is mirrored must be gated", got=f"{encoder!r}", hint="Use gated=True")
        self._encoder = (encoder,)  # in a tuple, or torch would count its weights as this network's

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make the biases."""
        if self._layers[-1].out_features != n_inputs:
            raise OptionError("Tied weights need a code of one number a component", got="a wider encoder output")
        hidden = [layer.in_features for layer in self._layers[:0:-1]]
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in hidden)
        self.bias = nn.Parameter(torch.zeros(n_outputs))
        if isinstance(self._encoder[0], LinearPath):
            self.gate = nn.Parameter(torch.zeros(n_outputs))

    @property
    def _mlp(self) -> MLP:
        """The encoder's layers, without a linear path beside them."""
        return _nonlinear(self._encoder[0])  # type: ignore[return-value]

    @property
    def _layers(self) -> list[nn.Linear]:
        return [layer for layer in self._mlp.layers if isinstance(layer, nn.Linear)]

    @property
    def output_bias(self) -> Tensor:  # type: ignore[override]
        """The bias added last."""
        return self.bias

    def forward(self, z: Tensor) -> Tensor:
        """Apply the encoder's layers backwards to codes of shape (n, n_inputs)."""
        (encoder,) = self._encoder
        first, *others = self._layers[::-1]
        x = nn.functional.linear(z, first.weight.T)
        for layer, bias in zip(others, self.biases, strict=True):
            x = nn.functional.linear(self._mlp.layers[1](x + bias), layer.weight.T)
        if isinstance(encoder, LinearPath):
            x = nn.functional.linear(z, encoder.linear.weight.T) + self.gate * x
        return x + self.bias


def _nonlinear(network: Network) -> Network:
    """A network without the linear path beside it."""
    return network.network if isinstance(network, LinearPath) else network


class Custom(Network):
    """A torch module of the user's own, deep-copied so that fitting leaves the original alone.

    Parameters
    ----------
    module : torch.nn.Module
        Maps (n, n_inputs) to (n, n_outputs); its own initial weights are kept.
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
            raise OptionError(f"{name} cannot take rows of {n_inputs} numbers", got=_said(error)) from error
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
        """Apply the module to rows of shape (n, n_inputs); the answer is in their type."""
        name = type(self.module).__name__
        try:
            with _statistics_kept(self.module, is_single=x.shape[:-1].numel() == 1):
                found: Any = self.module(x)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a module of the user's raises
            raise NetworkError(f"{name} failed for {len(x)} rows", got=_said(error)) from error
        wanted = (*x.shape[:-1], self._n_outputs or getattr(found, "shape", (0,))[-1])
        if not isinstance(found, Tensor) or tuple(found.shape) != wanted:
            shape = f"the shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise NetworkError(f"{name} must return a tensor of shape {wanted}", got=shape)
        is_mixed = torch.is_autocast_enabled(x.device.type) and found.dtype != torch.float64
        return found if is_mixed else found.to(x.dtype)


def _said(error: Exception) -> str:
    """An error of a module in one line."""
    first = str(error).strip().partition("\n")[0]
    return f"the error {type(error).__name__}: {first}"


@contextmanager
def _statistics_kept(module: nn.Module, *, is_single: bool) -> Iterator[None]:
    """Let batch normalisation use what it has learned where a batch of one row has no spread of its own."""
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
