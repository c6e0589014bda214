"""The cost of work at many sizes: seconds, rows a second, share of the product's rate and memory, beside simple peers.

    python benchmarks/cost.py [--slice n d network kinds] [--most 300000] [--json cost.json]

Each line is one fit with default settings in a process of its own: rows of a curved surface of five factors with noise.
'n' has more and more rows of 20 columns, 'd' more and more columns, 'network' more and more weights, 'kinds' each
estimator. ``--most`` leaves out work of more rows than that, and of more columns and weights in proportion. Beside the
fits stand PCA and MLPRegressor of scikit-learn on the same rows. Seconds are of the processor, so that other work on
the machine matters less; the rate is that of a product of 1024 x 1024 matrices, measured in the same process; memory is
the largest of the process less that before the fit, as a multiple of the rows. The table is in Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

FACTORS, TEST_ROWS = 5, 10_000
KINDS = ("Autoencoder", "LinearAutoencoder", "SparseAutoencoder", "DenoisingAutoencoder", "ContractiveAutoencoder",
         "VariationalAutoencoder", "StackedAutoencoder")  # fmt: skip
PEERS = ("PCA", "MLPRegressor")


def slices() -> dict[str, list[dict]]:
    """The work of each slice: rows, columns, hidden widths and kind."""

    def work(n: int, d: int = 20, hidden: tuple[int, ...] = (), kind: str = "Autoencoder") -> dict:
        return {"n": int(n), "d": int(d), "hidden": list(hidden), "kind": kind}

    return {
        "n": [work(n, kind=kind) for n in (1e2, 1e3, 1e4, 1e5, 3e5, 3e6, 2e7) for kind in ("Autoencoder", *PEERS)],
        "d": [work(3000, d, kind=kind) for d in (5, 20, 100, 500, 2000, 20_000) for kind in ("Autoencoder", *PEERS)],
        "network": [work(20_000, 50, (width, width)) for width in (1, 8, 64, 512, 2048, 7000)],
        "kinds": [work(20_000, 50, kind=kind) for kind in KINDS],
    }


def rows_of(n: int, d: int) -> np.ndarray:
    """Rows near a curved surface, and noise of a tenth of each column's deviation."""
    random = np.random.default_rng(0)
    first, bias, last = random.normal(size=(FACTORS, 32)), random.normal(size=32), random.normal(size=(32, d))
    rows = np.empty((n, d), np.float32)
    for begin in range(0, n, 20_000):
        part = rows[begin : begin + 20_000]
        part[:] = np.tanh(random.normal(size=(len(part), FACTORS)) @ first + bias) @ last / 4
        part += 0.1 * random.normal(size=part.shape)
    return rows


def product_rate() -> float:
    """Floating-point operations a second of processor time in products of 1024 x 1024 matrices."""
    import torch

    a = torch.randn(1024, 1024)
    a @ a
    began = time.process_time()
    for _ in range(5):
        a @ a
    return 5 * 2 * 1024**3 / (time.process_time() - began)


def peer_of(kind: str):
    """An estimator of scikit-learn, and its reconstruction of rows."""
    from sklearn.decomposition import PCA
    from sklearn.neural_network import MLPRegressor

    if kind == "PCA":
        model = PCA(FACTORS, random_state=0)
        return lambda x: model.fit(x), lambda x: model.inverse_transform(model.transform(x))
    model = MLPRegressor(hidden_layer_sizes=(64, FACTORS, 64), random_state=0, early_stopping=True)
    return lambda x: model.fit(x, x), model.predict


def measure(work: dict) -> dict:
    """One fit, in this process."""
    import eigencode

    rows = rows_of(work["n"] + TEST_ROWS, work["d"])
    train, test = rows[: work["n"]], rows[work["n"] :]
    options = {"hidden": tuple(work["hidden"])} if work["hidden"] else {}
    model = None
    if work["kind"] in PEERS:
        fit, rebuild = peer_of(work["kind"])
    else:
        own = {} if work["kind"] == "StackedAutoencoder" else {"n_components": FACTORS, **options}
        model = getattr(eigencode, work["kind"])(random_state=0, **own)
        fit, rebuild = model.fit, model.reconstruct
        eigencode.Autoencoder(2, max_epochs=1, random_state=0).fit(test[:500, :5])  # what imports take
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    fit(train)
    seconds = time.process_time() - began
    found = dict(work, seconds=seconds, error=float(((rebuild(test) - test) ** 2).mean() / test.var()))
    found["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / train.nbytes
    history = getattr(model, "history_", None)
    if history:
        weights = sum(p.numel() for p in model.composition_.parameters())
        found |= {"rows": history[-1]["rows"] / seconds, "weights": weights}
        found["share"] = 6 * weights * found["rows"] / product_rate()
    return found


def table_line(found: dict) -> str:
    """A row of the table."""
    shown = [
        found["kind"],
        f"{found['n']:,}",
        f"{found['d']:,}",
        f"{found['weights']:,}" if "weights" in found else "-",
    ]
    shown += [f"{found['seconds']:.2f}", f"{found['error']:.4f}"]
    shown += [f"{found['rows']:,.0f}" if "rows" in found else "-", f"{found['share']:.3f}" if "share" in found else "-"]
    return f"| {' | '.join([*shown, format(found['memory'], '.2f')])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slice", nargs="+", choices=slices(), default=list(slices()))
    parser.add_argument(
        "--most", type=int, default=300_000, help="most rows; 15,000,000 cells, and as many weights x 20"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(json.loads(chosen.one))))
        return
    print("| kind | rows | columns | weights | seconds | error | rows/s | of the product's rate | memory / rows |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    found = []
    for work in (work for name in chosen.slice for work in slices()[name]):
        cells, widest = work["n"] * work["d"], max(work["hidden"], default=0)
        if work["n"] > chosen.most or cells > 50 * chosen.most or widest**2 > chosen.most:
            continue
        command = [sys.executable, __file__, "--one", json.dumps(work)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"| {work['kind']} | {work['n']:,} | {work['d']:,} | failed: {done.stderr.strip()[-80:]} |")
            continue
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(table_line(found[-1]), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
