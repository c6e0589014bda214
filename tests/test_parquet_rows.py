"""Parquet larger than memory: read a block at a time, in each epoch in another order."""

import os
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from eigencode import Autoencoder
from eigencode.data import file_source, named_files, streamed_rows
from eigencode.data.block_sources import StreamedCells
from eigencode.data.file_source import FileSource
from eigencode.data.files import columns_of_files
from eigencode.data.read_ahead import read_ahead
from eigencode.data.scaling import Scaler
from eigencode.data.sources import ArraySource
from eigencode.data.streamed_rows import StreamedRows
from eigencode.data.survey import Survey
from eigencode.errors import DataError, EigencodeError, FileError
from eigencode.fitting import splits
from eigencode.training.rng import generator

pytestmark = pytest.mark.versions

NAMES = ["x0", "x1", "x2", "x3", "x4"]


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = np.tanh(rng.normal(size=(3000, 2)) @ rng.normal(size=(2, 5))) + 0.3 * rng.normal(size=(3000, 5))
    return pa.table({f"x{j}": X[:, j].astype(np.float32) for j in range(5)})


@pytest.fixture
def lake(table, tmp_path, monkeypatch):
    """Three files of 1,000 rows in row groups of 150, which count as large."""
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1000)
    monkeypatch.setattr(streamed_rows, "BUFFER_CELLS", 2500)
    for part in range(3):
        pa.parquet.write_table(table[1000 * part :][:1000], tmp_path / f"{part}.parquet", row_group_size=150)
    return tmp_path


def array_of(block):
    return np.stack([column.to_numpy() for column in block.columns], axis=1)


def rows_of(lake, **given):
    source = FileSource(columns_of_files(lake))
    cells = StreamedCells(source, array_of, 5, np.dtype(np.float32))
    given = {"validation_numbers": splits.at_random(3000, 300, seed=1), **given}
    return StreamedRows.of(cells, Scaler.fit(ArraySource(cells), "standard"), torch.float32, **given)


def test_each_row_comes_up_once_an_epoch_and_rows_for_validation_never(lake, table):
    rows = rows_of(lake, weight=torch.arange(3000.0))
    assert (rows.n_training, rows.n_validation, rows.has_more) == (2700, 300, False)
    epochs = [list(rows.batches(generator(0, "shuffle", epoch), 128)) for epoch in (1, 1, 2)]
    numbers = [torch.cat([batch.weight for batch in epoch]).long() for epoch in epochs]
    assert torch.equal(numbers[0], numbers[1])
    assert not torch.equal(numbers[0], numbers[2])
    assert torch.equal(numbers[0].sort().values, numbers[2].sort().values)
    assert torch.equal(torch.cat([numbers[0], rows.validation_numbers]).sort().values, torch.arange(3000))
    assert {len(batch) for batch in epochs[0]} == {122, 123}
    scaled = torch.cat(list(map(torch.from_numpy, rows.scaler.chunks(array_of(table), np.float32))))
    for batch in epochs[0]:
        assert torch.equal(batch.x, scaled[batch.weight.long()])
    assert torch.equal(torch.cat([batch.x for batch in rows.validation(100)]), scaled[rows.validation_numbers])
    assert torch.equal(torch.cat([batch.x for batch in rows.blocks()]), scaled)


def test_rows_of_a_batch_come_from_several_row_groups(lake):
    rows = rows_of(lake, weight=torch.arange(3000.0))
    batch = next(rows.batches(generator(0, "shuffle", 1), 100))
    assert len((batch.weight // 150).unique()) >= 3


def test_rows_that_are_separate_are_not_in_what_a_start_is_made_of(lake):
    last = torch.arange(2700, 3000)
    rows = rows_of(lake, weight=torch.arange(3000.0), validation_numbers=last, is_separate=True)
    assert rows.n_usable == 2700
    assert rows.representative().weight.max() < 2700
    assert sum(map(len, rows.blocks())) == 2700


def test_one_pass_finds_scale_moments_and_rows_that_are_kept(lake, table, monkeypatch):
    read = []
    monkeypatch.setattr(
        FileSource, "read", lambda self, group, of=FileSource.read: read.append(group) or of(self, group)
    )
    model = Autoencoder(2, hidden=(4,), max_epochs=3, optimizer="adam", random_state=0).fit(lake)
    assert len(read) == 10 + 4 * 21  # a sample of ten groups, the pass, and three epochs
    x = array_of(table).astype(np.float64)
    z = (x - x.mean(0)) / model.scaler_.divisor
    survey = Survey(np.arange(0, 3000, 7), center=x[:5].mean(0))
    for chunk in survey.of([x[:1000], x[1000:]]):
        survey.add(chunk)
    np.testing.assert_allclose(survey.second_moment(model.scaler_), z.T @ z / 3000, rtol=1e-12, atol=1e-13)
    assert np.array_equal(survey.rows, x[::7])
    values = np.linalg.eigvalsh(z.T @ z)[::-1]
    np.testing.assert_allclose(model.explained_variance_ratio_, values[:2] / values.sum(), rtol=1e-6)


def test_a_lake_is_fitted_and_answered_for_as_a_frame_is(lake, table):
    options = {"hidden": (8,), "max_epochs": 6, "optimizer": "adam", "random_state": 0}
    found, usual = Autoencoder(2, **options).fit(lake), Autoencoder(2, **options).fit(table)
    assert found.best_objective_ == pytest.approx(usual.best_objective_, rel=0.05)
    for rows in (str(lake), lake / "*.parquet", sorted(lake.glob("*.parquet"))):
        np.testing.assert_allclose(found.transform(rows), found.transform(table), rtol=1e-4, atol=1e-5)
    assert found.score(lake) == pytest.approx(found.score(table), rel=1e-6)
    again = Autoencoder(2, **options).fit(str(lake / "*.parquet"))
    assert again.best_objective_ == found.best_objective_


def test_columns_of_a_lake_are_mixed_with_gaps(tmp_path, monkeypatch):
    monkeypatch.setattr(named_files, "STREAMED_FROM", 500)
    rng = np.random.default_rng(0)
    n = 1200
    colors = rng.choice(["red", "blue", None], n)
    sizes = np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n) + (colors == "red"))
    frame = pd.DataFrame({"size": sizes, "color": colors, "big": sizes > 0})
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=200)
    model = Autoencoder(2, max_epochs=3, random_state=0).fit(tmp_path / "rows.parquet")
    assert [column.kind.kind for column in model.columns_.columns] == ["real", "category", "boolean"]
    np.testing.assert_allclose(
        model.transform(tmp_path), model.transform(pa.Table.from_pandas(frame)), rtol=1e-5, atol=1e-6
    )


def test_a_small_file_is_read_as_a_whole(table, tmp_path):
    pa.parquet.write_table(table, tmp_path / "rows.parquet")
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(tmp_path / "rows.parquet")
    assert isinstance(model.reconstruct(tmp_path), pa.Table)


def test_an_infinite_cell_is_named(lake, table):
    wrong = table.set_column(1, "x1", pa.array([np.inf, *np.zeros(2999)], pa.float32()))
    pa.parquet.write_table(wrong, lake / "1.parquet")
    with pytest.raises(DataError, match="infinite cells.*column 'x1'"):
        Autoencoder(2).fit(lake)


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (
            dict.fromkeys(NAMES, pa.array(["a"])),
            "'x0' is string in .*9.parquet' and float before",
        ),
        ({"other": pa.array([1.0], pa.float32())}, "9.parquet' has no column 'x0', unlike .*0.parquet"),
        (dict.fromkeys(NAMES, pa.array([], pa.float32())), "9.parquet' has no rows"),
    ],
)
def test_a_file_with_other_columns_is_named(lake, columns, found):
    pa.parquet.write_table(pa.table(columns), lake / "9.parquet")
    with pytest.raises(EigencodeError, match=found):
        Autoencoder(2).fit(lake)


def test_a_file_that_vanishes_is_named(lake, table):
    rows = Autoencoder(2, max_epochs=3, hidden=(4,), random_state=0).iter_fit(lake)
    (lake / "1.parquet").unlink()
    with pytest.raises(EigencodeError, match="1.parquet"):
        list(rows)


def test_empty_and_mixed_folders_are_refused(lake, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="has no table"):
        Autoencoder(2).fit(tmp_path / "empty")
    np.save(lake / "rows.npy", np.zeros((3, 5)))
    with pytest.raises(FileError, match="several formats"):
        Autoencoder(2).fit(lake)
    with pytest.raises(FileError, match="No file matches"):
        Autoencoder(2).fit(str(lake / "*.pq"))


def test_reading_ahead_keeps_the_order_and_raises_errors():
    def items():
        yield from range(5)
        raise ValueError("broken")

    found = read_ahead(items())
    assert [next(found) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="broken"):
        next(found)


def test_a_reader_that_stops_early_leaves_no_thread(lake):
    before = set(threading.enumerate())
    found = read_ahead(iter(range(5)))
    assert next(found) == 0
    assert len(threading.enumerate()) > len(before)
    found.close()
    assert set(threading.enumerate()) <= before
    for _ in Autoencoder(2, random_state=0).iter_fit(lake):
        break
    assert set(threading.enumerate()) <= before


def test_a_process_ends_while_rows_are_read_ahead():
    program = (
        "import threading; from itertools import count; from eigencode.data.read_ahead import read_ahead;"
        "found = read_ahead(count()); next(found); print(threading.active_count())"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "2\n", "")


def test_a_file_that_changes_between_two_passes_is_named(lake):
    path, source = lake / "1.parquet", FileSource(columns_of_files(lake))
    written, times = path.read_bytes(), path.stat()
    rows = pa.parquet.read_table(path)
    pa.parquet.write_table(rows, path, row_group_size=151)
    with pytest.raises(FileError, match=r"1\.parquet' has changed since it was opened"):
        list(source.blocks(100))
    path.write_bytes(written)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    with pytest.raises(FileError, match=r"1\.parquet' has changed since it was opened"):
        list(source.blocks(100))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert sum(map(len, source.blocks(100))) == 3000


def test_row_groups_of_other_sizes_are_noticed_though_the_file_seems_unchanged(lake, monkeypatch):
    monkeypatch.setattr(file_source, "refuse_changed", lambda *_: None)
    source = FileSource(columns_of_files(lake))
    pa.parquet.write_table(pa.parquet.read_table(lake / "1.parquet"), lake / "1.parquet", row_group_size=149)
    with pytest.raises(FileError, match=r"1\.parquet' has changed since it was opened"):
        list(source.blocks(100))
