"""Conformance tests of codes."""

from __future__ import annotations

import torch
from torch import Tensor

from eigencode.parts.base import Sizes, is_declared
from eigencode.parts.codes.base import Code
from eigencode.testing import promises


def check_code(code: Code, *, n_components: int = 4, n_rows: int = 5, unbiased: bool = True) -> None:
    """Test a code: its width, its draws for given noise, their mean and their gradient.

    Parameters
    ----------
    code : Code
        An instance; it is copied and not changed.
    n_components, n_rows : int
        Sizes for the tests.
    unbiased : bool
        Whether the mean is the expectation of the draws; False for a code that is truncated or dropped in training.

    Examples
    --------
    >>> from eigencode.parts import Point
    >>> from eigencode.testing import check_code
    >>> check_code(Point())
    """
    part = promises.fresh(code)
    with promises.no_global_draws(part):
        part.setup(Sizes(n_components + 1, n_components))
        width = part.width(n_components)
        promises.require(isinstance(width, int) and width > 0, part, "width must be a positive int", width)
        output = torch.randn(n_rows, width, dtype=torch.float64, generator=promises.source(0))
        first, again, other = (part.draw_noise(n_rows, n_components, promises.source(seed)) for seed in (1, 1, 2))
        _check_noise_of_code(part, first, again, n_rows)
        q = part(output)
        draws = q.draw(first)
        promises.require_shape(part, "the mean", q.mean, (n_rows, n_components))
        promises.require_shape(part, "a draw", draws, (n_rows, n_components))
        promises.require_finite(part, "a draw must be finite", draws)
        promises.require_equal(part, "two draws with the same noise must be equal", draws, part(output).draw(again))
        promises.require_equal(part, "without noise the draw must be the mean", q.mean, q.draw(None))
        if part.is_stochastic:
            promises.require(
                not torch.equal(draws, q.draw(other)), part, "fresh noise must give another draw", "the same"
            )
        for some in (torch.arange(n_rows).flip(0), torch.arange(1)):
            own = None if first is None else first[some] if len(first) == n_rows else first
            promises.require_equal(part, "row i must depend on row i only", draws[some], part(output[some]).draw(own))
        promises.check_batch_axes(part, "the mean", lambda o: part(o).mean, output)
        _check_components(part, output, n_components)
        promises.check_numbers(part, lambda: part(output).mean)
        promises.check_derivative(part, "a draw", lambda o: part(o).draw(first), output)
        if part.is_stochastic and unbiased:
            drawn = part(output[:1].expand(promises.N_DRAWS, -1)).draw(
                part.draw_noise(promises.N_DRAWS, n_components, promises.source(4))
            )
            promises.require_mean(part, "the mean must be the mean of draws", drawn, q.mean[0], 1e-6)


def _check_noise_of_code(part: Code, noise: Tensor | None, again: Tensor | None, n_rows: int) -> None:
    if noise is None:
        promises.require(not part.is_stochastic, part, "a stochastic code must draw noise", None)
        return
    promises.require(
        part.is_stochastic, part, "a code with noise must declare is_stochastic = True", part.is_stochastic
    )
    promises.require(isinstance(noise, Tensor), part, "noise must be a tensor", noise)
    assert again is not None
    promises.require_equal(part, "noise must be the same from the same generator", noise, again)


def _check_components(part: Code, output: Tensor, n_components: int) -> None:
    """Test what the code declares of its mean as a function of the encoder's output."""
    mean, others = part(output).mean, torch.ones(n_components, dtype=torch.bool)
    is_elementwise = n_components > 1
    for j in range(output.shape[1]):
        moved = output.clone()
        moved[:, j] += 10.0
        kept = others.clone()
        kept[j : j + 1] = False
        is_elementwise &= torch.equal(part(moved).mean[:, kept], mean[:, kept])
    is_identity = torch.equal(mean, output[:, :n_components])
    for name, holds, reason in [
        ("is_elementwise", is_elementwise, "component j of the mean depends on output j only"),
        ("is_identity", is_identity, "the mean is the first outputs as they are"),
    ]:
        claimed = getattr(part, name)
        promises.require(
            not claimed or holds or n_components == 1, part, f"{name} = True means that {reason}", "another mean"
        )
        message = f"declare {name} = True (or False), since {reason}"
        promises.require(claimed or not holds or is_declared(part, name), part, message, "no declaration")
