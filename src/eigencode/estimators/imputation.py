r"""Imputation: gaps of rows filled by what a fitted autoencoder knows.

An autoencoder's code is smaller than a row, so a reconstruction loses detail that the known cells tell of the missing
ones. What is filled in is the mean of the missing cells under the normal density of the rows (`Completing`), drawn to
the reconstruction, and moved by what training has changed of it:

.. math:: \hat x_j + \gamma_j \, (r_j(x) - \hat x_j) + \delta_j \, (r_j(x) - r^0_j(x))

with :math:`r^0` for the linear start. The gains :math:`\gamma, \delta` of a column are found by least squares on
validation cells that were hidden. At the start they are 0: a model that is not trained imputes as EM does.
Where a cell is a logarithm, half of its conditional variance is added, so that its exponential is the mean.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eigencode import parts, training
from eigencode.data.gaps import missing_values_of
from eigencode.data.memory import require_memory
from eigencode.data.sources import chunk_rows
from eigencode.data.tables import as_frame
from eigencode.errors import OptionError, is_int, positive_int
from eigencode.estimators.evaluation import checked, filled
from eigencode.estimators.inference import Inference
from eigencode.estimators.inputs import framed, read_rows, require_in_memory
from eigencode.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from eigencode.batch import Batch
    from eigencode.data.containers import NamedArray
    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.model import Composition
    from eigencode.training import TrainingRun

DRAWS = 8
"""Times that cells of each validation row are hidden."""

PRIOR_CELLS = 20
"""Cells for which the gains of all columns count in those of each column."""


SHRINKAGE = 0.05
"""Share of the terms' squares by which the gains are made smaller: where the start is the conditional mean, both terms
are the same."""


class Imputation(Inference):
    """Filling the gaps of rows."""

    baseline_: BaseAutoencoder | None

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        return super().saved_attributes() | {"imputation_gains_": np.ndarray | None}

    def impute(
        self,
        X: Any,
        *,
        n_draws: int | None = None,
        random_state: Any = None,
        first_row: int = 0,
        output: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Fill the gaps (NaN) of rows; known cells stay as they are, bit for bit.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        n_draws : int, optional
            Give this number of tables instead of one, for multiple imputation: the gaps of a row are drawn together
            from their distribution given its known cells, where one table has the mean.
        random_state : int, NumPy generator or None
            Seed of the draws; with None they differ from call to call.
        first_row : int, default 0
            Number of X's first row in a table of which X is a part, so that the draws are those of the whole table. It
            is a multiple of 8,192 (of wide rows, of a smaller number), and X ends at another one or with the table.
        output : path-like, optional
            Write the rows to this file, a block at a time, and return None, as ``reconstruct`` does; without draws.

        Returns
        -------
        ndarray of shape (n, d), or a frame where one was fitted; or list of them
            The rows, in X's float type. A frame's column without gaps has the type given; others have the type fitted
            if it can hold the values given, but labels keep the type given. A mean is E[x] in the data's units: of a
            number that is modelled by its logarithm it is not the exponential of a mean, and of whole numbers in a
            column of floats it is not rounded. Of a category the likeliest is given. Draws are whole where the data
            are.

        Examples
        --------
        >>> import numpy as np
        >>> from eigencode import Autoencoder
        >>> X = np.random.default_rng(0).normal(size=(200, 1)) * [1.0, 2.0, 3.0]
        >>> X[::4, 1] = np.nan
        >>> model = Autoencoder(1, max_epochs=5, random_state=0).fit(X)
        >>> filled = model.impute(X)
        >>> bool(abs(filled[::4, 1] - 2 * X[::4, 0]).max() < 0.1)
        True
        >>> len(model.impute(X, n_draws=5, random_state=0))
        5
        """
        check_is_fitted(self)
        if output is not None:
            if n_draws is not None:
                raise OptionError(
                    "'output' is for one table", got=f"n_draws={n_draws!r}", hint="Write the draws one by one"
                )
            return self._write(output, X, self.impute)
        read = read_rows(self, X)
        require_in_memory("impute without output=", read)
        given = _tabled(read, X)
        has_types = read.frame is not None
        if n_draws is None:
            means = self._answers(given.array, self._expected, self._in_data_units)
            return self._filled(given, (block[None] for block in means), mean=True, has_types=has_types)[0]
        n_draws = positive_int("'n_draws'", n_draws)
        n_rows = chunk_rows(self._n_cells)
        if not (is_int(first_row) and first_row >= 0 and first_row % n_rows == 0):
            raise OptionError(f"'first_row' must be a multiple of {n_rows:,} here, from 0 on", got=f"{first_row!r}")
        n_bytes = 8.0 * n_draws * len(given.array) * self._n_cells
        require_memory(n_bytes, f"{n_draws} tables of {len(given.array)} rows", "Give fewer rows or draws at a time")
        seed = training.resolve_seed(random_state)
        number = itertools.count(int(first_row), n_rows)
        drawn = self._drawn_by(seed)

        def draws(model: Composition, rows: Batch, seen: Batch) -> Tensor:
            source = training.generator(seed, "imputation", next(number), device=rows.x.device)
            return drawn(model, rows, seen, n_draws, source)

        return self._filled(
            given,
            self._answers(given.array, draws, lambda cells: np.stack([self._in_data_units(x) for x in cells])),
            has_types=has_types,
        )

    def _filled(
        self, given: NamedArray, blocks: Iterator[np.ndarray], mean: bool = False, has_types: bool = True
    ) -> list[Any]:
        """Tables of the rows with some cells, which may be means, in their gaps.

        Each block, of shape (m, b, d), has the cells of the next rows for each of the tables. Columns without gaps have
        the type given if they have types of their own, as those of an array have not.
        """
        blocks = checked(blocks)
        if mean and self.columns_ is not None:  # a normal density of logarithms has means far beyond all numbers
            blocks = (np.minimum(block, self.columns_.highest) for block in blocks)
        with torch.inference_mode():
            if self.columns_ is not None and given.frame is not None:
                return self.columns_.filled_each(given.frame, blocks, missing_values_of(self), mean, has_types)
        cells = filled(len(given.array), (block.swapaxes(0, 1) for block in blocks))
        return [self._without_gaps(given, cells[:, draw], mean) for draw in range(cells.shape[1])]

    def _without_gaps(self, given: NamedArray, cells: np.ndarray, mean: bool) -> Any:
        """An array of the rows with these cells in their gaps; or a frame, where one was fitted."""
        rows = np.where(np.isnan(given.array), cells, given.array).astype(given.array.dtype)
        if self.columns_ is not None:
            return self.columns_.decode(rows, mean=mean)
        return rows if given.layout is None else given.layout.images(rows)

    def _expected(self, model: Composition, rows: Batch, seen: Batch) -> Tensor:
        """The mean of each cell given the known ones, in the likelihood's units; of a category, the likeliest."""
        mean = self._conditional_mean(model, seen)
        if (logarithms := self._logarithms).any() and (variance := self._conditional_variance(model, seen)) is not None:
            # The logarithm of the mean of a log-normal number.
            mean = mean + torch.from_numpy(logarithms * self.scaler_.divisor / 2).to(mean) * variance
        found = model.likelihood.target(mean) if self.columns_ is None else _unrounded(model, mean)
        for columns in _categories(model):
            found = _chosen(found, columns, found[..., columns].argmax(-1, keepdim=True))
        return found

    @property
    def _logarithms(self) -> np.ndarray:
        """Which cells are the logarithms of a number, shape (d,)."""
        found = np.zeros(len(self.scaler_.center), bool) if self.columns_ is None else self.columns_.is_logarithm
        return np.logical_or(found, self.scaler_.logarithmic or False)

    def _conditional_variance(self, model: Composition, seen: Batch) -> Tensor | None:
        """The variance of each scaled cell given the known ones, None if it is not known."""
        completing = _completing_of(model)
        if completing is None:
            return None
        _, variance = completing.conditional(_with_nan(seen))
        return variance if self._gains is None else variance * torch.from_numpy(self._gains[2]).to(variance).square()

    def _conditional_mean(self, model: Composition, seen: Batch) -> Tensor:
        """The mean of each scaled cell given the known ones."""
        completing = _completing_of(model)
        if completing is None:
            return model.likelihood.scaled(model.reconstruct(*seen.cells).mean)
        completed, learned = self._terms(model, completing, seen)
        if self._gains is None:
            return completed
        return completed + (torch.from_numpy(self._gains[:2]).to(completed)[:, None] * learned).sum(0)

    @property
    def _knows_gaps(self) -> bool:
        """Whether there is a normal density of the rows, as where some of those fitted had gaps."""
        return _completing_of(self.composition_) is not None

    def _drawn_by(self, seed: int) -> Callable[[Composition, Batch, Batch, int, torch.Generator], Tensor]:
        """The function that draws all cells of scaled rows given the known ones, shape (m, n, d)."""
        return self._normal_draws

    def _normal_draws(
        self, model: Composition, rows: Batch, seen: Batch, n_draws: int, source: torch.Generator
    ) -> Tensor:
        """Draws of all cells given the known ones, in the likelihood's units, shape (m, n, d).

        Normal noise is drawn from the density given the known cells: a row of the whole density, minus its own
        conditional mean (Matheron's rule). Shares and categories are drawn by their probabilities.
        """
        mean, completing = self._conditional_mean(model, seen), _completing_of(model)
        cells = mean.expand(n_draws, *mean.shape)
        if completing is not None:
            spread = torch.ones(mean.shape[1]) if self._gains is None else torch.from_numpy(self._gains[2])
            cells = cells + spread.to(mean) * completing.conditional_noise(seen, n_draws, source)
        found, shares = model.likelihood.target(cells), model.likelihood.target(mean).clamp(0, 1)
        uniform = torch.rand(found.shape, generator=source, device=found.device, dtype=found.dtype)
        is_share = [cell.support == "unit interval" for cell in model.likelihood.cells(mean.shape[1])]
        found = torch.where(torch.tensor(is_share, device=found.device), (uniform < shares).to(found), found)
        for columns in _categories(model):
            # The smallest of exponential waiting times is that of a category with its probability.
            times = -uniform[..., columns].clamp(min=1e-12).log() / (shares[..., columns] + 1e-9)
            found = _chosen(found, columns, times.argmin(-1, keepdim=True))
        return found

    @property
    def _gains(self) -> np.ndarray | None:
        """The factors of the two terms that were learned, and of the density's deviations, shape (3, d)."""
        return getattr(self, "imputation_gains_", None)

    def _terms(self, model: Composition, completing: parts.Completing, seen: Batch) -> tuple[Tensor, Tensor]:
        """The normal density's mean of each scaled cell, and what the gains multiply, shape (2, n, d)."""
        completed = completing.completed(_with_nan(seen))
        rebuilt = model.likelihood.scaled(model.reconstruct(*seen.cells).mean)
        start = rebuilt
        if self.baseline_ is not None:
            linear = self.baseline_._model_in(np.dtype(str(seen.x.dtype).removeprefix("torch.")))
            start = linear.likelihood.scaled(linear.reconstruct(*seen.cells).mean)
        return completed, torch.stack([rebuilt - completed, rebuilt - start])

    def _learn_imputation(self, run: TrainingRun) -> None:
        """Find the gains of each column on validation cells that are hidden."""
        model = self.composition_
        completing = _completing_of(model)
        if completing is None or self.best_epoch_ == 0:
            return
        input_dropout = model.input_dropout or parts.InputDropout()
        if model.input_dropout is None:
            input_dropout.setup(parts.Sizes(model.n_features, model.n_components))
        device = torch.device(self.execution_.device)
        shape = model.n_features, 3, 3
        moments, n_cells = torch.zeros(shape, dtype=torch.float64, device=device), torch.zeros(shape[0], device=device)
        with torch.inference_mode():
            for number, rows in enumerate(run.rows.validation(training.EVALUATION_ROWS)):
                rows = rows.to(device)
                known = torch.ones_like(rows.x, dtype=torch.bool) if rows.observed is None else rows.observed
                for draw in range(DRAWS):
                    source = training.generator(run.state.seed, "imputation", number, draw, device=device)
                    left = input_dropout(known, input_dropout.draw_noise(len(rows), model.n_features, source))
                    completed, learned = self._terms(model, completing, replace(rows, observed=left))
                    is_hidden = known & ~left
                    terms = torch.cat([learned, (rows.x - completed)[None]]).where(is_hidden, 0.0).double()
                    moments += torch.einsum("anj,bnj->jab", terms, terms)
                    n_cells += is_hidden.sum(0)
        self.imputation_gains_ = _gains(moments, n_cells).T.cpu().numpy()


def _gains(moments: Tensor, n_cells: Tensor) -> Tensor:
    """The factors of each column with the least squared error, drawn to those of all columns where cells are few.

    ``moments``, of shape (d, 3, 3), are the sums of products of the two terms and of what they should sum to. The third
    factor is the root of the share of squared error that is left.
    """
    mean = moments / n_cells.clamp(min=1)[:, None, None]
    pooled = moments + PRIOR_CELLS * DRAWS * mean.mean(0)
    squares = pooled[:, :2, :2]
    ridge = SHRINKAGE * squares.diagonal(dim1=1, dim2=2).sum(1) + 1e-9
    factors = torch.linalg.solve(squares + ridge[:, None, None] * torch.eye(2).to(squares), pooled[:, :2, 2]).clamp(
        0, 1
    )
    ends = torch.cat([-factors, torch.ones_like(factors[:, :1])], dim=1)
    left = torch.einsum("ja,jab,jb->j", ends, pooled, ends) / pooled[:, 2, 2].clamp(min=1e-9)
    is_better = (left < 1)[:, None]
    return torch.cat([factors.where(is_better, 0.0), left.clamp(0.01, 1).sqrt()[:, None]], dim=1)


def _with_nan(rows: Batch) -> Tensor:
    """Scaled rows with NaN in their gaps."""
    return rows.x if rows.observed is None else rows.x.where(rows.observed, torch.nan)


def _unrounded(model: Composition, scaled: Tensor) -> Tensor:
    """Scaled cells in the likelihood's units, within its support: means of counts, which are no counts."""
    likelihood, cells = model.likelihood, model.likelihood.cells(scaled.shape[-1])
    low = [-math.inf if cell.support == "real" else 0.0 for cell in cells]
    high = [1.0 if cell.support == "unit interval" else math.inf for cell in cells]
    found = likelihood.unscaled(scaled)
    return found.clamp(torch.tensor(low).to(found), torch.tensor(high).to(found))


def _tabled(rows: NamedArray, X: Any) -> NamedArray:
    """The same rows with a frame where they were an array and the model has columns of types of their own."""
    if rows.schema is None or rows.frame is not None or rows.is_mixed:
        return rows if isinstance(X, str | os.PathLike) else framed(rows, X)
    return replace(rows, frame=as_frame(rows.schema.frame_of(rows.array)))


def _chosen(cells: Tensor, columns: np.ndarray, labels: Tensor) -> Tensor:
    """Cells with these labels of the categories in some columns, shapes (..., d), (m, w) and (..., m, 1)."""
    indicators = cells.new_zeros(*labels.shape[:-1], columns.shape[1]).scatter(-1, labels, 1.0)
    return cells.index_copy(-1, torch.from_numpy(columns.ravel()).to(cells.device), indicators.flatten(-2))


def _categories(model: Composition) -> list[np.ndarray]:
    """The columns of the categories, of those with w labels as an array of shape (n_categories, w)."""
    widths, cells = model.likelihood.block_widths(model.n_features), model.likelihood.cells(model.n_features)
    blocks = np.split(np.arange(model.n_features), np.cumsum(widths)[:-1])
    found = [block for block in blocks if len(block) > 1 and not cells[block[0]].is_bit]
    return [np.stack([block for block in found if len(block) == width]) for width in sorted(set(map(len, found)))]


def _completing_of(model: Composition) -> parts.Completing | None:
    """The part that knows the normal density of rows, None for a model of rows without gaps, or of labels."""
    found = next((part for part in model.encoder.modules() if isinstance(part, parts.Completing)), None)
    return found if found is not None and len(found.center) == model.n_features else None
