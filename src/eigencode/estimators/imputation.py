r"""Imputation: gaps of rows filled by what a fitted autoencoder knows.

An autoencoder's code is smaller than a row, so a reconstruction loses detail that the known cells tell of the missing
ones. What is filled in is the mean of the missing cells under the normal density of the rows (`Completing`), and what
the decoder has learned beside its linear start:

.. math:: \hat x_j + \gamma_j \, (g_j(f(x)) - g^0_j(f^0(x)))

with 0 for the linear start, or the conditional mean itself where there is none. The gain :math:`\gamma_j` of a column
is between 0 and 1, by least squares on validation cells that were hidden; at the start the second term is 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eigencode import parts, training
from eigencode.estimators.evaluation import numbers_only
from eigencode.estimators.inference import Inference
from eigencode.estimators.inputs import read_rows
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.batch import Batch
    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.model import Composition
    from eigencode.training import TrainingRun

DRAWS = 8
"""Times that cells of each validation row are hidden."""

PRIOR_CELLS = 20
"""Cells for which the gain of all columns counts in that of each column."""


class Imputation(Inference):
    """Filling the gaps of rows."""

    baseline_: BaseAutoencoder | None

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        """The fitted attributes that a file keeps, with their types."""
        return super().saved_attributes() | {"imputation_gain_": np.ndarray | None}

    def impute(self, X: Any) -> np.ndarray:
        """Fill the gaps (NaN) of rows; known cells stay as they are, bit for bit.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n, d)
            The rows, in X's float type.

        Examples
        --------
        >>> import numpy as np
        >>> from eigencode import Autoencoder
        >>> X = np.random.default_rng(0).normal(size=(200, 1)) * [1.0, 2.0, 3.0]
        >>> X[::4, 1] = np.nan
        >>> filled = Autoencoder(1, max_epochs=5, random_state=0).fit(X).impute(X)
        >>> bool(abs(filled[::4, 1] - 2 * X[::4, 0]).max() < 0.1)
        True
        """
        check_is_fitted(self)
        given = read_rows(self, X)
        array = given.array
        if array.dtype.kind != "f":
            return array.copy()
        filled = numbers_only(self._answer_of(array, self._expected, self._in_data_units))
        rows = np.where(np.isnan(array), filled, array)
        return rows if given.layout is None else given.layout.images(rows)

    def _expected(self, model: Composition, rows: Batch, seen: Batch) -> Tensor:
        """The mean of each cell given the known ones, in the likelihood's units."""
        completing = _completing_of(model)
        if completing is None:
            return model.reconstruct(*seen.cells).mean
        completed, learned = self._terms(model, completing, seen)
        gain = getattr(self, "imputation_gain_", None)
        if gain is not None:
            completed = completed + torch.from_numpy(gain).to(completed) * learned
        return model.likelihood.target(completed)

    def _terms(self, model: Composition, completing: parts.Completing, seen: Batch) -> tuple[Tensor, Tensor]:
        """The normal density's mean of each scaled cell, and what the decoder has learned beside its start."""
        completed = completing.completed(seen.x if seen.observed is None else seen.x.where(seen.observed, torch.nan))
        known = completed
        if self.baseline_ is not None:
            linear = self.baseline_._model_in(np.dtype(str(seen.x.dtype).removeprefix("torch.")))
            known = linear.likelihood.scaled(linear.reconstruct(*seen.cells).mean)
        return completed, model.likelihood.scaled(model.reconstruct(*seen.cells).mean) - known

    def _learn_imputation(self, run: TrainingRun) -> None:
        """Find the gain of each column on validation cells that are hidden."""
        model = self.composition_
        completing = _completing_of(model)
        if completing is None or not self.history_:
            return
        hiding = model.hiding or parts.Hiding()
        if model.hiding is None:
            hiding.setup(parts.Sizes(model.n_features, model.n_components))
        device = torch.device(self.execution_.device)
        products, squares, n_cells = torch.zeros(3, model.n_features, dtype=torch.float64, device=device)
        with torch.inference_mode():
            for number, rows in enumerate(run.rows.validation(training.EVALUATION_ROWS)):
                rows = rows.to(device)
                known = torch.ones_like(rows.x, dtype=torch.bool) if rows.observed is None else rows.observed
                for draw in range(DRAWS):
                    source = training.generator(run.state.seed, "imputation", number, draw, device=device)
                    left = hiding(known, hiding.draw_noise(len(rows), model.n_features, source))
                    completed, learned = self._terms(model, completing, replace(rows, observed=left))
                    is_hidden = (known & ~left).double()
                    learned = learned.double() * is_hidden
                    products += (learned * (rows.x - completed)).sum(0)
                    squares += learned.square().sum(0)
                    n_cells += is_hidden.sum(0)
        self.imputation_gain_ = _gains(products, squares, n_cells).cpu().numpy()


def _gains(products: Tensor, squares: Tensor, n_cells: Tensor) -> Tensor:
    """The factor of each column with the least squared error, drawn to that of all columns where cells are few."""
    tiny = torch.finfo(squares.dtype).tiny
    overall = (products.sum() / squares.sum().clamp(min=tiny)).clamp(0, 1)
    prior = PRIOR_CELLS * squares / n_cells.clamp(min=1)
    return ((products + prior * overall) / (squares + prior).clamp(min=tiny)).clamp(0, 1)


def _completing_of(model: Composition) -> parts.Completing | None:
    """The part that knows the normal density of rows, None for a model of rows without gaps, or of labels."""
    found = next((part for part in model.encoder.modules() if isinstance(part, parts.Completing)), None)
    return found if found is not None and len(found.center) == model.n_features else None
