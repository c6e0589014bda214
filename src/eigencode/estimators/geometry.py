"""Geometry: derivatives of a fitted autoencoder's codes by their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eigencode import model, parts
from eigencode.estimators.evaluation import FAR_WEIGHTS, numbers_only
from eigencode.estimators.inference import Inference
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.batch import Batch
    from eigencode.model import Composition, RowFunction


class Geometry(Inference):
    """The Jacobian of the encoder at each row, its singular values, and the local dimension of the data."""

    n_features_in_: int

    def jacobian(self, X: Any, *, scaled: bool = False) -> np.ndarray:
        r"""The Jacobian of the mean code at each row.

        .. math:: J_{ij} = \partial h_i / \partial x_j

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        scaled : bool, default False
            Differentiate by scaled columns instead of the data's own.

        Returns
        -------
        ndarray of shape (n, k, d)
            Code per unit of each column, in X's float type.
        """
        return self._of_code(X, model.jacobian, scaled)

    def jacobian_spectrum(self, X: Any, *, scaled: bool = True) -> np.ndarray:
        """The singular values of the Jacobian at each row, largest first.

        If the row moves a little along the i-th singular direction, the code moves by the i-th value times that length.
        Values near zero belong to directions that the code ignores; a contractive autoencoder has a few large ones,
        along which the data vary (Rifai et al., 2011).

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        scaled : bool, default True
            Measure moves in scaled units, in which columns can be compared, instead of the data's.

        Returns
        -------
        ndarray of shape (n, min(k, d))
            In X's float type.
        """
        return self._of_code(X, model.singular_values, scaled)

    def local_dimension(self, X: Any, *, share: float = 0.95) -> np.ndarray:
        """The number of directions around each row in which the code changes.

        The least number of singular values of the Jacobian, in scaled units, whose squares make up a share of all.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        share : float, default 0.95
            Above 0 and at most 1.

        Returns
        -------
        ndarray of int of shape (n,)
            0 if the code is constant around the row.
        """
        return model.local_dimension(torch.from_numpy(self.jacobian_spectrum(X)), share).numpy()

    def _of_code(self, X: Any, question: Callable[[RowFunction, Tensor], Tensor], scaled: bool) -> np.ndarray:
        """A function of the Jacobian of the mean code, by scaled units or the data's."""
        check_is_fitted(self)
        own = parts.Units.of(self.scaler_)
        # A centre changes no derivative and would round small differences; only logarithms need it.
        is_kept = torch.tensor(False) if own.logarithmic is None else own.logarithmic
        own = replace(own, center=torch.where(is_kept, own.center, 0.0))
        units = parts.Units(torch.zeros_like(own.center), torch.ones_like(own.center)) if scaled else own

        def answer(composition: Composition, rows: Batch, seen: Batch) -> Tensor:
            # Rows are clipped inside, so that the derivative is that of ``transform``.
            def code(x: Tensor) -> Tensor:
                return composition.encode(self._seen(units.scaled(x)), rows.observed).mean

            return question(code, units.in_data_units(rows.x))

        hint = FAR_WEIGHTS if scaled else "The columns are too small for derivatives by them: use scaled=True"
        return numbers_only(self._answer_of(self._numbers(X, finite=False), answer), hint)
