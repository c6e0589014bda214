"""Conformance tests of likelihoods."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from eigencode.batch import Batch
from eigencode.parts.base import Sizes, Units
from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods.base import Likelihood
from eigencode.testing import promises

CENTER, DIVISOR = 0.5, 2.0
"""The data's units in these tests."""


def check_likelihood(likelihood: Likelihood, *, n_features: int = 3, normalised: bool = True) -> None:
    """Test a likelihood for all properties that training, saving and scoring need.

    Its arguments define it (clone, ``repr``, JSON); its distributions have one number for each cell, and draw from the
    given generator only; densities integrate to 1 and have the numerical gradients; the mean is the mean of draws; the
    constant start is the best; learned parameters are calibrated and stay finite for constant columns; rows do not mix,
    and ``torch.func.vmap`` works.

    Parameters
    ----------
    likelihood : Likelihood
        An instance; it is copied and not changed.
    n_features : int
        Number of columns for the tests.
    normalised : bool
        Whether probabilities must add up to 1; False for a pseudo-likelihood.

    Examples
    --------
    >>> from eigencode.parts import PoissonLikelihood
    >>> from eigencode.testing import check_likelihood
    >>> check_likelihood(PoissonLikelihood())
    """
    part = promises.fresh(likelihood)
    with promises.no_global_draws(part):
        units = Units(torch.full((n_features,), CENTER), torch.full((n_features,), DIVISOR))
        part.setup(Sizes(n_features, 2, units=units))
        part.double()
        width = part.n_outputs(n_features)
        promises.require(isinstance(width, int) and width > 0, part, "n_outputs must be a positive int", width)
        outputs = 0.7 * torch.randn(6, width, dtype=torch.float64, generator=promises.source(0))
        _check_distribution(part, outputs, n_features)
        _check_rows_and_models_apart(part, outputs)
        promises.check_numbers(part, lambda: part(outputs).log_prob(part(outputs).mean.detach()))
        _check_gradients(part, outputs)
        _check_moments(part, outputs[:1])
        if normalised:
            _check_score(part, outputs[:1])
            _check_normalised(part, outputs[:1])
        _check_units(part, outputs)
        _check_constant(part, outputs[:1])
        _check_finite(part, n_features)


def _check_distribution(part: Likelihood, outputs: Tensor, n_features: int) -> None:
    """Test shapes and types, and that draws use the given generator."""
    shape = (len(outputs), n_features)
    p = part(outputs)
    draws, again = (p.sample(promises.source(1)) for _ in range(2))
    for name, found in {"the mean": p.mean, "a draw": draws, "log_prob": p.log_prob(draws)}.items():
        promises.require_shape(part, name, found, shape)
        promises.require_finite(part, f"{name} must be finite", found)
        promises.require(found.dtype == torch.float64, part, f"{name} of float64 outputs must be float64", found.dtype)
    promises.require_equal(part, "draws from equal generators must be equal", draws, again)
    many = part(outputs[:1].expand(64, -1))
    differ = not torch.equal(many.sample(promises.source(1)), many.sample(promises.source(2)))
    promises.require(differ, part, "draws from different generators must differ", "the same draws")
    p32 = copy.deepcopy(part).float()(outputs.float())
    for name, found in {"the mean": p32.mean, "log_prob": p32.log_prob(draws.float())}.items():
        promises.require(found.dtype == torch.float32, part, f"{name} of float32 outputs must be float32", found.dtype)
        promises.require_finite(part, f"{name} must be finite in float32", found)


def _check_rows_and_models_apart(part: Likelihood, outputs: Tensor) -> None:
    """Test that rows, cells and models do not depend on each other."""
    x = part(outputs).sample(promises.source(1))
    together = part(outputs).log_prob(x)
    apart = torch.cat([part(outputs[i : i + 1]).log_prob(x[i : i + 1]) for i in range(len(x))])
    promises.require_equal(part, "row i of log_prob must depend on row i only", together, apart)
    of_rows = getattr(part(outputs), "row_log_prob", lambda x: together.sum(-1))(x)
    promises.require_close(part, "row_log_prob must be the sum of log_prob over the cells", of_rows, together.sum(-1))
    changed = x.clone()
    changed[:, 0] = x[:, 0].flip(0)
    cells = part(outputs).log_prob(changed)[:, 1:]
    message = "log_prob of a cell must not depend on other cells, which may be missing"
    promises.require_equal(part, message, together[:, 1:], cells)
    promises.check_many_models(part, "log_prob", _LogProb(part), (outputs, x))


class _LogProb(nn.Module):
    """log_prob as a module, whose parameters are the likelihood's."""

    def __init__(self, part: Likelihood) -> None:
        super().__init__()
        self.part = part

    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        return self.part(output).log_prob(x)


def _check_gradients(part: Likelihood, outputs: Tensor) -> None:
    x = part(outputs).sample(promises.source(1))
    promises.check_derivative(part, "log_prob", lambda o: part(o).log_prob(x), outputs)
    for name, parameter in part.named_parameters():

        def as_function(value: Tensor, name: str = name) -> Tensor:
            return torch.func.functional_call(part, {name: value}, (outputs,)).log_prob(x)

        promises.check_derivative(part, f"log_prob by its parameter {name!r}", as_function, parameter.detach())


def _check_moments(part: Likelihood, output: Tensor) -> None:
    p = part(output.expand(promises.N_DRAWS, -1))
    slack = 1e-9 * (1 + p.mean[0].abs())
    promises.require_mean(part, "the mean must be the mean of draws", p.sample(promises.source(3)), p.mean[0], slack)


def _check_score(part: Likelihood, output: Tensor) -> None:
    """Test that the mean gradient of log_prob in its parameters is zero for draws from the distribution."""
    outputs = output.repeat(promises.N_DRAWS, 1).requires_grad_()
    p = part(outputs)
    (score,) = torch.autograd.grad(p.log_prob(p.sample(promises.source(7)).detach()).sum(), outputs)
    promises.require_mean(part, "draws must follow log_prob: its mean gradient must be 0", score, torch.zeros(()), 1e-9)


def _check_normalised(part: Likelihood, output: Tensor) -> None:
    """Test that exp(log_prob) sums or integrates to 1 over the support of each column."""
    draws = part(output.expand(promises.N_DRAWS, -1)).sample(promises.source(4))
    supports = [cell.support for cell in part.cells(draws.shape[-1])]
    for support in sorted(set(supports)):
        columns = [column for column, own in enumerate(supports) if own == support]
        total = _total(part, output, draws, support, columns)
        allowed = (total - 1).abs() <= 1e-4
        promises.require(
            bool(allowed.all()),
            part,
            "probabilities must add up to 1 in each column",
            f"totals {promises.short(total)}",
        )


def _total(part: Likelihood, output: Tensor, draws: Tensor, support: str, columns: list[int]) -> Tensor:
    """The total probability in some columns with the same support."""
    own = draws[:, columns]
    if support == "counts":
        values = torch.arange(4 * int(own.max()) + 1000, dtype=torch.float64)
    elif support == "unit interval" and bool(((own == 0) | (own == 1)).all()):
        values = torch.tensor([0.0, 1.0], dtype=torch.float64)
    else:
        return _integrated(part, output, draws, support)[columns]
    return _summed(part, output, values)[columns]


def _summed(part: Likelihood, output: Tensor, values: Tensor) -> Tensor:
    return _at(part, output, values[:, None]).exp().sum(0)


def _integrated(part: Likelihood, output: Tensor, draws: Tensor, support: str) -> Tensor:
    """The integral of exp(log_prob) by the double-exponential rule of Takahasi & Mori (1974), centred at the draws."""
    t = torch.linspace(-3.6, 3.6, 20_001, dtype=torch.float64)[:, None]
    step, inner = float(t[1] - t[0]), math.pi / 2 * t.sinh()
    if support == "unit interval":
        x, slope = inner.tanh() / 2 + 0.5, 0.5 / inner.cosh().square()
        inside = (x > 0) & (x < 1)
        x, slope = x.clamp(1e-300, 1 - 1e-16), slope * inside
    else:
        low, middle, high = draws.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=draws.dtype), dim=0)
        spread = (high - low).clamp(min=1e-12)
        x, slope = middle + spread * inner.sinh(), spread * inner.cosh()
    return (_at(part, output, x).exp() * slope * math.pi / 2 * t.cosh()).sum(0) * step


def _at(part: Likelihood, output: Tensor, x: Tensor) -> Tensor:
    """log_prob of m rows for one output; ``x`` has shape (m, d), or (m, 1) for equal values in all columns."""
    p = part(output.expand(len(x), -1))
    return p.log_prob(x.expand(p.mean.shape)).detach()


def _check_units(part: Likelihood, outputs: Tensor) -> None:
    """Test the conversions between the model's units and the distribution's."""
    p = part(outputs)
    draws = p.sample(promises.source(5))
    scaled = _scaled(part, draws)
    promises.require_close(part, "target must convert scaled rows to the units of log_prob", draws, part.target(scaled))
    promises.require_close(
        part, "scaled must convert the mean to scaled units", _scaled(part, p.mean), part.scaled(p.mean)
    )


def _scaled(part: Likelihood, x: Tensor) -> Tensor:
    """Rows in the units of the distribution, scaled with the units of these tests."""
    own = torch.tensor([cell.in_data_units for cell in part.cells(x.shape[-1])])
    return torch.where(own, (x - CENTER) / DIVISOR, x)


def _check_constant(part: Likelihood, output: Tensor) -> None:
    """Test that no output near the constant start is better, and no value near the calibrated parameters."""
    x = _scaled(part, part(output.expand(500, -1)).sample(promises.source(6)).detach())
    before = x.clone()
    constant = part.expansion.constant(Batch(x))
    promises.require_shape(part, "constant", constant, tuple(output.shape[1:]))
    promises.require_finite(part, "constant must be finite", constant)
    part.expansion.calibrate(Batch(x), constant.expand(len(x), -1))
    promises.require_equal(part, "constant and calibrate must not change the rows", before, x)
    target = part.target(x)

    def worth(o: Tensor, parameters: dict[str, Tensor]) -> float:
        with torch.no_grad():
            p: Distribution = torch.func.functional_call(part, parameters, (o.expand(len(x), -1),))
            return float(p.log_prob(target).mean())

    best = worth(constant, {})
    tolerance = 1e-7 * (1 + abs(best))
    for step in (1e-2, -1e-2, 0.3, -0.3):
        for i in range(len(constant)):
            near = constant.clone()
            near[i] += step
            message = f"constant must be the best output that ignores the code; number {i} changed by {step} is"
            gain = worth(near, {}) - best
            promises.require(gain <= tolerance, part, message, f"better by {gain:.3g} nats a cell")
        if abs(step) > 0.1:
            continue
        for name, parameter in part.named_parameters():
            moved = {name: parameter.detach() + step}
            gain = worth(constant, moved) - best
            message = f"calibrate must set parameters to their best values; {name!r} changed by {step} is"
            promises.require(gain <= 1e-5 * (1 + abs(best)), part, message, f"better by {gain:.3g} nats a cell")


def _check_finite(part: Likelihood, n_features: int) -> None:
    """Test that log_prob is finite in float32 for constant columns, reconstructed exactly or by outputs far away."""
    part = copy.deepcopy(part).float()
    for value in (0.0, 1.0):
        x = _scaled(part, torch.full((50, n_features), value)).float()
        constant = part.expansion.constant(Batch(x))
        promises.require_finite(part, "constant must be finite for a constant column", constant)
        output = constant.expand(len(x), -1)
        part.expansion.calibrate(Batch(x), output)
        for shift in (0.0, 60.0, -60.0):
            shifted = (output + shift).requires_grad_()
            cells = part(shifted).log_prob(part.target(x))
            (gradient,) = torch.autograd.grad(cells.sum(), shifted)
            for name, found in {"log_prob": cells, "its gradient": gradient}.items():
                message = f"{name} must be finite for constant columns, at outputs {shift:g} from the best"
                promises.require(bool(found.isfinite().all()), part, message, promises.short(found[0]))
