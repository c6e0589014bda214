"""The terms of the formula for given options, as parts without tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import clone

from eigencode import parts
from eigencode.data.sources import ArraySource
from eigencode.data.support import check_support
from eigencode.errors import OptionError

if TYPE_CHECKING:
    from eigencode.data.tables import Schema
    from eigencode.options import AutoencoderOptions

LIKELIHOODS: dict[str, type[parts.Likelihood]] = {
    "auto": parts.GaussianLikelihood,
    "gaussian": parts.GaussianLikelihood,
    "laplace": parts.LaplaceLikelihood,
    "student_t": parts.StudentTLikelihood,
    "bernoulli": parts.BernoulliLikelihood,
    "poisson": parts.PoissonLikelihood,
    "negative_binomial": parts.NegativeBinomialLikelihood,
}

NUMBERS = {"real", "share"}
"""Families of columns whose likelihood is the one given, or the Gaussian."""

FAMILIES: dict[str, type[parts.Likelihood]] = {
    "count": parts.NegativeBinomialLikelihood,
    "boolean": parts.BernoulliLikelihood,
    "code": parts.BinaryCodeLikelihood,
    "category": parts.CategoricalLikelihood,
    "ordered": parts.OrdinalLikelihood,
}
"""The likelihood of each other family."""

SHARED = {"count", "boolean"}
"""Families of which neighbouring columns share one likelihood."""

FITTING = {"counts": "poisson", "unit interval": "bernoulli", "real": "gaussian"}
"""The likelihood to suggest for columns of each kind, the most special kind first."""

RESCALED = "Divide them by {largest} first, or use likelihood='poisson' if they are counts"
"""The hint for whole numbers that should be shares, such as pixels."""


def terms_of(options: AutoencoderOptions, schema: Schema | None) -> dict[str, Any]:
    """The terms by name, as arguments of `Composition`."""
    code = _part(options.code, parts.Code, "code") or parts.Point()
    if options.ordered:
        if options.code is not None:
            raise OptionError("Set either 'ordered' or 'code', not both", got=f"ordered=True and code={options.code!r}")
        code = parts.NestedDropout()
    # A bound on log p(x) is in nats.
    weights: Literal["balanced", "nats"] = "nats" if code.width(1) > 1 else options.column_weights
    return {
        "code": code,
        "likelihood": likelihood_of(options.likelihood, schema).with_weights(weights),
        "corruption": _part(options.corruption, parts.Corruption, "corruption"),
        "prior": _part(options.prior, parts.Prior, "prior"),
        "penalties": _penalties(options.penalties),
        "weight_prior": _part(options.weight_prior, parts.WeightPrior, "weight_prior"),
    }


def likelihood_of(given: Any, schema: Schema | None = None) -> parts.Likelihood:
    """A new likelihood from a name or a part; for a table of mixed columns it is that of the numbers."""
    if given is None:
        raise OptionError("The 'likelihood' parameter must be a name or a part", got="None", hint="Try 'gaussian'")
    own = LIKELIHOODS[given]() if isinstance(given, str) else _part(given, parts.Likelihood, "likelihood")
    if schema is None or schema.is_real or isinstance(own, parts.ColumnsLikelihood):
        return own
    return parts.ColumnsLikelihood(list(_blocks(schema, own)))


def _blocks(schema: Schema, numbers: parts.Likelihood) -> Iterator[tuple[parts.Likelihood, int]]:
    """The likelihood of each block of cells; neighbouring numbers, counts or booleans share one."""
    for family, blocks in groupby(schema.blocks, lambda block: "real" if block[0] in NUMBERS else block[0]):
        widths = [width for _, width in blocks]
        if family == "real":
            yield clone(numbers), sum(widths)
        else:
            yield from ((FAMILIES[family](), w) for w in ([sum(widths)] if family in SHARED else widths))


def check_values(likelihood: parts.Likelihood, array: np.ndarray, names: Any = None) -> None:
    """Raise `DataError` if a column has values outside the likelihood's support."""
    advice = {kind: f"Use likelihood={name!r}" for kind, name in FITTING.items()}
    owner, supports = type(likelihood).__name__, [cell.support for cell in likelihood.cells(array.shape[1])]
    check_support(ArraySource(array), supports, names, owner=owner, advice=advice, shares=RESCALED)


def _penalties(option: Any) -> tuple[parts.Penalty, ...]:
    if not isinstance(option, Sequence):
        raise OptionError("The 'penalties' parameter must be a sequence of penalty parts", got=f"{option!r} instead")
    return tuple(_part(item, parts.Penalty, "penalties") for item in option)


def _part(option: Any, kind: type[parts.Part], name: str) -> Any:
    """A copy of a part, whose kind is checked."""
    if option is not None and not isinstance(option, kind):
        raise OptionError(
            f"The {name!r} parameter must be a {kind.__name__} part from eigencode.parts, or your own subclass",
            got=f"{option!r} instead",
        )
    if option is not None and "_parameters" not in vars(option):
        what = f"The constructor of {type(option).__name__} does not call that of its base class"
        raise OptionError(what, hint="Begin its __init__ with super().__init__()")
    return None if option is None else clone(option)
