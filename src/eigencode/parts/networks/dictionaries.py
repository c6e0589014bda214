r"""Dictionaries: linear decoders with columns of unit length, and the optimal code for one.

A penalty on the size of codes would have no effect if the decoder's columns could grow: sparse codes need columns of
fixed length.
"""

from __future__ import annotations

from contextlib import nullcontext
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from eigencode.errors import OptionError
from eigencode.parts.codes.point import Point
from eigencode.parts.codes.sparse import TopK
from eigencode.parts.likelihoods.continuous import GaussianLikelihood
from eigencode.parts.networks.base import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eigencode.batch import Batch
    from eigencode.model.composition import Composition

EXACT_SIZE = 2048
"""Up to this many columns, principal directions are computed by a full eigendecomposition, in about a second."""

REFINEMENT = 15
"""Most iterations in evaluation, as a multiple of those in training."""

CHECKED_EVERY = 5
"""Iterations after which it is checked whether the momentum points uphill, and in evaluation whether all is done."""


class Dictionary(Network):
    r"""A linear decoder whose columns, the atoms, always have length 1.

    .. math:: \hat x = D h + b, \qquad D_j = v_j / \lVert v_j \rVert

    The parameters are the directions v: their gradients are orthogonal to the columns, and no normalisation is needed
    after a step. With a linear encoder they start as its transpose.

    Parameters
    ----------
    principal : bool, default False
        Start with the rows' principal directions, an orthonormal dictionary, for as many atoms as there are directions.

    Examples
    --------
    >>> import torch
    >>> decoder = Dictionary()
    >>> decoder.setup(5, 3, torch.Generator().manual_seed(0))
    >>> decoder.columns.shape, bool((decoder.columns.norm(dim=0) - 1).abs().max() < 1e-6)
    (torch.Size([3, 5]), True)
    """

    _encoder: tuple[Network, ...] = ()

    def __init__(self, principal: bool = False) -> None:
        super().__init__()
        self.principal = principal

    def mirror(self, encoder: Network) -> None:
        """Keep a reference to the encoder, to start as the transpose of a linear one."""
        self._encoder = (encoder,)  # in a tuple, so that torch does not register its weights here

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Draw the atoms' directions, uniformly on the sphere."""
        directions = torch.empty(n_outputs, n_inputs).normal_(generator=generator)
        affine = self._encoder[0].affine if self._encoder else None
        if affine is not None and affine.weight.T.shape == directions.shape:
            directions = affine.weight.detach().T
        self.directions = nn.Parameter(normalize(directions, dim=0))
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def first_state(self, batch: Batch, composition: Composition) -> Mapping[str, Tensor]:
        """The principal directions of rows as the first atoms."""
        if not self.principal:
            return {}
        found = principal_directions(batch.x, self.directions.shape[1])
        directions = self.directions.detach().clone()
        directions[:, : found.shape[1]] = found.to(directions)
        return {"directions": directions}

    @property
    def lengths(self) -> Tensor:
        """Lengths of the directions v, shape (n_inputs,)."""
        return _ColumnLengths.apply(self.directions)

    @property
    def columns(self) -> Tensor:
        """D, with unit columns, shape (n_outputs, n_inputs)."""
        return self.directions / self.lengths

    @property
    def output_bias(self) -> Tensor:  # type: ignore[override]
        """The bias b."""
        return self.bias

    def forward(self, z: Tensor) -> Tensor:
        """The sums of atoms for codes of shape (n, n_inputs)."""
        # Dividing the codes takes a fraction of the time of dividing the columns.
        return linear(z / self.lengths, self.directions, self.bias)

    def change_by(self, indices: Tensor, values: Tensor, n_inputs: int) -> Tensor:
        """The sum of m atoms for each row, by looking them up instead of a product with all atoms."""
        # index_select along the matrix as it is stored, whose gradient needs no transposed copy.
        directions = self.directions.index_select(1, indices.flatten())
        atoms = directions * (values.flatten() / _rooted(directions.square().sum(0)))
        return atoms.unflatten(1, indices.shape).sum(-1).T


class _ColumnLengths(torch.autograd.Function):
    """Lengths of a matrix's columns, with a derivative in one pass over it; autograd needs four.

    torch's norm along the first axis reads memory column by column, which takes several times as long.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor) -> Tensor:
        return _rooted(matrix.square().sum(0))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)
        ctx.save_for_forward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        matrix, lengths = ctx.saved_tensors
        return matrix * (gradient / lengths)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        matrix, lengths = ctx.saved_tensors
        return (matrix * tangent).sum(0) / lengths


def _rooted(squares: Tensor) -> Tensor:
    """Lengths from their squares, with 0 replaced by a positive number for division."""
    return squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()


def principal_directions(x: Tensor, n_directions: int) -> Tensor:
    """Orthonormal principal directions of positive variance of rows of shape (n, d), shape (d, m)."""
    centred = x.double() - x.mean(0, dtype=torch.float64)
    if x.shape[1] <= EXACT_SIZE:
        squares, vectors = (found.flip(-1) for found in torch.linalg.eigh(centred.T @ centred))
    else:
        _, lengths, right = randomized_svd(centred.cpu().numpy(), min(n_directions, *x.shape), n_iter=4, random_state=0)
        squares, vectors = torch.from_numpy(lengths).square(), torch.from_numpy(right.T.copy())
    vectors = vectors[:, :n_directions][:, squares[:n_directions] > 1e-12 * squares[0]]
    peaks = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return vectors * torch.where(peaks < 0, -1.0, 1.0)


@runtime_checkable
class Proximal(Protocol):
    """A term that makes codes sparse, with a known proximal operator."""

    def proximal(self, z: Tensor, step: Tensor) -> Tensor:
        """The proximal operator, argmin over h of |h - z|^2 / 2 + step * cost(h), shape (n, k)."""


class OptimalCode(Network):
    r"""An encoder without weights: the best code of each row for the current dictionary, by iteration.

    .. math:: h = \underset{h}{\mathrm{arg\,min}} \; \lVert x - D h - b \rVert^2 + \lambda \lVert h \rVert_1

    for a likelihood of variance 1/2; for another v, lambda is multiplied by 2 v. It is computed by FISTA (Beck &
    Teboulle, 2009), gradient steps followed by the soft threshold; every five steps the momentum is reset in the rows
    in which it points uphill (O'Donoghue & Candes, 2015). With `TopK` instead of a prior the k largest numbers are kept
    after each step: this gives the best code if D is orthonormal, and otherwise one that no such step improves.

    At the optimum the derivative of the objective in the code is zero, so the gradient in the dictionary is that for a
    fixed code, and training does not differentiate through the iterations. A trained model does.

    Parameters
    ----------
    n_steps : int
        Iterations in training; `SparseAutoencoder` takes 40 for the soft threshold and 100 for the k largest. In
        evaluation they go on until a step changes no code of the batch by more than rounding, 1e-6 of its length in
        float32, at most for 15 times as many. Steps may be short before the optimum is reached: codes of digits and of
        breast cancer differ by up to 3e-4 of their length from those of the same rows alone, in float64 of digits by
        2e-13. One is enough for an orthonormal dictionary.

    Raises
    ------
    OptionError
        If the decoder is not a `Dictionary`, the likelihood not a `GaussianLikelihood` of fixed variance, or if there
        is neither a `LaplacePrior` or `AdaptiveLaplace` prior with linear codes nor a `TopK` code.

    Examples
    --------
    >>> import torch
    >>> from eigencode import Composition
    >>> from eigencode.parts import LaplacePrior
    >>> model = Composition(OptimalCode(), Dictionary(), prior=LaplacePrior(0.4))
    >>> model.setup(
    ...     n_features=2, n_components=2, generator=torch.Generator().manual_seed(0)
    ... )
    >>> with torch.no_grad():
    ...     _ = model.decoder.directions.copy_(torch.eye(2))
    >>> model.encode(torch.tensor([[1.0, -0.1]])).mean  # the soft threshold at 0.4 / 2
    tensor([[0.8000, 0.0000]])
    """

    _dictionary: tuple[Dictionary]
    _sparse: tuple[Proximal, ...]
    _variance: float

    def __init__(self, n_steps: int = 100) -> None:
        super().__init__()
        self.n_steps = n_steps

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Check the number of steps; there are no weights."""
        if not isinstance(self.n_steps, Integral) or isinstance(self.n_steps, bool) or self.n_steps < 1:
            raise OptionError("The 'n_steps' parameter of OptimalCode must be a positive int", got=f"{self.n_steps!r}")

    def join(self, composition: Composition) -> None:
        """Keep references to the dictionary, the likelihood and the terms that make codes sparse."""
        terms = [getattr(composition, name) for name in ("decoder", "likelihood", "code", "prior")]
        decoder, likelihood, code, prior = terms
        sparse = tuple(term for term in (prior, code) if isinstance(term, Proximal))
        is_linear = isinstance(code, TopK) or (type(code) is Point and code.activation in (None, "identity"))
        is_paid_for = bool(sparse) and (prior is None or prior in sparse)
        variance = likelihood.expansion.variance if isinstance(likelihood, GaussianLikelihood) else None
        if not (isinstance(decoder, Dictionary) and is_linear and is_paid_for) or variance is None:
            raise OptionError(
                "OptimalCode needs a Dictionary, a Gaussian likelihood of fixed variance, and a Laplace prior on "
                "linear codes or a TopK code",
                got=", ".join("None" if part is None else type(part).__name__ for part in terms),
                hint="For labels, take an autoencoder whose code is its encoder's output",
            )
        # In tuples, so that torch does not register them as submodules.
        self._dictionary, self._sparse, self._variance = (decoder,), sparse, variance

    @property
    def multiply_adds(self) -> int:
        """One product with D'D for each iteration."""
        n_features, n_components = self._dictionary[0].columns.shape
        return n_components * (self.n_steps * n_components + n_features)

    def forward(self, x: Tensor) -> Tensor:
        """The optimal codes of rows of shape (..., n_inputs), shape (..., n_outputs)."""
        if torch.compiler.is_compiling():  # a graph has no autocast, and a loop in it cannot be within one
            return self._iterated(x.reshape(-1, x.shape[-1])).unflatten(0, x.shape[:-1])
        with torch.no_grad() if self.training else nullcontext(), torch.autocast(x.device.type, enabled=False):
            return self._iterated(x.reshape(-1, x.shape[-1])).unflatten(0, x.shape[:-1])

    def _iterated(self, x: Tensor) -> Tensor:
        (dictionary,) = self._dictionary
        columns, bias = dictionary.columns, dictionary.bias
        gram = columns.T @ columns
        curvature = largest_eigenvalue(gram.detach())
        step = self._variance / curvature
        # A gradient step is h -> (1 - D'D / L) h + D'(x - b) / L.
        kept = torch.eye(columns.shape[1]).to(columns) - gram / curvature
        added = (x.to(columns) - bias) @ columns / curvature
        h = ahead = torch.zeros_like(added)
        age = torch.zeros_like(added[:, :1])  # iterations since the momentum was zero

        def moved(h: Tensor, ahead: Tensor, age: Tensor, is_checked: bool) -> tuple[Tensor, Tensor, Tensor]:
            """After one iteration."""
            new = torch.addmm(added, ahead, kept)
            for term in self._sparse:
                new = term.proximal(new, step)
            if is_checked:
                is_uphill = torch.linalg.vecdot(ahead - new, new - h).unsqueeze(1) > 0
                age = age.masked_fill(is_uphill, 0.0)
            return new, torch.lerp(h, new, 1 + age / (age + 3)), age + 1

        if torch.compiler.is_compiling():
            return _looped(moved, h, age, int(self.n_steps) * REFINEMENT)
        for i in range(int(self.n_steps) * (1 if self.training else REFINEMENT)):
            before, is_checked = ahead, i % CHECKED_EVERY == 0
            h, ahead, age = moved(h, ahead, age, is_checked)
            if is_checked and not self.training and _is_fixed(before, h):
                return h
        return h


def _looped(moved: Callable[..., tuple[Tensor, Tensor, Tensor]], start: Tensor, age: Tensor, n_steps: int) -> Tensor:
    """The codes after iterations that are a loop of a graph; thousands one after the other would take minutes."""
    from torch._higher_order_ops import while_loop  # with torch's compiler, which an export has imported

    def goes_on(i: Tensor, moves: Tensor, *_: Tensor) -> Tensor:
        return moves & (i < n_steps)

    def several(i: Tensor, moves: Tensor, h: Tensor, ahead: Tensor, age: Tensor) -> tuple[Tensor, ...]:
        before = ahead
        h, ahead, age = moved(h, ahead, age, True)
        moves = ~_are_fixed(before, h)
        last = h
        for _ in range(CHECKED_EVERY - 1):
            h, ahead, age = moved(h, ahead, age, False)
        return i + CHECKED_EVERY, moves, torch.where(moves, h, last), ahead, age

    first = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.bool), start, start.clone(), age
    found: Tensor = while_loop(goes_on, several, first)[2]
    return found


def largest_eigenvalue(gram: Tensor) -> Tensor:
    r"""An upper bound of the largest eigenvalue of a positive semidefinite matrix G, by a few products; a scalar.

    The smaller of the largest sum of absolute values in a row, which is exact for a diagonal matrix, and of

    .. math:: \left( \sum_i \lambda_i^{32} \right)^{1/32} = \lVert G^{16} \rVert_F^{1/16}

    which is at most a factor k^(1/32) too large. An eigendecomposition of a dictionary in each step would take longer
    than the step.

    Examples
    --------
    >>> largest_eigenvalue(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    tensor(3.)
    """
    power, norm = gram, torch.linalg.matrix_norm(gram)
    bound = norm
    for i in range(1, 5):
        power = power / norm  # so that its powers neither overflow nor vanish
        power = power @ power
        norm = torch.linalg.matrix_norm(power)
        bound = bound * norm ** (0.5**i)
    return torch.minimum(bound, gram.abs().sum(1).amax())


def _is_fixed(ahead: Tensor, new: Tensor) -> bool:
    """Whether a step changed no code by more than rounding, those of all members of a vmap."""
    return bool(_OfAllMembers.apply(_are_fixed(ahead.detach(), new.detach())))


def _are_fixed(ahead: Tensor, new: Tensor) -> Tensor:
    """The same of one member, as a value of a graph."""
    return ((new - ahead).norm(dim=1) <= 8 * torch.finfo(new.dtype).eps * new.norm(dim=1)).all()


class _OfAllMembers(torch.autograd.Function):
    """Whether something holds for all members of a vmap, as one value that may be read."""

    @staticmethod
    def forward(holds: Tensor) -> Tensor:
        return holds.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None], holds: Tensor) -> tuple[Tensor, None]:
        return _OfAllMembers.apply(holds.all()), None
