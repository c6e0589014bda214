"""SparseAutoencoder: many units, few of them active in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from eigencode import parts
from eigencode.errors import OptionError
from eigencode.estimators.base import BaseAutoencoder
from eigencode.options import AutoencoderOptions, changed, documented, option

if TYPE_CHECKING:
    from eigencode.parts import AdaptiveLaplace, LaplacePrior

USUAL_SHARE = 0.1
"""Default share of the units that are active in a row."""

USUAL_ACTIVITY = 0.05
"""Default mean activity of sigmoid units (Ng, 2011)."""


@documented
@dataclass(eq=False, repr=False, kw_only=True)
class SparseAutoencoder(BaseAutoencoder):
    r"""An autoencoder with many units, few of them active in a row.

    With ``sparsity="l1"`` it minimises the mean over rows of

    .. math:: \lVert x - D h - b \rVert^2 + \lambda \lVert h \rVert_1 = -\log p(h, x) + \mathrm{const}, \qquad
        h = \max(f(x), 0)

    a dictionary D of unit columns and a Laplace prior on its code (Olshausen & Field, 1996). ``"top_k"`` keeps the k
    largest units of each row instead (Makhzani & Frey, 2014), and ``"kl"`` holds the mean activity of sigmoid units
    (Ng, 2011). The option is ``active``, the mean number of active units per row for new rows of the same
    distribution; training rows have fewer. It is estimated from the validation rows. With 300 rows or more its mean
    over seeds is within 3 % of ``active``. A single fit has a standard deviation of about 5 % with 400 rows, 1 % with
    2000, and 10 to 20 % with 100, where the mean may also be 5 to 10 % too high. There may be more units than columns.

    With ``code="optimal"`` there is no encoder: h is the minimiser for the current dictionary (``"l1"``), or has the k
    largest numbers (``"top_k"``), and may be negative.

    {parameters}

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from eigencode import LinearAutoencoder, SparseAutoencoder
    >>> X = load_digits().data
    >>> model = SparseAutoencoder(
    ...     100, sparsity="top_k", active=10, max_epochs=20, random_state=0
    ... ).fit(X)
    >>> float((model.transform(X) != 0).sum(1).mean())
    10.0
    >>> bool(
    ...     model.reconstruction_error(X).mean()
    ...     < 0.8 * LinearAutoencoder(10).fit(X).reconstruction_error(X).mean()
    ... )
    True
    """

    n_components: int | Literal["auto"] = option(
        "auto",
        "Units of the code, which may be more than columns. 'auto': twice as many as columns.",
        kw_only=False,
        low=1,
    )
    hidden: int | tuple[int, ...] | Literal["auto"] = option(
        (),
        "Widths of the encoder's hidden layers, or their number, as for `Autoencoder`. The decoder is linear, a "
        "dictionary, unless `decoder` is given.",
        low=1,
    )
    sparsity: Literal["l1", "kl", "top_k"] = option(
        "l1",
        "'l1': a Laplace prior on rectified units; 'top_k': the largest units of each row and no others, with an "
        "auxiliary loss that brings dead units back; 'kl': sigmoid units kept at a mean activity.",
    )
    active: float | Literal["auto"] = option(
        "auto",
        "Mean number of active units per row, also for new rows; for 'kl' the mean activity of the units, between "
        "0 and 1. 'auto': a tenth of the units, or an activity of 0.05.",
        low=0,
        open_low=True,
    )
    weight: float | Literal["auto"] = option(
        "auto",
        "The penalty's weight: lambda for 'l1', beta for 'kl'; the number of active units then depends on it. "
        "'auto': adapted, so that `active` is reached.",
        low=0,
        open_low=True,
    )
    code: Literal["learned", "optimal"] = option(
        "learned",
        "'learned': an encoder computes the code; 'optimal': each row's code is the best one for the dictionary, "
        "found by iteration, and only the dictionary is learned. With no more units than columns it starts at the "
        "principal directions, unless `init` is 'random'.",
    )

    def _training_options(self) -> AutoencoderOptions:
        self._check_combination()
        size = 2 * self._n_cells if self.n_components == "auto" else int(self.n_components)
        terms = KINDS[self.sparsity, self.code](self, size)
        terms["penalties"] = (*self.penalties, *terms.get("penalties", ()))
        if self.tied or self.decoder is not None:
            del terms["decoder"]
        # The line search of L-BFGS does not work with adapted thresholds and strengths, or with selections.
        optimizer = "adam" if self.optimizer == "auto" else self.optimizer
        return changed(self, **{"n_components": size, "optimizer": optimizer, "code": None, **terms})

    def _check_combination(self) -> None:
        """Raise an error for options that contradict 'sparsity' or 'code'."""
        own = {name: getattr(self, name) for name in ("encoder", "decoder", "hidden", "tied")}
        if not isinstance(self.penalties, Sequence):
            raise OptionError(
                "The 'penalties' parameter must be a sequence of parts", got=f"{self.penalties!r} instead"
            )
        if self.ordered:
            raise OptionError(
                "The code of a SparseAutoencoder is fixed", got="ordered=True", hint="Use Autoencoder for ordered codes"
            )
        if self.code == "optimal" and any(own.values()):
            raise OptionError("The optimal code has no encoder, and a dictionary of its own", got=f"{own}")
        if (self.sparsity, self.code) not in KINDS:
            raise OptionError("sparsity='kl' has no optimal code", hint="Use sparsity='l1' or 'top_k'")
        if self.sparsity == "l1" and (self.prior is not None or self.beta != 1):
            raise OptionError(
                "With sparsity='l1' the prior is fixed",
                got=f"prior={self.prior!r}, beta={self.beta}",
                hint="Set 'active' or 'weight' to choose the sparsity",
            )


def _number(model: SparseAutoencoder, usual: float) -> float:
    """The wanted activity."""
    return usual if model.active == "auto" else float(model.active)


def _count(model: SparseAutoencoder, size: int) -> float:
    """The wanted number of active units."""
    count = _number(model, max(1.0, round(USUAL_SHARE * size)))
    if not count <= size:
        raise OptionError("There cannot be more active units than units", got=f"active={count:g} of {size}")
    return count


def _laplace(model: SparseAutoencoder, size: int) -> LaplacePrior | AdaptiveLaplace:
    """The prior with the given rate, or with one adapted to the number of active units."""
    if model.weight == "auto":
        return parts.AdaptiveLaplace(_count(model, size))
    if model.active != "auto":
        raise OptionError(
            "Set either 'active' or 'weight', not both",
            got=f"active={model.active} and weight={model.weight}",
        )
    return parts.LaplacePrior(model.weight)


def _l1(model: SparseAutoencoder, size: int) -> dict[str, Any]:
    prior = _laplace(model, size)
    code = parts.ThresholdedReLU(prior.active) if isinstance(prior, parts.AdaptiveLaplace) else parts.Point("relu")
    return {"code": code, "prior": prior, "decoder": parts.Dictionary()}


def _l1_optimal(model: SparseAutoencoder, size: int) -> dict[str, Any]:
    return {**_optimal(model, size), "prior": _laplace(model, size)}


def _whole(model: SparseAutoencoder, size: int) -> int:
    """The number of units of each row."""
    count = _count(model, size)
    if model.weight != "auto" or count != round(count):
        raise OptionError(
            "'top_k' keeps a whole number of units, and has no penalty to weigh",
            got=f"active={model.active} and weight={model.weight}",
        )
    return round(count)


def _top_k(model: SparseAutoencoder, size: int) -> dict[str, Any]:
    return {
        "code": parts.TopK(_whole(model, size)),
        "decoder": parts.Dictionary(),
        "penalties": (parts.AuxiliaryLoss(),),
    }


def _top_k_optimal(model: SparseAutoencoder, size: int) -> dict[str, Any]:
    return {**_optimal(model, size), "code": parts.TopK(_whole(model, size), signed=True)}


def _optimal(model: SparseAutoencoder, size: int) -> dict[str, Any]:
    # In an overcomplete dictionary the directions of least variance would never be used.
    is_principal = model.init != "random" and size <= model._n_cells
    return {"encoder": parts.OptimalCode(), "decoder": parts.Dictionary(is_principal)}


def _kl(model: SparseAutoencoder, size: int) -> dict[str, Any]:
    activity = _number(model, USUAL_ACTIVITY)
    if not activity < 1:
        raise OptionError(
            "For 'kl', 'active' is the mean activity of units from 0 to 1",
            got=f"active={activity:g}",
            hint=f"For {activity:g} units of {size}, try active={min(activity / size, 0.5):.2g}",
        )
    penalty = parts.AdaptiveKLSparsity(activity) if model.weight == "auto" else parts.KLSparsity(activity, model.weight)
    # Activities are bounded, so the decoder's columns need no fixed length.
    return {"code": parts.Sigmoid(activity), "penalties": (penalty,), "decoder": parts.MLP()}


KINDS: dict[tuple[str, str], Callable[[SparseAutoencoder, int], dict[str, Any]]] = {
    ("l1", "learned"): _l1,
    ("l1", "optimal"): _l1_optimal,
    ("top_k", "learned"): _top_k,
    ("top_k", "optimal"): _top_k_optimal,
    ("kl", "learned"): _kl,
}
"""The terms that each kind fills in, given the options and the number of units."""
