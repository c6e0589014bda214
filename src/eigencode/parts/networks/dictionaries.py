r"""Dictionaries: linear decoders with columns of unit length, and the optimal code for one.

A penalty on the size of codes would have no effect if the decoder's columns could grow: sparse codes need columns of
fixed length.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from eigencode.errors import OptionError, positive_int
from eigencode.parts.codes.point import Point
from eigencode.parts.codes.sparse import TopK
from eigencode.parts.likelihoods.continuous import GaussianLikelihood
from eigencode.parts.networks.base import Network
from eigencode.parts.networks.splitting import Splitting, eye_like, ridge_regression, until_fixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eigencode.batch import Batch
    from eigencode.model.composition import Composition

EXACT_SIZE = 2048
"""Up to this many columns, principal directions are computed by a full eigendecomposition, in about a second."""

SMALLEST_RIDGE, LARGEST_RIDGE = 0.1, 2.0
"""Ridges of the splitting for small and for large rates; with less, float32 keeps few digits of the inverse."""

FEWEST_IN_EVALUATION = 15
"""Fewest iterations in evaluation before units are chosen: more find better units."""


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


@runtime_checkable
class Rated(Protocol):
    """A term that has a rate, in nats per unit of code."""

    @property
    def rate(self) -> float | Tensor:
        """The rate."""


class OptimalCode(Network):
    r"""An encoder without weights: the best code of each row for the current dictionary, by iteration.

    .. math:: h = \underset{h}{\mathrm{arg\,min}} \; \lVert x - D h - b \rVert^2 + \lambda \lVert h \rVert_1

    for a likelihood of variance 1/2; for another v, lambda is multiplied by 2 v. It is computed by splitting (Lions &
    Mercier, 1979), which begins at ridge regression:

    .. math:: w \leftarrow w + 1.8 \left( (D'D + \rho)^{-1} (D'(x - b) + \rho (2 h - w)) - h \right), \qquad
        h = \mathrm{sign}(w) \max(|w| - \lambda / (2 \rho), 0)

    with one inverse for all rows, where rho is lambda, from 0.1 to 2. With `TopK` instead of a prior, rho is 1, and h
    has the k largest numbers of w. This gives the best code if D is orthonormal, and otherwise a good one: after two
    thirds of ``n_steps``, in evaluation of 15 steps at least, the units stay as they are, and in evaluation their
    numbers are those of least squares.

    At the optimum the derivative of the objective in the code is zero, so the gradient in the dictionary is that for a
    fixed code, and training does not differentiate through the iterations. A trained model does.

    Parameters
    ----------
    n_steps : int
        Iterations in training, in bfloat16 where the networks are. In evaluation they go on until a step changes no row
        of the batch by more than rounding, 1e-6 of its length in float32, at most for 1,500 more. Steps may be short
        before the optimum is reached: codes of digits and of breast cancer in float32 differ by up to 5e-5 of their
        length from those in float64. One is enough for an orthonormal dictionary.

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
    _selection: tuple[TopK, ...]

    def __init__(self, n_steps: int = 8) -> None:
        super().__init__()
        self.n_steps = n_steps

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Check the number of steps; there are no weights."""
        positive_int("The 'n_steps' parameter of OptimalCode", self.n_steps)

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
        self._selection = (code,) if isinstance(code, TopK) else ()

    @property
    def terms_read(self) -> tuple[Tensor, ...]:
        """The rate that is adapted in training."""
        rates = [term.rate for term in self._sparse if isinstance(term, Rated)]
        return tuple(rate for rate in rates if isinstance(rate, Tensor))

    @property
    def multiply_adds(self) -> int:
        """One product of the size of D'D for each iteration."""
        n_features, n_components = self._dictionary[0].columns.shape
        return n_components * (self.n_steps * n_components + n_features)

    def forward(self, x: Tensor) -> Tensor:
        """The optimal codes of rows of shape (..., n_inputs), shape (..., n_outputs)."""
        if torch.compiler.is_compiling():  # a graph has no autocast, and a loop in it cannot be within one
            return self._iterated(x.reshape(-1, x.shape[-1])).unflatten(0, x.shape[:-1])
        with torch.no_grad() if self.training else torch.autocast(x.device.type, enabled=False):
            return self._iterated(x.reshape(-1, x.shape[-1])).unflatten(0, x.shape[:-1])

    def _iterated(self, x: Tensor) -> Tensor:
        (dictionary,) = self._dictionary
        columns = dictionary.columns
        rho = self._ridge(columns)
        ridge, shrinkage = ridge_regression(columns, x.to(columns) - dictionary.bias, rho)
        step = self._variance / rho

        def sparse(w: Tensor) -> Tensor:
            for term in self._sparse:
                w = term.proximal(w, step)
            return w

        kept = torch.sub(shrinkage, eye_like(shrinkage), alpha=0.5).to(ridge)
        splitting = Splitting(sparse, kept, ridge)
        n_steps = int(self.n_steps) if self.training else max(int(self.n_steps), FEWEST_IN_EVALUATION)
        w = splitting.after(n_steps - n_steps // 3, self._first(ridge, shrinkage, rho))
        if self._selection:
            (code,) = self._selection
            splitting = replace(splitting, of_units=code.of_units, chosen=(code(w).mean != 0).to(w))
        w = splitting.after(n_steps // 3, w)
        return splitting.code_of(w) if self.training else until_fixed(splitting, w)

    def _first(self, ridge: Tensor, shrinkage: Tensor, rho: Tensor) -> Tensor:
        """The w of the optimum for orthonormal atoms, for which ridge regression is D'(x - b) / (1 + rho).

        Ridge regression keeps the share S_jj of a code that only unit j has, so its codes are divided by it, or by the
        mean of it and of 1 / (1 + rho) in a geometric sense: units that share their columns have noise.
        """
        if self._selection:
            return (1 + rho) * ridge
        kept = shrinkage.diagonal(dim1=-2, dim2=-1).clamp(min=torch.finfo(ridge.dtype).tiny).to(ridge)
        first = h = ridge * ((1 + rho) / kept).sqrt()
        for term in self._sparse:
            h = term.proximal(h, rho.new_full((), self._variance))
        return (first + (rho - 1) * h) / rho

    def _ridge(self, like: Tensor) -> Tensor:
        """The ridge rho of the splitting, which grows with the rate: so thresholds are about as large as codes."""
        one = like.new_ones(())
        rates = [] if self._selection else [term.rate for term in self._sparse if isinstance(term, Rated)]
        if not rates:
            return one
        return one.mul(2 * self._variance).mul(rates[0]).detach().clamp(SMALLEST_RIDGE, LARGEST_RIDGE)
