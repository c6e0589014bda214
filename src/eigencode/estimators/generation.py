r"""Generation: new rows drawn from a fitted autoencoder, by its prior or by a density fitted to its codes.

.. math:: z \sim p(z), \quad x \sim p(x|z)

Where the code is a point, p(z) is a mixture fitted to the codes, and a constant spread of p(x|z), which only sets the
unit of the objective, is replaced by that of the residuals. The columns of a frame are moved to the distributions of
those fitted (`Marginals`), since zeros, ends and values that repeat are lost in a mixture.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eigencode import model, training
from eigencode.batch import Batch
from eigencode.data import FORMATS, check_output, chunk_rows, columns_of, table_writer
from eigencode.data.marginals import Marginals
from eigencode.data.memory import require_memory
from eigencode.errors import InterruptedWarning, OptionError
from eigencode.estimators.conditional import N_CODES, conditional_draws
from eigencode.estimators.evaluation import filled, numbers_only
from eigencode.estimators.imputation import Imputation
from eigencode.estimators.inputs import read_rows
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.model import Composition
    from eigencode.training import TrainingRun

DENSITY_ROWS = 4096
"""Rows whose codes are kept for a density, and most rows that are drawn to compare their columns with those fitted."""

NUMBERS = "real", "share", "count"
"""The families of cells that are numbers."""

FEWEST_ROWS = 50
"""Validation rows from which they alone say how large the residuals are."""


class Generation(Imputation):
    """Autoencoders as generative models: z from a density of codes, x from p(x|z)."""

    _fitted_codes: tuple[np.ndarray, np.ndarray | None] | None = None
    _fitted_cells: np.ndarray | None = None

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        own = {"mixture_": model.Mixture | None, "noise_": np.ndarray | None, "marginals_": Marginals | None}
        return super().saved_attributes() | own

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
            message = "Fitting the density was interrupted; the model is saved without one."
            warnings.warn(message, InterruptedWarning, stacklevel=2)
        super().save(path)

    def fit_density(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit a density to the codes of rows, from which ``sample`` then draws.

        It is a mixture of Gaussians, ``mixture_``, whose number is chosen by the likelihood of validation rows; or one
        with a Gaussian around each of at most 2,048 codes, if that has the larger likelihood of codes left out.

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
            self._learn_noise(Batch(x, ~x.isnan() if x.isnan().any() else None))
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
            self._learn_noise(next(iter(run.rows.validation(DENSITY_ROWS))).to(run.device) if of_validation else rows)

    def _is_spread(self, noise: np.ndarray) -> bool:
        """Whether these may be the spreads of the cells."""
        return noise.shape == (self._n_cells,) and bool(np.isfinite(noise).all() and (noise > 0).all())

    def _cells_of(self, rows: Batch) -> np.ndarray:
        """Scaled rows in the data's units, NaN where a cell is missing."""
        cells = self._in_data_units(self.composition_.likelihood.target(*rows.cells)).astype(np.float64)
        return cells if rows.observed is None else np.where(rows.observed.cpu().numpy(), cells, np.nan)

    def _learn_noise(self, rows: Batch) -> None:
        """Find the spread of the residuals of each column where that of the likelihood is a constant."""
        composition = self.composition_
        with torch.inference_mode():
            output = composition.decoder(composition.encode(*rows.cells).mean)
            spread = composition.likelihood.constant_spread(rows, output)
        self.noise_ = spread.double().cpu().numpy()

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
        """The model in float64, its constant spreads replaced by those of the residuals."""
        composition, noise = self._model_in(np.dtype(np.float64)), getattr(self, "noise_", None)
        if noise is None:
            return composition
        composition = copy.copy(composition)
        composition._modules = dict(composition._modules)
        composition.likelihood = composition.likelihood.with_spread(torch.from_numpy(noise).to(self.execution_.device))
        return composition

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
        Where the spread of p(x|z) is a constant and the code a point, that of the residuals of validation rows is
        used. With ``given`` some cells of each row are fixed, and z is one of 4,096 draws, chosen by p(x given|z).
        Draws of an array are neither rounded nor clipped. Those of a frame have the types, range, decimals and
        categories of the rows fitted, and without ``given`` each column's distribution too (`Marginals`).

        Parameters
        ----------
        n_rows : int
            Rows to draw; with ``given`` one for each of its rows.
        given : frame or array-like of shape (n, d), optional
            Rows with the cells that are fixed; the others are gaps. A frame may have some of the columns only.
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
            fitted; identifiers are numbered on, and free text is missing.
        """
        check_is_fitted(self)
        if given is not None and output is not None:
            raise OptionError("Rows are written only without 'given'", got="both", hint="Write what sample returns")
        if given is not None:
            return self._sampled_given(given, mean, training.resolve_seed(random_state))
        if isinstance(n_rows, bool) or not isinstance(n_rows, int | np.integer) or n_rows < 1:
            raise OptionError("The number of rows to draw must be a positive int", got=f"{n_rows!r}")
        seed = training.resolve_seed(random_state)
        self._find_density()
        blocks = self._moved_blocks(int(n_rows), seed, mean)
        if output is not None:
            return self._write_drawn(output, blocks, mean)
        n_columns, hint = self.n_features_in_, "Give output=, the name of a file"
        require_memory(8.0 * int(n_rows) * n_columns, f"{n_rows} rows of {n_columns} columns", hint)
        return self._as_table(int(n_rows), blocks, mean=mean)

    def _write_drawn(self, output: str | os.PathLike[str], blocks: Iterator[np.ndarray], mean: bool) -> None:
        """Write drawn rows to a file."""
        first, names = 0, getattr(self, "feature_names_in_", None)
        check_output(output, FORMATS)
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
        composition, codes = self._drawing_model(), torch.cat(list(self._drawn_codes(N_CODES, seed)))
        codes = codes.to(self.execution_.device)
        draws = conditional_draws(composition, self.scaler_, codes, rows.array, mean=mean, seed=seed)
        return self._filled(rows, (self._in_data_units(block)[None] for block in draws), mean)[0]

    def _with_all_columns(self, given: Any) -> Any:
        """A frame with the columns fitted that it lacks, as gaps."""
        return given if self.columns_ is None else self.columns_.completed(given)

    def _drawn_codes(self, n_rows: int, seed: int) -> Iterator[Tensor]:
        """Codes from the mixture, else from the prior, in float64: ``n_rows`` rows in tensors of shape (m, k)."""
        step = chunk_rows(len(self.scaler_.center))
        sizes = [min(step, n_rows - first) for first in range(0, n_rows, step)]
        mixture: model.Mixture | None = getattr(self, "mixture_", None)
        if mixture is not None:
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
