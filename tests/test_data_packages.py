"""Rows from DuckDB and from datasets of Hugging Face, by the packages themselves."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from eigencode import Autoencoder
from eigencode.data import named_files, streamed_rows
from eigencode.errors import DataError

pytestmark = pytest.mark.versions

OPTIONS = {"n_components": 2, "random_state": 0, "max_epochs": 3}


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = np.tanh(rng.normal(size=(3000, 2)) @ rng.normal(size=(2, 5))) + 0.3 * rng.normal(size=(3000, 5))
    return pa.table({f"x{j}": X[:, j].astype(np.float32) for j in range(5)})


def relation(table):
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    connection.register("given", table)
    return connection.sql("select * from given").filter("x0 > -100")


def dataset(table):
    return pytest.importorskip("datasets").Dataset(table)


SOURCES = {
    "relation": relation,
    "reader": lambda table: table.to_reader(max_chunksize=100),
    "dataset": dataset,
    "selected": lambda table: dataset(table).select(range(3000)),
    "for torch": lambda table: dataset(table).with_format("torch"),
    "iterable": lambda table: dataset(table).to_iterable_dataset(),
    "shards": lambda table: dataset(table).to_iterable_dataset(num_shards=3).with_format("numpy"),
}
CAN_BE_READ_AGAIN = {"dataset", "selected", "for torch"}


@pytest.mark.filterwarnings("ignore:The user-provided path:UserWarning")
@pytest.mark.parametrize("name", SOURCES)
def test_the_rows_are_those_of_the_table(table, name, tmp_path, monkeypatch):
    known = Autoencoder(**OPTIONS).fit(table)
    codes = known.transform(table)
    np.testing.assert_array_equal(Autoencoder(**OPTIONS).fit(SOURCES[name](table)).transform(table), codes)
    np.testing.assert_array_equal(known.transform(SOURCES[name](table)), codes)
    assert known.score(SOURCES[name](table)) == known.score(table)
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1000)
    monkeypatch.setattr(streamed_rows, "BUFFER_CELLS", 2500)
    streamed = Autoencoder(**OPTIONS).fit(SOURCES[name](table))
    assert len(streamed.history_) == (4 if name in CAN_BE_READ_AGAIN else 2)
    assert streamed.score(table) > known.score(table) - 1
    known.transform(SOURCES[name](table), output=tmp_path / "codes.parquet")
    written = pa.parquet.read_table(tmp_path / "codes.parquet")
    np.testing.assert_array_equal(np.stack([column.to_numpy() for column in written.columns], 1), codes)


def test_several_datasets_are_refused_with_a_hint(table, tmp_path):
    datasets = pytest.importorskip("datasets")
    several = datasets.DatasetDict(train=dataset(table))
    with pytest.raises(DataError, match=r"Choose one, as with X\['train'\]"):
        Autoencoder(2).fit(several)
    with pytest.raises(DataError, match=r"Choose one, as with X\['train'\]"):
        Autoencoder(2, max_epochs=1).fit(table).transform(several, output=tmp_path / "codes.parquet")
