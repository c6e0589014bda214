"""Rows in memory: every row to learn from once an epoch, batches and blocks as equal as can be, any rows by number."""

import pytest
import torch

from eigencode.batch import Batch
from eigencode.data.rows import ResidentRows

N, D = 23, 3
TRAINING, VALIDATION = torch.arange(N)[torch.arange(N) % 4 != 1], torch.arange(1, N, 4)


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def rows():
    """Rows of which each cell is another number, some of them hidden, and each weight too."""
    observed = torch.rand(N, D, generator=generator(0)) < 0.7
    every = Batch(1 + torch.arange(float(N * D)).view(N, D), observed, 0.5 + torch.arange(float(N)) / N)
    return ResidentRows(every, TRAINING, VALIDATION)


def assert_are(batch, rows, numbers):
    """A batch is these rows: cells, which are known, and weights."""
    for found, tensor in zip(batch.tensors, rows.all_rows.tensors, strict=True):
        assert torch.equal(found, tensor[numbers])


@pytest.mark.parametrize("batch_size", [1, 4, 5, 6, 16, 17, 18, 100])
def test_an_order_has_each_row_to_learn_from_once_in_batches_as_equal_as_can_be(rows, batch_size):
    orders = [rows.order(generator(seed), batch_size) for seed in (1, 1, 2)]
    assert len(TRAINING) == 17
    for order in orders:
        assert torch.cat(order).sort().values.tolist() == TRAINING.tolist()
        sizes = [len(numbers) for numbers in order]
        assert len(sizes) == -(-17 // batch_size)
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
    first, same, other = (torch.cat(order).tolist() for order in orders)
    assert first == same
    assert first != other
    assert first != TRAINING.tolist()


def test_batches_are_the_rows_of_an_order(rows):
    batches = [*rows.batches(generator(3), 6)]
    for batch, numbers in zip(batches, rows.order(generator(3), 6), strict=True):
        assert_are(batch, rows, numbers)


@pytest.mark.parametrize("shape", [(4,), (2, 5), (3, 1), (2, 3, 2)])
def test_rows_are_gathered_by_numbers_of_any_shape(rows, shape):
    numbers = torch.randint(N, shape, generator=generator(1))
    batch = rows.gather(numbers)
    assert batch.x.shape == (*shape, D)
    assert batch.weight.shape == shape
    assert len(batch) == shape[-1]
    assert_are(batch, rows, numbers)


def test_rows_for_validation_come_in_order_and_are_those_to_learn_from_where_there_are_none(rows):
    blocks = [*rows.validation(4)]
    assert [len(block) for block in blocks] == [3, 3]
    assert_are(Batch(*map(torch.cat, zip(*(block.tensors for block in blocks), strict=True))), rows, VALIDATION)
    (block,) = ResidentRows(rows.all_rows, TRAINING).validation(100)
    assert_are(block, rows, TRAINING)


@pytest.mark.parametrize(("n", "sizes"), [(8193, [4097, 4096]), (8192, [8192]), (0, [0])])
def test_no_block_of_an_evaluation_is_small(n, sizes):
    """One of a few rows shows little: of 8193 rows the last block must not be a single one."""
    assert [len(block) for block in ResidentRows.of(Batch(torch.zeros(n, 1))).validation(8192)] == sizes
    assert [len(block) for block in Batch(torch.zeros(n, 1)).split(8192)] == sizes


def test_blocks_are_all_rows_in_order(rows, monkeypatch):
    monkeypatch.setattr("eigencode.data.rows.BLOCK_CELLS", 8 * D)
    blocks = [*rows.blocks()]
    assert [len(block) for block in blocks] == [8, 8, 7]
    assert_are(Batch(*map(torch.cat, zip(*(block.tensors for block in blocks), strict=True))), rows, slice(None))


@pytest.mark.parametrize("n_rows", [1, 2, 5, 11, 12, 23, 1000])
def test_a_sample_is_evenly_spread_over_all_rows(rows, n_rows):
    found = rows.sample(n_rows)
    numbers = ((rows.all_rows.weight[:, None] == found.weight).nonzero()[:, 0]).sort().values
    assert_are(found, rows, numbers)
    assert min(n_rows, N) <= len(found) < 2 * n_rows
    gaps = numbers.diff()
    assert numbers[0] == 0
    assert (gaps == gaps[:1]).all()
    assert N - numbers[-1] <= N / n_rows + N % n_rows
