"""Networks made of others: sequences, encoders with codes, frozen networks, rescaling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from eigencode.errors import OptionError
from eigencode.parts.base import Sizes
from eigencode.parts.codes.base import Code
from eigencode.parts.likelihoods.base import Likelihood
from eigencode.parts.networks.base import Network

if TYPE_CHECKING:
    from eigencode.model.composition import Composition


class Chain(Network):
    r"""Networks applied in turn.

    .. math:: f(x) = f_m( \cdots f_2(f_1(x)) \cdots )

    In the decoder of a chain of encoders, network i belongs to network m + 1 - i of the encoder, so that each tied
    network uses the weights of its own encoder.

    Parameters
    ----------
    networks : sequence of Network
        f_1 to f_m.
    widths : sequence of int
        Width of the rows between each network and the next: one fewer than networks.

    Raises
    ------
    OptionError
        In ``setup``, if there are not as many widths.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import MLP
    >>> chain = Chain([MLP((5,)), MLP()], widths=[4])
    >>> chain.setup(3, 2, torch.Generator().manual_seed(0))
    >>> chain(torch.zeros(6, 3)).shape
    torch.Size([6, 2])
    """

    def __init__(self, networks: Sequence[Network], widths: Sequence[int] = ()) -> None:
        super().__init__()
        self.networks = networks
        self.widths = widths
        self._networks = nn.ModuleList(networks)  # registers their tensors with this module

    def mirror(self, other: Network) -> None:
        """Give each network the corresponding one of the other chain."""
        if isinstance(other, Chain) and len(other.networks) == len(self.networks):
            for own, partner in zip(self.networks, reversed(other.networks), strict=True):
                own.mirror(innermost(partner))

    def join(self, composition: Composition) -> None:
        """Let each network read from the whole model."""
        for network in self.networks:
            network.join(composition)

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make all networks' tensors, input first."""
        if len(self.widths) != len(self.networks) - 1:
            raise OptionError(
                f"A chain of {len(self.networks)} networks has {len(self.networks) - 1} widths between them",
                got=f"widths={self.widths!r}",
            )
        widths = pairwise([n_inputs, *self.widths, n_outputs])
        for network, (before, after) in zip(self.networks, widths, strict=True):
            network.setup(before, after, generator)

    @property
    def is_tied(self) -> bool:  # type: ignore[override]
        """Whether some network's weights are another's."""
        return any(network.is_tied for network in self.networks)

    @property
    def terms_read(self) -> tuple[Tensor, ...]:
        """Those that any of the networks reads."""
        return tuple(tensor for network in self.networks for tensor in network.terms_read)

    @property
    def multiply_adds(self) -> int:
        """The sum over all networks."""
        return sum(network.multiply_adds for network in self.networks)

    @property
    def sees_gaps(self) -> bool:  # type: ignore[override]
        """Whether one of the networks fills hidden cells itself."""
        return any(network.sees_gaps for network in self.networks)

    @property
    def output_bias(self) -> Tensor | None:  # type: ignore[override]
        """Bias of the last network."""
        return self.networks[-1].output_bias

    def forward(self, x: Tensor) -> Tensor:
        """Apply the networks to rows of shape (n, n_inputs)."""
        for network in self._networks:
            x = network(x)
        return x


class Within(Network):
    """A network that wraps another one."""

    network: Network

    @property
    def is_tied(self) -> bool:  # type: ignore[override]
        """Whether the weights are another network's."""
        return self.network.is_tied

    @property
    def sees_gaps(self) -> bool:  # type: ignore[override]
        """Whether the wrapped network fills hidden cells itself."""
        return self.network.sees_gaps

    @property
    def output_layers(self) -> tuple[torch.nn.Linear, ...]:  # type: ignore[override]
        """The wrapped network's."""
        return self.network.output_layers

    @property
    def terms_read(self) -> tuple[Tensor, ...]:
        """The wrapped network's."""
        return self.network.terms_read

    @property
    def multiply_adds(self) -> int:
        """The wrapped network's multiply-adds."""
        return self.network.multiply_adds

    def mirror(self, other: Network) -> None:
        """Give the wrapped network the other one, without its wrappers."""
        self.network.mirror(innermost(other))

    def join(self, composition: Composition) -> None:
        """Let the wrapped network read from the whole model."""
        self.network.join(composition)


def innermost(network: Network) -> Network:
    """A network without its wrappers."""
    while isinstance(network, Within):
        network = network.network
    return network


class Encoding(Within):
    """The map of an autoencoder from rows to codes, as a network: the mean of q(z|x).

    Parameters
    ----------
    network : Network
        The encoder.
    code : Code
        The distribution of the code given its output.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import MLP, Point
    >>> encoding = Encoding(MLP(), Point("sigmoid"))
    >>> encoding.setup(3, 2, torch.Generator().manual_seed(0))
    >>> encoding(torch.zeros(1, 3))
    tensor([[0.5000, 0.5000]], grad_fn=<SigmoidBackward0>)
    """

    def __init__(self, network: Network, code: Code) -> None:
        super().__init__()
        self.network = network
        self.code = code

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        self.code.setup(Sizes(n_inputs, n_outputs))
        self.network.setup(n_inputs, self.code.width(n_outputs), generator)

    def forward(self, x: Tensor) -> Tensor:
        """The mean codes of rows of shape (n, n_inputs)."""
        return self.code(self.network(x)).mean


class Decoding(Within):
    """The map of an autoencoder from codes to rows, as a network: the mean of p(x|z), in the units of p.

    Parameters
    ----------
    network : Network
        The decoder.
    likelihood : Likelihood
        The distribution given its output. Parameters that do not change the mean, such as a variance, are not trained.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import MLP, BernoulliLikelihood
    >>> decoding = Decoding(MLP(), BernoulliLikelihood())
    >>> decoding.setup(2, 3, torch.Generator().manual_seed(0))
    >>> decoding(torch.zeros(1, 2))
    tensor([[0.5000, 0.5000, 0.5000]], grad_fn=<SigmoidBackward0>)
    """

    def __init__(self, network: Network, likelihood: Likelihood) -> None:
        super().__init__()
        self.network = network
        self.likelihood = likelihood

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        self.likelihood.setup(Sizes(n_outputs, n_inputs))
        self.likelihood.requires_grad_(False)
        self.network.setup(n_inputs, self.likelihood.n_outputs(n_outputs), generator)

    def forward(self, z: Tensor) -> Tensor:
        """The mean rows of codes of shape (n, n_inputs)."""
        return self.likelihood(self.network(z)).mean


class Frozen(Within):
    """A network whose weights are not trained.

    Parameters
    ----------
    network : Network
        The network.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import MLP
    >>> network = Frozen(MLP())
    >>> network.setup(3, 2, torch.Generator().manual_seed(0))
    >>> any(weights.requires_grad for weights in network.parameters())
    False
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make the weights, without gradients."""
        self.network.setup(n_inputs, n_outputs, generator)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, so that running means are constant and nothing is dropped out."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network to rows of shape (n, n_inputs)."""
        return self.network(x)


class Rescaling(Network):
    r"""A fixed affine map of each column to other units.

    .. math:: y_j = (x_j - b_j) s_j + a_j

    It is the identity until ``standardise`` or ``restore`` is called, and is not trained.

    Examples
    --------
    >>> import torch
    >>> scaling = Rescaling()
    >>> scaling.setup(2, 2, torch.Generator())
    >>> scaling.standardise(
    ...     center=torch.tensor([1.0, 2.0]), divisor=torch.tensor([4.0, 2.0])
    ... )
    >>> scaling(torch.tensor([[5.0, 0.0]]))
    tensor([[ 1., -1.]])
    """

    before: Tensor
    factor: Tensor
    after: Tensor

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        if n_inputs != n_outputs:
            raise OptionError(
                "A rescaling must have as many outputs as inputs", got=f"{n_inputs} inputs, {n_outputs} outputs"
            )
        self.register_buffer("before", torch.zeros(n_inputs))
        self.register_buffer("factor", torch.ones(n_inputs))
        self.register_buffer("after", torch.zeros(n_inputs))

    def standardise(self, center: Tensor, divisor: Tensor) -> None:
        """Set the map to x -> (x - center) / divisor."""
        self.before.copy_(center)
        self.factor.copy_(1 / divisor)
        self.after.zero_()

    def restore(self, center: Tensor, divisor: Tensor) -> None:
        """Set the map to x -> x divisor + center."""
        self.before.zero_()
        self.factor.copy_(divisor)
        self.after.copy_(center)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map to rows of shape (n, n_inputs)."""
        return (x - self.before) * self.factor + self.after
