"""One model in 1, 2, 3 and 4 processes under torchrun: the same objective after 500 steps, and rows a second.

    python benchmarks/processes.py [--most 4] [--rows 56888] [--batch 1024] [--precisions float32 float64]

The processes are on one machine and have one thread each. Exits with 1 if an objective differs from that of one
process by more than 1e-4 of it in float32, 1e-9 in float64.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from eigencode import DenoisingAutoencoder, processes

COLUMNS, STEPS = 64, 500
BOUNDS = {"float32": 1e-4, "float64": 1e-9}


def fit(options: argparse.Namespace) -> None:
    """Fit in this process, and write how it went if it is the first one."""
    random = np.random.default_rng(0)
    X = np.tanh(random.normal(size=(options.rows, 16)) @ random.normal(size=(16, COLUMNS)) / 4)
    X += 0.1 * random.normal(size=X.shape)
    n_batches = -(-(options.rows - options.rows // 10) // options.batch)
    settings = {"optimizer": "adam", "max_epochs": -(-STEPS // n_batches), "patience": 10**6, "device": "cpu"}
    sizes = {"hidden": (256, 64), "batch_size": options.batch, "precision": options.precisions[0]}
    model = DenoisingAutoencoder(16, **settings, **sizes, random_state=0).fit(X)
    if processes.is_first():
        last = model.history_[-1]
        start = model.history_[0]["validation_objective"]
        found = {"steps": last["step"], "start": start, "objective": last["validation_objective"]}
        options.write.write_text(json.dumps(found | {"rate": last["rows"] / last["seconds"]}))


def measured(options: argparse.Namespace, n: int, precision: str) -> dict[str, float]:
    """What n processes find."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"] if n > 1 else []
        given = ["--rows", options.rows, "--batch", options.batch, "--precisions", precision, "--write", path]
        command = [sys.executable, *launcher, __file__, *map(str, given)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found: dict[str, float] = json.loads(path.read_text())
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=4)
    parser.add_argument("--rows", type=int, default=56_888)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--precisions", nargs="+", default=["float32", "float64"])
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    if options.write is not None:
        fit(options)
        return 0
    is_missed = False
    for precision in options.precisions:
        alone = measured(options, 1, precision)
        for n in range(1, options.most + 1):
            found = alone if n == 1 else measured(options, n, precision)
            difference = abs(found["objective"] - alone["objective"]) / abs(alone["objective"])
            is_missed = is_missed or difference > BOUNDS[precision]
            print(
                f"{precision} {n} processes: {found['steps']:.0f} steps, "
                f"objective {found['start']:.4f} -> {found['objective']:.10f}, "
                f"difference {difference:.1e} (at most {BOUNDS[precision]:g}), {found['rate']:,.0f} rows/s",
                flush=True,
            )
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
