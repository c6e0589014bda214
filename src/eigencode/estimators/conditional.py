r"""Conditional draws: cells of rows drawn given the others, from the model's own density of rows.

Many codes are drawn from the density of codes, and for each row one of them is chosen with probability

.. math:: w_m \propto p(x_{known} \mid z_m),

which is sampling by importance resampling: for many codes the chosen one is a draw from p(z | x_known). The missing
cells are then drawn from p(x | z).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from eigencode import training
from eigencode.data.gaps import hide_gaps
from eigencode.data.sources import NETWORK_CELLS
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.data.scaling import Scaler
    from eigencode.model import Composition

N_CODES = 4096
"""Codes that are compared with each row."""


def conditional_draws(
    model: Composition, scaler: Scaler, codes: Tensor, array: np.ndarray, *, mean: bool, seed: int
) -> Iterator[Tensor]:
    """Rows like those of an array in the data's units, each with a code that suits its known cells.

    Parameters
    ----------
    model : Composition
        The model, in float64.
    scaler : Scaler
        The scale of its rows.
    codes : Tensor of shape (m, k)
        Draws from the density of codes.
    array : ndarray of shape (n, d)
        Rows; NaN where a cell is to be drawn.
    mean : bool
        Whether to give the mean of p(x|z) instead of a draw.
    seed : int
        Seed of the draws.

    Yields
    ------
    Tensor of shape (b, d)
        Means or draws of all cells, in the units of the likelihood.
    """
    n_rows = max(NETWORK_CELLS // (len(codes) * array.shape[1]), 1)
    output = model.decoder(codes)[:, None, :]
    for number, first in enumerate(range(0, len(array), n_rows)):
        source = training.generator(seed, "given", number, device=codes.device)
        scaled = torch.from_numpy(scaler.transform(array[first : first + n_rows])).to(codes.device)
        rows = hide_gaps(scaled)
        p = model.likelihood(output.expand(-1, len(scaled), -1))
        density = p.log_prob(model.likelihood.target(*rows.cells).expand(len(codes), *scaled.shape))
        weights = rows.selected(density).sum(-1).softmax(0).T
        chosen = torch.multinomial(weights, 1, generator=source)[:, 0]
        drawn = model.decode(codes[chosen])
        yield drawn.mean if mean else drawn.sample(source)
