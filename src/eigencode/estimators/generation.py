r"""Generation: new rows drawn from a fitted autoencoder, by its prior or by a density fitted to its codes.

.. math:: z \sim p(z), \quad x \sim p(x|z)

Where the code is a point, p(z) is a mixture fitted to the codes, and a constant spread of p(x|z), which only sets the
unit of the objective, is replaced by the covariance of the residuals. Where the columns of a frame differ from those
fitted, they are moved to their distributions (`Marginals`): zeros, ends and values that repeat are lost in a mixture.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eigencode import model, training
from eigencode.batch import Batch
from eigencode.data import FORMATS, check_output, chunk_rows, columns_of, missing_values_of, table_writer
from eigencode.data.marginals import Marginals
from eigencode.data.memory import require_disk, require_memory
from eigencode.errors import InterruptedWarning, OptionError, positive_int, warn
from eigencode.estimators.conditional import N_CODES, ConditionalSampler, gaussians_of
from eigencode.estimators.evaluation import FAR_CELL, checked, filled, numbers_only
from eigencode.estimators.imputation import Imputation
from eigencode.estimators.inputs import check_given, read_rows
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.model import Composition
    from eigencode.training import TrainingRun

DENSITY_ROWS = 4096
"""Rows whose codes are kept for a density, and most rows that are drawn to compare their columns with those fitted."""

NUMBERS = "real", "share", "count"
"""The families of cells that are numbers."""

MOST_RESIDUALS = 512
"""Most columns of numbers whose residuals are drawn with their covariances."""

SMALLEST_SHARE = 1e-4
"""Smallest share of a column's variance of residuals that is left beside their factors."""

UNKNOWN = 1e-9
"""Rows that a block counts as for a column that it has no value of."""

FEWEST_ROWS = 50
"""Validation rows from which they alone say how large the residuals are."""


class Generation(Imputation):
    """Autoencoders as generative models: z from a density of codes, x from p(x|z)."""

    _fitted_codes: tuple[np.ndarray, np.ndarray | None] | None = None
    _fitted_cells: np.ndarray | None = None

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        arrays = dict.fromkeys(("noise_", "residual_loadings_"), np.ndarray | None)
        return super().saved_attributes() | {"mixture_": model.Mixture | None, "marginals_": Marginals | None} | arrays

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one ``.safetensors`` file, whole or not at all.

        The density from which ``sample`` draws is fitted before, if that was not done yet.

        Parameters
        ----------
        path : path-like
            Where to; an existing file is replaced.
        """
        check_is_fitted(self)
        try:
            self._find_density()
        except KeyboardInterrupt:
            warn("Fitting the density was interrupted; the model is saved without one.", InterruptedWarning)
        super().save(path)

    def fit_density(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit a density to the codes of rows, from which ``sample`` then draws.

        It is a mixture of Gaussians, ``mixture_``, whose number is chosen by the likelihood of validation rows, for up
        to 500 codes by BIC; or one with a Gaussian around each of at most 2,048 codes, if that has the larger
        likelihood of codes left out.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted, usually the same.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), optional
            Weight of each row.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        self.mixture_ = model.fit_density(self._codes(X), self.seed_, sample_weight=sample_weight)
        array = self._numbers(X)
        few = array[:: max(len(array) // DENSITY_ROWS, 1)].astype(np.float64)
        if self._has_point_code and not hasattr(self, "noise_"):  # as after a stream
            x = self._tensor(self.scaler_.transform(few).astype(self._dtype))
            rows = Batch(x, ~x.isnan() if x.isnan().any() else None)
            self._learn_noise(rows.split(chunk_rows(x.shape[1])))
        self._learn_marginals(few)
        return self

    @property
    def _dtype(self) -> np.dtype:
        """The type of the weights."""
        return np.dtype(str(next(self.composition_.parameters()).dtype).removeprefix("torch."))

    @property
    def _has_point_code(self) -> bool:
        """Whether there is no prior to draw codes from."""
        return self.composition_.prior is None or self.composition_.code.width(1) == 1

    def _remember_codes(self, run: TrainingRun) -> None:
        """Keep the codes of rows, to which a density is fitted when it is first needed, and learn the residuals."""
        rows = run.rows.sample(DENSITY_ROWS).to(run.device)
        if self.columns_ is not None:
            self._fitted_cells = self._cells_of(rows)
        if self._has_point_code or self.columns_ is not None:
            with torch.inference_mode():
                codes = self.composition_.encode(*rows.cells).mean
            weight = None if rows.weight is None else rows.weight.cpu().numpy()
            self._fitted_codes = codes.cpu().numpy(), weight
        if self._has_point_code:
            of_validation = run.rows.n_validation >= FEWEST_ROWS
            n_rows = min(DENSITY_ROWS, chunk_rows(rows.x.shape[1]))
            n_blocks = math.ceil(DENSITY_ROWS / n_rows)
            blocks = islice(run.rows.validation(n_rows), n_blocks) if of_validation else rows.split(n_rows)
            self._learn_noise(block.to(run.device) for block in blocks)

    def _misfits(self) -> Iterator[str]:
        yield from super()._misfits()
        mixture, marginals, noise, loadings = (
            getattr(self, name, None) for name in ("mixture_", "marginals_", "noise_", "residual_loadings_")
        )
        if mixture is not None and mixture.means.shape[1] != self.n_components_:
            yield "the density of the codes"
        if noise is not None and not self._are_residuals(noise, loadings):
            yield "the spread of the residuals"
        if marginals is not None and not marginals.is_sound(self._n_cells):
            yield "the distributions of the columns"

    def _are_residuals(self, noise: np.ndarray, loadings: np.ndarray | None) -> bool:
        """Whether these may be the spreads and the factors of the residuals of the cells."""
        if loadings is not None and (loadings.shape[:-1] != (self._n_cells,) or not np.isfinite(loadings).all()):
            return False
        return noise.shape == (self._n_cells,) and bool(np.isfinite(noise).all() and (noise > 0).all())

    def _cells_of(self, rows: Batch) -> np.ndarray:
        """Scaled rows in the data's units, NaN where a cell is missing."""
        cells = self._in_data_units(self.composition_.likelihood.target(*rows.cells))
        return cells if rows.observed is None else np.where(rows.observed.cpu().numpy(), cells, np.nan)

    def _learn_noise(self, blocks: Iterable[Batch]) -> None:
        """Find the spread of the residuals of each column where that of the likelihood is a constant."""
        composition = self.composition_
        is_normal = np.array(composition.likelihood.has_normal_residuals(self._n_cells))
        has_loadings = 1 < is_normal.sum() <= MOST_RESIDUALS
        spreads, counts, residuals = [], [], []
        with torch.inference_mode():
            for rows in blocks:
                output = composition.decoder(composition.encode(*rows.cells).mean)
                spreads.append(composition.likelihood.constant_spread(rows, output).double().cpu().numpy())
                known = torch.ones_like(rows.x, dtype=torch.bool) if rows.observed is None else rows.observed
                counts.append(known.sum(0).cpu().numpy())
                if has_loadings:
                    left = rows.selected(composition.likelihood(output).mean - rows.x)
                    residuals.append(left.double().cpu().numpy()[:, is_normal])
        counted = np.maximum(counts, UNKNOWN)
        self.noise_ = (np.array(spreads) * (counted / counted.sum(0))).sum(0)
        if has_loadings:
            n_known = np.sum(counts, axis=0)[is_normal]
            of_normal = model.residual_loadings(np.concatenate(residuals), n_known)
            self.residual_loadings_ = np.zeros((self._n_cells, of_normal.shape[1]))
            self.residual_loadings_[is_normal] = of_normal

    def _learn_marginals(self, cells: np.ndarray) -> None:
        """Compare the columns of a frame with those of rows drawn."""
        self.__dict__.pop("marginals_", None)
        if self.columns_ is None:
            return
        drawn = numbers_only(filled(DENSITY_ROWS, self._drawn_blocks(DENSITY_ROWS, self.seed_, False)))
        is_possible = ~np.isnan(self.columns_.encode(self.columns_.decode(drawn)))  # the logarithm of a zero is not
        families = [family for family, width in self.columns_.blocks for _ in range(width)]
        numbers = [cell for cell, family in enumerate(families) if family in NUMBERS]
        self.marginals_ = Marginals.of(cells, np.where(is_possible, drawn, np.nan), numbers)

    def _find_density(self) -> None:
        """Fit the density to the codes that are kept, unless there is one."""
        if self._fitted_codes is None or getattr(self, "mixture_", None) is not None:
            return
        codes, weight = self._fitted_codes
        self.mixture_ = model.fit_density(codes, self.seed_, sample_weight=weight)
        if self._fitted_cells is not None:
            self._learn_marginals(self._fitted_cells)

    def _forget(self) -> None:
        """Drop what was made of other weights than the present ones."""
        super()._forget()
        for name in ("_fitted_codes", "_fitted_cells"):
            self.__dict__.pop(name, None)

    def _drawing_model(self) -> Composition:
        """The model in float64, its constant spreads replaced by the residuals, which are further parts of the code."""
        composition, noise = self._model_in(np.dtype(np.float64)), getattr(self, "noise_", None)
        if noise is None:
            return composition
        composition = copy.copy(composition)
        loadings, device = self._residual_loadings, self.execution_.device
        decoder = model.WithResiduals(composition.decoder, torch.from_numpy(loadings).to(device))
        composition._modules = composition._modules | {"decoder": decoder}
        left = np.maximum(noise - np.square(loadings).sum(1), SMALLEST_SHARE * noise)
        composition.likelihood = composition.likelihood.with_spread(torch.from_numpy(left).to(device))
        return composition

    @property
    def _residual_loadings(self) -> np.ndarray:
        """The factors of the residuals, shape (d, q)."""
        found = getattr(self, "residual_loadings_", None)
        return np.zeros((self._n_cells, 0)) if found is None else found

    def sample(
        self,
        n_rows: int = 1,
        *,
        given: Any = None,
        mean: bool = False,
        random_state: Any = None,
        output: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Draw new rows: z from the density of codes, then x from p(x|z).

        The density is that of ``fit_density``, which the first call (or ``save``) fits to the codes of 4,096 of the
        rows fitted if there is none. Only where an array was fitted and the code is stochastic, it is the prior.
        Where the spread of p(x|z) is a constant and the code a point, the covariance of the residuals of validation
        rows is used. With ``given`` some cells of each row are fixed, and z is drawn from p(z | given cells). Draws of
        an array are neither rounded nor clipped. Those of a frame have the types, range, decimals, categories and
        distribution of each column of the rows fitted (`Marginals`).

        Parameters
        ----------
        n_rows : int
            Rows to draw; with ``given`` one for each of its rows.
        given : frame or array-like of shape (n, d), optional
            Rows with the cells that are fixed; the others are gaps. A frame may have some of the columns only. A value
            that a column cannot have, as a label that was not fitted, is refused.
        mean : bool, default False
            Return the mean of p(x|z), the decoder's output g(z), instead of a draw.
        random_state : int, NumPy generator or None
            Seed of the draws; None takes fresh entropy.
        output : path-like, optional
            Write the rows to this file, a block at a time, and return None, as ``reconstruct`` does; without ``given``.

        Returns
        -------
        ndarray of shape (n_rows, d), or a frame where one was fitted
            Rows in the data's units, float64. In a frame, whole numbers, bounds and categories are those of the rows
            fitted; identifiers that are numbers are numbered on, and text is missing.
        """
        check_is_fitted(self)
        if given is not None and output is not None:
            raise OptionError("Rows are written only without 'given'", got="both", hint="Write what sample returns")
        if given is not None:
            return self._sampled_given(given, mean, training.resolve_seed(random_state))
        n_rows = positive_int("The number of rows to draw", n_rows)
        seed = training.resolve_seed(random_state)
        self._find_density()
        blocks, n_cells = self._moved_blocks(n_rows, seed, mean), n_rows * self.n_features_in_
        purpose = f"{n_rows} rows of {self.n_features_in_} columns"
        if output is not None:
            check_output(output, FORMATS)
            require_disk(float(n_cells), output, purpose, "Draw fewer")  # a byte a cell at least
            return self._write_drawn(output, blocks, mean)
        require_memory(8.0 * n_cells, purpose, "Give output=, the name of a file")
        return self._as_table(int(n_rows), blocks, mean=mean)

    def _write_drawn(self, output: str | os.PathLike[str], blocks: Iterator[np.ndarray], mean: bool) -> None:
        """Write drawn rows to a file."""
        first, names = 0, getattr(self, "feature_names_in_", None)
        with torch.inference_mode(), table_writer(output) as write:
            for cells in map(numbers_only, blocks):
                schema = None if self.columns_ is None else self.columns_.numbered_from(first)
                write(columns_of(cells if schema is None else schema.decode(cells, mean=mean), names))
                first += len(cells)

    def _moved_blocks(self, n_rows: int, seed: int, mean: bool) -> Iterator[np.ndarray]:
        """Rows drawn, with the distributions of the columns fitted, or means."""
        marginals: Marginals | None = None if mean else getattr(self, "marginals_", None)
        source = np.random.default_rng([seed, 1])
        for cells in self._drawn_blocks(n_rows, seed, mean):
            yield cells if marginals is None else marginals.moved(cells, source)

    def _drawn_blocks(self, n_rows: int, seed: int, mean: bool) -> Iterator[np.ndarray]:
        """Rows drawn, or their means, in the data's units: ``n_rows`` in arrays of shape (b, d)."""
        composition = self._drawing_model()
        for i, codes in enumerate(self._drawn_codes(n_rows, seed)):
            p = composition.decode(codes.to(self.execution_.device))
            source = training.generator(seed, "sample", i, device=self.execution_.device)
            yield self._in_data_units(p.mean if mean else p.sample(source))

    def _sampled_given(self, given: Any, mean: bool, seed: int) -> Any:
        """One row for each row given, whose known cells it has."""
        rows = read_rows(self, self._with_all_columns(given))
        self._check_values(rows.array)
        self._find_density()
        sampler, rng = self._conditional_sampler(seed), np.random.default_rng([seed, 1])
        marginals = None if mean else getattr(self, "marginals_", None)
        known = rows.array if marginals is None else marginals.undone(rows.array, rng)
        drawn = sampler.rows_like(known, self.scaler_, seed, mean)
        blocks = checked(map(self._in_data_units, drawn), FAR_CELL)
        moved = blocks if marginals is None else (marginals.moved(block, rng) for block in blocks)
        return self._filled(rows, (block[None] for block in moved), mean)[0]

    def _drawn_by(self, seed: int) -> Callable[[Composition, Batch, Batch, int, torch.Generator], Tensor]:
        """Draws by the normal density of rows with gaps; where none had any, by that from which rows are drawn."""
        return super()._drawn_by(seed) if self._knows_gaps else self._drawn_given(seed)

    def _drawn_given(self, seed: int) -> Callable[[Composition, Batch, Batch, int, torch.Generator], Tensor]:
        """Draws by the density from which ``sample`` draws rows, and not by one normal density."""
        self._find_density()
        sampler = self._conditional_sampler(seed)
        return lambda _, rows, seen, n_draws, source: sampler.draws(rows, n_draws, source)

    def _conditional_sampler(self, seed: int) -> ConditionalSampler:
        """What draws cells given others, by the density from which rows are drawn."""
        composition, codes = self._drawing_model(), torch.cat(list(self._drawn_codes(N_CODES, seed)))
        likelihood, noise, device = composition.likelihood, getattr(self, "noise_", None), self.execution_.device
        if noise is not None:
            own = self._model_in(np.dtype(np.float64)).likelihood
            likelihood = own.with_spread(torch.from_numpy(noise).to(device))
        density = self._density
        if density is None:
            density = gaussians_of(composition.prior, codes)
        return ConditionalSampler(composition, likelihood, density, codes.to(device))

    @property
    def _density(self) -> model.Mixture | None:
        """The density fitted to codes, with the factors of residuals behind them."""
        mixture: model.Mixture | None = getattr(self, "mixture_", None)
        n_factors = self._residual_loadings.shape[1]
        return mixture if mixture is None or not n_factors else mixture.beside_normals(n_factors)

    def _with_all_columns(self, given: Any) -> Any:
        """A frame with the columns fitted that it lacks, as gaps."""
        check_given(given)
        return given if self.columns_ is None else self.columns_.completed(given, missing_values_of(self))

    def _drawn_codes(self, n_rows: int, seed: int) -> Iterator[Tensor]:
        """Codes from the mixture, else from the prior, in float64: ``n_rows`` rows in tensors of shape (m, k)."""
        step = chunk_rows(len(self.scaler_.center))
        sizes = (min(step, n_rows - first) for first in range(0, n_rows, step))
        if (mixture := self._density) is not None:
            rng = np.random.default_rng(seed)
            return (torch.from_numpy(mixture.sample(size, rng)) for size in sizes)
        composition = self.composition_
        if composition.prior is None or self._has_point_code:
            raise OptionError(
                f"This {type(self).__name__} has no density of codes to draw from",
                got="a point code",
                hint="Call fit_density(X) first, or fit a VariationalAutoencoder",
            )
        prior, source = composition.prior, training.generator(seed, "codes")
        return (prior.sample(size, self.n_components_, source).double() for size in sizes)
