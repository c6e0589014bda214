"""Rows from anywhere: sparse matrices, datasets, streams; fitted and answered for as the same rows in memory."""

import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch

from eigencode import AnomalyDetector, Autoencoder, AutoencoderClassifier
from eigencode.data import named_files
from eigencode.errors import DataError, OptionError

N, D = 900, 6
OPTIONS = {"hidden": (8,), "max_epochs": 3, "random_state": 0, "optimizer": "adam"}


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    rows = np.tanh(rng.normal(size=(N, 2)) @ rng.normal(size=(2, D))) + 0.2 * rng.normal(size=(N, D))
    return np.where(np.abs(rows) < 0.3, 0, rows).astype(np.float32)


@pytest.fixture
def large(monkeypatch):
    """All rows count as many."""
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1)


class Items(torch.utils.data.Dataset):
    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, number):
        return torch.from_numpy(self.X[number]).view(2, 3), 7  # a label, which is left out


BY_NUMBER = {
    "csr": scipy.sparse.csr_array,
    "csc": scipy.sparse.csc_matrix,
    "coo": scipy.sparse.coo_array,
    "dataset": Items,
    "tensors": lambda X: torch.utils.data.TensorDataset(torch.from_numpy(X)),
}


@pytest.mark.versions
@pytest.mark.parametrize("are_many", [False, True])
@pytest.mark.parametrize("kind", BY_NUMBER)
def test_rows_by_number_are_fitted_as_in_memory_bit_for_bit(kind, are_many, X, monkeypatch):
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1 if are_many else 2**26)
    rows, usual = BY_NUMBER[kind](X), Autoencoder(2, **OPTIONS).fit(X)
    found = Autoencoder(2, **OPTIONS).fit(rows)
    for name in ("best_objective_", "explained_variance_ratio_", "n_validation_"):
        assert getattr(found, name) == getattr(usual, name)
    for method in ("transform", "reconstruct", "score_samples", "reconstruction_error", "impute"):
        assert np.array_equal(getattr(found, method)(rows), getattr(usual, method)(X)), method
    assert found.partial_fit(rows).composition_ is not None


@pytest.mark.versions
def test_sparse_rows_are_for_every_estimator(X):
    rows, y = scipy.sparse.csr_array(X), X[:, 0] > 0
    model = Autoencoder(2, **OPTIONS)
    assert AutoencoderClassifier(model, random_state=0).fit(rows, y).score(rows, y) > 0.8
    detector = AnomalyDetector(autoencoder=model, random_state=0)
    assert np.array_equal(detector.fit(rows).score_samples(rows), detector.fit(X).score_samples(X))


PROGRAM = """
    import sys, numpy as np, scipy.sparse
    from eigencode import Autoencoder

    def own():
        lines = open("/proc/self/status").read().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("VmHWM", "VmRSS"))) / 1e3 / 2

    X = scipy.sparse.random_array((60_000, 3_000), density=0.002, format="csr", dtype=np.float32, rng=0)
    model = Autoencoder(4, hidden=(), init="random", max_epochs=1, batch_size=512, optimizer="adam")
    model.fit(X[:1000])
    before = own()
    model.fit(X)
    most = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0] / 1e3
    print(before, most)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.slow
def test_sparse_rows_are_never_all_dense():
    """All rows would take 720 MB more; a batch is read ahead, and validation takes 90 (seen: 390 to 456)."""
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True, check=True)
    before, most = map(float, found.stdout.split())
    assert most - before < 600


def blocks_of(X, size=128):
    return (X[first : first + size] for first in range(0, len(X), size))


def frame_of(X):
    return pd.DataFrame(X, columns=list("abcdef"))


class Relation:
    """What a query of DuckDB looks like from outside."""

    columns = tuple("abcdef")

    def __init__(self, X):
        self.table = pa.Table.from_pandas(frame_of(X))

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.to_reader(100).__arrow_c_stream__(requested_schema)


class Loader:
    def __init__(self, X):
        self.X = X

    def __iter__(self):
        return blocks_of(self.X)


STREAMS = {
    "generator": blocks_of,
    "frames": lambda X: blocks_of(frame_of(X)),
    "iterable": Loader,
    "loader": lambda X: torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(X)), batch_size=64, generator=torch.Generator()
    ),
    "reader": lambda X: Relation(X).table.to_reader(200),
    "relation": Relation,
}


@pytest.mark.versions
@pytest.mark.parametrize("kind", STREAMS)
def test_streams_that_fit_into_memory_are_rows_in_memory(kind, X):
    found, usual = Autoencoder(2, **OPTIONS).fit(STREAMS[kind](X)), Autoencoder(2, **OPTIONS).fit(X)
    assert found.best_objective_ == usual.best_objective_
    assert np.array_equal(found.transform(STREAMS[kind](X)), usual.transform(X))


@pytest.mark.parametrize("kind", STREAMS)
def test_streams_larger_than_memory_are_passed_over_once(kind, X, monkeypatch, tmp_path):
    monkeypatch.setattr(named_files, "STREAMED_FROM", 300 * D)
    monkeypatch.setattr("eigencode.data.once_rows.BUFFER_CELLS", 200 * D)
    options = OPTIONS | {"batch_size": 32, "max_epochs": 1}
    model = Autoencoder(2, **options).fit(STREAMS[kind](X))
    assert model.n_validation_ in [round(0.1 * n) for n in (384, 320, 400, 300)]  # rows of the first blocks
    assert model.history_[-1]["rows"] == N - model.n_validation_
    assert "could be read once" in model.notes_[0]
    again = Autoencoder(2, **options).fit(STREAMS[kind](X))
    assert again.history_[-1]["validation_objective"] == model.history_[-1]["validation_objective"]
    usual = Autoencoder(2, **options).fit(X)
    assert abs(model.score(frame_of(X) if model.columns_ else X) - usual.score(X)) < 0.35
    with pytest.raises(DataError, match="Give output="):
        model.transform(STREAMS[kind](X))
    model.transform(STREAMS[kind](X), output=tmp_path / "codes.npy")
    expected = model.transform(frame_of(X) if model.columns_ else X)
    assert np.array_equal(np.load(tmp_path / "codes.npy"), expected)


@pytest.mark.parametrize("every", [1, 200, 256])
def test_looks_at_rows_that_are_read_once_change_nothing(every, X, monkeypatch):
    """They end with the steps of no further look, which are evaluated as without looks."""
    monkeypatch.setattr(named_files, "STREAMED_FROM", 300 * D)
    monkeypatch.setattr("eigencode.data.once_rows.BUFFER_CELLS", 200 * D)
    options = OPTIONS | {"batch_size": 32, "max_epochs": 1}
    usual, looking = Autoencoder(2, **options).fit(blocks_of(X)), Autoencoder(2, **options)
    looks = [row["step"] for row in looking.iter_fit(blocks_of(X), every=every) if "validation_objective" not in row]
    assert looks
    assert looking.history_[-1]["rows"] == N - looking.n_validation_
    assert [row["validation_objective"] for row in looking.history_] == [
        row["validation_objective"] for row in usual.history_
    ]


def failing(X):
    yield from blocks_of(X[:300])
    raise OSError("the disk is gone")


def gaps(X):
    yield from blocks_of(X[:500])
    yield np.full((3, D), np.nan, np.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X: iter([X[:200], X[200:400, :3]]), "Block 1 of a list_iterator must have the columns of the first"),
        (lambda X: iter([X[:200], frame_of(X)]), "Got a frame of 6 columns after an array of 6 columns"),
        (lambda X: iter([frame_of(X), frame_of(X).rename(columns={"a": "z"})]), "Block 1.*must have the columns"),
        (lambda X: iter([frame_of(X), frame_of(X).assign(c="?")]), "Block 1.*must have the columns of the first"),
        (lambda X: iter([]), "gave no rows"),
        (lambda X: iter([1, 2]), r"Block 0 of a list_iterator must be a table of rows. Got the shape \(\)"),
        (failing, "A generator failed after 3 blocks. Got the error OSError: the disk is gone"),
        (gaps, "The stream has gaps.*block 2 after those"),
        (lambda X: iter([X, np.where(X[5, 0] == X, np.inf, X)]), "In block 0 after the first 900 rows: X has infinite"),
    ],
)
def test_streams_that_go_wrong_name_the_block(make, message, X, monkeypatch):
    monkeypatch.setattr(named_files, "STREAMED_FROM", 200 * D)
    with pytest.raises(DataError, match=message):
        Autoencoder(2, **OPTIONS).fit(make(X))


def test_items_that_go_wrong_are_named(X, large):
    class Wrong(Items):
        def __getitem__(self, number):
            if number == 17:
                raise IndexError("no such file")
            return np.zeros(6, np.float32)

    class Wide(Items):
        def __getitem__(self, number):
            return np.zeros(7 if number == 18 else 6, np.float32)

    with pytest.raises(DataError, match="Item 17 of a Wrong cannot be read. Got the error IndexError: no such file"):
        Autoencoder(2).fit(Wrong(X))
    with pytest.raises(DataError, match="7 in item 18, and 6 in item 0"):
        Autoencoder(2).fit(Wide(X))
    with pytest.raises(DataError, match="has no rows"):
        Autoencoder(2).fit(Items(X[:0]))


def test_a_stream_has_no_checkpoint(X, monkeypatch, tmp_path):
    monkeypatch.setattr(named_files, "STREAMED_FROM", 200 * D)
    with pytest.raises(OptionError, match="rows that can be read again"):
        Autoencoder(2).fit(blocks_of(X), checkpoint=tmp_path / "run")


def test_a_dataset_of_hugging_face_is_read_a_block_at_a_time(X, monkeypatch):
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_pandas(frame_of(X))
    usual = Autoencoder(2, **OPTIONS).fit(frame_of(X))
    assert Autoencoder(2, **OPTIONS).fit(dataset).best_objective_ == usual.best_objective_
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1)
    found = Autoencoder(2, **OPTIONS).fit(dataset)
    assert found.best_objective_ == pytest.approx(usual.best_objective_, rel=0.05)
    assert np.array_equal(found.transform(dataset), found.transform(frame_of(X)))


def test_a_query_of_duckdb_is_a_stream(X):
    duckdb = pytest.importorskip("duckdb")
    frame = frame_of(X)
    found = Autoencoder(2, **OPTIONS).fit(duckdb.sql("select * from frame"))
    assert found.best_objective_ == Autoencoder(2, **OPTIONS).fit(frame).best_objective_
