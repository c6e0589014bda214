r"""Adaptive sparsity: terms with one option, the wanted activity of the codes.

The activity that results from the rate of an L1 penalty, or from the weight of another penalty, depends on the rows,
their scale and the size of the code. These terms take the activity as an argument and adapt their strength in training,
so that the codes of new rows have this activity.
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
"""Share of a relative error in activity that one step corrects."""

TOLERANCE = 0.05
"""Relative error in activity up to which no cost is added and no warning given."""

FARTHEST = 5.0
"""Largest factor between the activity of the training rows and that of new rows, in either direction."""

MEMORY = 5
"""Batches in the running activity of the training rows: few, since weights and thresholds change."""

SMALLEST, LARGEST = 1e-20, 1e20
"""Largest strength, reached if the wanted activity is impossible."""


class TargetActivity(Term):
    r"""A term that gives the codes of new rows a wanted mean activity.

    It changes two things. The *thresholds* of the code have an immediate effect: at each evaluation they are set so
    that the mean activity estimated from the validation rows is the wanted one. The weights are evaluated after that,
    so that the best weights and their thresholds are kept together. The *strength* of the term acts slowly, through the
    weights: after each step it is multiplied by (activity of the batch / aim) to the power of a small gain, and the
    thresholds change with it. The aim is the activity of the training rows for which the validation rows have the
    wanted one; it is somewhat smaller, since the weights were fitted to the training rows.

    The estimate is unbiased; its error falls with the number n of validation rows as :math:`1/\sqrt n`. Without
    validation rows, and in a stream, the training rows get the wanted activity, and new rows a larger one.

    For codes without thresholds only the strength is changed, and for those that depend on it at once, as the optimal
    code does, at an evaluation too. Epochs are compared by the other terms of the objective plus a cost of a relative
    error above five per cent; an error of fifteen per cent costs as much as the whole variance of the rows.
    """

    learns_from_validation = True

    wanted: Tensor
    aim: Tensor
    fitted: Tensor
    threshold_shift: Tensor
    stake: Tensor
    length: Tensor

    def begin_at(self, wanted: float) -> None:
        """Make the tensors for the wanted activity."""
        for name in ("wanted", "aim", "fitted"):
            self.register_buffer(name, torch.tensor(float(wanted)))
        for name in ("stake", "length"):
            self.register_buffer(name, torch.ones(()))
        self.register_buffer("threshold_shift", torch.zeros(()))

    @abstractmethod
    def activity_of(self, z: Tensor) -> Tensor:
        """The activity of each row's code, shape (...), for codes of shape (..., k)."""

    def log_push(self, mean_activity: Tensor) -> Tensor:
        """The logarithm of the factor for the strength after a batch of codes; positive if they are too active."""
        return GAIN * (mean_activity.clamp(min=SMALLEST) / self.aim).log().clamp(-1, 1)

    def first_state(self, batch: Batch, composition: Composition) -> Mapping[str, Tensor]:
        """The cost of the rows' whole variance, in nats, and the mean length of the rows."""
        variance, x = composition.likelihood.expansion.variance, batch.x
        worth = 0.5 * x.shape[1] if variance is None else x.square().sum(1).mean() / (2 * variance)
        return {"stake": torch.as_tensor(worth), "length": x.norm(dim=1).mean()}

    def statistics(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """The activities of the codes drawn and of the clean rows' codes, summed over the batch; scalars."""
        drawn = self.activity_of(trace.z)
        drawn = drawn if drawn.dim() == 1 else drawn.mean(0)
        clean = drawn
        if trace.x_tilde is not trace.x:
            clean = self.activity_of(composition.encode(trace.x, trace.observed).mean)
        drawn, clean = (known_rows(values, trace.observed).sum() for values in (drawn, clean))
        return {"drawn": drawn, "clean": clean, **n_known(trace)}

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> Mapping[str, Tensor]:
        """The running activity of the training rows without corruption."""
        return {"fitted": torch.lerp(self.fitted, mean_of("clean", statistics, n_rows), 1 / MEMORY)}

    def validation_statistics(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """The activity and the length of each clean row, and its units' inputs if the code has thresholds."""
        q = trace.q if trace.x_tilde is trace.x else composition.encode(trace.x, trace.observed)
        found = {"active": self.activity_of(q.mean), "length": trace.x.norm(dim=-1)}
        code = composition.code
        return found | ({"inputs": code.inputs_of(q)} if isinstance(code, ThresholdedCode) else {})

    def validation_state(self, statistics: Mapping[str, Tensor], composition: Composition) -> Mapping[str, Tensor]:
        """Thresholds that give clean rows the wanted activity, and the aim for the training rows."""
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
        """The activity expected of new rows, a scalar."""
        return self.fitted * self.wanted / self.aim

    @property
    def cost_of_missing(self) -> Tensor:
        """The cost of an activity that is too high or too low, added in evaluation; a scalar."""
        return self.stake * (10 * ((self.reached / self.wanted - 1).abs() - TOLERANCE)).clamp(0, 1)

    def warn_after_training(self) -> str | None:
        """A warning with the activity reached, if it is far from the wanted one."""
        if abs(float(self.reached / self.wanted) - 1) <= 2 * TOLERANCE:
            return None
        return f"the codes' activity is about {float(self.reached):.3g}, not {float(self.wanted):.3g}; try more epochs"


def mean_given(values: Tensor, covariate: Tensor, population_mean: Tensor) -> Tensor:
    """The mean over all rows, estimated from the values of some, of shape (n,), by the regression estimator.

    A sample with long rows, for example, has more active units. A covariate whose mean over all rows is known corrects
    this (Cochran, 1977). With few rows the slope is uncertain, so the correction is at most half of the mean.
    """
    mean, away = values.mean(), covariate - covariate.mean()
    slope = (away * values).sum() / away.square().sum().clamp(min=SMALLEST)
    return mean + (slope * (population_mean - covariate.mean())).clamp(-mean / 2, mean / 2)


class AdaptiveLaplace(TargetActivity, Prior):
    r"""A Laplace prior (an L1 penalty) whose rate is adapted to a wanted mean number of active units per row.

    .. math:: -\log p(h) = \lambda \sum_i |h_i| - k \log \frac{\lambda}{2}, \qquad
        \lambda: \quad E \, \#\{i : h_i \ne 0\} = \text{active}

    The rate starts at the value for which the code of an orthonormal dictionary has the wanted activity: as many of the
    slopes :math:`|\partial \log p(x|z) / \partial z_i|` at z = 0 exceed it as units should be active. It is for codes
    with exact zeros, such as `ThresholdedReLU`; `LaplacePrior` has a fixed rate.

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
    >>> terms = {
    ...     "code": ThresholdedReLU(8),
    ...     "prior": AdaptiveLaplace(8),
    ...     "decoder": Dictionary(),
    ... }
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
        self.require_number("active", high=sizes.n_components)
        self.begin_at(self.active)
        self.register_buffer("rate", torch.ones(()))

    def activity_of(self, z: Tensor) -> Tensor:
        """Active units of each row."""
        return (z != 0).to(z.dtype).sum(-1)

    def first_state(self, batch: Batch, composition: Composition) -> Mapping[str, Tensor]:
        """The rate that as many slopes exceed as units should be active."""
        with torch.enable_grad():
            z = batch.x.new_zeros(len(batch), composition.n_components, requires_grad=True)
            cells = composition.decode(z).log_prob(composition.likelihood.target(batch.x, batch.observed))
            cells = cells if batch.observed is None else cells.where(batch.observed, 0.0)
            (slopes,) = torch.autograd.grad(cells.sum(), z)
        rate = exceeded_by(slopes.abs().flatten(), self.active * len(batch)).clamp(SMALLEST, LARGEST)
        found = {**super().first_state(batch, composition), "rate": rate}
        if composition.encoder.terms_read or isinstance(composition.code, ThresholdedCode):
            return found  # codes that an evaluation corrects; others may be far from the wanted activity at the start
        codes = composition.encode(batch.x, batch.observed).mean
        return {**found, "fitted": self.activity_of(codes).mean()}

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> Mapping[str, Tensor]:
        """Increase the rate if too many units were active, decrease it if too few."""
        push = self.log_push(mean_of("drawn", statistics, n_rows))
        rate = (self.rate * push.exp()).clamp(SMALLEST, LARGEST)
        shift = self.threshold_shift + push
        return {**super().next_state(statistics, n_rows), "rate": rate, "threshold_shift": shift}

    def validation_state(self, statistics: Mapping[str, Tensor], composition: Composition) -> Mapping[str, Tensor]:
        """The same, and for codes that are found for a rate, one at which new rows have the wanted activity.

        The number of active units falls about as the inverse of the rate, in a step of at most five. The codes of
        training rows are found by fewer iterations than those of new rows, and which share of the activity they have
        changes with the dictionary; with the aim alone all epochs may miss the activity by so much that the start is
        the best of them.
        """
        found = super().validation_state(statistics, composition)
        if not composition.encoder.terms_read:
            return found
        excess = (self.fitted / found["aim"]).clamp(1 / FARTHEST, FARTHEST)
        factor = torch.where((excess - 1).abs() > TOLERANCE, excess, 1.0)
        rate = (self.rate * factor).clamp(SMALLEST, LARGEST)
        return {**found, "rate": rate, "fitted": self.fitted / factor}

    def log_prob(self, z: Tensor) -> Tensor:
        return z.shape[-1] * (self.rate / 2).log() - self.rate * z.abs().sum(-1)

    def divergence(self, q: Posterior, z: Tensor) -> Tensor:
        """-log p(z) in training; in evaluation the cost of a wrong activity."""
        return -self.log_prob(z) if self.training else self.cost_of_missing

    def proximal(self, z: Tensor, step: Tensor | float) -> Tensor:
        """The soft threshold at step * rate: argmin over h of ``|h - z|^2 / 2 + step * rate * |h|_1``."""
        return soft_threshold(z, step * self.rate)

    def describe(self, composition: Composition) -> str:
        """The rate."""
        return f"rate {float(self.rate):.3g}"


class AdaptiveKLSparsity(TargetActivity, MeanActivity):
    r"""KL sparsity that reaches the wanted mean activity, by adapting its target.

    .. math:: \Omega = \beta \sum_j \rho' \log \frac{\rho'}{\rho_j} + (1 - \rho') \log \frac{1 - \rho'}{1 - \rho_j},
        \qquad \rho': \quad E \, \frac1k \sum_j h_j = \rho

    The weight beta is half the cost of the rows' whole variance; the penalty's target rho' is adapted. `KLSparsity` is
    the textbook's penalty with a fixed weight and target.

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
        """Check the activity, and set the target to it."""
        super().setup(sizes)
        self.begin_at(self.activity)
        self.register_buffer("target", torch.tensor(float(self.activity)))

    def activity_of(self, z: Tensor) -> Tensor:
        """The mean over the units of each row."""
        return z.mean(-1)

    def statistics(self, trace: Trace, composition: Composition) -> Mapping[str, Tensor]:
        """The activity of the batch, in total and of each unit."""
        of_units = MeanActivity.statistics(self, trace, composition)
        return {**TargetActivity.statistics(self, trace, composition), **of_units}

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> Mapping[str, Tensor]:
        """Decrease the target if the units were too active, increase it if too little."""
        push = self.log_push(mean_of("drawn", statistics, n_rows))
        target = (self.target * (-push).exp()).clamp(SMALLEST, 1 - torch.finfo(push.dtype).eps)
        running = MeanActivity.next_state(self, statistics, n_rows)
        return {**TargetActivity.next_state(self, statistics, n_rows), **running, "target": target}

    def forward(self, trace: Trace, composition: Composition) -> Tensor:
        """The weighted divergence in training; in evaluation the cost of a wrong activity."""
        if not self.training:
            return self.cost_of_missing
        return 0.5 * self.stake * bernoulli_divergence(self.target, self.mean_activity(trace.z, trace.observed)).sum()
