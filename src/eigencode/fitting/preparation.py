"""The way of rows from options to training: data, model, start, run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from eigencode.domains import Count, Interval, OneOf
from eigencode.fitting import run as runs
from eigencode.fitting.data import Data
from eigencode.fitting.model import Model, describe, find_start
from eigencode.fitting.start import Start
from eigencode.training.run import TrainingRun

if TYPE_CHECKING:
    from eigencode.options import AutoencoderOptions

ROUNDING = 1e-3
"""By how much a share may come out beyond its range."""


@dataclass(frozen=True)
class Decisions:
    """What was settled before training; a fitted model has each field as an attribute with an underscore behind it.

    Attributes
    ----------
    n_components : int
        Size of the code.
    hidden : tuple of int
        Widths of the hidden layers made here, from the data to the code; () where both networks are the user's own.
    init, optimizer : str
        What 'auto' became.
    seed : int
        Names every random draw.
    explained_variance_ratio : list of float
        Share of the scaled rows' variance along each of the first ``n_components`` principal directions.
    has_closed_form : bool
        Whether the linear start and the linear baseline are the optimum of linear maps for the whole objective; else
        they are PCA, or what some term of the formula would have alone.
    """

    n_components: Count
    hidden: tuple[Count, ...]
    init: Annotated[str, OneOf(["linear", "random", "pretrained"])]
    optimizer: Annotated[str, OneOf(["adam", "lbfgs"])]
    seed: Annotated[int, Interval(0)]
    explained_variance_ratio: list[Annotated[float, Interval(-ROUNDING, 1 + ROUNDING)]]
    has_closed_form: bool


@dataclass(frozen=True)
class Preparation:
    """The four stages of a fit, each made from those before it.

    Attributes
    ----------
    data : Data
        Scaled rows, split into those to learn from and those for validation.
    model : Model
        What is fitted, and its linear baseline.
    start : Start
        The weights that training begins with, and why.
    run : TrainingRun
        What the training loop takes.
    decisions : Decisions
        What was 'auto', decided.
    """

    data: Data
    model: Model
    start: Start
    run: TrainingRun
    decisions: Decisions


def prepare(
    options: AutoencoderOptions,
    data: Data,
    seed: int,
    start_of: Callable[[AutoencoderOptions, Model, Data, int], Start] = find_start,
) -> Preparation:
    """Decide everything that is 'auto', describe the model, find its start, and make the run.

    Parameters
    ----------
    options : AutoencoderOptions
        What was asked for.
    data : Data
        What the model is fitted to.
    seed : int
        Names every random draw.
    start_of : callable
        Finds the start of a model; those that were trained in part before have one of their own.
    """
    began = time.monotonic()
    model = describe(options, data, seed)
    start = start_of(options, model, data, seed)
    run, optimizer = runs.begin(options, data, model, start, seed, began)
    decisions = Decisions(
        n_components=model.n_components,
        hidden=model.hidden,
        init=start.init,
        optimizer=optimizer,
        seed=seed,
        explained_variance_ratio=model.explained_variance_ratio,
        has_closed_form=model.has_closed_form,
    )
    return Preparation(data, model, start, run, decisions)
