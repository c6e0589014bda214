"""Model: what is fitted, as a description without weights, and its linear baseline."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from sklearn.base import clone

from eigencode.errors import OptionError, known_length
from eigencode.fitting.architecture import hidden_widths_of, networks_of, require_memory_for, with_gaps
from eigencode.fitting.baseline import Baseline, find_baseline, principal_directions
from eigencode.fitting.data import Data
from eigencode.fitting.start import build
from eigencode.fitting.terms import terms_of
from eigencode.model.composition import Composition
from eigencode.model.objective import Objective
from eigencode.parts.forms import require_distribution
from eigencode.parts.networks.dense import MLP, Tied

if TYPE_CHECKING:
    from eigencode.data.rows import Rows
    from eigencode.options import AutoencoderOptions

AUTO_VARIANCE = 0.9
"""Share of the variance that ``n_components="auto"`` keeps."""


@dataclass(frozen=True, eq=False)
class Model:
    """What is fitted.

    Attributes
    ----------
    composition : Composition
        The formula with its terms filled in, without tensors.
    objective : Objective
        The sum of terms that training minimises.
    n_components : int
        Size of the code.
    hidden : tuple of int
        Widths of the hidden layers, from the data to the code.
    baseline : Baseline or None
        The linear model with the same terms, if there is one.
    explained_variance_ratio : list of float
        Share of the scaled rows' variance along each of the first ``n_components`` principal directions.
    has_working_units : bool
        Whether a linear start is a Newton step of a quadratic expansion, whose length has to be found.
    """

    composition: Composition
    objective: Objective
    n_components: int
    hidden: tuple[int, ...]
    baseline: Baseline | None
    explained_variance_ratio: list[float]
    has_working_units: bool

    def __repr__(self) -> str:
        return f"Model({self.composition!r}, n_components={self.n_components})"

    @property
    def has_closed_form(self) -> bool:
        """Whether the baseline is the best linear map for the whole objective."""
        return self.baseline is not None and self.baseline.start.is_optimum

    def built(self, data: Data, seed: int) -> Composition:
        """The composition with random weights, and with the best constant as the decoder's bias."""
        composition = clone(self.composition)
        build(composition, data, self.n_components, seed)
        return composition


def describe(options: AutoencoderOptions, data: Data, seed: int) -> Model:
    """Describe the model for given options, and choose by the data what is 'auto'."""
    if options.tied and options.decoder is not None:
        raise OptionError("Set either 'tied' or 'decoder', not both", got=f"tied=True and decoder={options.decoder!r}")
    terms, rows = terms_of(options), data.rows
    likelihood = clone(terms["likelihood"])
    likelihood.setup(data.sizes)
    require_distribution(likelihood, rows.n_features)  # before the working units are found from it
    views = principal_directions(terms["likelihood"], data, asked_components(options), options.tied, seed)
    n_components = asked_components(options) or views[0].spectrum.n_components_for(kept_variance(options) or 1.0)
    hidden = hidden_widths_of(options, rows.n_features, n_components, rows.n_usable)
    sizes = rows.n_features, n_components
    require_memory_for(options, hidden, sizes, rows.dtype.itemsize)
    objective = Objective(beta=options.beta, n_rows=_n_rows_of_prior(options, rows))
    first, input_dropout = with_gaps(options, MLP(), terms, data)
    linear = Composition(first, Tied() if options.tied else MLP(), input_dropout=input_dropout, **terms)
    baseline = find_baseline(linear, views, data, objective, n_components, seed)
    encoder, decoder = networks_of(options, hidden, sizes, starts_linear=baseline is not None)
    encoder, input_dropout = with_gaps(options, encoder, terms, data)
    return Model(
        composition=Composition(encoder, decoder, input_dropout=input_dropout, **terms_of(options)),
        objective=objective,
        n_components=n_components,
        hidden=hidden,
        baseline=baseline,
        explained_variance_ratio=views[0].spectrum.explained_variance_ratio(n_components),
        has_working_units=not views[0].is_plain,
    )


def _n_rows_of_prior(options: AutoencoderOptions, rows: Rows) -> int:
    """The number of rows for which a prior on the weights counts once; any number if there is no such prior."""
    if options.weight_prior is None and rows.n_training is None:
        return 1
    return known_length(rows.n_training, "A prior on the weights")


def asked_components(options: AutoencoderOptions) -> int | None:
    """The given size of the code, None if it is chosen by a share of the variance."""
    return None if kept_variance(options) else int(options.n_components)


def kept_variance(options: AutoencoderOptions) -> float | None:
    """The share of the variance by which the size of the code is chosen, None if the size is given."""
    if options.n_components == "auto":
        return AUTO_VARIANCE
    return None if isinstance(options.n_components, Integral) else float(options.n_components)
