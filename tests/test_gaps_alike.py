"""Patterns of gaps: one system for rows hidden alike, whatever the number of hidden cells."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from eigencode.parts import MLP, Completing
from eigencode.parts.networks import hidden_cells
from eigencode.parts.networks.hidden_cells import Covariance, covariance_times, patterns_of
from eigencode.training.cpu_graphs import record_on_cpu


def density(d, rank, seed=0):
    """W and the diagonal of D."""
    generator = torch.Generator().manual_seed(seed)
    loadings = torch.randn(d, rank, generator=generator, dtype=torch.float64)
    return loadings, torch.rand(d, generator=generator, dtype=torch.float64) + 0.1


def hidden_rows(n, d, n_patterns, seed=1):
    """Rows of few patterns, with every number of hidden cells, none and all among them."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.linspace(-0.1, 1.1, n_patterns)[:, None]
    patterns = torch.rand(n_patterns, d, generator=generator) < shares
    return patterns[torch.randint(n_patterns, (n,), generator=generator)]


def literal(hidden, x, loadings, noise):
    """The conditional covariance of each row by itself, times its hidden cells, and its diagonal."""
    covariance = loadings @ loadings.T + noise.diag()
    found, variances = torch.zeros_like(x), torch.zeros_like(x)
    for i in range(len(x)):
        h, o = hidden[i], ~hidden[i]
        known = torch.linalg.solve(covariance[o][:, o], covariance[o][:, h])
        left = covariance[h][:, h] - covariance[h][:, o] @ known
        found[i, h], variances[i, h] = left @ x[i, h], left.diagonal()
    return found, variances


SHAPES = {
    "any covariance": (200, 9, 8, 150),
    "rank below the number of gaps": (200, 12, 2, 150),
    "a pattern for each row": (60, 24, 16, 5000),
    "few patterns": (400, 9, 8, 12),
    "few patterns, low rank": (400, 12, 2, 12),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk", [1, 300, 2**21])
def test_the_conditional_covariance_is_the_literal_one(shape, chunk, monkeypatch):
    monkeypatch.setattr(hidden_cells, "CHUNK_NUMBERS", chunk)
    n, d, rank, n_patterns = SHAPES[shape]
    loadings, noise = density(d, rank)
    hidden = hidden_rows(n, d, n_patterns)
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected, variances = literal(hidden, x, loadings, noise)
    covariance = Covariance(loadings, noise)
    close = {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(covariance_times(hidden, x, loadings, noise), expected, **close)
    torch.testing.assert_close(covariance.times_by_codes(hidden, x), expected, **close)
    torch.testing.assert_close(covariance.variances(hidden), variances, **close)
    torch.testing.assert_close(covariance.variances_by_codes(hidden), variances, **close)


@pytest.mark.parametrize("n_patterns", [1, 12, 300])
def test_every_row_with_gaps_is_in_one_group_with_its_cells(n_patterns):
    hidden = hidden_rows(300, 70, n_patterns)
    seen = torch.zeros_like(hidden)
    for each in patterns_of(hidden, lambda n: n):
        widths = each.is_hidden.sum(1)
        assert widths.max() == each.cells.shape[1] < 2 * widths.min()
        rows = each.to_rows(each.whole(70))
        assert not seen[each.rows].any()
        seen[each.rows] = rows
    torch.testing.assert_close(seen, hidden)


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that an operator makes."""

    n_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        made = list(found) if isinstance(found, tuple | list) else [found]
        sizes = [each.untyped_storage().nbytes() for each in made if isinstance(each, torch.Tensor)]
        self.n_bytes = max(self.n_bytes, *sizes, 0)
        return found


@pytest.mark.parametrize("share", [0.002, 0.1, 0.7])
def test_patterns_of_many_columns_take_little_beside_the_mask(share):
    """No operator makes more than the mask and the numbers of a group, of 8 bytes each; the whole mask has 6 MB."""
    hidden = torch.rand(2_000, 3_000, generator=torch.Generator().manual_seed(0)) < share
    with Largest() as largest:
        for _ in patterns_of(hidden, lambda n: 8 * n):
            pass
    assert largest.n_bytes <= hidden.nbytes + 8 * hidden_cells.CHUNK_NUMBERS / 8


def test_rows_hidden_alike_share_one_decomposition(monkeypatch):
    """The work is counted: matrices that are decomposed, whose size is that of the hidden cells or of the codes."""
    decomposed, cholesky = [], torch.linalg.cholesky_ex

    def counted(matrices):
        decomposed.append(matrices.shape)
        return cholesky(matrices)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", counted)
    hidden = torch.zeros(5_000, 50, dtype=torch.bool)
    hidden[:3000, :3], hidden[2000:, 7:10] = True, True
    network = Completing(MLP(), 49)
    network.setup(50, 2, torch.Generator().manual_seed(0))
    network.completed(torch.zeros(5_000, 50).masked_fill(hidden, torch.nan))
    of_patterns = [shape for shape in decomposed if len(shape) == 3]  # beside that of all cells
    assert len(decomposed) - len(of_patterns) <= 2
    assert sum(shape[0] for shape in of_patterns) == 3
    assert max(shape[-1] for shape in of_patterns) == 6


@pytest.mark.draws_globally  # gradcheck does
def test_derivatives_and_members_are_those_of_the_formula():
    loadings, noise = density(7, 5)
    hidden = hidden_rows(12, 7, 12)
    x = torch.randn(12, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)

    def times(x):
        return covariance_times(hidden, x, loadings, noise)

    assert torch.autograd.gradcheck(times, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(times, (x,))
    rows = torch.stack([x.detach(), 2 * x.detach()])
    expected = Covariance(loadings, noise).times_by_codes(hidden, rows)
    torch.testing.assert_close(torch.func.vmap(times)(rows), expected)
    members = [density(7, 5, seed) for seed in (3, 4)]
    several = torch.func.vmap(covariance_times, (None, 0, 0, 0))
    found = several(hidden, rows, *(torch.stack(each) for each in zip(*members, strict=True)))
    for i, member in enumerate(members):
        torch.testing.assert_close(found[i], Covariance(*member).times_by_codes(hidden, rows[i]))


def test_a_recorded_step_sees_the_gaps_of_each_batch():
    network = Completing(MLP(), 4)
    network.setup(6, 2, torch.Generator().manual_seed(0))
    loadings, noise = density(6, 4)
    network.describe_by(torch.arange(6.0), loadings, noise)
    batches = [torch.ones(20, 6).masked_fill(hidden_rows(20, 6, 20, seed), torch.nan) for seed in range(4)]
    x = batches[0].clone()
    with torch.no_grad():
        replay = record_on_cpu(lambda: network(x) + 0)
        assert replay.__name__ == "replay"  # and not the step as it is written, again
        for batch in batches:
            x.copy_(batch)
            if batch is not batches[0]:
                torch.testing.assert_close(replay(), network(batch), rtol=0, atol=0)
            else:
                replay()
