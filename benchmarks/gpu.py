"""Claims for a GPU: 20 times pythae's rows per second, 35 % of its bfloat16 rate at batches of 8192 rows, and 256 small
models trained together 50 times as fast as one after the other.

    python benchmarks/gpu.py [--data FOLDER] [--rounds 3] [--output gpu.md]

FOLDER has Fashion-MNIST, as for ``images.py``; without it the rows are random, and the times are the same. pythae is
measured if it is installed, and the two hand-written loops of ``speed.py``. Rows per second are those of the median
epoch after the first; the additional time of the first epoch, such as for recording the step, is printed too.
"""

import argparse
import importlib.util
import itertools
import statistics
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "speed"))

from many_models import runs  # noqa: E402
from work import WORKS  # noqa: E402

from eigencode.training import loop  # noqa: E402
from eigencode.training.grouping import group_runs, share_tensors  # noqa: E402
from eigencode.training.runner import SingleRunner  # noqa: E402

PEERS = {"eigencode": "with_eigencode", "lean loop": "with_lean_loop", "DataLoader loop": "with_dataloader",
         "pythae": "with_pythae"}  # fmt: skip
LARGE = replace(WORKS["b"], title="random rows, 784-1000-500-250-30, batch 8192", batch=8192)
ALIGNED = replace(LARGE, title="random rows, 784-1024-512-256-32, batch 8192", hidden=(1024, 512, 256), n_components=32)


def fashion(folder):
    """Training rows, or as many random ones."""
    if folder is None:
        return np.random.default_rng(0).random((60_000, 784), dtype=np.float32)
    from images import images

    return np.ascontiguousarray(images(folder)[0], np.float32)


def rate(device, size=8192, rounds=20):
    """Operations per second of a bfloat16 product."""
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    found = []
    for _ in range(rounds):
        wait(device)
        began = time.perf_counter()
        a @ b
        wait(device)
        found.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(found)


def wait(device):
    """Wait until the device has finished."""
    if device == "cuda":
        torch.cuda.synchronize()


def measured(peer, work, rows, epochs, options):
    """Rows per second of a peer, and the additional seconds of its first epoch."""
    ends = []

    def mark(reconstruct):
        wait(options.device)
        ends.append(time.perf_counter())

    began = time.perf_counter()
    found = importlib.import_module(PEERS[peer]).fit(work, rows, epochs, mark, options)
    first = 1 if found.get("evaluates_start") else 0
    epoch = statistics.median(b - a for a, b in itertools.pairwise(ends[first:]))
    return found.get("n_rows", len(rows)) / epoch, ends[first] - began - epoch


def medians(peer, work, rows, epochs, options):
    """The same over rounds."""
    found = [measured(peer, work, rows, epochs, options) for _ in range(options.rounds)]
    return tuple(map(statistics.median, zip(*found, strict=True)))


def many(n_models, device):
    """How many times as long small models take one after the other as together: in all, and after the first epoch."""
    rows, n_alone = load_digits().data, max(n_models // 16, 1)  # one after the other, some of them are enough
    alone, together = runs(rows, range(n_alone), batch_size=32), runs(rows, range(n_models), batch_size=32)
    assert together[0].execution.device == device
    one_by_one = sum(spans(partial(loop.train_all, SingleRunner(run)), device) for run in alone) / n_alone
    as_one = spans(lambda: loop.train_all(next(iter(group_runs(share_tensors(together)))).runner), device)
    return n_models * one_by_one / as_one


def spans(train, device):
    """Seconds of a training, and of its epochs after the first one, in which steps are recorded."""
    ends = [time.perf_counter()]
    for _ in train():
        wait(device)
        ends.append(time.perf_counter())
    return np.array([ends[-1] - ends[0], ends[-1] - ends[1]])


def lines(options):
    """The report, line by line."""
    device = options.device
    name = torch.cuda.get_device_name() if device == "cuda" else "the processor, to see that this runs"
    yield f"# On a GPU\n\n{name}, torch {torch.__version__}; medians of {options.rounds} rounds.\n"
    peers = [peer for peer in PEERS if peer != "pythae" or importlib.util.find_spec("pythae")]
    rows = fashion(options.data)[: options.rows]
    speeds = {}
    yield "| work | peer | rows/s | the first epoch takes longer by |"
    yield "|---|---|---|---|"
    for work, peer in itertools.product(("a-256", "a-1024"), peers):
        speeds[work, peer], longer = medians(peer, WORKS[work], rows, options.epochs, options)
        yield f"| {WORKS[work].title} | {peer} | {speeds[work, peer]:,.0f} | {longer:.2f} s |"
    for work in (ALIGNED, LARGE):
        speed, longer = medians("eigencode", work, rows, options.epochs, options)
        yield f"| {work.title} | eigencode | {speed:,.0f} | {longer:.2f} s |"
    yield "\n| claim | found | target |"
    yield "|---|---|---|"
    for work in ("a-256", "a-1024"):
        for peer in peers[1:]:
            target = "at least 20" if peer == "pythae" else "reported"
            yield f"| {work}: over {peer} | {speeds[work, 'eigencode'] / speeds[work, peer]:.1f} | {target} |"
    share = speed * LARGE.flops(784) / rate(device, size=8192 if device == "cuda" else 1024)
    yield f"| batch 8192: share of the bfloat16 rate | {share:.2f} | at least 0.35 |"
    whole, later = many(options.models, device)
    yield f"| {options.models} models of 64-32-8, 200 steps: one by one over one program | {whole:.1f} | at least 50 |"
    yield f"| the same after the first epoch | {later:.1f} | at least 50 |"


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--models", type=int, default=256)
    parser.add_argument("--rows", type=int, help="fewer rows, for a test of the script")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: only for a test of the script")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU is within reach: nothing was measured")
    given = {"threads": torch.get_num_threads(), "precision": "bfloat16", "own_precision": "auto", "model": "own"}
    options = SimpleNamespace(**vars(options), **given)
    text = []
    for line in lines(options):
        print(line, flush=True)
        text.append(line)
    if options.output:
        options.output.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
