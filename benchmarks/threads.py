"""Seconds of large layers with one thread and with two, alone and beside other programs: threads wait busily.

    python benchmarks/threads.py [--rounds 3] [--busy 1]

150 times a layer of 784 inputs and 512 units on 256 rows, with one thread, and with two that wait for each other as
torch's do by default, as they do after `import eigencode`, and under OMP_WAIT_POLICY=passive; in turns, each in a
process of its own, beside so many other processes that use a processor each: medians of seconds by the clock and of the
processor, and the machine's load. No claim: `docs/numerics.md` has the figures.
"""

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack

from eigencode.lazy import SPINS

MEASURE = """
import time, torch
x, w = torch.randn(256, 784), torch.randn(784, 512)
torch.nn.functional.gelu(x @ w)
began = time.perf_counter(), time.process_time()
for _ in range(150):
    torch.nn.functional.gelu(x @ w)
print(time.perf_counter() - began[0], time.process_time() - began[1])
"""
SETTINGS = {
    "one thread": ("1", {}),
    "two": ("2", {}),
    "two, ours": ("2", {"GOMP_SPINCOUNT": str(SPINS)}),
    "two, passive": ("2", {"OMP_WAIT_POLICY": "passive"}),
}


def seconds(n_threads, waiting):
    """By the clock and of the processor."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment = {**inherited, "OMP_NUM_THREADS": n_threads, **waiting}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return tuple(map(float, done.stdout.split()))


def main():
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0, help="other processes that use a processor each")
    options = parser.parse_args()
    found = {name: [] for name in SETTINGS}
    with ExitStack() as others:
        for _ in range(options.busy):
            other = others.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            others.callback(other.kill)
        for _ in range(options.rounds):
            for name, setting in SETTINGS.items():
                found[name].append(seconds(*setting))
        print(f"load of the machine: {os.getloadavg()[0]:.1f}, processors: {os.cpu_count()}")
    for name, times in found.items():
        clock, processor = (statistics.median(part) for part in zip(*times, strict=True))
        print(f"{name:>14}: {clock:6.2f} s by the clock, {processor:5.2f} s of the processor")


if __name__ == "__main__":
    main()
