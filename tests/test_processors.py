"""How many processors a process may use, by its affinity and by the quotas of its control groups."""

from __future__ import annotations

import os

import pytest
import torch

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
