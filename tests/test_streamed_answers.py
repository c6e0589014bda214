"""Answers about rows larger than memory: read and written a block at a time, the same bits as in memory."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from eigencode import AnomalyDetector, Autoencoder
from eigencode.cli import main
from eigencode.cli.tables import loaded
from eigencode.data import named_files, sources
from eigencode.data.files import read_table, write_columns
from eigencode.errors import DataError, EigencodeError, FileError, OptionError

pytestmark = pytest.mark.versions

N = 1000


@pytest.fixture
def small_blocks(monkeypatch):
    """All tables count as large, and blocks have 128 rows, for networks 64 at a time."""
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1)
    monkeypatch.setattr(sources, "CHUNK_ROWS", 64)
    monkeypatch.setattr(sources, "BLOCK_CELLS", 128 * 8)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(N, 2))
    numbers = np.tanh(z @ rng.normal(size=(2, 4))) + 0.3 * rng.normal(size=(N, 4))
    found = pd.DataFrame(numbers.astype(np.float32), columns=list("abcd"))
    found.loc[::7, "b"] = np.nan
    found["color"] = np.where(z[:, 0] > 0.3, "red", np.where(rng.random(N) < 0.1, None, "blue, or green"))
    return found


@pytest.fixture(scope="module")
def mixed(frame):
    return Autoencoder(2, max_epochs=2, random_state=0).fit(frame)


@pytest.fixture(scope="module")
def plain(frame):
    return Autoencoder(2, max_epochs=2, random_state=0).fit(frame[list("acd")])


@pytest.fixture
def folder(frame, mixed, plain, tmp_path, monkeypatch):
    """Rows in two files of each of three formats, and two models of them."""
    monkeypatch.chdir(tmp_path)
    for name, rows in (("0", slice(300)), ("1", slice(300, N))):
        part = pa.Table.from_pandas(frame[rows], preserve_index=False)
        for kind in ("parquet", "csv", "arrow"):
            (tmp_path / kind).mkdir(exist_ok=True)
            write_columns(tmp_path / kind / f"{name}.{kind}", part)
        pa.parquet.write_table(part, tmp_path / "parquet" / f"{name}.parquet", row_group_size=110)
    np.save("rows.npy", frame[list("acd")].to_numpy())
    mixed.save("mixed.safetensors")
    plain.save("plain.safetensors")
    return tmp_path


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow"])
@pytest.mark.usefixtures("small_blocks")
def test_the_shell_answers_a_block_at_a_time_as_in_memory(folder, kind, capsys):
    model = loaded(Path("mixed.safetensors"))
    table = read_table(folder / kind).frame  # the types of a CSV are wider
    for command, ending in (("transform", "npy"), ("transform", "csv"), ("impute", "csv"), ("reconstruct", "arrow")):
        assert main([command, "mixed.safetensors", kind, "--output", f"found.{ending}"]) == 0
        assert f"{N:,} rows of " in capsys.readouterr().out
        expected = getattr(model, command)(table)
        if command == "transform":
            assert np.array_equal(read_table(f"found.{ending}").rows.astype(expected.dtype), expected)
        else:
            write_columns(f"expected.{ending}", expected)
            assert read_table(f"found.{ending}").frame.to_pylist() == read_table(f"expected.{ending}").frame.to_pylist()
    assert main(["score", "mixed.safetensors", kind, "--output", "scores.parquet", "--json"]) == 0
    scores = read_table("scores.parquet").frame
    assert np.array_equal(scores["log_likelihood"].to_numpy(), model.score_samples(table))
    assert json.loads(capsys.readouterr().out)["log_likelihood"] == pytest.approx(model.score(table), rel=1e-12)


@pytest.mark.usefixtures("small_blocks")
def test_python_writes_answers_a_block_at_a_time(folder, frame, mixed, plain):
    mixed.transform(folder / "parquet", output="codes.parquet")
    assert np.array_equal(read_table("codes.parquet").rows, mixed.transform(frame))
    mixed.reconstruct(str(folder / "parquet"), output="rebuilt.parquet")
    assert pd.read_parquet("rebuilt.parquet").to_dict() == mixed.reconstruct(frame).to_dict()
    mixed.impute(frame, output="filled.parquet")
    assert pd.read_parquet("filled.parquet").to_dict() == mixed.impute(frame).to_dict()
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        plain.reconstruct("rows.npy", output="rebuilt.npy")
    assert np.array_equal(np.load("rebuilt.npy"), plain.reconstruct(frame[list("acd")]))


@pytest.mark.usefixtures("small_blocks")
def test_draws_of_blocks_are_those_of_the_whole_table(folder, mixed, frame):
    assert main(["impute", "mixed.safetensors", "parquet", "-o", "d.csv", "--draws", "2", "--random-state", "3"]) == 0
    expected = mixed.impute(frame, n_draws=2, random_state=3)
    for number, draw in enumerate(expected, 1):
        assert pd.read_csv(f"d-{number}.csv", dtype=dict.fromkeys("abcd", np.float32)).to_dict() == draw.to_dict()
    with pytest.raises(OptionError, match="'output' is for one table"):
        mixed.impute(frame, n_draws=2, output="d.csv")
    with pytest.raises(DataError, match="impute without output= needs all rows in memory"):
        mixed.impute("parquet")


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow"])
def test_the_shell_fits_rows_that_stay_in_their_files(folder, frame, kind, monkeypatch, capsys):
    monkeypatch.setattr("eigencode.data.delimited.BLOCK", 4096)
    options = ["--n-components", "2", "--max-epochs", "8", "--random-state", "0", "--optimizer", "adam", "--json"]
    assert main(["fit", kind, "--output", "found.safetensors", "--include", "a,b,c,color", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    usual = Autoencoder(2, max_epochs=8, random_state=0, optimizer="adam").fit(frame[["a", "b", "c", "color"]])
    assert found["objective"] == pytest.approx(usual.best_objective_, rel=0.03)


@pytest.mark.usefixtures("small_blocks")
def test_nothing_half_written_is_left(folder, mixed):
    write_columns("codes.parquet", {"old": np.array([1.0])})
    path = folder / "parquet" / "1.parquet"
    whole = path.read_bytes()
    third, half = len(whole) // 3, len(whole) // 2
    path.write_bytes(whole[:third] + bytes(half - third) + whole[half:])
    with pytest.raises(FileError, match="Row group [0-9] of .*1.parquet' cannot be read"):
        mixed.transform("parquet", output="codes.parquet")
    assert read_table("codes.parquet").names == ["old"]
    assert not list(folder.glob(".eigencode-*"))
    with pytest.raises(FileError, match="it is an input"):
        mixed.transform(folder / "csv" / "0.csv", output=folder / "csv" / "0.csv")


@pytest.mark.usefixtures("small_blocks")
def test_errors_say_which_rows_are_meant(folder, frame, mixed):
    wrong = frame.copy()
    wrong.loc[517, "a"] = np.inf
    with pytest.raises(DataError, match=r"In the rows from 512 on: X has infinite cells.*row 5"):
        mixed.transform(wrong, output="codes.parquet")
    pa.parquet.write_table(pa.Table.from_pandas(wrong[300:]), folder / "parquet" / "1.parquet", row_group_size=110)
    with pytest.raises(EigencodeError, match=r"1.parquet' has infinite cells.*column 'a' \(the first in row 218\)"):
        mixed.transform(folder / "parquet")


@pytest.mark.usefixtures("small_blocks")
def test_drawn_rows_are_written_a_block_at_a_time(folder, frame):
    table = pa.table({"row": np.arange(N), **{name: frame[name] for name in ("a", "c", "color")}})
    model = Autoencoder(2, max_epochs=2, random_state=0).fit(table)
    model.sample(200, random_state=1, output="drawn.csv")
    drawn = model.sample(200, random_state=1)
    assert drawn["row"].to_pylist() == list(range(N, N + 200))
    write_columns("expected.csv", drawn)
    assert Path("drawn.csv").read_text() == Path("expected.csv").read_text()
    model.save("numbered.safetensors")
    assert main(["sample", "numbered.safetensors", "-n", "200", "--random-state", "1", "--output", "shell.csv"]) == 0
    assert Path("shell.csv").read_text() == Path("expected.csv").read_text()
    with pytest.raises(OptionError, match="without 'given'"):
        model.sample(given=table, output="drawn.csv")


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_alarms_of_files_are_those_of_memory(folder, frame, ending, small_blocks, monkeypatch):
    detector = AnomalyDetector(0.1, autoencoder=Autoencoder(2, max_epochs=1), random_state=0).fit(frame[:400])
    detector.save("d.safetensors")
    line = ["detect", "d.safetensors", "parquet", "--explain", "2", "--false-discoveries", "0.5", "--quiet", "--output"]
    assert main([*line, f"blocks.{ending}", "--id", "color"]) == 0
    assert np.array_equal(detector.score_samples("parquet"), detector.score_samples(frame))
    monkeypatch.setattr(named_files, "STREAMED_FROM", 2**26)
    assert main([*line, f"whole.{ending}", "--id", "color"]) == 0
    found = Path(f"blocks.{ending}").read_text()
    assert len(found.splitlines()) > 20
    assert found == Path(f"whole.{ending}").read_text()
