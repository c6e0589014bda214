"""Fits whose results do not depend on the number of processes; as a program, it writes those of its process."""

import itertools
import signal
import sys
import tempfile
import time
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from sklearn.base import clone
from torch import nn

from eigencode import (
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    SparseAutoencoder,
    VariationalAutoencoder,
    processes,
)
from eigencode.data import mapped_rows, named_files
from eigencode.errors import InterruptedWarning, OptionError, TrainingError
from eigencode.parts import AuxiliaryLoss, Contractive, Dictionary, GaussianWeights, KLSparsity, Penalty, Sigmoid, TopK
from eigencode.training.runner import SingleRunner

OPTIONS = {"precision": "float64", "max_epochs": 3, "batch_size": 32, "optimizer": "adam", "random_state": 0}


def rows(n=150, d=6, gaps=0.0):
    """Rows on a curve, with noise."""
    random = np.random.default_rng(0)
    found = np.tanh(random.normal(size=(n, 2)) @ random.normal(size=(2, d))) + 0.1 * random.normal(size=(n, d))
    found[random.random(size=found.shape) < gaps] = np.nan
    return found


def cases():
    """Each fit by its name: an estimator, its rows and their weights."""
    own, more = {**OPTIONS, "hidden": (8,)}, dict(OPTIONS, hidden=())
    topk = {"code": TopK(2), "decoder": Dictionary(), "penalties": [AuxiliaryLoss(0.1, n_units=2, window=0.2)]}
    estimated = {"penalties": [Contractive(0.1, "hutchinson")], "weight_prior": GaussianWeights(1.0)}
    kl = {"code": Sigmoid(0.2), "penalties": [KLSparsity(0.2)]}
    heavy = np.random.default_rng(1).uniform(0.2, 2, size=150)
    yield "plain", Autoencoder(2, **own), rows(), None
    yield "weights", Autoencoder(2, **own), rows(), heavy
    yield "gaps", Autoencoder(2, **own), rows(gaps=0.1), None
    yield "gaps and weights", VariationalAutoencoder(2, **own), rows(gaps=0.1), heavy
    yield "few rows a step", Autoencoder(2, **own | {"batch_size": 1, "max_epochs": 2}), rows(12), None
    yield "all rows a step", Autoencoder(2, **own | {"optimizer": "lbfgs", "batch_size": "auto"}), rows(), None
    yield "variational", VariationalAutoencoder(2, **own), rows(), None
    yield "several draws", VariationalAutoencoder(2, n_draws=3, **own), rows(), None
    yield "denoising", DenoisingAutoencoder(2, **own), rows(), None
    yield "contractive", Autoencoder(4, **estimated, **own), rows(), None
    yield "contractive, exact", ContractiveAutoencoder(2, tied=True, **own), rows(), None
    yield "top-k", Autoencoder(12, **topk, **more), rows(), None
    yield "KL", Autoencoder(6, **kl, **more), rows(), None
    yield "KL, gaps", Autoencoder(6, **kl, **more), rows(gaps=0.5), None
    yield "few rows a step, KL", Autoencoder(6, **kl, **more | {"batch_size": 1, "max_epochs": 2}), rows(12), None
    yield "adaptive L1", SparseAutoencoder(12, active=2, **own), rows(), None
    yield "adaptive KL", SparseAutoencoder(12, active=0.2, sparsity="kl", **own), rows(), None
    yield "own network", Autoencoder(2, encoder=network(6, 2), decoder=network(2, 6), **OPTIONS), rows(), None
    early = {"max_epochs": 300, "patience": 1, "learning_rate": 0.01}
    yield "early stop", Autoencoder(2, **own | early), rows(), None
    yield "float32", VariationalAutoencoder(2, **own | {"precision": "float32"}), rows(), None


def network(n_in, n_out):
    """A network with a normalisation that does not mix rows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(n_in, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, n_out)).double()


def results(model):
    """All weights and states of a model, and its history, as one vector."""
    tensors = [tensor.double().reshape(-1) for tensor in model.composition_.state_dict().values()]
    history = [value for row in model.history_ for name, value in row.items() if name != "seconds"]
    return np.concatenate([torch.cat(tensors).numpy(), history])


def in_files(folder):
    """Fits to rows that stay in files."""
    np.save(f"{folder}/rows.npy", rows())
    table = pa.table({name: rows()[:, j] for j, name in enumerate("abcdef")})
    parquet.write_table(table, f"{folder}/rows.parquet", row_group_size=20)
    model = DenoisingAutoencoder(2, hidden=(8,), **OPTIONS)
    yield "memory map", clone(model), np.load(f"{folder}/rows.npy", mmap_mode="r"), None
    yield "Parquet", model, f"{folder}/rows.parquet", None


def fitted(names):
    """The results of each case of these names."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped_rows, "MAPPED_FROM", 1)
        patch.setattr(named_files, "STREAMED_FROM", 1)
        every = [*cases(), *in_files(folder)]
        return {name: results(model.fit(X, sample_weight=weight)) for name, model, X, weight in every if name in names}


class Crowding(Penalty):
    """A penalty on the mean code of a batch, which no process has alone."""

    def forward(self, trace, composition):
        return trace.z.mean(0).square().sum()


def refused():
    """What several processes say of fits that they cannot divide, by name."""
    own, batch_norm = {**OPTIONS, "hidden": (8,)}, nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2)).double()
    rank, _ = processes.numbered()
    models = {
        "batch normalisation": (Autoencoder(2, encoder=batch_norm, **OPTIONS), rows()),
        "own penalty": (Autoencoder(2, penalties=[Crowding()], **own), rows()),
        "other rows": (Autoencoder(2, **own), rows(150 + rank)),
        "other options": (Autoencoder(2, **own | {"batch_size": 32 + rank}), rows()),
    }
    found = {}
    for name, (model, X) in models.items():
        with pytest.raises(OptionError) as refusal:
            model.fit(X)
        found[name] = np.array(str(refusal.value))
    return found


def drawn():
    """Results that depend on the number of processes, but not on which process it is: dropout, seeds by chance."""
    encoder = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    yield "dropout", Autoencoder(2, encoder=encoder, **OPTIONS)
    yield "a seed by chance", Autoencoder(2, **OPTIONS | {"random_state": None, "hidden": (8,)})


@contextmanager
def at_step(number, act):
    """Act before the draw of noise of a step of the second process."""
    draw, n_calls = SingleRunner.draw, itertools.count()

    def acting(self, batch):
        if next(n_calls) == number and processes.numbered()[0] == 1:
            act()
        return draw(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SingleRunner, "draw", acting)
        yield


def ended():
    """Fits that a signal to the second process ends, or the time limit by the clock of the first one."""
    model = Autoencoder(2, **OPTIONS | {"hidden": (8,), "max_epochs": 10_000, "patience": 10_000})
    with at_step(20, lambda: signal.raise_signal(signal.SIGINT)), pytest.warns(InterruptedWarning):
        yield "interrupted", results(model.fit(rows()))
    limited = model.set_params(max_seconds=0.5)
    with pytest.MonkeyPatch.context() as patch:
        if processes.numbered()[0] == 1:
            patch.setattr(time, "monotonic", lambda: 0.0)
        yield "limited", results(limited.fit(rows()))


def failed():
    """The error of each process if the second one fails within a step."""

    def fail():
        raise ValueError("no more rows")

    with at_step(5, fail), pytest.raises((ValueError, TrainingError)) as error:
        Autoencoder(2, **OPTIONS | {"hidden": (8,)}).fit(rows())
    return np.array(f"{error.type.__name__}: {error.value}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
    path, *names = sys.argv[1:]
    found = fitted(names)
    if "more" in names:
        found |= refused() | {name: results(model.fit(rows())) for name, model in drawn()} | dict(ended())
        found["failed"] = failed()
    np.savez(f"{path}-{processes.numbered()[0]}.npz", **found)
