"""Decisions: what was chosen before training, which a fitted model keeps as its attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from eigencode.domains import Count, Interval, OneOf

if TYPE_CHECKING:
    from eigencode.fitting.model import Model
    from eigencode.fitting.start import Start
    from eigencode.training.run import TrainingRun

ROUNDING = 1e-3
"""Rounding error that a share may have beyond its range."""


@dataclass(frozen=True)
class Decisions:
    """What was chosen before training; each field is an attribute of the fitted model, with an underscore appended.

    Attributes
    ----------
    n_components : int
        Size of the code.
    hidden : tuple of int
        Widths of the hidden layers, from the data to the code; () if both networks are the user's.
    init, optimizer : str
        The values in use, with 'auto' resolved.
    seed : int
        Names every random draw.
    explained_variance_ratio : list of float
        Share of the scaled rows' variance along each of the first ``n_components`` principal directions.
    has_closed_form : bool
        Whether the linear start and the linear baseline are the best linear map for the whole objective; otherwise
        they are PCA, or the optimum for one term of the formula alone.
    """

    n_components: Count
    hidden: tuple[Count, ...]
    init: Annotated[str, OneOf(["linear", "random", "pretrained"])]
    optimizer: Annotated[str, OneOf(["adam", "lbfgs"])]
    seed: Annotated[int, Interval(0)]
    explained_variance_ratio: list[Annotated[float, Interval(-ROUNDING, 1 + ROUNDING)]]
    has_closed_form: bool

    @classmethod
    def of(cls, model: Model, start: Start, run: TrainingRun) -> Decisions:
        """The decisions of the stages of a fit."""
        return cls(
            n_components=model.n_components,
            hidden=model.hidden,
            init=start.init,
            optimizer=run.optimizer,
            seed=run.state.seed,
            explained_variance_ratio=model.explained_variance_ratio,
            has_closed_form=model.has_closed_form,
        )
