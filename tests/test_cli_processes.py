"""--processes: commands that start themselves in several processes."""

import signal
import subprocess
import sys

import copies
import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from together import rows

import eigencode
from eigencode import AnomalyDetector, Autoencoder
from eigencode.cli import workers
from eigencode.cli.entry import main
from eigencode.cli.interruptions import Interruptions
from eigencode.errors import TrainingError

PROCESSES = ["--processes", "2"]
FIT = [*PROCESSES, "--hidden", "8", "--n-components", "2", "--optimizer", "adam", "--random-state", "0"]


def start(folder, *arguments, python=None):
    """The program in a folder that has rows."""
    names = ",".join("abcdef")
    np.savetxt(folder / "rows.csv", rows(), delimiter=",", header=names, comments="", fmt="%.17g")
    command = [python or copies.python(), "-m", "eigencode", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_fit_in_two_processes_writes_one_model(tmp_path):
    fit = start(tmp_path, "fit", "rows.csv", "-o", "model.safetensors", *FIT, "--max-epochs", "3")
    said, errors = fit.communicate(timeout=100)
    assert (fit.returncode, errors) == (0, "")
    assert said.count("The model is in model.safetensors") == 1
    alone = Autoencoder(2, hidden=(8,), optimizer="adam", max_epochs=3, random_state=0).fit(rows())
    found = eigencode.load(tmp_path / "model.safetensors")
    for name, tensor in alone.composition_.state_dict().items():
        torch.testing.assert_close(found.composition_.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


TERMINATING = """
import os, signal
from eigencode.parts import Point
from eigencode.training.runner import SingleRunner

class Own(Point):
    pass

draw = SingleRunner.draw

def terminating(self, batch):
    if os.environ["RANK"] == "1" and self._run.state.step == 20:
        os.kill(os.getppid(), signal.SIGTERM)
    return draw(self, batch)

SingleRunner.draw = terminating
"""


@pytest.mark.slow
def test_a_signal_ends_all_processes_and_the_model_is_saved(tmp_path):
    (tmp_path / "terminating.py").write_text(TERMINATING)
    limits = ["--max-epochs", "1000000", "--patience", "1000000", "--parts", "terminating.py"]
    fit = start(  # whose processes are its children, which copies are not
        tmp_path, "fit", "rows.csv", "-o", "model.safetensors", *FIT, *limits, python=sys.executable
    )
    _, errors = fit.communicate(timeout=100)
    assert fit.returncode == 128 + signal.SIGTERM
    assert errors.count("Training was interrupted") == 1
    assert eigencode.load(tmp_path / "model.safetensors").history_[-1]["epoch"] > 1


@pytest.mark.slow
def test_an_error_is_said_once(tmp_path):
    fit = start(tmp_path, "fit", "rows.csv", "-o", "model.safetensors", *FIT, "--likelihood", "bernoulli")
    said, errors = fit.communicate(timeout=100)
    assert (fit.returncode, said) == (1, "")
    assert errors.count("\n") == 1


def test_processes_end_if_another_one_fails_before_they_meet(monkeypatch):
    monkeypatch.setattr(workers, "GRACE", 0.2)
    waits, fails = "import time; time.sleep(60)", "raise SystemExit(1)"
    started = [subprocess.Popen([sys.executable, "-c", program]) for program in (waits, fails)]
    assert workers._wait(started, Interruptions()) == [-signal.SIGKILL, 1]


def test_a_variable_that_was_left_is_an_error(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="Process 0 of 2 .* cannot find the others.* remove WORLD_SIZE"):
        Autoencoder(2).fit(rows())


def test_standard_input_is_refused(tmp_path):
    fit = start(tmp_path, "fit", "-", "-o", "model.safetensors", *FIT)
    _, errors = fit.communicate(timeout=100)
    assert fit.returncode == 1
    assert errors.startswith("Several processes cannot read standard input.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model, a detector and rows."""
    folder = tmp_path_factory.mktemp("shards")
    options = {"hidden": (), "max_epochs": 0, "random_state": 0}
    Autoencoder(2, **options).fit(rows()).save(folder / "model.safetensors")
    AnomalyDetector(autoencoder=Autoencoder(2, **options)).fit(rows(20_003)[:300]).save(folder / "detector.safetensors")
    write(folder, 20_003)
    return folder


def write(folder, n):
    """Tables of n rows, as Parquet with row groups of an odd size and as NPY."""
    found = rows(n).astype(np.float32)
    np.save(folder / "rows.npy", found)
    columns = {f"x{j}": found[:, j] for j in range(6)}
    parquet.write_table(pa.table(columns), folder / "rows.parquet", row_group_size=1777)


def answered(folder, command, *arguments):
    """The lines that a command writes."""
    output = folder / f"{command}.csv"
    assert main([command, *map(str, arguments), "--output", str(output)]) == 0
    return output.read_text().splitlines()


def of_shards(folder, command, n, *arguments):
    """The same of n shards, their files in the order of the names."""
    for number in range(n):
        output = folder / f"{command}.csv"
        assert main([command, *map(str, arguments), "--output", str(output), "--shard", f"{number}/{n}"]) == 0
    texts = [path.read_text().splitlines() for path in sorted(folder.glob(f"{command}-0*-of-{n:05}.csv"))]
    return texts[0][:1] + [line for text in texts for line in text[1:]]


@pytest.mark.versions
@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("table", ["rows.npy", "rows.parquet"])
@pytest.mark.parametrize("stays", [False, True])
def test_shards_have_every_row_once_in_order(folder, table, n, stays, monkeypatch):
    if stays:
        monkeypatch.setattr("eigencode.data.named_files.STREAMED_FROM", 1)
    arguments = [folder / "model.safetensors", folder / table]
    whole = answered(folder, "transform", *arguments)
    assert len(whole) == 20_004
    assert of_shards(folder, "transform", n, *arguments) == whole


def test_shards_of_alarms_have_the_numbers_of_their_rows(folder, capsys):
    arguments = [folder / "detector.safetensors", folder / "rows.npy", "--false-alarms", ".2"]
    # Each file has its own most unusual row first.
    assert sorted(of_shards(folder, "detect", 3, *arguments)) == sorted(answered(folder, "detect", *arguments))
    assert main(["detect", *map(str, arguments[:2]), "--false-discoveries", ".1", "-o", "x.csv", "--shard", "0/2"]) == 1
    assert "False discoveries and windows need all rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shard", "code", "message"),
    [
        ("2/2", 2, "--shard takes a number from 0 and the number of shards, as 0/4. Got '2/2'."),
        ("0/20004", 1, "20004 shards need at least as many rows. Got 20003."),
    ],
)
def test_impossible_shards_are_refused(folder, shard, code, message, capsys):
    arguments = ["transform", str(folder / "model.safetensors"), str(folder / "rows.npy"), "--shard", shard]
    assert main([*arguments, "--output", str(folder / "refused.csv")]) == code
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("n", [20_003, pytest.param(1_000_003, marks=pytest.mark.long)])
def test_rows_are_scored_in_two_processes(n, folder, monkeypatch, capsys):
    write(folder, n)
    monkeypatch.chdir(folder)
    line = ["score", "model.safetensors", "rows.parquet", "-o", "s.parquet"]
    assert main(line) == 0
    alone = capsys.readouterr()
    several = subprocess.run([sys.executable, "-m", "eigencode", *line, *PROCESSES], capture_output=True, text=True)
    assert (alone.err, several.stderr) == ("", "")
    assert [text for text in alone.out.splitlines() if "a row" in text] == [
        text for text in several.stdout.splitlines() if "a row" in text
    ]
    whole, *parts = (
        parquet.read_table(folder / f"s{part}.parquet") for part in ("", "-00000-of-00002", "-00001-of-00002")
    )
    assert whole.num_rows == n
    assert pa.concat_tables(parts).equals(whole)
