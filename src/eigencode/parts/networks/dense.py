"""Networks of fully connected layers: MLP, the linear path beside another network, tied weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from eigencode.errors import OptionError, positive_int
from eigencode.parts.networks.base import (
    EndsLinear,
    Network,
    activation_module,
    in_parts,
    is_elementwise,
    linear_layer,
)
from eigencode.parts.networks.chains import innermost


class MLP(EndsLinear):
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

    paddable = ("hidden",)

    def __init__(self, hidden: Sequence[int] = (), activation: str | nn.Module = "gelu") -> None:
        super().__init__()
        self.hidden = hidden
        self.activation = activation

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make the layers, input first."""
        hidden = [positive_int("A width of MLP", width) for width in self.hidden]
        widths = [n_inputs, *hidden, n_outputs]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [linear_layer(before, after, generator), activation_module(self.activation)]
        self.layers = nn.Sequential(*layers[:-1])

    @property
    def has_linear_path(self) -> bool:  # type: ignore[override]
        """Whether the network is a linear map."""
        return not self.hidden

    @property
    def last(self) -> nn.Linear:  # type: ignore[override]
        """The last layer."""
        return self.layers[-1]  # type: ignore[return-value]

    @property
    def affine(self) -> nn.Linear | None:  # type: ignore[override]
        """The single layer of a linear map; None for a deep network."""
        return None if self.hidden else self.last

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to rows of shape (n, n_inputs)."""
        if not self.hidden or not is_elementwise(self.activation):
            return self.layers(x)
        return in_parts(self.layers, x, max(self.hidden))


class LinearPath(Network):
    r"""The sum of a linear map and a nonlinear one.

    .. math:: z = A x + b + f(x)

    The nonlinear map starts at zero, so that the sum starts as the linear map. If this is the best linear map, training
    can only improve on it.

    Parameters
    ----------
    network : Network
        The nonlinear map f: layers, convolutions, or the user's network.
    gated : bool, default False
        If False, f starts at zero by zero weights in its last layer (``Network.silence``); if True, by a factor for
        each output that starts at zero (Bachlechner et al., 2021). Tied networks need True: with a zero layer in both
        maps all gradients would be zero. Networks without ``silence``, such as `Custom` ones, need True as well.

    Raises
    ------
    OptionError
        In ``setup``, if the network is not gated and has no ``silence``.

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
        """Make both maps; the nonlinear one is zero."""
        self.linear = linear_layer(n_inputs, n_outputs, generator)
        self.network.setup(n_inputs, n_outputs, generator)
        if self.gated:
            self.gate = nn.Parameter(torch.zeros(n_outputs))
        else:
            self.network.silence()
        self.network.drop_output_bias()  # the linear map's is enough

    @property
    def multiply_adds(self) -> int:
        """The sum over both maps."""
        return self.linear.weight.numel() + self.network.multiply_adds

    @property
    def affine(self) -> nn.Linear:  # type: ignore[override]
        """The linear map."""
        return self.linear

    @property
    def output_bias(self) -> Tensor:  # type: ignore[override]
        """Bias of the linear map."""
        return self.linear.bias

    @property
    def output_layers(self) -> tuple[nn.Linear, ...]:  # type: ignore[override]
        """The linear map, and those of the nonlinear one."""
        return (self.linear, *self.network.output_layers)

    def forward(self, x: Tensor) -> Tensor:
        """Add both maps of rows of shape (n, n_inputs)."""
        nonlinear = self.network(x)
        return self.linear(x) + (self.gate * nonlinear if self.gated else nonlinear)


class Tied(Network):
    r"""The encoder's weights, transposed, with separate biases: W_decoder = W_encoder'.

    It is for an encoder that is an `MLP`, or a gated `LinearPath` with an `MLP`.
    """

    is_tied = True
    has_linear_path = True

    def mirror(self, encoder: Network) -> None:
        """Keep a reference to the encoder, without registering its weights."""
        encoder = innermost(encoder)
        if not isinstance(_nonlinear(encoder), MLP):
            raise OptionError("Tied weights need an encoder made of layers", got=f"{encoder!r}", hint="Use tied=False")
        if isinstance(encoder, LinearPath) and not encoder.gated:
            raise OptionError(
                "A linear path with tied weights must be gated", got=f"{encoder!r}", hint="Use gated=True"
            )
        self._encoder = (encoder,)  # in a tuple, so that torch does not register its weights here

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make the biases."""
        if self._layers[-1].out_features != n_inputs:
            raise OptionError(
                "Tied weights need a code of one number per component",
                got="a wider encoder output",
                hint="Use tied=False",
            )
        if self._layers[0].in_features != n_outputs:
            raise OptionError(
                "Tied weights give one output a column, and the likelihood needs another number of outputs",
                got=f"{n_outputs} outputs for {self._layers[0].in_features} columns",
                hint="Use tied=False",
            )
        hidden = [layer.in_features for layer in self._layers[:0:-1]]
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in hidden)
        self.bias = nn.Parameter(torch.zeros(n_outputs))
        if isinstance(self._encoder[0], LinearPath):
            self.gate = nn.Parameter(torch.zeros(n_outputs))

    @property
    def _mlp(self) -> MLP:
        """The encoder's layers, without the linear path."""
        return _nonlinear(self._encoder[0])  # type: ignore[return-value]

    @property
    def _layers(self) -> list[nn.Linear]:
        return [layer for layer in self._mlp.layers if isinstance(layer, nn.Linear)]

    @property
    def output_bias(self) -> Tensor:  # type: ignore[override]
        """The last bias."""
        return self.bias

    def forward(self, z: Tensor) -> Tensor:
        """Apply the transposed layers in reverse order to codes of shape (n, n_inputs)."""
        if not self.biases or not is_elementwise(self._mlp.activation):
            return self._transposed(z)
        return in_parts(self._transposed, z, max(map(len, self.biases)))

    def _transposed(self, z: Tensor) -> Tensor:
        (encoder,) = self._encoder
        first, *others = self._layers[::-1]
        x = nn.functional.linear(z, first.weight.T)
        for layer, bias in zip(others, self.biases, strict=True):
            x = nn.functional.linear(self._mlp.layers[1](x + bias), layer.weight.T)
        if isinstance(encoder, LinearPath):
            x = nn.functional.linear(z, encoder.linear.weight.T) + self.gate * x
        return x + self.bias


def _nonlinear(network: Network) -> Network:
    """A network without its linear path."""
    return network.network if isinstance(network, LinearPath) else network
