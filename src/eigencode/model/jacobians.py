r"""Jacobians of the encoder, row by row: J = dh/dx for h = E q(z|x).

They give the contractive penalty :math:`\lVert J \rVert_F^2` (Rifai et al., 2011), the directions around a row in which
its code changes (the singular vectors of J), and the number of these directions.

Rows are independent of each other, so one backward pass over a batch gives one row of each J, and one forward pass
one column. J of k rows and d columns needs min(k, d) passes; its norm alone needs less:

=============================  ====================================================================
encoder                        :math:`\lVert J \rVert_F^2`
=============================  ====================================================================
linear, h = W x + b            :math:`\lVert W \rVert_F^2`, the same for all rows
one layer, h = s(W x + b)      :math:`\sum_j s'(a_j)^2 \lVert W_j \rVert^2`, a = W x + b
one hidden layer               a quadratic form in s'(a) whose matrix is made once a batch
any                            min(k, d) passes exactly, or one pass for an unbiased estimate
=============================  ====================================================================

If cells of a row are hidden, the map is x -> f(x with 0 in hidden cells), whose Jacobian has columns of zeros there:
with o_i 1 for known cells and 0 for hidden ones, one layer has :math:`\sum_j s'(a_j)^2 \sum_i o_i W_{ji}^2`; for
encoders with hidden layers the passes are used.

All functions are pure, can be nested in ``torch.func``, work inside ``torch.no_grad``, and can be differentiated with
respect to the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

import torch
from torch import Tensor
from torch._functorch import eager_transforms as transforms
from torch.func import vmap

from eigencode.batch import selected
from eigencode.errors import OptionError
from eigencode.model.composition import Composition
from eigencode.parts.networks.base import is_elementwise
from eigencode.parts.networks.dense import MLP, LinearPath

RowFunction = Callable[[Tensor], Tensor]
"""A function of rows, (n, d) to (n, k), whose output row i depends on input row i only."""

NUMBERS_A_CHUNK = 2**24
"""Most numbers of all rows' Jacobians at once: 64 MB in float32."""

ROWS_A_CHUNK = 512
"""Most rows at once where no gradient is needed, as in a step: the layers have as many numbers in each pass."""

TANGENTS_AT_ONCE = 2**18
"""Most numbers of several tangents of rows in one pass, so that they stay in the cache."""


def jacobian(f: Composition | RowFunction, x: Tensor) -> Tensor:
    r"""The Jacobian of each row, exactly.

    .. math:: J_{ij} = \partial h_i / \partial x_j

    Its shape is (n, k, d) for scaled rows of shape (n, d), and for the mean code of a composition or any function of
    rows. Computed by k backward or d forward passes, whichever are fewer, in chunks of rows to bound the memory.

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

    One number a row of shape (n, d), differentiable with respect to the parameters. ``output`` is that of the
    composition's encoder for x, if it is known already; ``observed``, of the shape of x, is False, or 0, in hidden
    cells, which the norm does not count. For encoders of one layer, and of one hidden layer before an identity code,
    the closed forms are used. The latter is a difference of sums, so its rounding error is relative to the size of the
    layers, not to that of J.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import MLP
    >>> model = Composition(encoder=MLP(), decoder=MLP())
    >>> model.setup(
    ...     n_features=5, n_components=2, generator=torch.Generator().manual_seed(0)
    ... )
    >>> found = squared_frobenius(model, torch.zeros(3, 5))
    >>> torch.allclose(found, model.encoder.affine.weight.square().sum())
    True
    """
    if isinstance(f, Composition):
        if is_one_layer(f):
            return one_layer_squared_frobenius(
                f.encoder.affine.weight,  # type: ignore[union-attr]
                _wide(f.encoder_output(_usable(x), observed) if output is None else output),
                lambda output: f.code(output).mean,
                observed,
            )
        layers = _HiddenLayer.of(f) if observed is None else None
        if layers is not None and layers.is_cheap_for(len(x)):
            return layers.squared_frobenius(_usable(x))
    return torch.cat([jacobians.square().sum((1, 2)) for jacobians in _jacobians(f, x, observed)])


def is_one_layer(composition: Composition) -> bool:
    """Whether the mean code is s(W x + b) with an elementwise s, which may be the identity.

    This holds for an `MLP` without hidden layers and a code with one number for each component that declares
    ``is_elementwise``.
    """
    encoder, code, k = composition.encoder, composition.code, composition.n_components
    is_elementwise = code.width(k) == k and code.is_elementwise
    return is_elementwise and type(encoder) is MLP and not encoder.hidden


def n_passes(composition: Composition, n_rows: int) -> int:
    """Passes that `squared_frobenius` needs for ``n_rows`` rows without hidden cells: 0 or min(k, d)."""
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

    One number a row, for W of shape (k, d) and a = W x + b of shape (n, k). Without an activation the layer is linear,
    and the norm is the encoder's weight decay. ``observed``, of shape (n, d), is False, or 0, in hidden cells, whose
    columns of W do not count. For the sigmoid, s' = h (1 - h) (Rifai et al., 2011).
    """
    slopes = torch.ones_like(pre_activation) if activation is None else slope(activation, pre_activation)
    if observed is not None:
        return selected(slopes.square() @ weight.square(), observed).sum(1)
    return (slopes.square() * weight.square().sum(1)).sum(1)


def slope(activation: RowFunction, at: Tensor) -> Tensor:
    """The derivative s'(a) of an elementwise function at each number of a tensor, of the same shape."""
    # A copy, since a module may overwrite its input.
    output, pull_back = _with_pull_back(lambda a: activation(a.clone()), at)
    # The Jacobian of an elementwise function is diagonal, so its product with a vector of ones has all entries.
    return pull_back(torch.ones_like(output))


def hutchinson(f: Composition | RowFunction, x: Tensor, noise: Tensor, *, observed: Tensor | None = None) -> Tensor:
    r"""An unbiased estimate of each row's squared norm of J, from one backward pass.

    .. math:: E \lVert J^\top v \rVert^2 = \mathrm{tr}(J \, E[v v^\top] \, J^\top) = \lVert J \rVert_F^2

    for noise v of shape (n, k) with E[vv'] = I (Hutchinson, 1990): random signs or standard normal numbers. Its
    variance is :math:`2 \sum_{i \ne j} (JJ^\top)_{ij}^2` for signs; for normal noise it is
    :math:`2 \lVert JJ^\top \rVert_F^2`, which is at least as large. The other arguments are those of
    `squared_frobenius`.

    Examples
    --------
    >>> import torch
    >>> signs = torch.tensor([[1.0, -1.0]])
    >>> hutchinson(lambda x: x**2, torch.tensor([[1.0, 3.0]]), signs)
    tensor([40.])
    """
    output, pull_back = _with_pull_back(_row_function(f, observed), _usable(x))
    _require_shape(noise, output)
    return pull_back(_usable(noise).to(output.dtype)).square().sum(1)


def diagonal(f: RowFunction, x: Tensor, probes: Iterable[Tensor]) -> Tensor:
    r"""The diagonal of each row's Jacobian, of a function to as many numbers as a row has, shape (n, d).

    .. math:: \mathrm{diag}(J) = \frac1m \sum_i v_i \circ J v_i, \qquad \frac1m \sum_i v_i v_i^\top = I

    for m probes v of shape (d,) or (n, d). Random signs give an estimate without bias, where the variance of entry j
    is :math:`\sum_{i \ne j} J_{ji}^2 / m` (Bekas et al., 2007).

    Examples
    --------
    >>> import torch
    >>> diagonal(lambda x: x**2, torch.tensor([[1.0, 3.0]]), 2**0.5 * torch.eye(2))
    tensor([[2.0000, 6.0000]])
    """
    x = _usable(x)
    n, found = 0, torch.zeros_like(x)
    for n, (v, product) in enumerate(_push_each_forward(f, x, probes), 1):  # noqa: B007 (their number)
        found += v * product
    return found / n


def diagonal_through(f: RowFunction, g: RowFunction, x: Tensor) -> Tensor:
    r"""The diagonal of each row's Jacobian of g(f(x)), by one pass through f and one through g for each output of f.

    .. math:: J_{jj} = \sum_i \frac{\partial g_j}{\partial z_i} \frac{\partial z_i}{\partial x_j}, \qquad z = f(x)

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 3.0]])
    >>> diagonal_through(lambda x: (x**2)[:, :1], lambda z: torch.cat([z, z], 1), x)
    tensor([[2., 0.]])
    """
    z, pull_back = _with_pull_back(f, _usable(x))
    units = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    products = (product * pull_back(v.expand_as(z)) for v, product in _push_each_forward(g, z, units))
    return sum(products, start=torch.zeros_like(x))


def singular_values(f: Composition | RowFunction, x: Tensor) -> Tensor:
    """The singular values of each row's Jacobian, largest first, shape (n, min(k, d)).

    The ratio of the code's change to the row's, for a small change of the row along each singular direction.
    """
    return torch.cat([torch.linalg.svdvals(jacobians) for jacobians in _jacobians(f, x)])


def local_dimension(singular_values: Tensor, share: float = 0.95) -> Tensor:
    r"""The number of directions around each row in which the code changes.

    The smallest m with

    .. math:: \sum_{i \le m} \sigma_i^2 \ge \mathrm{share} \cdot \sum_i \sigma_i^2

    for the singular values of each row's Jacobian, largest first, shape (n, m); 0 where J is zero.

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
    # With a tolerance for rounding: all singular values together may sum up to 1 - 1e-16 of the norm.
    return (kept < wanted * (1 - 1e-9)).sum(1) + (wanted[:, 0] > 0)


@dataclass(frozen=True)
class _HiddenLayer:
    r"""An encoder of one hidden layer, with or without a linear path beside it: h = V s(W x + b) + A x + c.

    With t = s'(W x + b), J = V diag(t) W + A, so

    .. math:: \lVert J \rVert_F^2 = t^\top M t + 2 \, t^\top m + \lVert A \rVert_F^2, \qquad
        M = (V^\top V) \circ (W W^\top), \quad m_j = (V^\top A W^\top)_{jj}

    M and m depend on the weights only and are computed once; passes would cost k d products per hidden unit and row.
    """

    first: torch.nn.Linear
    activation: torch.nn.Module
    last: Tensor
    path: Tensor | None

    @classmethod
    def of(cls, composition: Composition) -> _HiddenLayer | None:
        """The layers of an encoder of this kind with an identity code, None for all others."""
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
        """Whether computing M takes fewer products than the passes over ``n_rows`` rows."""
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
    size = min(max(1, NUMBERS_A_CHUNK // (k * d)), len(x) if torch.is_grad_enabled() else ROWS_A_CHUNK)
    chunks = x.split(size)
    for rows, known in zip(chunks, repeat(None) if observed is None else observed.split(size), strict=False):
        yield passes(_row_function(f, known), rows)


def _backward_passes(function: RowFunction, x: Tensor) -> Tensor:
    """The Jacobians row by row: one vector-Jacobian product over the batch for each unit vector of the output."""
    output, pull_back = _with_pull_back(function, x)
    n, k = output.shape
    units = torch.eye(k, dtype=output.dtype, device=output.device)[:, None].expand(k, n, k)
    return vmap(pull_back)(units).movedim(0, 1)


def _forward_passes(function: RowFunction, x: Tensor) -> Tensor:
    """The Jacobians column by column: one Jacobian-vector product over the batch for each unit vector of the input."""
    n, d = x.shape
    units = torch.eye(d, dtype=x.dtype, device=x.device)[:, None].expand(d, n, d)
    return vmap(_with_push_forward(function, x)[1])(units).movedim(0, 2)


def _with_push_forward(function: RowFunction, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The output, and the map of v to J v of each row: that of J'v, which is linear in v, backwards.

    Torch's forward mode adds the tangents of constants, which are zero, by code that imports its compiler.
    """
    output, pull_back = _with_pull_back(function, x)
    return output, _with_pull_back(pull_back, torch.zeros_like(output))[1]


def _push_each_forward(function: RowFunction, x: Tensor, tangents: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Each v of several tangents, and J v of each row, several at once."""
    push_forward = _with_push_forward(function, x)[1]
    left, size = iter(tangents), max(1, TANGENTS_AT_ONCE // max(x.numel(), 1))
    while some := list(islice(left, size)):
        yield from zip(some, vmap(lambda v: push_forward(v.expand_as(x)))(torch.stack(some)), strict=True)


def _with_pull_back(function: RowFunction, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The output, and the map of v to J'v of each row, which ``vmap`` can make for many v at once.

    ``torch.func.vjp`` gives the same, but imports torch's compiler, for seconds, and ``torch.autograd.grad`` of a given
    v its algebra. So the output is differentiated in a level of its own as there, and a hook gives v.
    """
    is_differentiable = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        x = _usable(x)
        with transforms.grad_increment_nesting() as level:
            start = transforms._create_differentiable(transforms._wrap_all_tensors(x, level), level)
            found = function(start)
            total = found.sum()
            output = transforms._undo_create_differentiable(found, level)

    def pull_back(v: Tensor) -> Tensor:
        if not total.requires_grad:
            return torch.zeros_like(x)
        is_differentiable = torch.is_grad_enabled()
        with torch.inference_mode(False):
            v = _usable(v)
            hook = found.register_hook(lambda _: v)
            (product,) = torch.autograd.grad(
                total, start, retain_graph=True, create_graph=is_differentiable, materialize_grads=True
            )
            hook.remove()
        return product

    return output if is_differentiable else output.detach(), pull_back


def _row_function(f: Composition | RowFunction, observed: Tensor | None = None) -> RowFunction:
    """A composition's mean code, or the given function, as a function of rows with 0 in hidden cells."""
    if isinstance(f, Composition):
        return lambda x: f.encode(x, observed).mean
    return f if observed is None else lambda x: f(selected(x, observed))


def _wide(output: Tensor) -> Tensor:
    """Convert to float32 or wider, whatever the networks' precision."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


def _usable(tensor: Tensor) -> Tensor:
    """A tensor that can be differentiated: a copy, if it was made in inference mode."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


def _require_shape(noise: Tensor, like: Tensor) -> None:
    if noise.shape != like.shape:
        raise OptionError(
            f"The noise must have one number for each of {tuple(like.shape)}", got=f"shape {tuple(noise.shape)}"
        )
