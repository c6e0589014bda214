"""Rows of a memory map: read a batch at a time, scaled on the way, never as a whole."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import eigencode.training
from eigencode import Autoencoder, LinearAutoencoder, StackedAutoencoder, fit_many
from eigencode.data import mapped_rows
from eigencode.data.mapped_rows import MappedRows, is_mapped
from eigencode.data.permutation import Permutation
from eigencode.data.scaling import Scaler
from eigencode.data.sources import ArraySource
from eigencode.errors import DataError
from eigencode.fitting import data as fitting_data
from eigencode.fitting import splits
from eigencode.training.rng import generator


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A memory map of 3,000 rows that counts as a large one, of which a start sees 1,000."""
    monkeypatch.setattr(mapped_rows, "MAPPED_FROM", 1000)
    monkeypatch.setattr(mapped_rows, "REPRESENTATIVE_CELLS", 6000)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(3000, 6)) + 5
    np.save(tmp_path / "rows.npy", rows.astype(np.float32))
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


def rows_of(table, **options):
    given = {"dtype": torch.float32, "validation_numbers": splits.at_random(3000, 300, seed=1), **options}
    return MappedRows(table, Scaler.fit(ArraySource(table), "standard"), **given)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 97, 1000])
def test_a_permutation_has_every_number_once(n):
    for key in (0, 1, 2**40):
        found = Permutation(n, key)(torch.arange(n))
        assert sorted(found.tolist()) == list(range(n))


def test_permutations_of_different_keys_are_unlike_each_other_and_the_order():
    """The correlation of two random orders of n is normal with a deviation of n^-1/2."""
    n = 2500
    orders = [torch.arange(n).double(), *(Permutation(n, key)(torch.arange(n)).double() for key in range(20))]
    correlations = torch.corrcoef(torch.stack(orders)).fill_diagonal_(0)
    assert correlations.abs().max() < 5 / n**0.5
    steps = torch.stack([order.diff().abs().mean() for order in orders[1:]])
    assert (steps / n - 1 / 3).abs().max() < 0.03, "neighbours are a third of the range apart"


def test_each_row_comes_up_once_an_epoch_and_rows_for_validation_never(table):
    rows = rows_of(table)
    scaled = torch.from_numpy(rows.scaler.transform(np.asarray(table))).float()
    number = {tuple(row.tolist()): i for i, row in enumerate(rows._gathered(torch.arange(3000)).x)}
    epochs = [list(rows.batches(generator(0, "shuffle", epoch), 128)) for epoch in (1, 2)]
    met = [[number[tuple(row.tolist())] for batch in epoch for row in batch.x] for epoch in epochs]
    held_out = [number[tuple(row.tolist())] for block in rows.validation(100) for row in block.x]
    assert sorted(met[0] + held_out) == list(range(3000))
    assert set(met[0]) == set(met[1])
    assert met[0] != met[1]
    assert {len(batch) for batch in epochs[0]} <= {122, 123}
    torch.testing.assert_close(torch.cat([block.x for block in rows.blocks()]), scaled, rtol=1e-5, atol=1e-5)


def test_weights_go_with_their_rows(table):
    weight = torch.arange(3000.0)
    rows = rows_of(table, weight=weight)
    first = rows._gathered(torch.arange(3000)).x[:, 0]
    for batch in rows.batches(generator(0, "shuffle", 1), 500):
        torch.testing.assert_close(batch.x[:, 0], first[batch.weight.long()])


def test_the_linear_optimum_is_that_of_all_rows(table):
    """The start is made of a sample, but second moments are of every row."""
    found = LinearAutoencoder(2).fit(table)
    usual = LinearAutoencoder(2).fit(np.array(table))
    assert found.has_closed_form_
    assert found.best_objective_ == pytest.approx(usual.best_objective_, rel=1e-9)
    np.testing.assert_allclose(np.abs(found.transform(table)), np.abs(usual.transform(table)), rtol=1e-6, atol=1e-6)


def test_a_map_is_learned_as_an_array_is_bit_for_bit(table, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped_rows, "REPRESENTATIVE_CELLS", 2**23)
    options = {"hidden": (8,), "max_epochs": 2, "random_state": 0, "optimizer": "adam"}
    for rows in (table, np.where(np.arange(18000).reshape(3000, 6) % 11, table, np.nan)):
        np.save(tmp_path / "same.npy", rows)
        mapped = np.load(tmp_path / "same.npy", mmap_mode="r")
        (tmp_path / "same.npy").unlink()
        found, usual = Autoencoder(2, **options).fit(mapped), Autoencoder(2, **options).fit(np.array(rows))
        assert found.history_[-1]["validation_objective"] == usual.history_[-1]["validation_objective"]
        assert np.array_equal(found.transform(rows[:100]), usual.transform(rows[:100]))


def test_a_map_is_learned_as_an_array_is(table):
    """The rows for validation differ, and so do the batches: what is reached is the same within a few per cent."""
    options = {"hidden": (8,), "max_epochs": 10, "optimizer": "adam"}
    errors = {"map": [], "array": []}
    for seed in range(3):
        for name, rows in (("map", table), ("array", np.array(table))):
            model = Autoencoder(2, random_state=seed, **options).fit(rows)
            errors[name].append(model.reconstruction_error(table).mean())
    assert np.mean(errors["map"]) == pytest.approx(np.mean(errors["array"]), rel=0.1)
    again = Autoencoder(2, random_state=2, **options).fit(table)
    assert again.reconstruction_error(table).mean() == errors["map"][2]


def test_many_models_learn_a_map_as_one_program(table):
    models = [Autoencoder(k, hidden=(4,), max_epochs=1, random_state=0) for k in (1, 2)]
    assert fit_many(models, table) == ["2 models in one program"]
    alone = Autoencoder(2, hidden=(4,), max_epochs=1, random_state=0).fit(table)
    assert models[1].best_objective_ == pytest.approx(alone.best_objective_, rel=1e-4)


def test_small_maps_and_arrays_are_read_as_a_whole(tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", np.zeros((10, 2)))
    table = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert not is_mapped(table)
    monkeypatch.setattr(mapped_rows, "MAPPED_FROM", 20)
    assert is_mapped(table)
    assert (
        is_mapped(
            np.asarray(table)[2:],
        )
        is False
    )
    assert is_mapped(np.asarray(table))
    assert not is_mapped(np.array(table))


PROGRAM = """
    import os, sys, numpy as np
    def own():
        with open("/proc/self/status") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith(("RssAnon", "VmSwap"))) / 1e3
    from eigencode import Autoencoder
    n, d = int(sys.argv[2]), 20
    table = np.lib.format.open_memmap(sys.argv[1], "w+", np.float32, (n, d))
    drawn = np.random.default_rng(0).normal(size=(2**16, d))  # in each part of the table again
    for first in range(0, n, len(drawn)):
        table[first : first + len(drawn)] = drawn[: n - first]
    del table, drawn
    table = np.load(sys.argv[1], mmap_mode="r")
    Autoencoder(4, max_epochs=1, optimizer="adam").fit(table[:1000].copy())  # imports what a fit needs
    model = Autoencoder(4, max_epochs=1, max_seconds=float(sys.argv[3]), random_state=0)
    before, most = own(), 0
    for row in model.iter_fit(table):
        most = max(most, own())
    print(before, most, table.nbytes / 1e6)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's account of a process")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """A file of 320 MB, whose scaled copy would take as much.

    A start's sample and a step's tensors take 70 to 90 MB, and allocators kept 180 on a busy machine.
    """
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "rows.npy"), "4000000", "20"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    before, most, size = map(float, found)
    assert size > 300
    assert most - before < 0.8 * size


def test_a_seed_may_be_any_number(table, monkeypatch):
    for module in (splits, mapped_rows):
        monkeypatch.setattr(module, "MOST_SHUFFLED_ROWS", 1000)
    for seed in (2**62, 2**63 - 1):
        rows = rows_of(table, validation_numbers=splits.at_random(3000, 300, seed))
        assert sum(len(batch) for batch in rows.batches(generator(seed, "shuffle", 1), 500)) == 2700
    assert Autoencoder(2, hidden=(), max_epochs=1, random_state=2**62).fit(table).best_objective_ < np.inf


def test_random_rows_of_a_long_table_are_all_different(monkeypatch):
    monkeypatch.setattr(splits, "MOST_SHUFFLED_ROWS", 1000)
    found = [splits.at_random(3000, 300, seed).tolist() for seed in range(3)]
    assert all(numbers == sorted(set(numbers)) and len(numbers) == 300 for numbers in found)
    assert found[0] != found[1] != found[2]


@pytest.mark.parametrize("name", ["data", "groups"])
def test_separate_rows_leave_a_map_in_its_file(table, name, monkeypatch):
    """The rows, the scale and the start are those of the same rows in memory."""
    groups = np.arange(3000) // 10
    given = {"groups": groups} if name == "groups" else {"validation_data": table[2700:]}
    rows = table if name == "groups" else table[:2700]
    model, usual = (Autoencoder(2, hidden=(), max_epochs=1, random_state=0) for _ in range(2))
    expected = usual._begin(np.array(rows), **given).rows
    monkeypatch.setattr(fitting_data, "hide_gaps", None)  # reads a table as a whole
    found = model._begin(rows, **given).rows
    assert isinstance(found, MappedRows)
    assert (found.n_training, found.n_validation) == (expected.n_training, expected.n_validation)
    np.testing.assert_array_equal(model.scaler_.center, usual.scaler_.center)
    np.testing.assert_array_equal(model.scaler_.divisor, usual.scaler_.divisor)
    held_out = [torch.cat([block.x for block in source.validation(100)]) for source in (found, expected)]
    torch.testing.assert_close(*held_out, rtol=1e-4, atol=1e-4)
    seen = torch.cat([block.x for block in found.batches(generator(0, "shuffle", 1), 500)])
    training = expected.all_rows.x[expected.training]
    torch.testing.assert_close(seen.sort(0).values, training.sort(0).values, rtol=1e-4, atol=1e-4)


def test_all_layers_of_a_stack_on_a_map_have_the_same_validation_rows(table, monkeypatch):
    monkeypatch.setattr(splits, "MOST_SHUFFLED_ROWS", 1000)
    seen, begin = [], eigencode.training.begin

    def watched(run):
        seen.append(run.rows.validation_numbers.tolist())
        begin(run)

    monkeypatch.setattr("eigencode.training.begin", watched)
    layers = [Autoencoder(4, hidden=(), max_epochs=0, validation_fraction=0.3), 2]
    StackedAutoencoder(layers=layers, max_epochs=0, random_state=0).fit(table)
    assert len(seen) == 3
    assert len(seen[0]) == 300
    assert seen[0] == seen[1] == seen[2]


def test_weights_and_the_last_rows_leave_a_map_in_its_file(table):
    model = Autoencoder(2, hidden=(), max_epochs=1, random_state=0)
    run = model._begin(table, np.linspace(0.5, 1.5, 3000))
    assert isinstance(run.rows, MappedRows)
    assert run.rows.weight.mean().item() == pytest.approx(1)
    run = model.set_params(validation="last", validation_fraction=0.2)._begin(table)
    assert isinstance(run.rows, MappedRows)
    held_out = torch.cat([block.x for block in run.rows.validation(100)])
    scaled = torch.from_numpy(model.scaler_.transform(np.asarray(table[2400:]))).float()
    torch.testing.assert_close(held_out, scaled, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.scaler_.center, np.asarray(table[:2400], dtype=float).mean(0), rtol=1e-9)


def test_cells_too_large_for_their_type_are_refused(table, tmp_path):
    np.save(tmp_path / "wide.npy", np.where(np.arange(18000).reshape(3000, 6) == 7, 1e300, 1.0))
    wide = np.load(tmp_path / "wide.npy", mmap_mode="r")
    with pytest.raises(DataError, match="too large for float32"):
        Autoencoder(2, scale="none", random_state=0).fit(wide)
