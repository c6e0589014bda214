"""The library itself: its estimators at their defaults, but for the work's sizes, batch and number of epochs."""

import statistics
import time
import warnings

import numpy as np
import torch

from eigencode import Autoencoder, ContractiveAutoencoder, SparseAutoencoder, VariationalAutoencoder
from eigencode.errors import ResultWarning
from eigencode.parts import Point, StandardNormalPrior

KINDS = {
    "plain": (Autoencoder, {}),
    "convolutional": (Autoencoder, {"image_shape": (1, 28, 28)}),
    "variational": (VariationalAutoencoder, {"likelihood": "bernoulli"}),
}


AS_LOOP = {"activation": "relu", "init": "random"}
"""What makes the model that of the loops by hand; a variational one has their prior, too."""


def fit(work, rows, epochs, mark, options):
    torch.set_num_threads(options.threads)
    kind, terms = KINDS[work.kind]
    if options.model == "loop":
        prior = {"prior": StandardNormalPrior()} if work.kind == "variational" else {}
        terms = {**terms, **AS_LOOP, **prior}
    model = kind(
        work.n_components,
        hidden=work.hidden,
        batch_size=work.batch or "auto",
        max_epochs=epochs,
        random_state=0,
        precision=options.own_precision,
        **terms,
    )
    run = model.iter_fit(rows, every=mark.look)
    mark(model.reconstruct)
    n_epochs = 0
    for row in run:
        if "validation_objective" in row:
            mark(model.reconstruct)
            n_epochs += 1
        else:
            mark.evaluate(model.reconstruct)
    chosen = model.execution_
    # Where validation_fraction=0.1 rounds to, as the loop splits them.
    n_held_out = round(model.validation_fraction * len(rows))
    return {
        "n_rows": len(rows) - n_held_out,
        "evaluates_start": True,
        "precision": chosen.precision,
        "n_threads": chosen.n_threads,
        "n_epochs": n_epochs,
        "start": model.init_,
        "kept_error_is_of_epoch": model.best_epoch_,
    }


def steps(work, rows, epochs, options):
    """Time of a step beside that of the same network's plain one, epoch by epoch in turn."""
    warnings.simplefilter("ignore", ResultWarning)  # the code's size is the work's, not advice asked for
    torch.set_num_threads(options.threads)
    shared = {
        "batch_size": work.batch, "precision": "float32", "init": "random", "validation_fraction": 1 / len(rows),
        "max_epochs": 1_000, "patience": 1_000, "random_state": 0,
    }  # fmt: skip
    sigmoid = {"hidden": (), "code": Point("sigmoid"), "tied": True}
    deep = {"hidden": (512, 256), "tied": True}
    pairs = {
        "contractive, closed form, one layer of 1000 sigmoids": (
            ContractiveAutoencoder(1000, **sigmoid, **shared), Autoencoder(1000, **sigmoid, **shared),
        ),
        "contractive, closed form, 784-512-32": (
            ContractiveAutoencoder(32, hidden=(512,), **shared), Autoencoder(32, hidden=(512,), tied=True, **shared),
        ),
        "contractive, Hutchinson, 784-512-256-32": (
            ContractiveAutoencoder(32, **deep, estimate="hutchinson", **shared), Autoencoder(32, **deep, **shared),
        ),
        "contractive, exact, 784-512-256-32": (
            ContractiveAutoencoder(32, **deep, estimate="exact", **shared), Autoencoder(32, **deep, **shared),
        ),
        "top-k 25 against ReLU, 784-1000": (
            SparseAutoencoder(1000, sparsity="top_k", active=25, **shared),
            Autoencoder(1000, hidden=(), code=Point("relu"), **shared),
        ),
    }  # fmt: skip
    return {"ratios": {name: _ratio(pair, rows, epochs) for name, pair in pairs.items()}}


def _ratio(models, rows, epochs):
    """Seconds an epoch of the first over the second's, by the median of neighbours in time."""
    runs = [model.iter_fit(rows) for model in models]
    times = [[_seconds(next, run) for run in runs] for _ in range(epochs)]
    return statistics.median(a / b for a, b in times[min(2, epochs - 1) :])


def encode(work, rows, repeats, options):
    """Rows a second of `transform`, beside a bare pass of the same encoder over slices of the same array."""
    torch.set_num_threads(options.threads)
    model = Autoencoder(work.n_components, hidden=work.hidden, max_epochs=0, random_state=0).fit(rows[:2_000])
    encoder = model.composition_.encoder

    @torch.inference_mode()
    def bare(n_rows):
        return torch.cat([encoder(part) for part in torch.from_numpy(rows).split(n_rows)])

    model.transform(rows[:8192])
    sizes = (1024, 8192)
    bare_times = {n_rows: [] for n_rows in sizes}
    times = []
    for _ in range(repeats):
        times.append(_seconds(model.transform, rows))
        for n_rows in sizes:
            bare_times[n_rows].append(_seconds(bare, n_rows))
    fastest = min(map(np.median, bare_times.values()))
    return {
        "rows_per_second": len(rows) / float(np.median(times)),
        "bare_rows_per_second": len(rows) / float(fastest),
    }


def _seconds(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began
