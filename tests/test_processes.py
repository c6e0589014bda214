"""Several processes that train one model: the number of processes changes nothing but rounding."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import copies
import launch
import numpy as np
import pytest
import together
import torch

QUICK = [
    "few rows a step, KL",
    "gaps and weights",
    "denoising",
    "top-k",
    "KL, gaps",
    "adaptive L1",
    "own network",
    "early stop",
    "memory map",
    "Parquet",
    "float32",
]
SLOW = [name for name, *_ in together.cases() if name not in QUICK]


def of_processes(size, names, folder):
    """The results of each process."""
    ended = launch.run(size, ["together.py", folder / "found", *names])
    assert [code for code, *_ in ended] == [0] * size, ended
    return [dict(np.load(folder / f"found-{rank}.npz")) for rank in range(size)]


def require_same(found, names):
    """All processes have the same bits, and those of one process up to rounding."""
    alone = together.fitted(names)
    for name in names:
        for own in found:
            np.testing.assert_array_equal(own[name], found[0][name], err_msg=name)
        bound = 1e-4 if name == "float32" else 1e-9
        np.testing.assert_allclose(found[0][name], alone[name], rtol=bound, atol=bound, err_msg=name)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes find."""
    return of_processes(2, [*QUICK, "more"], tmp_path_factory.mktemp("two"))


def test_two_processes_train_as_one(two):
    require_same(two, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "names"),
    [
        (3, ["few rows a step, KL", *SLOW]),
        *(pytest.param(size, [*QUICK, *SLOW], marks=pytest.mark.long) for size in (2, 3, 4)),
    ],
    ids=lambda given: f"{given}" if isinstance(given, int) else f"{len(given)} fits",
)
def test_any_number_of_processes_trains_as_one(size, names, tmp_path):
    require_same(of_processes(size, names, tmp_path), names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("batch normalisation", "only if the rows of a batch do not depend on each other. Got BatchNorm1d"),
        ("own penalty", "only if the rows of a batch do not depend on each other. Got a part of the model"),
        ("other rows", "All processes must have the same rows and options: each takes its own part of every batch. "
         "Got different training rows"),
        ("other options", "Got different rows a step"),
    ],
)  # fmt: skip
def test_what_cannot_be_divided_is_refused_by_all(two, name, message):
    for own in two:
        assert message in str(own[name])


@pytest.mark.parametrize("name", ["dropout", "a seed by chance", "interrupted", "limited"])
def test_what_chance_signals_and_time_decide_is_the_same_in_all_processes(two, name):
    np.testing.assert_array_equal(two[0][name], two[1][name])


def test_an_error_in_one_process_ends_all(two):
    assert two[1]["failed"] == "ValueError: no more rows"
    assert "Got process 1: ValueError: no more rows" in str(two[0]["failed"])


@pytest.mark.slow
def test_restarted_processes_do_not_look_for_those_before(monkeypatch):
    """Torchrun keeps its store, with the addresses of processes that it has killed, which nobody may read again."""
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    program = "import torch; from eigencode import processes; print(processes.group().total(torch.ones(1)).item())"
    n_keys = [store.num_keys()]
    for _ in range(2):
        assert [said for _, said, _ in launch.run(2, ["-c", program], port=store.port, timeout=120)] == ["2.0\n"] * 2
        n_keys.append(store.num_keys())
    assert (np.diff(n_keys) > 0).all()


RESUMED = """
import os, signal, sys
import numpy as np
import together
from contextlib import nullcontext
from pathlib import Path
from eigencode import Checkpoint, processes
from eigencode.training.runner import SingleRunner

folder = Path(sys.argv[1])
if not (folder / "found").exists():
    def die():
        (folder / "found").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    dying = together.at_step(8, die)
else:
    dying = nullcontext()
name, model, X, weight = next(case for case in together.cases() if case[0] == "gaps and weights")
n_steps = []
step = SingleRunner.step
SingleRunner.step = lambda *given: n_steps.append(1) or step(*given)
with dying:
    model.fit(X, sample_weight=weight, checkpoint=Checkpoint(folder / "checkpoint", rows=32))
np.save(folder / f"found-{processes.numbered()[0]}.npy", [len(n_steps), *together.results(model)])
"""


def require_resumed(folder, size):
    """The results are those of a fit that was not killed, and it went on from a checkpoint."""
    alone = together.fitted(["gaps and weights"])["gaps and weights"]
    for rank in range(size):
        n_steps, *found = np.load(folder / f"found-{rank}.npy")
        assert n_steps == 15 - 8
        np.testing.assert_allclose(found, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_killed_process_ends_the_others_and_another_number_of_them_goes_on(size, tmp_path):
    (code, _, said), (killed, *_) = launch.run(2, ["-c", RESUMED, tmp_path], timeout=60)
    assert killed == -signal.SIGKILL
    assert code == 1
    assert "TrainingError: The processes that train this model lost each other" in said
    assert (tmp_path / "found").exists()
    before = sorted(path.name for path in (tmp_path / "checkpoint").glob("*.safetensors"))
    assert before[-1] == f"{8:012}.safetensors"
    assert [code for code, *_ in launch.run(size, ["-c", RESUMED, tmp_path])] == [0] * size
    require_resumed(tmp_path, size)


@pytest.mark.slow
def test_torchrun_restarts_killed_processes(tmp_path):
    (tmp_path / "resumed.py").write_text(RESUMED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3"]
    where = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    command = [*torchrun, str(tmp_path / "resumed.py"), str(tmp_path)]
    ended = subprocess.run(command, env=os.environ | where, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "found").exists()
    require_resumed(tmp_path, 2)


def test_processes_leave_a_loop_over_iter_fit_together():
    """One alone gets an error, as do the others, which would wait for it; a loop that is not ended ends at exit."""
    alone = launch.run(2, ["leaving.py", 1, "1"], env=copies.WHOLE_END)
    for code, out, err in alone:
        assert code == 0, alone
        assert "Exception" not in err, alone  # torch may write other lines
        assert out.startswith("All processes must leave a loop over iter_fit at the same row. Got 1 of 2 that left it.")
    together = launch.run(2, ["leaving.py", 1, "0,1"], env=copies.WHOLE_END)
    assert not any(code or "Exception" in err for code, _, err in together), together
    assert len({out for _, out, _ in together}) == 1
    assert together[0][1].startswith("left")


def test_a_process_that_drops_its_iterator_alone_is_warned_once():
    """Python raises nothing where an iterator is dropped; the other process, which is in its loop, has the error."""
    (code, out, err), other = launch.run(2, ["leaving.py", 1, "0", "dropped"], env=copies.WHOLE_END)
    assert code == other[0] == 0
    assert out.split() == ["the", "rest", "of", "the", "program"]
    assert err.count("All processes must leave a loop over iter_fit at the same row") == 1
    assert "Exception ignored" not in err
    assert "ResultWarning" in err
    assert other[1].startswith("All processes must leave a loop over iter_fit at the same row. Got 1 of 2")
