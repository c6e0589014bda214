"""How many processors a process may use, by its affinity and by the quotas of its control groups."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

import eigencode
from eigencode import Autoencoder, fitting
from eigencode.cli import workers
from eigencode.estimators.evaluation import to_array
from eigencode.training import execution
from eigencode.training.processors import processors


@pytest.fixture(autouse=True)
def sixteen(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def kernel(root, group, **files):
    """The files of a kernel: the groups of the process, and what is in them."""
    files = {"proc/self/cgroup": group, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 16),
        ("0::/pod/one\n", {"pod/one/cpu.max": "max 100000\n", "pod/cpu.max": "300000 100000\n"}, 3),
        (
            "4:memory:/\n2:cpu,cpuacct:/job\n0::/\n",
            {"cpu/job/cpu.cfs_quota_us": "400000\n", "cpu/job/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ("2:cpuset:/\n", {}, 16),
    ],
)
def test_quotas_of_control_groups(tmp_path, group, files, expected):
    assert processors(kernel(tmp_path, group, **files)) == expected


def test_without_such_files_the_affinity_counts(tmp_path):
    assert processors(tmp_path) == 16


def test_a_step_has_no_more_threads_than_processors(monkeypatch):
    monkeypatch.setattr(execution, "processors", lambda: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert execution.threads_for(1e9) == 3
    assert execution.threads_for(1e3) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert execution.threads_for(1e9) == 2


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_start_and_long_answers_have_no_more_threads_than_processors(monkeypatch, two_threads):
    rows, seen = np.random.default_rng(0).normal(size=(9000, 3)), []
    find = fitting.find_start
    monkeypatch.setattr(fitting, "find_start", lambda *given: seen.append(torch.get_num_threads()) or find(*given))
    for share in (1, 16):
        monkeypatch.setattr(execution, "processors", lambda share=share: share)
        model = Autoencoder(1, hidden=(), max_epochs=0, random_state=0).fit(rows)
        for block in (rows, rows[:5]):
            model._answer(block, lambda model, rows, _: seen.append(torch.get_num_threads()) or rows.x)
        assert torch.get_num_threads() == 2
    # A chunk of 8,192 rows, the rest of them, and few rows, for which nothing is looked up.
    assert seen == [1, 1, 1, 2, 2, 2, 2, 2]


def test_answers_that_are_not_all_taken_leave_the_number_of_threads(monkeypatch, two_threads):
    monkeypatch.setattr(execution, "processors", lambda: 1)
    rows, seen = np.random.default_rng(0).normal(size=(9000, 3)), []
    model = Autoencoder(1, hidden=(), max_epochs=0, random_state=0).fit(rows)
    answers = model._answers(rows, lambda model, rows, _: seen.append(torch.get_num_threads()) or rows.x, to_array)
    assert len(next(answers)) == 8192
    assert seen == [1]
    assert torch.get_num_threads() == 2
    assert torch.is_grad_enabled()


def test_a_loaded_model_has_no_more_threads_than_processors(monkeypatch, tmp_path):
    model = Autoencoder(1, hidden=(), max_epochs=0).fit(np.random.default_rng(0).normal(size=(20, 3)))
    model.execution_ = execution.Execution("cpu", "float32", 8)
    model.save(tmp_path / "model.safetensors")
    monkeypatch.setattr(execution, "processors", lambda: 3)
    assert eigencode.load(tmp_path / "model.safetensors").execution_.n_threads == 3


def test_processes_of_a_command_divide_the_processors(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(workers, "processors", lambda: 6)
    assert [workers._environment(0, n, "folder")["OMP_NUM_THREADS"] for n in (1, 4, 9)] == ["6", "1", "1"]
