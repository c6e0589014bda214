"""LinearAutoencoder: solved in closed form, as PCA, or by gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from sklearn.utils.metaestimators import available_if

from eigencode.errors import OptionError
from eigencode.estimators.base import BaseAutoencoder
from eigencode.options import (
    AutoencoderOptions,
    Precision,
    TrainingOptions,
    changed,
    documented,
    option,
    options_of,
)

if TYPE_CHECKING:
    from eigencode.fitting import Data, Model, Start

IN_ONE_STEP = ("precision", "device", "random_state", "validation_fraction", "verbose")
"""Options of training that the closed form uses, or that change nothing."""


def _learns_by_gradient(model: LinearAutoencoder) -> bool:
    """True with the gradient solver; an error with the exact one, which has no ``partial_fit``."""
    if model.solver == "exact":
        raise OptionError(
            "The closed form needs all rows at once, not blocks of them",
            got="solver='exact'",
            hint="Use solver='gradient' for partial_fit",
        )
    return True


@documented
@dataclass(eq=False, repr=False, kw_only=True)
class LinearAutoencoder(BaseAutoencoder):
    r"""Linear encoder and decoder: x^ = B A x, for centred and scaled x.

    With squared error it spans the subspace of the first principal components (Baldi & Hornik, 1989). With one term
    that shrinks, the optimum is known in closed form, with a factor s_i for each principal direction u_i:

    .. math:: \hat x = \sum_{i \le k} s_i \, u_i u_i^\top x

    where l is the eigenvalue of the direction: s = 1 for PCA, l / (l + v) under Gaussian noise of variance v, and
    (1 - lambda / l)+ under a Gaussian prior on the weights with lambda = sigma_D^2 / (n sigma_w^2).

    {parameters}

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.decomposition import PCA
    >>> from eigencode import LinearAutoencoder
    >>> X = load_wine().data
    >>> model = LinearAutoencoder(2, scale="none").fit(X)
    >>> pca = PCA(2).fit(X)
    >>> bool(
    ...     abs(model.reconstruct(X) - pca.inverse_transform(pca.transform(X))).max() < 1e-8
    ... )
    True
    """

    hidden: tuple[int, ...] = option((), "Must be (): a linear map.", on_command_line=False)
    precision: Precision = option("float64", "Arithmetic; a linear map is cheap enough for 'float64'.")
    validation_fraction: float = option(
        0.0, "Share of the rows for validation, to choose the best epoch.", low=0, high=1, open_high=True
    )
    solver: Literal["exact", "gradient"] = option(
        "exact",
        "'exact': the closed form, where there is one; 'gradient': L-BFGS from random weights, which finds the "
        "same subspace. With `batch_size`, `optimizer` decides.",
    )

    def _training_options(self) -> AutoencoderOptions:
        if self.hidden or self.encoder is not None or self.decoder is not None:
            raise OptionError(
                "A LinearAutoencoder has no hidden layers and no other networks", hint="Use Autoencoder for that"
            )
        if self.solver == "exact":
            self._require_no_training()
            return changed(self, init="linear", max_epochs=0)
        optimizer = "lbfgs" if self.optimizer == self.batch_size == "auto" else self.optimizer
        return changed(self, init="random" if self.init == "auto" else self.init, optimizer=optimizer)

    def _own_start(self, model: Model, data: Data) -> Start | None:
        """None, but the exact solver refuses what has no exact solution, except for rows with gaps."""
        is_solved = model.has_closed_form or (self.scaler_.has_gaps and model.baseline is not None)
        if self.solver == "exact" and not is_solved:
            raise OptionError(
                "The exact solver needs a kind of autoencoder whose linear optimum is known in closed form",
                got=f"{model.composition!r}",
                hint="Use solver='gradient'",
            )
        return None

    def _require_no_training(self) -> None:
        """Raise an error for options that the closed form does not use."""
        harmless: dict[str, tuple[Any, ...]] = {
            option.name: (option.default,) for option in options_of(TrainingOptions) if option.name not in IN_ONE_STEP
        }
        harmless |= {"init": ("auto", "linear"), "max_epochs": ("auto", 0)}
        for name, values in harmless.items():
            value = getattr(self, name)
            if value not in values:
                raise OptionError(
                    f"The closed form does not use {name!r}",
                    got=f"{name}={value!r} and solver='exact'",
                    hint="Use solver='gradient'",
                )

    @available_if(_learns_by_gradient)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take one pass over a block of rows, by gradient; there is no such method with ``solver='exact'``.

        Parameters
        ----------
        X : array-like of shape (n, d)
            A block of rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), optional
            Weight of each row.

        Returns
        -------
        self
        """
        return super().partial_fit(X, y, sample_weight)
