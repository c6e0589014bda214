"""One measurement of one peer in a process of its own: prints a line of JSON.

    python worker.py WORK PEER FOLDER [--epochs 10] [--threads 2] [--precision float32] [--looks 5] [--clock processor]

FOLDER has the rows as ``DATA-training.npy`` and ``DATA-test.npy``. The clock begins when the peer is handed the rows
and stands still while the held-out rows are evaluated; whatever else the peer does, as scaling or PCA, counts. They are
evaluated at the end of each epoch and, but for scikit-learn and PyOD, ``--looks`` times within it.
"""

import argparse
import importlib
import itertools
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path

MODULES = {
    "eigencode": "with_eigencode",
    "lean loop": "with_lean_loop",
    "hand-written": "with_hand_written",
    "DataLoader loop": "with_dataloader",
    "pythae": "with_pythae",
    "pyod": "with_pyod",
    "skorch": "with_skorch",
    "scikit-learn": "with_sklearn",
    "keras": "with_keras",
    "matmul": "with_matmul",
}


class Stopwatch:
    """Seconds since the peer got its rows, and the held-out error at each mark: a call at the end of each epoch.

    Attributes
    ----------
    curve : list of (float, float)
        Seconds and error at each mark and look.
    ends : list of float
        Seconds at the end of each epoch.
    look : int
        Rows between looks.
    """

    def __init__(self, test, units, look, clock=time.perf_counter):
        self.test, self.units, self.look, self.clock = test, units, look, clock
        self.curve, self.ends, self.paused, self.n_seen, self.next_look = [], [], 0.0, 0, look
        self.began = clock()

    def seconds(self):
        """Seconds so far, pauses left out."""
        return self.clock() - self.began - self.paused

    def __call__(self, reconstruct):
        """The end of an epoch."""
        self.evaluate(reconstruct)
        self.ends.append(self.curve[-1][0])

    def seen(self, n_rows, reconstruct):
        """A step within an epoch: a look, if enough rows were seen since the last one."""
        self.n_seen += n_rows
        if self.n_seen >= self.next_look:
            self.next_look = self.n_seen + self.look
            self.evaluate(reconstruct)

    def evaluate(self, reconstruct):
        """Mean squared error a cell of the held-out rows by the model as it is, as ``reconstruct`` gives them."""
        stopped = self.clock()
        seconds = stopped - self.began - self.paused
        gaps = (reconstruct(self.test) - self.test) / self.units
        self.curve.append((seconds, float((gaps * gaps).mean(dtype="float64"))))
        self.paused += self.clock() - stopped


def peak_memory():
    """Most memory that this process had in use, MB.

    Linux starts a child's ``ru_maxrss`` at its parent's, so the kernel's own mark is preferred.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def fit(peer, work, options, rows, test):
    """The measurement of a fit."""
    units = rows.std(0, dtype="float64").astype("float32") if work.is_table else 1.0
    clock = {"wall": time.perf_counter, "processor": time.process_time}[options.clock]
    watch = Stopwatch(test, units, -(-len(rows) // options.looks), clock)
    found = peer.fit(work, rows, options.epochs or work.epochs, watch, options)
    total, ends = watch.seconds(), watch.ends
    # Models that are evaluated before their first step have one mark more than epochs.
    epochs = [b - a for a, b in itertools.pairwise(ends)]
    found.setdefault("n_rows", len(rows))
    first = 1 if found.pop("evaluates_start", False) else 0
    later = sorted(epochs[first:] or epochs or ends)
    epoch = later[len(later) // 2]
    return {
        "seconds": total,
        "epoch_seconds": epoch,
        "rows_per_second": found["n_rows"] / epoch,
        "first_fit_seconds": max(ends[first] - epoch, 0.0),
        "curve": watch.curve,
        **found,
    }


def measure(options):
    """Everything that is known of one measurement."""
    began = time.perf_counter()
    peer = importlib.import_module(MODULES[options.peer])
    import_seconds = time.perf_counter() - began
    if options.peer == "matmul":
        return peer.rates()
    import numpy as np
    from work import WORKS, Unsupported

    work = WORKS[options.work]
    run = {"steps": "steps", "encode": "encode"}.get(work.kind)
    if run and not hasattr(peer, run):
        raise Unsupported(f"no {run} here")
    rows = np.load(Path(options.folder) / f"{work.data}-training.npy")[: options.rows or work.n_rows]
    if run:
        found = getattr(peer, run)(work, rows, options.epochs or work.epochs, options)
    else:
        test = np.load(Path(options.folder) / f"{work.data}-test.npy")
        found = fit(peer, work, options, rows, test)
    return {"import_seconds": import_seconds, "peak_memory": peak_memory(), **found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work")
    parser.add_argument("peer", choices=MODULES)
    parser.add_argument("folder")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--looks", type=int, default=5, help="evaluations within an epoch")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    parser.add_argument("--patience", type=int, help="epochs without progress after which a peer stops, if it can")
    parser.add_argument("--precision", default="float32", help="of peers")
    parser.add_argument("--own-precision", default="auto", help="of eigencode")
    parser.add_argument("--model", choices=["own", "loop"], default="own", help="eigencode's: its own, or the loop's")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        # Also what thread pools count that read no environment variable, as XLA's.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    # Peers print what they like; the last line is ours.
    try:
        found = measure(options)
    except Exception as error:
        traceback.print_exc()
        found = {"failure": f"{type(error).__name__}: {error}".splitlines()[0]}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
