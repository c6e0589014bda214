"""The linear autoencoder with the terms of a model: a possible start, and the baseline for training to improve on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from sklearn.base import clone
from torch import Tensor

from eigencode.batch import Batch
from eigencode.fitting.data import Data
from eigencode.fitting.start import begin_at, build
from eigencode.model.composition import Composition
from eigencode.model.initialization import LinearProblem, LinearStart, linear_problem, linear_starts
from eigencode.model.objective import Objective
from eigencode.model.pca import Spectrum, has_small_moment, second_moment, spectrum, spectrum_of_moment
from eigencode.parts.likelihoods.base import Likelihood
from eigencode.parts.likelihoods.observed import evenly_sampled, mean, median
from eigencode.training.evaluation import EVALUATION_ROWS, evaluate

OUTLYING = 5.0
"""Cells further than this from their column's median, in median absolute deviations, are outliers; for normal cells it
is 3.4 standard deviations."""

NOTICEABLE = 0.005
"""A linear start replaces one tried before it if its objective is better by more than this share of what that gains on
the best constant: a share of the objective itself would change with columns that are constant."""


@dataclass(frozen=True)
class View:
    """Working units, and the principal directions of the rows in them.

    Attributes
    ----------
    inward, outward : Tensor
        Factors from scaled columns to working units, and from working units to the decoder's outputs, shape (d,).
    rows : Batch
        The rows, times the square roots of their weights.
    moment : Tensor or None
        Their second moment, if it is small.
    spectrum : Spectrum
        The principal directions.
    """

    inward: Tensor
    outward: Tensor
    rows: Batch
    moment: Tensor | None
    spectrum: Spectrum

    @property
    def is_plain(self) -> bool:
        """Whether the working units are the scaled ones."""
        return _is_plain(self.inward) and _is_plain(self.outward)

    def problem(self, linear: Composition, objective: Objective) -> LinearProblem:
        """The linear problem of these units."""
        units = self.inward, self.outward
        return linear_problem(self.rows, self.spectrum, linear, objective, units, self.moment)


def principal_directions(
    likelihood: Likelihood, data: Data, n_components: int | None, share: float | None, is_tied: bool, seed: int
) -> list[View]:
    """The likelihood's working units for scaled rows, with the principal directions in each.

    There are ``n_components`` directions; if that is None, as many as have a share of the variance in the first units.
    """
    ready = clone(likelihood)
    ready.setup(data.sizes)
    found: list[View] = []
    for inward, outward in ready.expansion.working_units(data.sample):
        if is_tied and not torch.equal(inward, outward):
            inward = outward = (inward * outward).abs().sqrt()  # so that the decoder is the encoder's transpose
        # A Newton step is an approximation of the objective. Variances of columns are the optimum of all rows.
        is_exact = _is_plain(inward) or ready.expansion.has_variances
        rows = data.weighed if is_exact else data.few_weighed
        known = [view.moment for view in found if view.rows is rows]
        moment = known[0] if known else moment_of(rows)
        directions = _spectrum(rows, moment, inward, n_components, seed, share)
        n_components = n_components or directions.n_components_for(share or 1.0)
        found.append(View(inward, outward, rows, moment, directions))
        if ready.expansion.is_robust:
            directions = spectrum(_rescaled(_without_outliers(data.typical), inward), n_components, seed)
            found.append(View(inward, outward, rows, moment, directions))
    return found


def moment_of(rows: Batch) -> Tensor | None:
    """The second moment of rows, shape (d, d), in float64; None of many columns, or of few rows."""
    return second_moment(rows.x, rows.observed) if has_small_moment(rows) else None


def _spectrum(
    rows: Batch, moment: Tensor | None, factors: Tensor, n_components: int | None, seed: int, share: float | None
) -> Spectrum:
    """Principal directions of the rows with each column times a factor."""
    if moment is None:
        return spectrum(_rescaled(rows, factors), n_components, seed, share)
    if not _is_plain(factors):
        moment = torch.outer(factors, factors).mul_(moment)
    # Of covariances over different rows all eigenvalues are needed: some may be negative.
    wanted = (n_components, share) if rows.observed is None else (None, None)
    return spectrum_of_moment(moment, *wanted)


def _is_plain(factors: Tensor) -> bool:
    return bool((factors == 1).all())


def _rescaled(batch: Batch, factors: Tensor) -> Batch:
    """Rows with each column times a factor."""
    return batch if _is_plain(factors) else replace(batch, x=batch.x * factors.to(batch.x))


def _without_outliers(batch: Batch) -> Batch:
    """Centred rows with cells clipped at a few median absolute deviations from their column's median.

    A column with the same value in more than half of the rows has a deviation of 0, and is not clipped.
    """
    sample = evenly_sampled(batch)
    middle = median(sample.x, sample.observed)
    reach = OUTLYING * median((sample.x - middle).abs(), sample.observed)
    reach = torch.where(reach > 0, reach, torch.inf)
    kept = batch.x.clamp(middle - reach, middle + reach)
    return Batch(kept.sub_(mean(kept, batch.observed)), batch.observed)


@dataclass(frozen=True, eq=False)
class Baseline:
    """The best linear map that a model may start as.

    Attributes
    ----------
    composition : Composition
        The linear model, with the weights of the start.
    start : LinearStart
        The linear map.
    """

    composition: Composition
    start: LinearStart


def find_baseline(
    linear: Composition, views: Sequence[View], data: Data, objective: Objective, n_components: int, seed: int
) -> Baseline | None:
    """The linear start with the least objective of the model; None if there is none."""
    build(linear, data, n_components, seed)
    starts = [start for view in views for start in linear_starts(view.problem(linear, objective))]
    is_newton = not views[0].is_plain
    best = (
        starts[0]
        if len(starts) == 1 and starts[0].is_optimum
        else _best(linear, starts, data, objective, is_newton, seed)
    )
    if best is None:
        return None
    length = begin_at(linear, data, best, is_newton)
    return Baseline(linear, replace(best, length=length))


def _best(
    linear: Composition, starts: Sequence[LinearStart], data: Data, objective: Objective, is_newton: bool, seed: int
) -> LinearStart | None:
    """The start with the least objective; the first one is PCA, and others replace it if clearly better."""

    def objective_at(start: LinearStart) -> float:
        try:
            begin_at(linear, data, start, is_newton, is_rough=True)
            return evaluate(linear, objective, data.sample.split(EVALUATION_ROWS), seed)
        except Exception:  # a user's part may not work with linear networks
            return math.nan

    found = [(value, start) for start in starts if math.isfinite(value := objective_at(start))]
    if len(found) < 2:
        return found[0][1] if found else None
    (least, best), *others = found
    of_constant = objective_at(starts[0].times(0.0))
    scale = of_constant if math.isfinite(of_constant) else 0.0
    for value, start in others:
        if value < least - NOTICEABLE * abs(scale - least):
            best, least = start, value
    return best
