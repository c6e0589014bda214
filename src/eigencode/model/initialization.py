r"""Closed-form starts: the best linear autoencoder for the same objective.

With l_i, u_i the eigenvalues and eigenvectors of the scaled rows' covariance, the linear autoencoder that minimises
its objective keeps a share s_i of each leading direction,

.. math:: \hat x = U_k \, \mathrm{diag}(s) \, U_k^\top x ,

and each term of the formula gives its own share: 1 for the plain autoencoder (PCA; Baldi & Hornik, 1989), l / (l + v)
with Gaussian noise of variance v, and so on. A likelihood other than the squared error is replaced by its quadratic
expansion at the best constant, and the start is one Newton step from there. For counts, whose expansion holds only near
the constant, it is PCA of their logarithms.

If several terms shrink directions, or one of them has no closed form, the start is the best of the optima for each term
alone and PCA.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from eigencode.batch import Batch, selected
from eigencode.model.composition import Composition
from eigencode.model.factor_analysis import factor_analysis
from eigencode.model.objective import Objective
from eigencode.model.pca import (
    EXACT_SIZE,
    Spectrum,
    observed_shares,
    second_moment,
    with_positive_peaks,
    without_constants,
)
from eigencode.parts.base import Term
from eigencode.parts.likelihoods.expansion import Expansion
from eigencode.parts.networks.completing import Completing

STEPS = (2.0, *(0.5**halvings for halvings in range(7)))
"""Step lengths from the best constant that are tried."""

SHORTER_CODES = (0.5, 0.25, 0.125)
"""Factors for PCA's codes that are tried if a term depends on the size of codes."""

SMALLEST_VARIANCE = 1e-4
"""Variance of a stochastic code at PCA if no prior determines it."""

TINY = 1e-150
"""A variance used instead of 0, to divide by it."""


@dataclass(frozen=True)
class LinearStart:
    """A linear autoencoder of scaled rows: the decoder's output is decoder (encoder x + bias) + its own bias.

    Attributes
    ----------
    encoder : Tensor
        A, shape (m, d).
    bias : Tensor
        The encoder's bias, shape (m,).
    decoder : Tensor
        B, shape (d, m).
    shrinks : bool
        Whether the map differs from PCA's.
    code_variance : Tensor or None
        Variance of a stochastic code, shape (m,).
    noise_variance : float, Tensor or None
        Variance of the likelihood, or that of each column, shape (d,), if the optimum determines it.
    is_optimum : bool
        Whether this is the best linear map for the whole objective, by a closed form.
    length : float or None
        The length of the step to it from the best constant, where `backtrack` has found it.
    """

    encoder: Tensor
    bias: Tensor
    decoder: Tensor
    shrinks: bool
    code_variance: Tensor | None = None
    noise_variance: float | Tensor | None = None
    is_optimum: bool = True
    length: float | None = None

    def times(self, factor: float) -> LinearStart:
        """The map with both of its matrices multiplied."""
        return replace(self, encoder=factor * self.encoder, bias=factor * self.bias, decoder=factor * self.decoder)

    def with_codes_times(self, factor: float) -> LinearStart:
        """The same map of rows, with codes multiplied by a factor."""
        return replace(self, encoder=factor * self.encoder, bias=factor * self.bias, decoder=self.decoder / factor)

    def fits(self, composition: Composition) -> bool:
        """Whether a composition can have this encoder and decoder: tied decoders are the encoder's transpose."""
        return not composition.decoder.is_tied or torch.allclose(self.decoder, self.encoder.T)


@dataclass(frozen=True)
class LinearProblem:
    """The arguments from which a term computes its linear optimum.

    Attributes
    ----------
    batch : Batch
        Scaled rows times the square roots of their weights, shape (n, d).
    spectrum : Spectrum
        Principal directions of the rows in working units.
    composition : Composition
        The model, with its decoder's bias at the best constant.
    objective : Objective
        The sum of terms that training minimises.
    inward, outward : Tensor
        Factors from scaled columns to working units, in which the likelihood is a squared error, and from working
        units to the decoder's outputs; shape (d,), all 1 if the likelihood itself is the squared error.
    moment : Tensor or None
        The second moment of the rows, shape (d, d), if it is known.
    """

    batch: Batch
    spectrum: Spectrum
    composition: Composition
    objective: Objective
    inward: Tensor
    outward: Tensor
    moment: Tensor | None = None

    @property
    def eigenvalues(self) -> Tensor:
        """Variances along the first m principal directions, with m at most the number of components; shape (m,)."""
        return self.spectrum.eigenvalues[: self.composition.n_components]

    @property
    def directions(self) -> Tensor:
        """The first m principal directions, shape (d, m)."""
        return self.spectrum.directions[:, : self.composition.n_components]

    @cached_property
    def covariance(self) -> Tensor:
        """X'X / n of the scaled rows, shape (d, d), in float64; each entry from the rows where both cells are known."""
        found = second_moment(self.batch.x, self.batch.observed) if self.moment is None else self.moment
        if self.batch.observed is None:
            return found
        values, vectors = torch.linalg.eigh(found)  # entries from different rows: it may have negative ones
        return vectors * values.clamp(min=0) @ vectors.T

    @property
    def mean_squares(self) -> Tensor:
        """Mean squares of the columns' observed cells, shape (d,), in float64."""
        found = self.batch.x.square().mean(0, dtype=torch.float64)
        return found if self.batch.observed is None else found / observed_shares(self.batch)

    def of_natural_length(self, start: LinearStart) -> LinearStart:
        """The same map with codes of the scaled rows' length along the directions kept, unless the length matters.

        In working units, codes can be much longer than the scaled rows: a thousand times for counts of a million. Then
        the gradients of encoder and decoder differ by a factor of a million, and no step size suits both.
        """
        composition, total = self.composition, self.spectrum.total
        is_fixed = composition.prior is not None or composition.decoder.is_tied or composition.code.width(1) > 1
        if self.is_squared_error or is_fixed:
            return start
        found = _mean_square(self.batch.x @ start.encoder.T.to(self.batch.x))
        if found == 0:
            return start
        wanted = _mean_square(self.batch.x) * float(self.eigenvalues.sum()) / total
        return start.with_codes_times(math.sqrt(wanted / found))

    @property
    def is_squared_error(self) -> bool:
        """Whether the working units are the scaled ones."""
        return bool((self.inward == 1).all())

    def shrunk(self, shares: Tensor) -> LinearStart:
        """Keep a share of each direction, balanced: A = diag(sqrt s) U', B = U diag(sqrt s)."""
        return self.along_directions(shares.sqrt(), shares.sqrt())

    def along_directions(
        self,
        encoder: Tensor,
        decoder: Tensor,
        code_variance: Tensor | None = None,
        noise_variance: float | Tensor | None = None,
    ) -> LinearStart:
        """The map with given factors for each principal direction, in the encoder and in the decoder; shape (m,)."""
        return LinearStart(
            encoder[:, None] * (self.directions.T * self.inward),
            torch.zeros_like(encoder),
            self.outward[:, None] * self.directions * decoder,
            bool((encoder * decoder != 1).any()),
            code_variance,
            noise_variance,
        )

    @property
    def has_exact_covariance(self) -> bool:
        """Whether the covariance of the columns is known and small enough to decompose."""
        return self.batch.observed is None and len(self.inward) <= EXACT_SIZE

    def factor_analysis(self, beta: float) -> LinearStart:
        """Factor analysis with its exact posterior: the linear optimum with one learned variance a column."""
        smallest = self.composition.likelihood.expansion.smallest_variance
        found = factor_analysis(self.covariance, self.composition.n_components, beta, smallest)
        root = found.noise.sqrt()
        scaled = replace(self, spectrum=found.spectrum, inward=1 / root, outward=root)
        lengths = (scaled.eigenvalues - found.beta).clamp(min=0).sqrt()
        precision = lengths.square() + found.beta
        return scaled.along_directions(lengths / precision, lengths, found.beta / precision, found.noise)

    @property
    def filled_in(self) -> LinearStart | None:
        """The best map of rank k from rows with 0 in missing cells to complete rows, for cells missing at random."""
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
            # Without noise, no division by the zero variance of a direction.
            return self.shrunk(self.eigenvalues / (self.eigenvalues + variance[0]).clamp(min=TINY))
        if len(self.inward) > EXACT_SIZE:
            return None
        cross = gain * self.inward[:, None] * self.covariance
        squared = torch.outer(gain, gain) if isinstance(gain, Tensor) else gain**2
        noisy = squared * self.covariance + torch.diag(variance)
        # No division by the zero variance of a constant column.
        noisy.diagonal().add_(noisy.diagonal().max() * 1e-12 + TINY)
        regression = without_constants(torch.linalg.solve(noisy, cross.T), self.covariance).T
        _, vectors = torch.linalg.eigh(regression @ cross.T)
        leading = without_constants(vectors.flip(1)[:, : len(self.eigenvalues)], self.covariance)
        directions = with_positive_peaks(leading)
        encoder = directions.T @ regression
        root = encoder.norm(dim=1).sqrt().clamp(min=torch.finfo(encoder.dtype).tiny)
        balanced = encoder / root[:, None]
        return LinearStart(balanced, -balanced @ offset, self.outward[:, None] * directions * root, shrinks=True)


def linear_problem(
    batch: Batch,
    spectrum: Spectrum,
    composition: Composition,
    objective: Objective,
    working: tuple[Tensor, Tensor],
    moment: Tensor | None = None,
) -> LinearProblem:
    """The problem in float64, for rows of shape (n, d) and their spectrum in working units."""
    inward, outward = (factors.double() for factors in working)
    return LinearProblem(batch, spectrum, composition, objective, inward, outward, moment)


def linear_starts(problem: LinearProblem) -> list[LinearStart]:
    """Candidates for a linear start: the optimum if it is known in closed form, else several.

    These are PCA, the optimum for each term of the formula alone, and PCA with shorter codes. There are none if the
    code is not the encoder's output, or if the decoder does not have one output for each column.
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
    has_size = composition.prior or composition.weight_prior or composition.penalties or composition.code.is_stochastic
    shorter = [principal.with_codes_times(factor) for factor in SHORTER_CODES] if has_size else []
    candidates = [filled_in, principal, *found, *shorter]
    return [replace(start, is_optimum=False) for start in candidates if start and start.fits(composition)]


def linear_start(problem: LinearProblem) -> LinearStart | None:
    """The linear optimum of the whole objective, or None where no closed form is known.

    A closed form is known if at most one term of the formula shrinks or weights directions: the shares of two terms
    cannot simply be multiplied. None is known if cells are missing.
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
        # A corruption of the encoder's input does not determine the length of the code.
        if term is problem.composition.corruption:
            found = problem.of_natural_length(found)
    else:
        found = _plain(problem)
    return found if found.fits(problem.composition) else None


def _starts_of_terms(problem: LinearProblem) -> list[tuple[Term, LinearStart | None]]:
    return [(term, term.linear_start(problem)) for term in problem.composition.terms]


def _special(starts: list[tuple[Term, LinearStart | None]], problem: LinearProblem) -> list[tuple[Term, LinearStart]]:
    """The terms that shrink or weight directions, with their starts."""
    # A learned variance does not count if another term's closed form determines it too.
    likelihood = problem.composition.likelihood
    is_fixed = any(start is not None and start.noise_variance is not None for _, start in starts)
    weighing = {id(term) for term, _ in starts if term.reweights}
    if is_fixed and (likelihood.expansion.variance is None or likelihood.expansion.has_variances):
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
    """PCA; the variance of a stochastic code is beta times the noise variance, at most 1."""
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

    Components without a principal direction keep random weights in the encoder and have zeros in the decoder, so that
    they change nothing at first and can be learned. With a prior on codes or weights they are zero in the encoder too.
    """
    n_known, k = start.encoder.shape[0], composition.n_components
    encoder, decoder = composition.encoder.affine, composition.decoder.affine
    assert encoder is not None
    is_free = composition.prior is None and composition.weight_prior is None
    encoder.bias.zero_()
    d, completing = len(start.decoder), composition.encoder
    center = completing.center.to(start.encoder) if isinstance(completing, Completing) else start.encoder.new_zeros(d)
    encoder.bias[:n_known] = (start.bias - start.encoder @ center).to(encoder.bias)
    encoder.weight[:, d:] = 0  # those of the indicators of gaps
    encoder.weight[:n_known, :d] = start.encoder.to(encoder.weight)
    if decoder is None or not is_free:
        encoder.weight[n_known:] = 0
    encoder.weight[k:] = 0
    if start.code_variance is not None:
        spread = torch.ones(k, dtype=torch.float64)
        spread[:n_known] = start.code_variance
        encoder.bias[k:] = composition.code.outputs_of_variance(spread).to(encoder.bias)
    bias = composition.decoder.output_bias
    if bias is not None:
        cells = composition.likelihood.cells(d)
        is_own = torch.tensor([cell.in_data_units for cell in cells], device=bias.device)
        bias[:d] = torch.where(is_own, bias[:d], center.to(bias))  # without gaps, the rows are centred
    if decoder is not None:  # tied decoders use the encoder's weights
        decoder.weight.zero_()
        decoder.weight[:d, :n_known] = start.decoder.to(decoder.weight)


@torch.no_grad()
def backtrack(composition: Composition, batch: Batch, is_rough: bool = False, length: float | None = None) -> float:
    """Choose the length of the step from the best constant to the linear start by the likelihood of the rows.

    A full Newton step may leave the region in which the expansion holds. Shorter steps are tried as long as they are
    better: the likelihood of an exponential family is concave in the step and the bias. For each length the decoder's
    bias is the best one, up to rough fits of likelihoods without closed forms; at the end it is exact unless
    ``is_rough``. A length that is given is taken. The length is returned.
    """
    likelihood, bias = composition.likelihood, composition.decoder.output_bias
    decoder, encoder = composition.decoder.affine, composition.encoder.affine
    # Tied maps have one matrix, which counts twice, so it is multiplied by the square root.
    affine, power = (encoder, 0.5) if decoder is None else (decoder, 1.0)
    assert affine is not None
    assert bias is not None
    step = affine.weight.clone()

    def settle(share: float, expansion: Expansion, rows: Batch, codes: Tensor | None) -> Tensor:
        affine.weight.copy_(share**power * step)
        before = bias.clone()
        bias.zero_()  # no copy of the outputs to take it from them
        output = composition.decoder(composition.encode(*rows.cells).mean if codes is None else codes)
        output = output.add_(bias.copy_(expansion.intercept(rows, output, before)))
        expansion.calibrate(rows, output)
        return output

    def worth(share: float, expansion: Expansion, rows: Batch, codes: Tensor | None) -> float:
        output = settle(share, expansion, rows, codes)
        cells = selected(likelihood(output).log_prob(likelihood.target(*rows.cells)), rows.observed)
        found = float(cells.sum(1, dtype=torch.float64).mean())
        return found if math.isfinite(found) else -math.inf

    shares = STEPS if decoder is None else (*STEPS, 0.0)
    if length is not None and decoder is not None:
        shares = (length,)
    rough = likelihood.expansion.rough
    few = rough.few(batch)
    codes = None if decoder is None else composition.encode(*few.cells).mean
    best_share, most, best_bias = shares[0], -math.inf, bias.clone()
    for share in shares:
        found = worth(share, rough, few, codes)
        if found > most:
            best_share, most = share, found
            best_bias.copy_(bias)
        elif math.isfinite(most):
            break
    bias.copy_(best_bias)
    rows, known = (few, codes) if few is batch or is_rough else (batch, None)
    settle(best_share, rough if is_rough else likelihood.expansion, rows, known)
    return best_share


def _mean_square(rows: Tensor) -> float:
    """Mean squared length of rows of shape (n, m)."""
    return float(rows.square().sum(1, dtype=torch.float64).mean())
