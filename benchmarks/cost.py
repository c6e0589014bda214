"""The cost of work at many sizes: seconds, rows a second, share of the product's rate and memory, beside peers.

    OMP_NUM_THREADS=1 python benchmarks/cost.py [--slice n d network kinds] [--kind KIND ...] [--most 300000]
        [--python PYTHON] [--json cost.jsonl]

Each line is one fit with default settings in a process of its own: rows of a curved surface of five factors with noise.
'n' has more and more rows of 20 columns, 'd' more and more columns, 'network' more and more weights, 'kinds' each
estimator. ``--most`` leaves out work of more rows than that, and of more columns in proportion. ``--python`` is an
interpreter that has the other packages, which need not have this one. ``--json`` is read and continued: what it has is
not measured again.

- Seconds are of the processor, so that other work on the machine matters less. The error is that of 10,000 rows that
  were not fitted, as a share of their variance.
- The share of the product's rate counts 6 operations a weight and row, beside products of two 1024 x 1024 matrices in
  the precision of the fit, in the same process; it is left out where the interpreter has no torch.
- Memory is the process's largest less what it had before, as a multiple of the rows, and of the weights in float32.
- Networks of more than a million weights are trained for a few epochs only, as the table says.
- Other packages have networks of the same widths (64 where none are given), and settings as `speed.py` says. They train
  until they stop early by themselves: scikit-learn and Keras after 10 epochs without progress, skorch after 5, of at
  most 200. Those that cannot have the number of epochs of their defaults, pythae 100 and PyOD 10, and the lean loop 20.
  None makes more passes than give 6,000,000 rows. All end with the first epoch that ends after more than ``--limit``
  seconds; scikit-learn at once, with the weights of its best epoch. "Ended by" says which.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

WORKERS = Path(__file__).parent / "speed"
FACTORS, TEST_ROWS, MOST_SEEN = 5, 10_000, 6_000_000
KINDS = ("Autoencoder", "LinearAutoencoder", "SparseAutoencoder", "DenoisingAutoencoder", "ContractiveAutoencoder",
         "VariationalAutoencoder", "StackedAutoencoder")  # fmt: skip
EPOCHS = {"MLPRegressor": 200, "skorch": 200, "Keras on JAX": 200, "Keras on torch": 200, "pythae": 100, "PyOD": 10,
          "lean loop": 20, "pythae VAE": 100, "PyOD VAE": 10}  # fmt: skip
"""Epochs of other packages, at most."""

MODULES = {"skorch": "with_skorch", "Keras on JAX": "with_keras", "Keras on torch": "with_keras", "PyOD": "with_pyod",
           "PyOD VAE": "with_pyod", "pythae": "with_pythae", "pythae VAE": "with_pythae",
           "lean loop": "with_lean_loop"}  # fmt: skip
PATIENCE = {"skorch": 5, "Keras on JAX": 10, "Keras on torch": 10}
PEERS = ("PCA", *EPOCHS)
PLAIN_PEERS = tuple(peer for peer in PEERS if "VAE" not in peer)


def slices() -> dict[str, list[dict]]:
    """The work of each slice: rows, columns, hidden widths, kind, and a number of epochs where it is bounded."""

    def work(n: float, d: int = 20, hidden: tuple[int, ...] = (), kind: str = "Autoencoder", epochs: int = 0) -> dict:
        return {"n": int(n), "d": d, "hidden": list(hidden), "kind": kind, "epochs": epochs}

    kinds, few = ("Autoencoder", *PLAIN_PEERS), ("Autoencoder", "PCA", "MLPRegressor", "lean loop")
    networks = ("Autoencoder", *PLAIN_PEERS[1:])
    return {
        "n": [
            *(work(n) for n in (4e2, 5e2, 4e3, 3e4)),
            *(work(n, kind=kind) for n in (1e2, 1e3, 1e4, 1e5, 3e5) for kind in kinds),
            *(work(n, kind=kind) for n in (3e6, 2e7) for kind in few),
        ],
        "d": [work(3000, d, kind=kind) for d in (5, 20, 100, 500, 2000, 20_000) for kind in kinds],
        "network": [
            *(work(20_000, 50, (width, width)) for width in (1, 8, 64)),
            *(work(20_000, 50, (512, 512), kind) for kind in networks),
            *(work(20_000, 50, (2048, 2048), kind, 3) for kind in networks),
            *(work(2_000, 50, (7000, 7000), kind, 1) for kind in networks),
        ],
        "kinds": [
            *(work(n, 50, kind=kind) for n in (100, 3000, 20_000, 300_000) for kind in KINDS),
            *(work(n, 50, kind=kind) for n in (3000, 20_000) for kind in ("pythae VAE", "PyOD VAE")),
        ],
    }


def rows_of(n: int, d: int) -> np.ndarray:
    """Rows near a curved surface, and noise of a tenth of each column's deviation."""
    random = np.random.default_rng(0)
    first, bias, last = random.normal(size=(FACTORS, 32)), random.normal(size=32), random.normal(size=(32, d))
    rows, size = np.empty((n, d), np.float32), 20_000
    for begin in range(0, n, size):
        part = rows[begin : begin + size]
        part[:] = np.tanh(random.normal(size=(len(part), FACTORS)) @ first + bias) @ last / 4
        part += 0.1 * random.normal(size=part.shape)
    return rows


def product_rate(precision: str) -> float:
    """Floating-point operations a second of processor time in products of 1024 x 1024 matrices."""
    import torch

    a = torch.randn(1024, 1024).to(getattr(torch, precision))
    a @ a
    began = time.process_time()
    for _ in range(5):
        a @ a
    return 5 * 2 * 1024**3 / (time.process_time() - began)


def memory(name: str) -> int:
    """Bytes of this process: 'VmRSS' now, 'VmHWM' at most since `forget_most`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def forget_most() -> None:
    """Let the largest memory be counted from now on."""
    Path("/proc/self/clear_refs").write_text("5")


# -- fits: functions of rows that return a function that rebuilds rows, and what is known of the fit


def own_fit(work: dict, limit: float):
    """An estimator of this package."""
    import eigencode

    options = {"max_epochs": work["epochs"]} if work["epochs"] and work["kind"] != "LinearAutoencoder" else {}
    options |= {"n_components": FACTORS, **({"hidden": tuple(work["hidden"])} if work["hidden"] else {})}

    def fit(rows: np.ndarray):
        model = getattr(eigencode, work["kind"])(random_state=0, **options).fit(rows)
        seen = model.history_[-1]["rows"] if model.history_ else 0
        weights = sum(p.numel() for p in model.composition_.parameters())
        return model.reconstruct, {
            "seen": seen,
            "epochs": seen / len(rows),
            "weights": weights,
            "precision": model.execution_.precision,
            "ended": "epochs" if work["epochs"] else "itself",
        }

    return fit


def pca_fit(work: dict, limit: float):
    """Principal components."""
    from sklearn.decomposition import PCA

    def fit(rows: np.ndarray):
        model = PCA(FACTORS, random_state=0).fit(rows)
        return lambda x: model.inverse_transform(model.transform(x)), {}

    return fit


def widths_of(work: dict, d: int) -> list[int]:
    """The widths of a network, from the columns to the columns."""
    hidden = work["hidden"] or [64]
    return [d, *hidden, FACTORS, *hidden[::-1], d]


def described(work: dict, rows: np.ndarray, epochs: int, most: int, ended: str) -> dict:
    """What is known of a fit of another package."""
    weights = sum(a * b + b for a, b in itertools.pairwise(widths_of(work, rows.shape[1])))
    if not ended:
        ended = "itself" if epochs < most and work["kind"] in (*PATIENCE, "MLPRegressor") else "epochs"
    return {"seen": epochs * len(rows), "epochs": epochs, "weights": weights, "precision": "float32", "ended": ended}


@contextlib.contextmanager
def interrupted_after(seconds: float):
    """Raise KeyboardInterrupt after so many seconds of the processor."""
    timer = SimpleNamespace(is_up=False)

    def interrupt(number: int, frame: object) -> None:
        timer.is_up = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield timer
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def sklearn_fit(work: dict, limit: float):
    """scikit-learn's network with its early stopping."""
    from sklearn.neural_network import MLPRegressor

    def fit(rows: np.ndarray):
        most = most_epochs(work, len(rows))
        model = MLPRegressor(
            hidden_layer_sizes=widths_of(work, 0)[1:-1], random_state=0, early_stopping=True, max_iter=most
        )
        with interrupted_after(limit) as timer:
            model.fit(rows, rows)  # an interrupt ends it, and leaves the best weights
        return model.predict, described(work, rows, model.n_iter_, most, "time" if timer.is_up else "")

    return fit


class TimeIsUp(Exception):
    """A peer has trained for as long as it may."""


class Mark:
    """What an adapter calls at the end of each epoch and step."""

    def __init__(self, limit: float) -> None:
        self.reconstruct, self.n_epochs, self.ends = None, 0, time.process_time() + limit

    def __call__(self, reconstruct) -> None:
        self.reconstruct, self.n_epochs = reconstruct, self.n_epochs + 1
        if time.process_time() > self.ends:
            raise TimeIsUp

    def seen(self, n_rows: int, reconstruct) -> None:
        """Nothing is looked at within an epoch."""


def peer_fit(work: dict, limit: float):
    """A package with an adapter of `speed.py`."""
    kind = work["kind"]
    os.environ["KERAS_BACKEND"] = "torch" if kind == "Keras on torch" else "jax"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    sys.path.insert(0, str(WORKERS))
    from work import Work

    adapter = importlib.import_module(MODULES[kind])
    hidden = tuple(work["hidden"]) or (64,)
    given = Work("", "table", hidden, FACTORS, kind="variational" if "VAE" in kind else "plain")
    options = SimpleNamespace(threads=1, device="cpu", precision="float32", patience=PATIENCE.get(kind))

    def fit(rows: np.ndarray):
        most, mark, ended = most_epochs(work, len(rows)), Mark(limit), ""
        try:
            adapter.fit(given, rows, most, mark, options)
        except TimeIsUp:
            ended = "time"
        return mark.reconstruct, described(work, rows, mark.n_epochs, most, ended)

    return fit


def most_epochs(work: dict, n_rows: int) -> int:
    """Epochs of another package, at most."""
    return work["epochs"] or min(EPOCHS[work["kind"]], max(MOST_SEEN // n_rows, 1))


FITS = {
    **dict.fromkeys(KINDS, own_fit),
    **dict.fromkeys(MODULES, peer_fit),
    "PCA": pca_fit,
    "MLPRegressor": sklearn_fit,
}


def measure(work: dict, limit: float) -> dict:
    """One fit, in this process."""
    rows = rows_of(work["n"] + TEST_ROWS, work["d"])
    train, test = rows[: work["n"]], rows[work["n"] :]
    fit = FITS[work["kind"]](work, limit)
    small = {**work, "epochs": 1, "hidden": []}
    FITS[work["kind"]](small, limit)(np.ascontiguousarray(test[:500, :5]))  # what imports take
    before = memory("VmRSS")
    forget_most()
    began = time.process_time()
    rebuild, found = fit(train)
    seconds = time.process_time() - began
    most = memory("VmHWM") - before
    found |= dict(work, seconds=seconds, memory=most, epochs_asked=work["epochs"], epochs=found.get("epochs", 0))
    found["error"] = float(((rebuild(test) - test) ** 2).mean() / test.var())
    if found.get("seen"):
        found["rows"] = found["seen"] / seconds
        if importlib.util.find_spec("torch"):
            found["share"] = 6 * found["weights"] * found["rows"] / product_rate(found["precision"])
    return found


# -- the table


def table_line(found: dict) -> str:
    """A row of the table."""

    def shown(name: str, form: str) -> str:
        return format(found[name], form) if found.get(name) else "-"

    size = 4 * found["n"] * found["d"]
    weights = f"{found['memory'] / 4 / found['weights']:.1f}" if found.get("weights", 0) > 1e6 else "-"
    cells = [
        found["kind"] + "".join(f" {width}" for width in found["hidden"][:1]),
        f"{found['n']:,}",
        f"{found['d']:,}",
    ]
    cells += [shown("weights", ",d"), shown("seconds", ".2f"), shown("epochs", ".3g"), found.get("ended", "-")]
    cells += [f"{found['error']:.4f}", shown("rows", ",.0f"), shown("share", ".3f")]
    cells += [f"{found['memory'] / 1e6:,.0f}", f"{found['memory'] / size:.2f}", weights]
    return f"| {' | '.join(cells)} |"


HEADING = ("kind", "rows", "columns", "weights", "seconds", "epochs", "ended by", "error", "rows/s", "of rate", "MB",
           "/ rows", "/ weights")  # fmt: skip


def key_of(work: dict) -> tuple:
    """What tells one piece of work from another."""
    return work["n"], work["d"], tuple(work["hidden"]), work["kind"]


def chosen_work(chosen: argparse.Namespace) -> list[dict]:
    """The work that is asked for."""
    asked = [work for name in chosen.slice for work in slices()[name]]
    asked = [work for work in asked if work["kind"] in chosen.kind]
    return [work for work in asked if work["n"] <= chosen.most and work["n"] * work["d"] <= 50 * max(chosen.most, 2e6)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slice", nargs="+", choices=slices(), default=list(slices()))
    parser.add_argument("--kind", nargs="+", choices=FITS, default=(*KINDS, "PCA", "MLPRegressor"), metavar="KIND")
    parser.add_argument("--most", type=float, default=300_000, help="most rows")
    parser.add_argument("--limit", type=float, default=90, help="seconds of the processor of another package")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the other packages")
    parser.add_argument("--json", type=Path, help="where the measurements are kept, one a line")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(json.loads(chosen.one), chosen.limit)))
        return
    known = {}
    if chosen.json and chosen.json.exists():
        known = {key_of(found): found for found in map(json.loads, chosen.json.read_text().splitlines())}
    print(f"| {' | '.join(HEADING)} |\n|{'---|' * len(HEADING)}", flush=True)
    for work in chosen_work(chosen):
        if key_of(work) not in known:
            python = sys.executable if work["kind"] in KINDS else chosen.python
            command = [python, __file__, "--one", json.dumps(work), "--limit", str(chosen.limit)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"| {work['kind']} | {work['n']:,} | {work['d']:,} | failed: {done.stderr.strip()[-80:]} |")
                continue
            known[key_of(work)] = json.loads(done.stdout.splitlines()[-1])
            if chosen.json:
                with chosen.json.open("a") as file:
                    file.write(json.dumps(known[key_of(work)]) + "\n")
        print(table_line(known[key_of(work)]), flush=True)


if __name__ == "__main__":
    main()
