r"""Jacobians of the encoder, row by row: J = dh/dx for h = E q(z|x).

How a code moves when its row moves: the contractive penalty :math:`\lVert J \rVert_F^2` (Rifai et al., 2011), the
directions that matter around a row (the singular vectors of J), and how many of them there are.

Rows are independent of each other, so one backward pass over a batch gives one row of every J, and one forward pass
one column. J of k rows and d columns costs min(k, d) passes; its norm alone costs less:

=============================  ====================================================================
encoder                        :math:`\lVert J \rVert_F^2`
=============================  ====================================================================
linear, h = W x + b            :math:`\lVert W \rVert_F^2`, the same for all rows
one layer, h = s(W x + b)      :math:`\sum_j s'(a_j)^2 \lVert W_j \rVert^2`, a = W x + b
one hidden layer               a quadratic form in s'(a) whose matrix is made once a batch
any                            min(k, d) passes exactly, or one pass for an unbiased estimate
=============================  ====================================================================

Where cells of a row are hidden, the map is x -> f(x with 0 in hidden cells), whose Jacobian has columns of zeros there:
with o_i 1 for known cells and 0 for hidden ones, one layer has :math:`\sum_j s'(a_j)^2 \sum_i o_i W_{ji}^2`, and
encoders with hidden layers take passes.

All are pure functions of tensors that nest in ``torch.func``, work where gradients are off, and can be differentiated
with respect to the parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from eigencode.errors import OptionError
from eigencode.model.composition import Composition, selected
from eigencode.parts.networks.base import is_elementwise
from eigencode.parts.networks.dense import MLP, LinearPath

RowFunction = Callable[[Tensor], Tensor]
"""A map of each row for itself: (n, d) to (n, k), row i of the output depending on row i of the input alone."""

NUMBERS_A_CHUNK = 2**24
"""Numbers held at once for one layer's share of all passes: 64 MB in float32."""


def jacobian(f: Composition | RowFunction, x: Tensor) -> Tensor:
    r"""The Jacobian of each row, exactly.

    .. math:: J_{ij} = \partial h_i / \partial x_j

    Parameters
    ----------
    f : Composition or callable
        The mean code of a composition, or any function of rows, such as the reconstruction
        ``lambda x: composition.reconstruct(x).mean``. Its output for a row must depend on that row alone.
    x : Tensor of shape (n, d)
        Scaled rows.

    Returns
    -------
    Tensor of shape (n, k, d)
        Found in k backward passes or d forward ones, whichever are fewer, in chunks of rows of bounded memory.

    Examples
    --------
    >>> import torch
    >>> jacobian(lambda x: x**2, torch.tensor([[1.0, 3.0]]))
    tensor([[[2., 0.],
             [0., 6.]]])
    """
    return torch.cat(list(_jacobians(f, x)))


def squared_frobenius(
    f: Composition | RowFunction, x: Tensor, *, output: Tensor | None = None, observed: Tensor | None = None
) -> Tensor:
    r"""The squared norm of each row's Jacobian, exactly: the contractive penalty.

    .. math:: \lVert J \rVert_F^2 = \sum_{ij} (\partial h_i / \partial x_j)^2

    Parameters
    ----------
    f : Composition or callable
        As for `jacobian`. Encoders of one layer, and of one hidden layer before an identity code, are recognised and
        take their closed forms.
    x : Tensor of shape (n, d)
        Scaled rows.
    output : Tensor, optional
        The composition's encoder's output for x, where it is known already.
    observed : Tensor of shape (n, d), optional
        False, or 0, in hidden cells, which the norm does not count.

    Returns
    -------
    Tensor of shape (n,)
        Differentiable with respect to the parameters. The closed form of one hidden layer is a difference of sums, so
        that it rounds relative to the size of the layers, not to that of J.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import MLP
    >>> model = Composition(encoder=MLP(), decoder=MLP())
    >>> model.setup(n_features=5, n_components=2, generator=torch.Generator().manual_seed(0))
    >>> found = squared_frobenius(model, torch.zeros(3, 5))
    >>> torch.allclose(found, model.encoder.affine.weight.square().sum())
    True
    """
    if isinstance(f, Composition):
        if is_one_layer(f):
            return one_layer_squared_frobenius(
                f.encoder.affine.weight,  # type: ignore[union-attr]
                _wide(f.encoder(selected(_usable(x), observed)) if output is None else output),
                lambda output: f.code(output).mean,
                observed,
            )
        layers = _HiddenLayer.of(f) if observed is None else None
        if layers is not None and layers.is_cheap_for(len(x)):
            return layers.squared_frobenius(_usable(x))
    return torch.cat([jacobians.square().sum((1, 2)) for jacobians in _jacobians(f, x, observed)])


def is_one_layer(composition: Composition) -> bool:
    """Whether the mean code is s(W x + b) with an elementwise s, the identity among them.

    So it is for an `MLP` without hidden layers, whose weights are W, before a code of one number a component that
    declares ``is_elementwise``.
    """
    encoder, code, k = composition.encoder, composition.code, composition.n_components
    is_elementwise = code.width(k) == k and code.is_elementwise
    return is_elementwise and type(encoder) is MLP and not encoder.hidden


def n_passes(composition: Composition, n_rows: int) -> int:
    """Passes that `squared_frobenius` takes for ``n_rows`` of known cells: none in closed form, else min(k, d)."""
    layers = _HiddenLayer.of(composition)
    is_closed = is_one_layer(composition) or (layers is not None and layers.is_cheap_for(n_rows))
    return 0 if is_closed else min(composition.n_components, composition.n_features)


def one_layer_squared_frobenius(
    weight: Tensor,
    pre_activation: Tensor,
    activation: RowFunction | None = None,
    observed: Tensor | None = None,
) -> Tensor:
    r"""The squared norm of the Jacobian of one layer, h = s(W x + b), in closed form.

    .. math:: \lVert J \rVert_F^2 = \sum_j s'(a_j)^2 \lVert W_j \rVert^2

    For the sigmoid s' = h (1 - h) (Rifai et al., 2011); for a linear map what is left is the weight decay
    :math:`\lVert W \rVert_F^2` of the encoder.

    Parameters
    ----------
    weight : Tensor of shape (k, d)
        W.
    pre_activation : Tensor of shape (n, k)
        a = W x + b.
    activation : callable, optional
        Elementwise s; without one the layer is linear.
    observed : Tensor of shape (n, d), optional
        False, or 0, in hidden cells, whose columns of W do not count.

    Returns
    -------
    Tensor of shape (n,)
    """
    slopes = torch.ones_like(pre_activation) if activation is None else slope(activation, pre_activation)
    if observed is not None:
        return selected(slopes.square() @ weight.square(), observed).sum(1)
    return (slopes.square() * weight.square().sum(1)).sum(1)


def slope(activation: RowFunction, at: Tensor) -> Tensor:
    """The derivative s'(a) of an elementwise function at each number of a tensor, of the same shape."""
    # A copy, since a module may overwrite what it is given.
    output, pull_back = _with_pull_back(lambda a: activation(a.clone()), at)
    # An elementwise function's Jacobian is diagonal, so that a vector of ones reads all of it.
    return pull_back(torch.ones_like(output))[0]


def hutchinson(f: Composition | RowFunction, x: Tensor, noise: Tensor, *, observed: Tensor | None = None) -> Tensor:
    r"""An unbiased estimate of each row's squared norm of J, from one backward pass.

    .. math:: E \lVert J^\top v \rVert^2 = \mathrm{tr}(J \, E[v v^\top] \, J^\top) = \lVert J \rVert_F^2

    for noise with E[vv'] = I (Hutchinson, 1990). Its variance is :math:`2 \sum_{i \ne j} (JJ^\top)_{ij}^2` for signs,
    and :math:`2 \lVert JJ^\top \rVert_F^2` for normal noise, which is never less.

    Parameters
    ----------
    f : Composition or callable
        As for `jacobian`.
    x : Tensor of shape (n, d)
        Scaled rows.
    noise : Tensor of shape (n, k)
        v, drawn outside: random signs or standard normal numbers.
    observed : Tensor of shape (n, d), optional
        False, or 0, in hidden cells, which the norm does not count.

    Returns
    -------
    Tensor of shape (n,)
        Differentiable with respect to the parameters.

    Examples
    --------
    >>> import torch
    >>> signs = torch.tensor([[1.0, -1.0]])
    >>> hutchinson(lambda x: x**2, torch.tensor([[1.0, 3.0]]), signs)
    tensor([40.])
    """
    output, pull_back = _with_pull_back(_row_function(f, observed), _usable(x))
    _require_shape(noise, output)
    return pull_back(_usable(noise).to(output.dtype))[0].square().sum(1)


def singular_values(f: Composition | RowFunction, x: Tensor) -> Tensor:
    """The singular values of each row's Jacobian, largest first, shape (n, min(k, d)).

    How strongly the code answers to a move of the row along each of the directions that it answers to.
    """
    return torch.cat([torch.linalg.svdvals(jacobians) for jacobians in _jacobians(f, x)])


def local_dimension(singular_values: Tensor, share: float = 0.95) -> Tensor:
    r"""How many directions the code answers to around each row.

    The smallest m with

    .. math:: \sum_{i \le m} \sigma_i^2 \ge \mathrm{share} \cdot \sum_i \sigma_i^2

    Parameters
    ----------
    singular_values : Tensor of shape (n, m)
        Of each row's Jacobian, largest first.
    share : float in (0, 1]
        Of the squared norm that is to be kept.

    Returns
    -------
    Tensor of shape (n,)
        Whole numbers; 0 where J is zero.

    Examples
    --------
    >>> import torch
    >>> local_dimension(torch.tensor([[3.0, 1.0, 0.0]]), share=0.95)
    tensor([2])
    """
    if not 0 < share <= 1:
        raise OptionError("The share of the squared norm must be above 0 and at most 1", got=f"{share!r} instead")
    squares = singular_values.double().square()
    kept, wanted = squares.cumsum(1), share * squares.sum(1, keepdim=True)
    # A share met to rounding is met: all singular values together have all of the norm, not 1 - 1e-16 of it.
    return (kept < wanted * (1 - 1e-9)).sum(1) + (wanted[:, 0] > 0)


@dataclass(frozen=True)
class _HiddenLayer:
    r"""An encoder of one hidden layer, with or without a linear path beside it: h = V s(W x + b) + A x + c.

    With t = s'(W x + b), J = V diag(t) W + A, so

    .. math:: \lVert J \rVert_F^2 = t^\top M t + 2 \, t^\top m + \lVert A \rVert_F^2, \qquad
        M = (V^\top V) \circ (W W^\top), \quad m_j = (V^\top A W^\top)_{jj}

    M and m belong to the weights: they are made once, where passes cost k d products a hidden unit and row.
    """

    first: torch.nn.Linear
    activation: torch.nn.Module
    last: Tensor
    path: Tensor | None

    @classmethod
    def of(cls, composition: Composition) -> _HiddenLayer | None:
        """The layers of an encoder of this kind before an identity code, None for all others."""
        encoder = composition.encoder
        network = encoder.network if type(encoder) is LinearPath else encoder
        code, k = composition.code, composition.n_components
        is_identity = code.width(k) == k and code.is_identity
        if not is_identity or type(network) is not MLP or len(network.hidden) != 1:
            return None
        if not is_elementwise(network.activation):
            return None
        first: Any
        last: Any
        first, activation, last = network.layers
        if not isinstance(encoder, LinearPath):
            return cls(first, activation, last.weight, None)
        gated = encoder.gate[:, None] * last.weight if encoder.gated else last.weight
        return cls(first, activation, gated, encoder.linear.weight)

    def is_cheap_for(self, n_rows: int) -> bool:
        """Whether making M takes fewer products than the passes over this many rows."""
        (k, width), d = self.last.shape, self.first.in_features
        return width * (k + d) <= n_rows * k * d

    def squared_frobenius(self, x: Tensor) -> Tensor:
        """||J||_F^2 of each row, shape (n,)."""
        t = slope(self.activation, _wide(self.first(x)))
        weight = self.first.weight
        between_units = (self.last.T @ self.last) * (weight @ weight.T)
        norm = ((t @ between_units) * t).sum(1)
        if self.path is None:
            return norm
        return norm + 2 * t @ (self.last * (self.path @ weight.T)).sum(0) + self.path.square().sum()


def _jacobians(f: Composition | RowFunction, x: Tensor, observed: Tensor | None = None) -> Iterator[Tensor]:
    """The Jacobians of chunks of rows, each of shape (rows, k, d)."""
    x = _usable(x)
    d = x.shape[1]
    k = f.n_components if isinstance(f, Composition) else f(x[:1]).shape[1]
    passes = _backward_passes if k <= d else _forward_passes
    size = max(1, NUMBERS_A_CHUNK // (k * d))
    chunks = x.split(size)
    for rows, known in zip(chunks, repeat(None) if observed is None else observed.split(size), strict=False):
        yield passes(_row_function(f, known), rows)


def _backward_passes(function: RowFunction, x: Tensor) -> Tensor:
    """The Jacobians by rows: pull each unit vector of the output back through the whole batch at once."""
    output, pull_back = _with_pull_back(function, x)
    n, k = output.shape
    units = torch.eye(k, dtype=output.dtype, device=output.device)
    (rows,) = vmap(pull_back)(units[:, None].expand(k, n, k))
    return rows.movedim(0, 1)


def _forward_passes(function: RowFunction, x: Tensor) -> Tensor:
    """The Jacobians by columns: push each unit vector of the input forward through the whole batch at once."""
    n, d = x.shape
    units = torch.eye(d, dtype=x.dtype, device=x.device)
    columns = vmap(lambda unit: _push_forward(function, x, unit))(units[:, None].expand(d, n, d))
    return columns.movedim(0, 2)


def _with_pull_back(function: RowFunction, x: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor]]]:
    """The output, and the map of v to J'v of each row."""
    output, pull_back = vjp(function, x)  # type: ignore[misc]  # three where the function has a further output
    return output, pull_back


def _push_forward(function: RowFunction, x: Tensor, tangent: Tensor) -> Tensor:
    """J v of each row."""
    _load_forward_mode()
    # Forward mode writes to memory laid out like x, so that repeated rows have to be rows of their own.
    return jvp(function, (x.contiguous(),), (tangent,))[1]


@cache
def _load_forward_mode() -> None:
    """Let torch load its forward mode, which warns of its own use of TorchScript while it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


def _row_function(f: Composition | RowFunction, observed: Tensor | None = None) -> RowFunction:
    """A composition's mean code, or a function as it is, as a function of rows with 0 in hidden cells."""
    function: RowFunction = (lambda x: f.encode(x).mean) if isinstance(f, Composition) else f
    return function if observed is None else lambda x: function(selected(x, observed))


def _wide(output: Tensor) -> Tensor:
    """Numbers in float32 at least, whatever the networks' precision."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


def _usable(tensor: Tensor) -> Tensor:
    """A tensor that may be differentiated: one made in inference mode may not be outside of it, but its copy may."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


def _require_shape(noise: Tensor, like: Tensor) -> None:
    if noise.shape != like.shape:
        raise OptionError(
            f"The noise must have one number for each of {tuple(like.shape)}", got=f"shape {tuple(noise.shape)}"
        )
