"""What a step of training costs, in counts that do not depend on the machine."""

import collections
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from eigencode import (
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    SparseAutoencoder,
    VariationalAutoencoder,
)
from eigencode.training import loop
from eigencode.training.batched_runner import BatchedRunner
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.runner import SingleRunner

X = np.random.default_rng(0).normal(size=(640, 20)).astype(np.float32)
OPTIONS = {"hidden": (16,), "optimizer": "adam", "batch_size": 64, "max_epochs": 1000, "random_state": 0}

WAITS = {"aten._local_scalar_dense", "aten.is_nonzero", "aten.nonzero", "aten.masked_select", "aten.equal"}
"""Operators that make the host wait for a device."""


class Calls(TorchDispatchMode):
    """Counts operator calls by name."""

    def __enter__(self):
        self.counts = collections.Counter()
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[str(function).rpartition(".")[0]] += 1
        return function(*args, **(kwargs or {}))

    @property
    def n_waits(self):
        return sum(self.counts[name] for name in WAITS)


def begun(cls, n_components=4, runner_of=SingleRunner, **options):
    """A runner that has made a step."""
    runner = runner_of(cls(n_components, **{**OPTIONS, **options})._begin(X))
    runner.step(next(runner.batches), [True])
    return runner


def bare_step(hidden=16, k=4, d=20):
    """The same network, Adam and clipping, written by hand."""
    f, g = (nn.Sequential(nn.Linear(a, hidden), nn.GELU(), nn.Linear(hidden, b)) for a, b in ((d, k), (k, d)))
    a, b = nn.Linear(d, k), nn.Linear(k, d)
    parameters = list(itertools.chain(*(m.parameters() for m in (f, g, a, b))))
    optimizer, rows = torch.optim.Adam(parameters, fused=True), torch.from_numpy(X)

    def step():
        x = rows[torch.arange(64)]
        optimizer.zero_grad()
        z = a(x) + f(x)
        (b(z) + g(z) - x).square().sum(1).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    step()
    return step


KINDS = {
    Autoencoder: {},
    DenoisingAutoencoder: {},
    VariationalAutoencoder: {},
    ContractiveAutoencoder: {"hidden": ()},
    SparseAutoencoder: {"n_components": 16, "hidden": (), "sparsity": "top_k", "active": 2},
}


@pytest.mark.draws_globally  # the layers of the loop written by hand
def test_a_step_takes_as_few_operations_as_one_written_by_hand():
    runner, by_hand = begun(Autoencoder), bare_step()
    with Calls() as ours:
        runner.step(next(runner.batches), [True])
    with Calls() as theirs:
        by_hand()
    assert ours.counts.total() <= 1.15 * theirs.counts.total()
    assert ours.counts["aten.index_select"] == 1  # one gather a batch
    assert ours.counts["aten._fused_adam_"] == 1
    assert ours.counts["aten.linalg_vector_norm"] == 1


@pytest.mark.parametrize("runner_of", [SingleRunner, lambda run: BatchedRunner([run])], ids=["alone", "in a program"])
@pytest.mark.parametrize("cls", KINDS)
def test_nothing_waits_for_the_device_before_the_epochs_end(cls, runner_of, monkeypatch):
    monkeypatch.setattr(ClippedAdam, "_step", ClippedAdam._step_all)  # that of a GPU; on a processor the length is read
    runner = begun(cls, runner_of=runner_of, **KINDS[cls])
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "tolist", None)  # it waits too, and is no operator
        patch.setattr(loop, "_conclude", lambda runner, tally, conclude: [tally])
        with Calls() as step:
            runner.step(next(runner.batches), [True])
        assert step.n_waits == 0
        with Calls() as epoch:
            (tally,) = next(loop.train_all(runner))
        assert epoch.n_waits == 0
    assert np.isfinite(tally.means).all()


def test_a_step_allocates_little_beyond_what_the_gradient_needs():
    """In bytes, for a network whose weights outweigh its activations."""
    runner = begun(Autoencoder, hidden=(512,))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        runner.step(next(runner.batches), [True])
    allocated = sum(max(event.self_cpu_memory_usage, 0) for event in seen.key_averages())
    weights = runner.runs[0].state.parameters.vector.numel() * 4
    # The layers' own gradients once, before they are laid into the vector that is there.
    activations = 64 * (512 * 2) * 4
    assert allocated < 1.3 * weights + 8 * activations
