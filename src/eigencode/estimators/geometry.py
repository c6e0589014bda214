"""Geometry: derivatives of a fitted autoencoder's codes and reconstructions by their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eigencode import model, parts
from eigencode.estimators.evaluation import FAR_WEIGHTS, numbers_only
from eigencode.estimators.inference import Inference
from eigencode.estimators.inputs import read_weights_of_score
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.batch import Batch
    from eigencode.model import Composition, RowFunction


MOST_EXACT = 64
"""Columns up to which the diagonal of a Jacobian is exact; of more, it is estimated by so many random signs."""

SMALLEST_SHARE = 1e-3
"""The smallest variance of a column's residuals, as a share of their mean: a pixel may have none by chance."""


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

    def degrees_of_freedom(self, X: Any) -> np.ndarray:
        r"""How many numbers of each row its reconstruction follows: the trace of the reconstruction's Jacobian.

        .. math:: \mathrm{df}(x) = \sum_j J_{jj}, \qquad J_{jj} = \partial r_j / \partial x_j

        It is k for PCA with k components (Efron, 2004); gaps do not count. Of rows with more than 64 columns it is an
        estimate from 64 random directions, the same at every call.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n,)
        """
        return self._answer(X, lambda composition, rows, seen: self._diagonal(composition, seen).sum(1))

    def leave_one_out_score(self, X: Any, sample_weight: Any = None) -> np.ndarray:
        r"""The log-likelihood of each cell of a row, predicted from the row's other cells, summed over the cells.

        A code follows the noise of its row too, so ``score_samples`` grows with every component, even where noise is
        all that is left. What a cell's own value adds is taken away here to first order, with a mean over rows:

        .. math:: x_j - r_j^{(-j)} = \frac{x_j - r_j}{1 - \bar J_{jj}}, \qquad J_{jj} = \partial r_j / \partial x_j

        which is exact for linear reconstructions (Allen, 1974). The noise of a column with normal residuals of constant
        size is that of these rows, and at most the column's spread around its mean; a column that has one value in all
        these rows is not counted. Of counts, shares and labels, whose noise follows from their mean, J_jj nats are
        taken (Efron, 2004). Models of different sizes can be compared by the score: a component that rebuilds noise, or
        one column alone, adds nothing.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted, which should not be among them.
        sample_weight : array-like of shape (n,), optional
            Weight of each row in the means over rows.

        Returns
        -------
        ndarray of shape (n,)
            Nats, in float64 and the data's units.
        """
        found = self._log_densities(X, self._left_out)
        others, (nats, followed, values, known) = found[:, 0], np.split(found[:, 1:], 4, axis=1)
        likelihood, d = self.composition_.likelihood, self._n_cells
        weights = np.ones(len(found)) if sample_weight is None else read_weights_of_score(sample_weight, len(found))
        is_normal = np.array(likelihood.has_normal_residuals(d))
        known = known * weights[:, None]
        known = known * ~(is_normal & _is_one_value(values, known))
        nats = np.where(is_normal, _normal_nats(nats, known * is_normal), nats)
        with np.errstate(divide="ignore"):
            lost = np.log(np.maximum(1 - _means(followed, known), 0.0))
        by_mean = _means(_normal_nats(values - _means(values, known), known), known)
        lost = np.clip(by_mean - _means(nats, known), lost, 0.0)
        return np.asarray(others + np.where(known > 0, nats + lost, 0.0).sum(1))

    def _left_out(self, composition: Composition, rows: Batch, seen: Batch) -> Tensor:
        """For each row: the nats of its other cells; of each real cell its nats or normal residual, J_jj, value, and 1.

        Gaps and other cells have zeros.
        """
        likelihood, d = composition.likelihood, rows.x.shape[1]
        which = _is_real(likelihood, d), likelihood.has_normal_residuals(d)
        is_real, is_normal = torch.tensor(which, device=rows.x.device)
        p, target = composition.reconstruct(*seen.cells), likelihood.target(*rows.cells)
        nats, followed = rows.selected(p.log_prob(target)), self._diagonal(composition, seen)
        others = (nats - followed).where(~is_real, 0.0).sum(1, keepdim=True)
        of_real = torch.where(is_normal, p.mean - target, nats), followed, target, torch.ones_like(target)
        return torch.cat([others, *(rows.selected(part).where(is_real, 0.0) for part in of_real)], dim=1)

    def _diagonal(self, composition: Composition, seen: Batch) -> Tensor:
        """The derivative of each cell's reconstruction by that cell, 0 in gaps, shape (n, d)."""
        d = seen.x.shape[1]
        if seen.observed is None and composition.n_components < d <= MOST_EXACT:
            found = model.diagonal_through(
                lambda x: composition.encode(x).mean, lambda z: composition.decode(z).mean, seen.x
            )
        else:
            probes = d**0.5 * torch.eye(d).to(seen.x) if d <= MOST_EXACT else _signs(seen.x)
            found = model.diagonal(lambda x: composition.reconstruct(x, seen.observed).mean, seen.x, probes)
        units = model.diagonal(composition.likelihood.unscaled, seen.x, [torch.ones_like(seen.x)])
        return seen.selected(found / units)

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


def _is_real(likelihood: parts.Likelihood, d: int) -> tuple[bool, ...]:
    """Which cells have a density of all real numbers."""
    return tuple(cell.support == "real" for cell in likelihood.cells(d))


def _is_one_value(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which columns have the same value in all cells that are known: a density of it has no bound."""
    low, high = np.where(known > 0, values, np.inf).min(0), np.where(known > 0, values, -np.inf).max(0)
    return np.asarray(low >= high)


def _normal_nats(residuals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The log-density of residuals, of the variance of each column, which is at least a share of their mean."""
    squares = np.where(weights > 0, np.square(residuals), 0.0)
    smallest = SMALLEST_SHARE * float((squares * weights).sum()) / max(float(weights.sum()), np.finfo(float).tiny)
    variance = np.maximum(_means(squares, weights), max(smallest, np.finfo(float).tiny))
    return -0.5 * (np.log(2 * np.pi * variance) + squares / variance)


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean of each column by the weights of its cells; 0 of a column without any."""
    return np.where(weights > 0, values * weights, 0.0).sum(0) / np.maximum(weights.sum(0), np.finfo(float).tiny)


def _signs(like: Tensor) -> Iterator[Tensor]:
    """64 tensors of random signs, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(MOST_EXACT):
        yield (2 * torch.randint(2, like.shape, generator=generator) - 1).to(like)
