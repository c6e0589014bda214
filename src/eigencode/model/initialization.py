r"""Closed-form starts: the linear optimum of an autoencoder's own kind.

With l_i, u_i the eigenvalues and eigenvectors of the scaled rows' covariance, the linear autoencoder that minimises
its objective keeps a share s_i of each leading direction,

.. math:: \hat x = U_k \, \mathrm{diag}(s) \, U_k^\top x ,

and every term of the formula says its own share: 1 for the plain one (PCA; Baldi & Hornik, 1989), l / (l + v) under
Gaussian noise of variance v, and so on. A likelihood that is no squared error is replaced by its quadratic expansion
at the best constant, and the start is one Newton step from there; of counts, whose expansion does not reach far, it is
PCA of their logarithms.

Where several terms shrink, or one of them has no closed form, the start is the best of what each would have alone,
PCA among them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.model.composition import Composition, selected
from eigencode.model.objective import Objective
from eigencode.model.pca import EXACT_SIZE, Spectrum, observed_shares, second_moment, with_positive_peaks
from eigencode.parts.base import Term

STEPS = (2.0, *(0.5**halvings for halvings in range(7)))
"""Lengths of a step from the best constant that are tried."""

SHORTER_CODES = (0.5, 0.25, 0.125)
"""Lengths of codes, against PCA's own, that are tried where a term may charge for them."""

SMALLEST_VARIANCE = 1e-4
"""Of a stochastic code at PCA, where nothing says how much it should vary."""

TINY = 1e-150
"""A variance that is none, and that may still be divided by."""


@dataclass(frozen=True)
class LinearStart:
    """A linear autoencoder of scaled rows: the decoder's output is decoder (encoder x + bias) + its own bias.

    Attributes
    ----------
    encoder : Tensor
        A, shape (m, d).
    bias : Tensor
        Of the code, shape (m,).
    decoder : Tensor
        B, shape (d, m).
    shrinks : bool
        Whether it is another map than PCA's.
    code_variance : Tensor or None
        Of a stochastic code, shape (m,).
    noise_variance : float or None
        Of the likelihood, where the optimum settles it too.
    is_optimum : bool
        Whether it is the linear optimum of the whole objective, by a closed form.
    """

    encoder: Tensor
    bias: Tensor
    decoder: Tensor
    shrinks: bool
    code_variance: Tensor | None = None
    noise_variance: float | None = None
    is_optimum: bool = True

    def with_codes_times(self, factor: float) -> LinearStart:
        """The same map of rows by codes of another length."""
        return replace(self, encoder=factor * self.encoder, bias=factor * self.bias, decoder=self.decoder / factor)

    def fits(self, composition: Composition) -> bool:
        """Whether the decoder can be the one that goes with the encoder: tied ones are its transpose."""
        return not composition.decoder.is_tied or torch.allclose(self.decoder, self.encoder.T)


@dataclass(frozen=True)
class LinearProblem:
    """What a term needs to know to say its linear optimum.

    Attributes
    ----------
    batch : Batch
        Scaled rows, shape (n, d), each times the root of its weight.
    spectrum : Spectrum
        Principal directions of the rows in working units.
    composition : Composition
        The model, which stands at its best constant.
    objective : Objective
        What is minimised.
    inward, outward : Tensor
        Factors from scaled columns to working units, in which the likelihood is a squared error, and from there to
        the decoder's outputs; shape (d,), all 1 for a likelihood that is one.
    """

    batch: Batch
    spectrum: Spectrum
    composition: Composition
    objective: Objective
    inward: Tensor
    outward: Tensor

    @property
    def eigenvalues(self) -> Tensor:
        """Variances along the directions that the code has room for, shape (m,)."""
        return self.spectrum.eigenvalues[: self.composition.n_components]

    @property
    def directions(self) -> Tensor:
        """The directions themselves, shape (d, m)."""
        return self.spectrum.directions[:, : self.composition.n_components]

    @cached_property
    def covariance(self) -> Tensor:
        """X'X / n of the scaled rows, over the cells that both columns know, shape (d, d), in float64."""
        found = second_moment(self.batch.x, self.batch.observed)
        if self.batch.observed is None:
            return found
        values, vectors = torch.linalg.eigh(found)  # each cell over rows of its own, it may have values below 0
        return vectors * values.clamp(min=0) @ vectors.T

    @property
    def mean_squares(self) -> Tensor:
        """Mean squares of the columns' observed cells, shape (d,), in float64."""
        found = self.batch.x.square().mean(0, dtype=torch.float64)
        return found if self.batch.observed is None else found / observed_shares(self.batch)

    def of_natural_length(self, start: LinearStart) -> LinearStart:
        """The same map by codes as long as the scaled rows are in the directions kept, unless a length is settled.

        A code counted in working units is as long as its likelihood is sharp: a thousand times the rows for counts of a
        million. Steps of one size then move what reads the code a thousand times too far, and the gradients of the two
        maps differ by a factor of a million.
        """
        composition, total = self.composition, self.spectrum.total
        is_settled = composition.prior is not None or composition.decoder.is_tied or composition.code.width(1) > 1
        if self.is_squared_error or is_settled:
            return start
        found = _mean_square(self.batch.x @ start.encoder.T.to(self.batch.x))
        if found == 0:
            return start
        wanted = _mean_square(self.batch.x) * float(self.eigenvalues.sum()) / total
        return start.with_codes_times(math.sqrt(wanted / found))

    @property
    def is_squared_error(self) -> bool:
        """Whether working units are the scaled ones."""
        return bool((self.inward == 1).all())

    def shrunk(self, shares: Tensor) -> LinearStart:
        """Keep a share of each direction, balanced: A = diag(sqrt s) U', B = U diag(sqrt s)."""
        return self.along_directions(shares.sqrt(), shares.sqrt())

    def along_directions(
        self, encoder: Tensor, decoder: Tensor, code_variance: Tensor | None = None, noise_variance: float | None = None
    ) -> LinearStart:
        """The map with given factors, shape (m,), on its way in and out of each principal direction."""
        return LinearStart(
            encoder[:, None] * (self.directions.T * self.inward),
            torch.zeros_like(encoder),
            self.outward[:, None] * self.directions * decoder,
            bool((encoder * decoder != 1).any()),
            code_variance,
            noise_variance,
        )

    @property
    def filled_in(self) -> LinearStart | None:
        """The best map of rank k from rows with 0 in their gaps to whole ones, were the gaps anywhere at random."""
        shares = observed_shares(self.batch)
        return self.denoised(shares, torch.zeros_like(shares), shares * (1 - shares) * self.mean_squares)

    def denoised(self, gain: float | Tensor, offset: Tensor, variance: Tensor) -> LinearStart | None:
        r"""The best map of rank k from independently corrupted cells to clean rows, balanced.

        With E[x~ | x] = q x + c and residual variances D, and S the rows' covariance, it is the reduced-rank
        regression (Izenman, 1975) on Q = q^2 S + D: A = U' W and B = U, for W = q S Q^-1 and U the leading
        eigenvectors of W Q W'. Without a limit of rank it is the marginalised denoiser of Chen et al.
        (2012). A gain of shape (d,) is one for each column.
        """
        is_plain = not isinstance(gain, Tensor) and gain == 1
        is_isotropic = is_plain and bool((offset == 0).all() and (variance == variance[0]).all())
        if is_isotropic and self.is_squared_error:
            # Without noise, directions of no variance are not to be divided by.
            return self.shrunk(self.eigenvalues / (self.eigenvalues + variance[0]).clamp(min=TINY))
        if len(self.inward) > EXACT_SIZE:
            return None
        cross = gain * self.inward[:, None] * self.covariance
        squared = torch.outer(gain, gain) if isinstance(gain, Tensor) else gain**2
        noisy = squared * self.covariance + torch.diag(variance)
        # A column that never varies is not to be divided by.
        noisy.diagonal().add_(noisy.diagonal().max() * 1e-12 + TINY)
        regression = torch.linalg.solve(noisy, cross.T).T
        _, vectors = torch.linalg.eigh(regression @ cross.T)
        directions = with_positive_peaks(vectors.flip(1)[:, : len(self.eigenvalues)])
        encoder = directions.T @ regression
        root = encoder.norm(dim=1).sqrt().clamp(min=torch.finfo(encoder.dtype).tiny)
        balanced = encoder / root[:, None]
        return LinearStart(balanced, -balanced @ offset, self.outward[:, None] * directions * root, shrinks=True)


def linear_problem(
    batch: Batch, spectrum: Spectrum, composition: Composition, objective: Objective, working: tuple[Tensor, Tensor]
) -> LinearProblem:
    """The problem in float64, for rows of shape (n, d) and their spectrum in working units."""
    inward, outward = (factors.double() for factors in working)
    return LinearProblem(batch, spectrum, composition, objective, inward, outward)


def linear_starts(problem: LinearProblem) -> list[LinearStart]:
    """Where a model may start as a linear map: at the optimum where a closed form is known, else at any of several.

    These are PCA, what each term of the formula would have alone, and PCA with shorter codes. There is none where the
    code is not the encoder's output, or the decoder's output is not in the columns' own space.
    """
    optimum = linear_start(problem)
    if optimum is not None:
        return [optimum]
    composition = problem.composition
    if not _is_linear(problem):
        return []
    principal = _principal(problem)
    filled_in = None if problem.batch.observed is None else problem.filled_in
    found = [start for _, start in _special(_starts_of_terms(problem), problem)]
    candidates = [filled_in, principal, *found, *(principal.with_codes_times(factor) for factor in SHORTER_CODES)]
    return [replace(start, is_optimum=False) for start in candidates if start and start.fits(composition)]


def linear_start(problem: LinearProblem) -> LinearStart | None:
    """The linear optimum of the whole objective, or None where no closed form is known.

    A closed form is known where at most one term of the formula shrinks at all, or weighs directions by itself: two
    shrinkages do not multiply. None is known where cells are missing.
    """
    if problem.batch.observed is not None:
        return None
    starts = _starts_of_terms(problem)
    if any(start is None for _, start in starts):
        return None
    special = _special(starts, problem)
    if len(special) > 1:
        return None
    if special:
        term, found = special[0]
        # What is done to the encoder's input asks for no length of the code.
        if term is problem.composition.corruption:
            found = problem.of_natural_length(found)
    else:
        found = _plain(problem)
    return found if found.fits(problem.composition) else None


def _starts_of_terms(problem: LinearProblem) -> list[tuple[Term, LinearStart | None]]:
    return [(term, term.linear_start(problem)) for term in problem.composition.terms]


def _special(starts: list[tuple[Term, LinearStart | None]], problem: LinearProblem) -> list[tuple[Term, LinearStart]]:
    """The terms, with their starts, that shrink directions or weigh them by themselves."""
    # A learned variance is no term of its own where another's closed form settles it too.
    likelihood = problem.composition.likelihood
    is_settled = any(start is not None and start.noise_variance is not None for _, start in starts)
    weighing = {id(term) for term, _ in starts if term.reweights}
    if is_settled and likelihood.expansion.variance is None:
        weighing.discard(id(likelihood))
    return [(term, start) for term, start in starts if start is not None and (start.shrinks or id(term) in weighing)]


def _is_linear(problem: LinearProblem) -> bool:
    """Whether linear networks make a linear map of rows to the space of the columns."""
    code, likelihood, d = problem.composition.code, problem.composition.likelihood, len(problem.inward)
    return code.is_identity and likelihood.n_outputs(d) >= d and likelihood.expansion.has_linear_start


def _plain(problem: LinearProblem) -> LinearStart:
    """PCA."""
    return problem.of_natural_length(problem.shrunk(torch.ones_like(problem.eigenvalues)))


def _principal(problem: LinearProblem) -> LinearStart:
    """PCA; the codes of a stochastic code vary as little as pays beside a prior of their own size."""
    ones, composition = torch.ones_like(problem.eigenvalues), problem.composition
    if composition.code.width(1) == 1:
        return _plain(problem)
    noise = composition.likelihood.expansion.variance
    if noise is None:
        left = problem.spectrum.total - float(problem.eigenvalues.sum())
        noise = max(left, 0.0) / len(problem.inward)
    beta = problem.objective.beta if composition.prior is not None else 0.0
    return problem.along_directions(ones, ones, code_variance=ones * min(max(beta * noise, SMALLEST_VARIANCE), 1.0))


@torch.no_grad()
def set_linear(composition: Composition, start: LinearStart) -> None:
    """Set both linear paths to a linear autoencoder around the best constant.

    Codes past the known directions keep their random weights in the encoder and none in the decoder, so that they
    change nothing at first and can be learned; they are zero where a prior charges for codes or weights.
    """
    n_known, k = start.encoder.shape[0], composition.n_components
    encoder, decoder = composition.encoder.affine, composition.decoder.affine
    assert encoder is not None
    is_free = composition.prior is None and composition.weight_prior is None
    encoder.bias.zero_()
    encoder.bias[:n_known] = start.bias.to(encoder.bias)
    encoder.weight[:n_known] = start.encoder.to(encoder.weight)
    if decoder is None or not is_free:
        encoder.weight[n_known:] = 0
    encoder.weight[k:] = 0
    if start.code_variance is not None:
        spread = torch.ones(k, dtype=torch.float64)
        spread[:n_known] = start.code_variance
        encoder.bias[k:] = composition.code.outputs_of_variance(spread).to(encoder.bias)
    bias = composition.decoder.output_bias
    if bias is not None and not composition.likelihood.in_data_units:
        bias[: len(start.decoder)] = 0  # the rows are centred
    if decoder is not None:  # tied ones follow by themselves
        decoder.weight.zero_()
        decoder.weight[: len(start.decoder), :n_known] = start.decoder.to(decoder.weight)


@torch.no_grad()
def backtrack(composition: Composition, batch: Batch) -> None:
    """Take as much of the step from the best constant to the linear start as explains the rows best.

    A Newton step is as long as the expansion says, which may be far beyond where the expansion holds. The decoder's
    bias is the best one beside each step.
    """
    likelihood, bias = composition.likelihood, composition.decoder.output_bias
    target = likelihood.target(batch.x, batch.observed)
    decoder, encoder = composition.decoder.affine, composition.encoder.affine
    # Tied maps have one matrix, and so take the root of the step twice.
    affine, power = (encoder, 0.5) if decoder is None else (decoder, 1.0)
    assert affine is not None
    assert bias is not None
    step = affine.weight.clone()

    def worth(share: float) -> float:
        affine.weight.copy_(share**power * step)
        output = composition.decoder(composition.encode(batch.x, batch.observed).mean)
        best = likelihood.expansion.intercept(batch, output - bias, bias)
        if best is not bias:
            output = output - bias + best
            bias.copy_(best)
        likelihood.expansion.calibrate(batch, output)
        cells = selected(likelihood(output).log_prob(target), batch.observed)
        found = float(cells.sum(1, dtype=torch.float64).mean())
        return found if math.isfinite(found) else -math.inf

    shares = STEPS if decoder is None else (*STEPS, 0.0)
    worth(max(shares, key=worth))


def _mean_square(rows: Tensor) -> float:
    """Mean squared length of rows of shape (n, m)."""
    return float(rows.square().sum(1, dtype=torch.float64).mean())
