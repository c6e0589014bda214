"""DenoisingAutoencoder: reconstructs rows from corrupted ones, which estimates the score of their density."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eigencode import parts
from eigencode.errors import OptionError
from eigencode.estimators.base import BaseAutoencoder
from eigencode.lazy import torch
from eigencode.options import AutoencoderOptions, Object, changed, documented, option

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.batch import Batch
    from eigencode.model import Composition
    from eigencode.parts import Corruption

NOISES: dict[str, Callable[[float], Corruption]] = {
    "gaussian": lambda deviation: parts.GaussianNoise(deviation**2),
    "salt_and_pepper": lambda share: parts.SaltAndPepper(share),
    "masking": lambda share: parts.Masking(share),
}

USUAL_LEVEL = 0.25
"""A quarter of the cells, or of a scaled column's deviation: within the range that Vincent et al. (2010) found best."""


@documented
@dataclass(eq=False, repr=False, kw_only=True)
class DenoisingAutoencoder(BaseAutoencoder):
    r"""An autoencoder that reconstructs rows from corrupted ones (Vincent et al., 2008).

    It minimises the mean over rows x and over noise, drawn at each step, of

    .. math:: -\log p(x \mid z = f(\tilde x)) = \lVert x - g(f(\tilde x)) \rVert^2 + \mathrm{const}, \qquad
        \tilde x \sim C(\tilde x \mid x)

    so that the code must use the dependence between columns. It starts at the best linear denoiser: PCA with the
    factor l / (l + v) for a principal direction of eigenvalue l under Gaussian noise of variance v, and reduced-rank
    regression under other noise.

    {parameters}

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import DenoisingAutoencoder
    >>> X = load_wine().data
    >>> model = DenoisingAutoencoder(
    ...     4, noise="masking", level=0.2, max_epochs=20, random_state=0
    ... ).fit(X)
    >>> hidden = np.random.default_rng(0).random(X.shape) < 0.2
    >>> rebuilt = model.denoise(np.where(hidden, X.mean(0), X))
    >>> errors = ((rebuilt - X) / X.std(0))[hidden]
    >>> bool((errors**2).mean() < 0.8)  # where the mean alone would leave 1
    True
    """

    noise: Literal["gaussian", "salt_and_pepper", "masking"] | Object = option(
        "gaussian",
        "How the network's input is corrupted: 'gaussian' adds normal noise to all cells, 'salt_and_pepper' sets "
        "some to their column's smallest or largest value, 'masking' to its mean. Or a corruption part, or a "
        "function of scaled rows and uniform noise.",
        object="a Corruption part or a function",
    )
    level: float | Literal["auto"] = option(
        "auto",
        "The amount: the standard deviation of Gaussian noise, in units of the scaled columns; the share of the "
        "cells otherwise. 'auto': 0.25.",
        low=0,
    )

    def _training_options(self) -> AutoencoderOptions:
        if self.corruption is not None:
            raise OptionError(
                "Set either 'noise' or 'corruption', not both",
                got=f"noise={self.noise!r} and corruption={self.corruption!r}",
                hint="Give the part as noise",
            )
        return changed(self, corruption=self._corruption())

    def _corruption(self) -> Corruption:
        """The part for 'noise' and 'level'."""
        if isinstance(self.noise, str):
            level = USUAL_LEVEL if self.level == "auto" else self.level
            if self.noise != "gaussian" and level > 1:
                what = f"The 'level' parameter must be a share of the cells, from 0 to 1, for noise={self.noise!r}"
                raise OptionError(what, got=f"{level} instead")
            return NOISES[self.noise](level)
        if self.level != "auto":
            raise OptionError("'level' belongs to a noise given by name", got=f"level={self.level} and {self.noise!r}")
        if isinstance(self.noise, parts.Corruption):
            return self.noise
        if not callable(self.noise) or isinstance(self.noise, parts.Part | type):
            raise OptionError(
                "The 'noise' parameter must be a name, a Corruption part from eigencode.parts, or a function of rows "
                "and uniform noise",
                got=f"{self.noise!r} instead",
            )
        return parts.CallableCorruption(self.noise)

    def denoise(self, X: Any) -> np.ndarray:
        """Estimate clean rows from noisy ones: the mean of p(x|z) at their codes, in the data's units.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted, with the same kind of noise; a masked cell has the mean of its column.

        Returns
        -------
        ndarray of shape (n, d)
            Rows, in X's float type; the same as ``reconstruct`` gives.
        """
        return self.reconstruct(X)

    def score_function(self, X: Any) -> np.ndarray:
        r"""The estimated gradient of the log-density of noisy rows, in the data's units.

        .. math:: \nabla_x \log p_\sigma(x) \approx \frac{r(x) - x}{\sigma^2}

        The optimal reconstruction r is the mean of the clean row given the noisy one, for which this is an identity
        (Tweedie's formula: Robbins, 1956; Alain & Bengio, 2014). The density p_sigma is that of rows with Gaussian
        noise, whose deviation is ``level`` times each column's divisor in ``scaler_``; where noise is small beside
        the data's detail, it is the data's own.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n, d)
            Per unit of each column, in X's float type.

        Raises
        ------
        OptionError
            If the model was fitted with another than Gaussian noise, or none, or by absolute or robust errors, whose
            optimum is not the mean, or with counts, which are scaled by their logarithms.
        """
        check_is_fitted(self)
        corruption, likelihood = self.composition_.corruption, self.composition_.likelihood
        if not isinstance(corruption, parts.GaussianNoise) or not corruption.variance > 0:
            raise OptionError(
                "The score is known from denoising for Gaussian noise only",
                got=f"a model fitted with {corruption!r}",
                hint="Fit with noise='gaussian' and a level above 0",
            )
        if isinstance(likelihood, parts.LaplaceLikelihood | parts.StudentTLikelihood) or any(self.scaler_.logarithmic):
            raise OptionError(
                "The score is known from a reconstruction that is a mean of the scaled columns",
                got=f"a model fitted with {likelihood!r}",
                hint="Fit with likelihood='gaussian'",
            )
        units = corruption.variance * torch.from_numpy(self.scaler_.divisor)

        def score(model: Composition, rows: Batch, seen: Batch) -> Tensor:
            step = rows.selected(self._scaled_mean(model, model.reconstruct(*seen.cells)) - rows.x)
            return (step.double() / units.to(step.device)).to(step.dtype)

        return self._answer(X, score)
