"""Model: what is fitted, as a description without weights, and its linear baseline."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from sklearn.base import clone

from eigencode.errors import known_length
from eigencode.fitting.architecture import networks_of, widths_of, with_gaps
from eigencode.fitting.baseline import Baseline, find_baseline, principal_directions
from eigencode.fitting.data import Data
from eigencode.fitting.start import make, set_constants
from eigencode.fitting.terms import terms_of
from eigencode.model.composition import Composition
from eigencode.model.objective import Objective
from eigencode.parts.forms import require_distribution
from eigencode.parts.networks.dense import MLP, Tied

if TYPE_CHECKING:
    from eigencode.data.rows import Rows
    from eigencode.options import AutoencoderOptions
    from eigencode.parts.weight_priors import WeightPrior

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
        composition = self.made(data, seed)
        set_constants(composition, data)
        return composition

    def made(self, data: Data, seed: int) -> Composition:
        """The composition with random weights, whose bias and likelihood know nothing of the rows."""
        composition = clone(self.composition)
        make(composition, data, self.n_components, seed)
        return composition


def describe(options: AutoencoderOptions, data: Data, seed: int) -> Model:
    """Describe the model for given options, and choose by the data what is 'auto'."""
    terms, rows = terms_of(options, data.columns), data.rows
    likelihood = clone(terms["likelihood"])
    likelihood.setup(data.sizes)
    require_distribution(likelihood, rows.n_features)  # before the working units are found from it
    share = kept_variance(options.n_components)
    asked = None if share else int(options.n_components)
    views = principal_directions(terms["likelihood"], data, asked, share, options.tied, seed)
    n_components = asked or views[0].spectrum.n_components_for(share or 1.0)
    sizes = rows.n_features, n_components
    hidden = widths_of(options, sizes, rows)
    objective = Objective(beta=options.beta, n_rows=_n_rows_of_prior(terms["weight_prior"], rows))
    # Layers of our own get indicators of gaps; images, tied layers, and the user's networks have one input a column.
    indicates = options.encoder is None and not options.tied and options.image_shape is None
    first, input_dropout = with_gaps(MLP(), indicates, terms, data)
    linear = Composition(first, Tied() if options.tied else MLP(), input_dropout=input_dropout, **terms)
    baseline = find_baseline(linear, views, data, objective, n_components, seed)
    encoder, decoder = networks_of(options, hidden, data.image_shape, sizes, starts_linear=baseline is not None)
    encoder, input_dropout = with_gaps(encoder, indicates, terms, data)
    return Model(
        composition=Composition(encoder, decoder, input_dropout=input_dropout, **terms_of(options, data.columns)),
        objective=objective,
        n_components=n_components,
        hidden=hidden,
        baseline=baseline,
        explained_variance_ratio=views[0].spectrum.explained_variance_ratio(n_components),
        has_working_units=not views[0].is_plain,
    )


def _n_rows_of_prior(prior: WeightPrior | None, rows: Rows) -> int:
    """The number of rows for which a prior on the weights counts once; any number if there is no such prior."""
    if prior is None and rows.n_training is None:
        return 1
    return known_length(rows.n_training, "A prior on the weights")


def kept_variance(n_components: int | float | str) -> float | None:
    """The share of the variance by which the size of the code is chosen, None if the size is given."""
    if n_components == "auto":
        return AUTO_VARIANCE
    return None if isinstance(n_components, Integral) else float(n_components)
