"""Generation: new rows drawn from a fitted autoencoder, by its prior or by a density fitted to its codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eigencode import model, training
from eigencode.data.memory import require_memory
from eigencode.data.sources import chunk_rows
from eigencode.data.tables import as_frame
from eigencode.errors import OptionError
from eigencode.estimators.conditional import N_CODES, conditional_draws
from eigencode.estimators.evaluation import filled, numbers_only
from eigencode.estimators.imputation import Imputation
from eigencode.estimators.inputs import read_rows
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.batch import Batch
    from eigencode.model import Mixture


class Generation(Imputation):
    """Autoencoders as generative models: z from a density of codes, x from p(x|z)."""

    _fitted_codes: tuple[np.ndarray, np.ndarray | None] | None = None

    @classmethod
    def saved_attributes(cls) -> dict[str, Any]:
        return super().saved_attributes() | {"mixture_": model.Mixture | None}

    def fit_density(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit a mixture of Gaussians to the codes of rows, from which ``sample`` then draws.

        The number of components is chosen by the likelihood of validation rows. The mixture is ``mixture_``.

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
        self.mixture_ = model.fit_mixture(self._codes(X), self.seed_, sample_weight=sample_weight)
        return self

    @property
    def _has_point_code(self) -> bool:
        """Whether there is no prior to draw codes from."""
        return self.composition_.prior is None or self.composition_.code.width(1) == 1

    def _remember_codes(self, batch: Batch) -> None:
        """Keep the codes of rows, to which a density is fitted when it is first needed."""
        if self._has_point_code:
            with torch.inference_mode():
                codes = self.composition_.encode(batch.x, batch.observed).mean
            weight = None if batch.weight is None else batch.weight.cpu().numpy()
            self._fitted_codes = codes.cpu().numpy(), weight

    def _forget(self) -> None:
        """Drop what was made of other weights than the present ones."""
        super()._forget()
        self.__dict__.pop("_fitted_codes", None)

    def sample(self, n_rows: int = 1, *, given: Any = None, mean: bool = False, random_state: Any = None) -> Any:
        """Draw new rows: z from the density of codes, then x from p(x|z).

        The density is the mixture of ``fit_density``, else the prior of a stochastic code, else a mixture that the
        first call fits to the codes of a sample of the rows fitted; a file keeps that mixture, but not the codes. With
        ``given`` some cells of each row are fixed, and z is one of 4,096 draws, chosen by p(x given|z). Draws of an
        array are neither rounded nor clipped; a frame has the types, bounds and categories of the rows fitted.

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

        Returns
        -------
        ndarray of shape (n_rows, d), or a frame where one was fitted
            Rows in the data's units, float64. In a frame, whole numbers, bounds and categories are those of the rows
            fitted; identifiers are numbered on, and free text is missing.
        """
        check_is_fitted(self)
        if given is not None:
            return self._sampled_given(given, mean, training.resolve_seed(random_state))
        if isinstance(n_rows, bool) or not isinstance(n_rows, int | np.integer) or n_rows < 1:
            raise OptionError("The number of rows to draw must be a positive int", got=f"{n_rows!r}")
        n_columns = len(self.scaler_.center)
        require_memory(8.0 * int(n_rows) * n_columns, f"{n_rows} rows of {n_columns} columns", "Draw fewer at a time")
        seed = training.resolve_seed(random_state)
        composition = self._model_in(np.dtype(np.float64))

        def blocks() -> Iterator[np.ndarray]:
            for i, codes in enumerate(self._drawn_codes(int(n_rows), seed)):
                p = composition.decode(codes.to(self.execution_.device))
                source = training.generator(seed, "sample", i, device=self.execution_.device)
                yield self._in_data_units(p.mean if mean else p.sample(source))

        return self._as_table(numbers_only(filled(int(n_rows), blocks())), mean=mean)

    def _sampled_given(self, given: Any, mean: bool, seed: int) -> Any:
        """One row for each row given, whose known cells it has."""
        rows = read_rows(self, self._with_all_columns(given))
        self._check_values(rows.array)
        composition, codes = self._model_in(np.dtype(np.float64)), torch.cat(list(self._drawn_codes(N_CODES, seed)))
        codes = codes.to(self.execution_.device)
        draws = conditional_draws(composition, self.scaler_, codes, rows.array, mean=mean, seed=seed)
        return self._filled(rows, filled(len(rows.array), map(self._in_data_units, draws)), mean)

    def _with_all_columns(self, given: Any) -> Any:
        """A frame with the columns fitted that it lacks, as gaps."""
        frame = as_frame(given)
        return given if frame is None or self.columns_ is None else self.columns_.completed(frame)

    def _drawn_codes(self, n_rows: int, seed: int) -> Iterator[Tensor]:
        """Codes from the mixture, else from the prior, in float64: ``n_rows`` rows in tensors of shape (m, k)."""
        step = chunk_rows(len(self.scaler_.center))
        sizes = [min(step, n_rows - first) for first in range(0, n_rows, step)]
        if self._fitted_codes is not None and getattr(self, "mixture_", None) is None:
            codes, weight = self._fitted_codes
            self.mixture_ = model.fit_mixture(codes, self.seed_, sample_weight=weight)
        mixture: Mixture | None = getattr(self, "mixture_", None)
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
