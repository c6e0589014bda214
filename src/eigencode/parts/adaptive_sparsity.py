r"""Adaptive sparsity: terms with one option in plain words, how active the codes are to be.

The rate of an L1 penalty, or the weight of another, says little of the codes that come of it: that depends on the
rows, on their scale and on the size of the code. These terms take the activity wanted and find the strength for it
while they train, on rows never seen too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencode.parts.base import Sizes, Term
from eigencode.parts.codes.base import Posterior
from eigencode.parts.codes.sparse import ThresholdedCode, exceeded_by
from eigencode.parts.penalties.activity import MeanActivity, bernoulli_divergence, known_rows, mean_of, n_known
from eigencode.parts.priors import Prior, soft_threshold

if TYPE_CHECKING:
    from eigencode.batch import Batch
    from eigencode.model.composition import Composition, Trace

GAIN = 0.05
"""Share of a relative error in activity that one step makes up for."""

TOLERANCE = 0.05
"""Relative error in activity up to which a model counts as being as active as wanted."""

FARTHEST = 5.0
"""How many times more, or less, active than others the rows fitted are made at most."""

MEMORY = 5
"""Batches whose activity stands for that of the rows fitted: few, for weights and thresholds move on."""

SMALLEST, LARGEST = 1e-20, 1e20
"""Where a strength that cannot bring about what is wanted stops."""


class TargetActivity(Term):
    r"""A term that makes the codes of rows never seen as active as wanted.

    It moves two things. The *thresholds* of the code answer at once: at each look at the validation rows they are set
    so that the mean activity estimated from these is the one wanted, and only then are the weights judged, so that the
    weights kept and the thresholds kept belong together. The *strength* of the term works slowly, through the weights:
    after each step it is multiplied by (activity of the batch / aim) to the power of a small gain, the thresholds with
    it, until the weights stay where the thresholds need not move. The aim is what the rows fitted have when the
    validation rows are as active as wanted: somewhat less, for the weights were made for them.

    The estimate has no bias, but an error that falls with the number of validation rows n as :math:`1/\sqrt n`. Where
    there are none, or in a stream, the rows fitted are as active as wanted, and others more.

    Codes without thresholds to move, as the optimal code, have the strength alone. Their epochs are compared by what
    else is in the objective, and by what it costs to be further than five per cent from the activity wanted, which at
    fifteen is as much as all the rows' variance.
    """

    learns_from_validation = True

    wanted: Tensor
    aim: Tensor
    fitted: Tensor
    threshold_shift: Tensor
    stake: Tensor
    length: Tensor

    def begin_at(self, wanted: float) -> None:
        """Make the tensors for a wanted activity."""
        for name in ("wanted", "aim", "fitted"):
            self.register_buffer(name, torch.tensor(float(wanted)))
        for name in ("stake", "length"):
            self.register_buffer(name, torch.ones(()))
        self.register_buffer("threshold_shift", torch.zeros(()))

    @abstractmethod
    def activity_of(self, z: Tensor) -> Tensor:
        """How active each row's code is, for codes of shape (..., k); shape (...)."""

    def log_push(self, mean_activity: Tensor) -> Tensor:
        """The logarithm of the factor for the strength after a batch of codes: above 0 where they are too active."""
        return GAIN * (mean_activity.clamp(min=SMALLEST) / self.aim).log().clamp(-1, 1)

    def first_state(self, batch: Batch, composition: Composition) -> Mapping[str, Tensor]:
        """What all the rows' variance is worth, in nats, and how long the rows are."""
        variance, x = composition.likelihood.expansion.variance, batch.x
        worth = 0.5 * x.shape[1] if variance is None else x.square().sum(1).mean() / (2 * variance)
        return {"stake": torch.as_tensor(worth), "length": x.norm(dim=1).mean()}

    def statistics(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """The activity of the codes drawn and of clean rows' codes, summed over the batch; scalars."""
        drawn = self.activity_of(trace.z)
        drawn = drawn if drawn.dim() == 1 else drawn.mean(0)
        clean = drawn
        if trace.x_tilde is not trace.x:
            clean = self.activity_of(composition.encode(trace.x, trace.observed).mean)
        drawn, clean = (known_rows(values, trace.observed).sum() for values in (drawn, clean))
        return {"drawn": drawn, "clean": clean, **n_known(trace)}

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> Mapping[str, Tensor]:
        """The running activity of the rows fitted, before any corruption."""
        return {"fitted": torch.lerp(self.fitted, mean_of("clean", statistics, n_rows), 1 / MEMORY)}

    def validation_statistics(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """How active each clean row is, how long it is, and the inputs of its units where thresholds can be moved."""
        q = composition.encode(trace.x, trace.observed)
        found = {"active": self.activity_of(q.mean), "length": trace.x.norm(dim=-1)}
        code = composition.code
        return found | ({"inputs": code.inputs_of(q)} if isinstance(code, ThresholdedCode) else {})

    def validation_state(self, statistics: Mapping[str, Tensor], composition: Composition) -> Mapping[str, Tensor]:
        """Thresholds for clean rows to be as active as wanted, and what to aim at on the rows fitted."""
        active = statistics["active"]
        expected = mean_given(active, statistics["length"], self.length).clamp(min=SMALLEST)
        change = self.wanted / expected
        aim = self.wanted * (self.fitted / expected).clamp(1 / FARTHEST, FARTHEST)
        if not isinstance(composition.code, ThresholdedCode):
            return {"aim": aim}
        shift = composition.code.shift_for(statistics["inputs"], active.mean() * change)
        return {"aim": aim, "fitted": self.fitted * change, "threshold_shift": self.threshold_shift + shift}

    @property
    def reached(self) -> Tensor:
        """The activity to be expected of rows never seen, a scalar."""
        return self.fitted * self.wanted / self.aim

    @property
    def cost_of_missing(self) -> Tensor:
        """What being too active, or too little, costs where weights are judged; a scalar."""
        return self.stake * (10 * ((self.reached / self.wanted - 1).abs() - TOLERANCE)).clamp(0, 1)

    def warn_about(self, composition: Composition) -> str | None:
        """The activity reached, where it is far from the one wanted."""
        if abs(float(self.reached / self.wanted) - 1) <= 2 * TOLERANCE:
            return None
        return f"the codes' activity is about {float(self.reached):.3g}, not {float(self.wanted):.3g}; try more epochs"


def mean_given(values: Tensor, covariate: Tensor, population_mean: Tensor) -> Tensor:
    """The mean over all rows of what some have as values, of shape (n,), by the regression estimator.

    A few rows that happen to be long, say, have more active units; the covariate, whose mean over all rows is known,
    takes that out (Cochran, 1977). Few rows may show a slope that there is not, so it moves the mean by half at most.
    """
    mean, away = values.mean(), covariate - covariate.mean()
    slope = (away * values).sum() / away.square().sum().clamp(min=SMALLEST)
    return mean + (slope * (population_mean - covariate.mean())).clamp(-mean / 2, mean / 2)


class AdaptiveLaplace(TargetActivity, Prior):
    r"""A Laplace prior whose rate is found for a wanted number of active units a row: L1 by one plain option.

    .. math:: -\log p(h) = \lambda \sum_i |h_i| - k \log \frac{\lambda}{2}, \qquad
        \lambda: \quad E \, \#\{i : h_i \ne 0\} = \text{active}

    The rate starts where the code of an orthonormal dictionary would be as active as wanted: where that many of the
    slopes :math:`|\partial \log p(x|z) / \partial z_i|` at z = 0 exceed it. For codes with exact zeros, as
    `ThresholdedReLU` ones are; `LaplacePrior` has a rate of your own.

    Parameters
    ----------
    active : float
        Mean number of active units a row.

    Examples
    --------
    >>> from eigencode import Autoencoder
    >>> from eigencode.parts import Dictionary, ThresholdedReLU
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data
    >>> terms = {"code": ThresholdedReLU(8), "prior": AdaptiveLaplace(8), "decoder": Dictionary()}
    >>> model = Autoencoder(64, hidden=(), **terms, max_epochs=10, random_state=0).fit(X)
    >>> bool(7.2 < (model.transform(X) != 0).sum(1).mean() < 8.8)
    True
    """

    numbers = ("active",)

    rate: Tensor

    def __init__(self, active: float = 1.0) -> None:
        super().__init__()
        self.active = active

    def setup(self, sizes: Sizes) -> None:
        """Check the number of units."""
        self.require_number("active", high=sizes.n_components)
        self.begin_at(self.active)
        self.register_buffer("rate", torch.ones(()))

    def activity_of(self, z: Tensor) -> Tensor:
        """Active units of each row."""
        return (z != 0).to(z.dtype).sum(-1)

    def first_state(self, batch: Batch, composition: Composition) -> Mapping[str, Tensor]:
        """The rate that as many slopes exceed as units are to be active."""
        with torch.enable_grad():
            z = batch.x.new_zeros(len(batch), composition.n_components, requires_grad=True)
            cells = composition.decode(z).log_prob(composition.likelihood.target(batch.x, batch.observed))
            cells = cells if batch.observed is None else cells.where(batch.observed, 0.0)
            (slopes,) = torch.autograd.grad(cells.sum(), z)
        rate = exceeded_by(slopes.abs().flatten(), self.active * len(batch)).clamp(SMALLEST, LARGEST)
        return {**super().first_state(batch, composition), "rate": rate}

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> Mapping[str, Tensor]:
        """Raise the rate where too many units were active, lower it where too few."""
        push = self.log_push(mean_of("drawn", statistics, n_rows))
        rate = (self.rate * push.exp()).clamp(SMALLEST, LARGEST)
        shift = self.threshold_shift + push
        return {**super().next_state(statistics, n_rows), "rate": rate, "threshold_shift": shift}

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(z) at the present rate, shape (...)."""
        return z.shape[-1] * (self.rate / 2).log() - self.rate * z.abs().sum(-1)

    def divergence(self, q: Posterior, z: Tensor) -> Tensor:
        """-log p(z) in training; where weights are judged, what it costs to be too active or too little."""
        return -self.log_prob(z) if self.training else self.cost_of_missing

    def proximal(self, z: Tensor, step: Tensor | float) -> Tensor:
        """The soft threshold at step * rate: argmin over h of ``|h - z|^2 / 2 + step * rate * |h|_1``."""
        return soft_threshold(z, step * self.rate)

    def describe(self, composition: Composition) -> str:
        """The rate found."""
        return f"rate {float(self.rate):.3g}"


class AdaptiveKLSparsity(TargetActivity, MeanActivity):
    r"""KL sparsity that ends at the mean activity wanted, whatever the reconstruction would rather have.

    .. math:: \Omega = \beta \sum_j \rho' \log \frac{\rho'}{\rho_j} + (1 - \rho') \log \frac{1 - \rho'}{1 - \rho_j},
        \qquad \rho': \quad E \, \frac1k \sum_j h_j = \rho

    The weight beta is half of what all the rows' variance is worth; the penalty's own target rho' is moved.
    `KLSparsity` is the textbook's, with a weight of your own.

    Parameters
    ----------
    activity : float
        rho, the mean activity over units and rows, above 0 and below 1.

    Examples
    --------
    >>> from eigencode import Autoencoder
    >>> from eigencode.parts import MLP, Sigmoid
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data
    >>> terms = {"code": Sigmoid(0.1), "penalties": [AdaptiveKLSparsity(0.1)]}
    >>> model = Autoencoder(25, hidden=(), **terms, max_epochs=10, random_state=0).fit(X)
    >>> bool(0.09 < model.transform(X).mean() < 0.11)
    True
    """

    numbers = ("activity",)

    target: Tensor

    def __init__(self, activity: float = 0.05) -> None:
        super().__init__()
        self.activity = activity

    def setup(self, sizes: Sizes) -> None:
        """Check the activity, and begin with it as the target."""
        super().setup(sizes)
        self.begin_at(self.activity)
        self.register_buffer("target", torch.tensor(float(self.activity)))

    def activity_of(self, z: Tensor) -> Tensor:
        """Mean over the units of each row."""
        return z.mean(-1)

    def statistics(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """How active the batch is, as a whole and each unit."""
        of_units = MeanActivity.statistics(self, trace, composition)
        return {**TargetActivity.statistics(self, trace, composition), **of_units}

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> Mapping[str, Tensor]:
        """Lower the target where the units were too active, raise it where too little."""
        push = self.log_push(mean_of("drawn", statistics, n_rows))
        target = (self.target * (-push).exp()).clamp(SMALLEST, 1 - torch.finfo(push.dtype).eps)
        running = MeanActivity.next_state(self, statistics, n_rows)
        return {**TargetActivity.next_state(self, statistics, n_rows), **running, "target": target}

    def forward(self, trace: Trace, composition: Composition) -> Tensor:
        """The weighed divergence in training; where weights are judged, what it costs to miss the activity wanted."""
        if not self.training:
            return self.cost_of_missing
        return 0.5 * self.stake * bernoulli_divergence(self.target, self.mean_activity(trace.z, trace.observed)).sum()
