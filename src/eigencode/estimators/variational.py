"""VariationalAutoencoder: a stochastic code and a density of the rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from eigencode import model, parts, training
from eigencode.errors import OptionError, positive_int
from eigencode.estimators.base import BaseAutoencoder
from eigencode.lazy import torch
from eigencode.options import AutoencoderOptions, changed, documented, option

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.batch import Batch
    from eigencode.estimators.evaluation import Question
    from eigencode.model import Composition, Trace
    from eigencode.parts import Likelihood

LEARNED: dict[str, Callable[[], Likelihood]] = {
    "auto": lambda: parts.GaussianLikelihood("per_feature"),
    "gaussian": lambda: parts.GaussianLikelihood("per_feature"),
    "laplace": lambda: parts.LaplaceLikelihood("per_feature"),
}
"""Likelihoods whose spread is learned here: against a fixed one the posterior collapses, or copies its row."""

KEPT_VARIANCE = 0.999
"""What ``n_components="auto"`` means here: a density gains by each direction that is not noise, and the divergence
switches off those that are."""

SCORE_DRAWS = 64
"""Codes of each row for ``score_samples``; a power of two, for which Sobol's points are balanced."""

DRAWN_CELLS = 2**23
"""Most numbers decoded at a time when a row has many codes."""

DRAWS_A_PASS = 64
"""Codes of a row that are decoded together."""

ACTIVE = 0.01
"""Variance of its posterior mean over the rows from which a component is active (Burda et al., 2016)."""


@documented
@dataclass(eq=False, repr=False, kw_only=True)
class VariationalAutoencoder(BaseAutoencoder):
    r"""An autoencoder with a stochastic code, whose decoder is a generative model of the rows.

    It maximises the evidence lower bound (Kingma & Welling, 2014), the mean over rows of

    .. math:: \log p(x) \ge E_{q(z|x)} [ \log p(x|z) ] - \beta \, KL(q(z|x), p(z)), \qquad
        q(z|x) = N(\mu(x), \mathrm{diag}(\sigma^2(x))), \quad
        p(z) = \sum_c \pi_c N(z; \mu_c, \Sigma_c)

    with z = mu + sigma * eps. The prior is a mixture of Gaussians that is learned with the model (`MixturePrior`),
    unless another is given, as ``StandardNormalPrior()``. With a Gaussian likelihood it starts at factor analysis and
    the mixture of its codes; with Bernoulli or Poisson, one Newton step from the best constant. 'gaussian' and
    'laplace' have their noise learned here, one number a column. ``n_components="auto"`` keeps 0.999 of the variance.

    {parameters}

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import VariationalAutoencoder
    >>> X = load_wine().data
    >>> model = VariationalAutoencoder(2, max_epochs=30, random_state=0).fit(X)
    >>> model.sample(5, random_state=0).shape  # new rows, in X's columns and units
    (5, 13)
    >>> bool(abs(model.elbo(X, 200).mean() - model.log_likelihood(X, 200).mean()) < 1)
    True
    """

    n_draws: int = option(
        1, "Codes drawn for each row in training; with more than one, the importance-weighted bound is used.", low=1
    )
    warmup: float = option(0.0, "Epochs over which training raises the divergence's weight from 0.", low=0, high=1e9)

    def _training_options(self) -> AutoencoderOptions:
        if self.code is not None or self.ordered:
            raise OptionError(
                "The code of a VariationalAutoencoder is fixed",
                got=f"ordered={self.ordered}" if self.code is None else f"code={self.code!r}",
                hint="Use Autoencoder with code=GaussianCode() for other combinations",
            )
        if self.prior is not None and self.warmup:
            raise OptionError("Give 'warmup' to the prior itself", got=f"prior={self.prior!r}, warmup={self.warmup}")
        n_components = KEPT_VARIANCE if self.n_components == "auto" else self.n_components
        likelihood = LEARNED[self.likelihood]() if self.likelihood in tuple(LEARNED) else self.likelihood
        return changed(
            self,
            n_components=n_components,
            code=parts.GaussianCode(self.n_draws),
            prior=parts.MixturePrior(warmup=self.warmup) if self.prior is None else self.prior,
            likelihood=likelihood,
        )

    # -- the posterior

    def posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of q(z|x).

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        mean, deviation : ndarray of shape (n, k)
        """
        both = self._answer(X, lambda model, rows, seen: _moments(model, seen))
        return both[:, : self.n_components_], both[:, self.n_components_ :]

    def sample_posterior(self, X: Any, n_draws: int = 1, *, random_state: Any = None) -> np.ndarray:
        """Draw codes from q(z|x).

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        n_draws : int
            Codes a row.
        random_state : int, NumPy generator or None
            Seed of the draws; None takes fresh entropy.

        Returns
        -------
        ndarray of shape (n_draws, n, k)
        """
        mean, deviation = self.posterior(X)
        rng = np.random.default_rng(training.resolve_seed(random_state))
        noise = rng.standard_normal((positive_int("'n_draws'", n_draws), *mean.shape))
        return mean + deviation * noise.astype(mean.dtype)

    def active_units(self, X: Any, threshold: float = ACTIVE) -> np.ndarray:
        """Active components: those whose posterior mean varies over the rows (Burda et al., 2016).

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        threshold : float
            Variance from which a component is active; the prior's is 1.

        Returns
        -------
        ndarray of bool of shape (k,)
        """
        return self.posterior(X)[0].var(0) > threshold

    # -- densities

    def elbo(
        self, X: Any, n_draws: int = 1, *, form: Literal["divergence", "joint"] = "divergence", random_state: Any = None
    ) -> np.ndarray:
        r"""The evidence lower bound on log p(x) of each row, an unbiased estimate, in nats and in the data's units.

        .. math:: E_q \log p(x|z) - KL(q(z|x), p(z)) = E_q \log p(x, z) + H(q)

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        n_draws : int
            Codes a row that the expectation is estimated from.
        form : {"divergence", "joint"}
            Which side of the equation: they agree in expectation.
        random_state : int, NumPy generator or None
            Seed of the draws; None takes the fit's own, so that the answer is the same at every call.

        Returns
        -------
        ndarray of shape (n,)
        """
        if form not in BOUNDS:
            raise OptionError("'form' must be 'divergence' or 'joint'", got=f"{form!r}")
        return self._over_draws(X, n_draws, random_state, BOUNDS[form], lambda bounds: bounds.mean(0))

    def log_likelihood(
        self, X: Any, n_draws: int = 100, *, return_error: bool = False, random_state: Any = None
    ) -> Any:
        r"""Log p(x) of each row by importance sampling from q(z|x), in nats and in the data's units.

        .. math:: \log \frac1m \sum_{j=1}^m \frac{p(x|z_j) p(z_j)}{q(z_j|x)}

        A lower bound in expectation, tighter with every draw (Burda et al., 2016), and exact where q is the posterior.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        n_draws : int
            m, codes a row.
        return_error : bool, default False
            Give the standard error of each estimate too, by the delta method; NaN for one draw, which has none.
        random_state : int, NumPy generator or None
            Seed of the draws; None takes the fit's own.

        Returns
        -------
        ndarray of shape (n,), or two of them
        """
        found = self._over_draws(X, n_draws, random_state, _log_weights, _mean_and_error)
        estimate, error = found.T
        return (estimate, error if n_draws > 1 else np.full_like(error, np.nan)) if return_error else estimate

    def score_samples(self, X: Any) -> np.ndarray:
        r"""The importance-weighted bound on log p(x) of each row, from 64 codes that are the same at every call.

        .. math:: \log \frac1m \sum_{j=1}^m \frac{p(x|z_j) p(z_j)}{q(z_j|x)}, \qquad z_j = \mu + \sigma \epsilon_j

        with scrambled Sobol points as :math:`\epsilon_j`, the same for every row, which have less error than random
        ones. In expectation over the scrambling it is at most log p(x) (Burda et al., 2016); it is exact where q is the
        posterior, as at a linear start. ``log_likelihood`` takes any number of draws and gives a standard error.
        A score takes 10 to 30 times as long as a reconstruction; from 16 codes a mean would be off by some .03 nats.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n,)
            Nats, in float64 and the data's units.
        """
        return self._log_densities(X, _in_blocks(self._score, SCORE_DRAWS))

    def _score(self, composition: Composition, rows: Batch, seen: Batch) -> Tensor:
        """``score_samples`` in the model's units."""
        noise = _sobol_normals(self.n_components_, training.generator(self.seed_, "score").initial_seed())
        return model.logmeanexp(_log_weights(composition, _drawn(composition, rows, seen, noise)))

    def _bound_at_mean(self, array: np.ndarray) -> np.ndarray:
        """The bound on log p(x) of each row with the mean for all codes, log p(x|mu) - KL(q(z|x), p(z)): one pass."""
        return self._log_densities_of(array, self._at_mean)

    def _at_mean(self, composition: Composition, rows: Batch, seen: Batch) -> Tensor:
        """The same in the model's units."""
        noise = rows.x.new_zeros((1, rows.x.shape[0], self.n_components_))
        return _bound(composition, _drawn(composition, rows, seen, noise))[0]

    def _drawn_by(self, seed: int) -> Callable[[Composition, Batch, Batch, int, torch.Generator], Tensor]:
        return self._drawn_given(seed)

    def _over_draws(
        self,
        X: Any,
        n_draws: int,
        random_state: Any,
        value: Callable[[Composition, Trace], Tensor],
        summary: Callable[[Tensor], Tensor],
    ) -> np.ndarray:
        """Summarise a value of every code drawn, shape (m, n), over a row's draws; a bounded number at a time."""
        n_draws = positive_int("'n_draws'", n_draws)
        seed = self.seed_ if random_state is None else training.resolve_seed(random_state)
        counter = itertools.count()

        def values(model: Composition, rows: Batch, seen: Batch) -> Iterator[Tensor]:
            device, dtype = rows.x.device, rows.x.dtype
            for first in range(0, n_draws, DRAWS_A_PASS):
                shape = (min(DRAWS_A_PASS, n_draws - first), len(rows), self.n_components_)
                source = training.generator(seed, "draws", next(counter), device=device)
                noise = torch.randn(shape, generator=source, device=device, dtype=dtype)
                yield value(model, _drawn(model, rows, seen, noise))

        def summarised(model: Composition, rows: Batch, seen: Batch) -> Tensor:
            return summary(torch.cat(list(values(model, rows, seen))))

        return self._log_densities(X, _in_blocks(summarised, n_draws))


def _in_blocks(question: Question, n_draws: int) -> Question:
    """The same question, asked about so few rows at a time that the memory of their draws is bounded."""

    def over_rows(model: Composition, rows: Batch, seen: Batch) -> Tensor:
        n_rows = max(DRAWN_CELLS // (rows.x.shape[1] * min(n_draws, DRAWS_A_PASS)), 1)
        parts = (itemgetter(slice(first, first + n_rows)) for first in range(0, len(rows), n_rows))
        return torch.cat([question(model, rows.map(part), seen.map(part)) for part in parts])

    return over_rows


@lru_cache(maxsize=8)
def _sobol_normals(k: int, seed: int) -> Tensor:
    """Standard normal noise of shape (m, 1, k) from scrambled Sobol points, in float64."""
    with torch.inference_mode(False):  # it is kept, for callers in other modes
        if k > torch.quasirandom.SobolEngine.MAXDIM:
            source = torch.Generator().manual_seed(seed)
            return torch.randn((SCORE_DRAWS, 1, k), generator=source, dtype=torch.float64)
        points = torch.quasirandom.SobolEngine(k, scramble=True, seed=seed).draw(SCORE_DRAWS, dtype=torch.float64)
        return torch.special.ndtri(points.clamp(1e-9, 1 - 1e-9))[:, None, :]


def _moments(model: Composition, rows: Batch) -> Tensor:
    """Mean and standard deviation of q(z|x) side by side, shape (n, 2 k)."""
    q = model.encode(*rows.cells)
    assert q.variance is not None
    return torch.cat([q.mean, q.variance.sqrt()], dim=1)


def _drawn(composition: Composition, rows: Batch, seen: Batch, noise: Tensor) -> Trace:
    """What happens to clean rows for noise of shape (m, n, k)."""
    q = composition.encode(*seen.cells)
    z = q.draw(noise)
    return model.Trace(*rows.cells, seen.x, q, z, composition.decode(z), composition.likelihood.target(*rows.cells))


def _log_weights(composition: Composition, trace: Trace) -> Tensor:
    """The logarithm of p(x|z) p(z) / q(z|x), shape (m, n)."""
    assert composition.prior is not None
    return composition.prior.log_prob(trace.z) - trace.q.log_prob(trace.z) - model.negative_log_likelihood(trace)


def _bound(composition: Composition, trace: Trace) -> Tensor:
    """The evidence lower bound with its divergence in closed form, for each draw; shape (m, n)."""
    assert composition.prior is not None
    return -model.negative_log_likelihood(trace) - composition.prior.divergence(trace.q, trace.z)


def _joint_bound(composition: Composition, trace: Trace) -> Tensor:
    """The evidence lower bound with the posterior's entropy in closed form, for each draw; shape (m, n)."""
    assert composition.prior is not None
    assert isinstance(trace.q, parts.DiagonalPosterior)
    return composition.prior.log_prob(trace.z) - model.negative_log_likelihood(trace) + trace.q.entropy


BOUNDS = {"divergence": _bound, "joint": _joint_bound}


def _mean_and_error(log_weights: Tensor) -> Tensor:
    """The logarithm of the weights' mean and its standard error by the delta method, shape (n, 2)."""
    m = len(log_weights)
    relative = (log_weights - log_weights.amax(0)).exp()
    error = relative.std(0, correction=min(m - 1, 1)) / (relative.mean(0) * m**0.5)
    return torch.stack([model.logmeanexp(log_weights), error], dim=1)
