"""Seconds of large layers with one thread and with two on a machine that is as busy as it is: threads wait busily.

    python benchmarks/threads.py [--rounds 3]

150 times a layer of 784 inputs and 512 units on 256 rows, with one thread, with two, and with two under
OMP_WAIT_POLICY=passive, in turns, each in a process of its own: medians of seconds by the clock and of the processor,
and the machine's load. No claim: `docs/numerics.md` has the figures.
"""

import argparse
import os
import statistics
import subprocess
import sys

MEASURE = """
import time, torch
x, w = torch.randn(256, 784), torch.randn(784, 512)
torch.nn.functional.gelu(x @ w)
began = time.perf_counter(), time.process_time()
for _ in range(150):
    torch.nn.functional.gelu(x @ w)
print(time.perf_counter() - began[0], time.process_time() - began[1])
"""
SETTINGS = {"one thread": ("1", ""), "two": ("2", ""), "two, passive": ("2", "passive")}


def seconds(n_threads, policy):
    """By the clock and of the processor."""
    environment = {**os.environ, "OMP_NUM_THREADS": n_threads}
    environment.pop("OMP_WAIT_POLICY", None)
    if policy == "passive":
        environment["OMP_WAIT_POLICY"] = policy
    command = [sys.executable, "-c", MEASURE]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return tuple(map(float, done.stdout.split()))


def main():
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = {name: [] for name in SETTINGS}
    for _ in range(options.rounds):
        for name, setting in SETTINGS.items():
            found[name].append(seconds(*setting))
    print(f"load of the machine: {os.getloadavg()[0]:.1f}, processors: {os.cpu_count()}")
    for name, times in found.items():
        clock, processor = (statistics.median(part) for part in zip(*times, strict=True))
        print(f"{name:>14}: {clock:6.2f} s by the clock, {processor:5.2f} s of the processor")


if __name__ == "__main__":
    main()
