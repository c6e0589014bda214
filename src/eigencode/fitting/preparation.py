"""Preparation of a fit: data, model, start and run, each made from those before it."""

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


@dataclass(frozen=True)
class Preparation:
    """The four stages of a fit, each made from those before it.

    Attributes
    ----------
    data : Data
        Scaled rows, split into rows for training and for validation.
    model : Model
        The model that is fitted, and its linear baseline.
    start : Start
        The weights that training begins with, and why.
    run : TrainingRun
        The argument of the training loop.
    decisions : Decisions
        What was chosen for options that are 'auto'.
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
        The options of the estimator.
    data : Data
        The scaled rows.
    seed : int
        Names every random draw.
    start_of : callable
        A function that finds the start of a model; stacks of trained layers have their own.
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
