r"""The contractive penalty: codes that change little with their row."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from eigencode.errors import OptionError, did_you_mean
from eigencode.options import Estimate
from eigencode.parts.base import Sizes
from eigencode.parts.penalties.base import Penalty

if TYPE_CHECKING:
    from eigencode.model.composition import Composition, Trace
    from eigencode.model.initialization import LinearProblem, LinearStart

MOST_PASSES = 8
"""Most passes for which 'auto' is exact: a step then takes about five times as long; with an estimate, twice."""


class Contractive(Penalty):
    r"""The squared norm of the encoder's Jacobian, J = dh/dx for the mean code h (Rifai et al., 2011).

    .. math:: \Omega(x) = \lambda \lVert J(x) \rVert_F^2 = \lambda \sum_{ij} (\partial h_i / \partial x_j)^2

    It is computed at the clean row, also if the encoder's input is corrupted in training: a denoising and contractive
    autoencoder learns to remove large noise, and its code is flat around the data. For one layer h = s(Wx + b) it is

    .. math:: \lVert J \rVert_F^2 = \sum_j s'(a_j)^2 \lVert W_j \rVert^2

    and there is a closed form for one hidden layer too. Other encoders need min(k, d) passes, or one for an unbiased
    estimate from random signs v (Hutchinson, 1990), :math:`\lVert J^\top v \rVert^2`. Hidden cells have no column in J.

    For linear maps it is weight decay of the encoder. If the decoder is tied, the optimum keeps

    .. math:: s_i = (1 - \lambda / (2 l_i))_+

    of the direction with eigenvalue l_i. If not, there is no optimum: if the codes are halved and the decoder's weights
    doubled, the reconstruction is the same and the penalty falls to a quarter. This holds for all units that are
    proportional to their input, and for tied layers beside a linear path, whose factors replace the decoder's weights;
    `warn_about` gives a warning.

    Parameters
    ----------
    weight : float
        lambda, for columns in scaled units and the squared error, or nats, of a row.
    estimate : {'auto', 'exact', 'hutchinson'}
        'auto' is exact if there is a closed form or at most 8 passes are needed, else Hutchinson's estimate. `describe`
        returns which one is used.

    Raises
    ------
    OptionError
        In ``setup``, if the weight is negative or the estimate unknown.

    Examples
    --------
    >>> from eigencode import Autoencoder
    >>> from sklearn.datasets import load_wine
    >>> X = load_wine().data
    >>> options = {"tied": True, "init": "random", "max_epochs": 20, "random_state": 0}
    >>> model = Autoencoder(2, penalties=[Contractive(weight=1.0)], **options).fit(X)
    >>> norms = [
    ...     (m.jacobian_spectrum(X) ** 2).sum()
    ...     for m in (model, Autoencoder(2, **options).fit(X))
    ... ]
    >>> bool(norms[0] < norms[1])
    True
    """

    ignores_idle_components = True
    sees_draws = False
    numbers = ("weight",)

    def __init__(self, weight: float = 0.1, estimate: Estimate = "auto") -> None:
        super().__init__()
        self.weight = weight
        self.estimate = estimate

    def setup(self, sizes: Sizes) -> None:
        self.require_number("weight", closed=True)
        known = get_args(Estimate)
        if self.estimate not in known:
            raise OptionError(
                f"The 'estimate' parameter of Contractive must be one of {', '.join(map(repr, known))}",
                got=f"{self.estimate!r} instead",
                hint=did_you_mean(self.estimate, known),
            )

    def join(self, composition: Composition) -> None:
        """Choose whether the norm of this model is estimated."""
        self.is_stochastic = self._is_estimated(composition)

    def _is_estimated(self, composition: Composition) -> bool:
        if self.estimate == "auto":
            return composition.n_jacobian_passes(USUAL_BATCH) > MOST_PASSES
        return self.estimate == "hutchinson"

    def draw_noise(self, n_rows: int, composition: Composition, generator: torch.Generator) -> Tensor | None:
        """Random signs, shape (n, k), if the norm is estimated."""
        if not self._is_estimated(composition):
            return None
        shape = (n_rows, composition.n_components)
        return 2.0 * torch.randint(2, shape, generator=generator, device=generator.device) - 1.0

    def forward(self, trace: Trace, composition: Composition, noise: Tensor | None = None) -> Tensor:
        """The penalty of each row, shape (n,): exact, or estimated if noise is given."""
        return self.weight * composition.squared_jacobian(trace, noise)

    def describe(self, composition: Composition) -> str:
        """The method for the norm."""
        if self._is_estimated(composition):
            return "by Hutchinson's estimate, one pass a batch"
        n_passes = composition.n_jacobian_passes(USUAL_BATCH)
        return f"exact, in {n_passes} passes a batch" if n_passes else "exact, in closed form"

    def warn_about(self, composition: Composition) -> str | None:
        """A warning if the penalty has no minimum."""
        is_fixed = composition.weight_prior is not None or (
            composition.prior is not None and composition.code.is_stochastic
        )
        if self.weight == 0 or is_fixed or not _scales_with_its_input(composition):
            return None
        if not composition.decoder.is_tied:
            remedy = "tied=True, a weight_prior, or a bounded code as Point('sigmoid')"
        elif getattr(composition.encoder, "gated", False):
            remedy = "init='random', or a weight_prior"
        else:
            return None
        return (
            "the contractive penalty has no minimum: codes can shrink to zero while the decoder's weights grow; "
            f"try {remedy}"
        )

    def linear_start(self, problem: LinearProblem) -> LinearStart | None:
        """The share (1 - lambda / 2l)+ of each direction for tied maps; others have no optimum."""
        composition = problem.composition
        variance = composition.likelihood.expansion.variance
        if not composition.decoder.is_tied or variance is None or not problem.is_squared_error:
            return None
        # In units of the squared error, which weighs 1 / (2 variance), lambda / 2 is the weight times the variance.
        shares = 1 - self.weight * variance / problem.eigenvalues.clamp(min=1e-300)
        return problem.shrunk(shares.clamp(min=0))


@torch.no_grad()
def _scales_with_its_input(composition: Composition) -> bool:
    """Whether a code is proportional to the encoder's output, as linear and rectified units are."""
    like = next(composition.parameters())
    output = torch.linspace(-2, 2, composition.code.width(composition.n_components)).to(like)[None]
    once, twice = (composition.code(factor * output).mean for factor in (1, 2))
    return torch.allclose(2 * once, twice)


USUAL_BATCH = 256
"""Size of the batch for which passes are counted."""
