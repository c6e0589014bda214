"""Claim: a process that is killed while it saves a model leaves the old file or the new one, and no other file.

    python benchmarks/kills.py [--kills 200]

A process saves two models in turn under one name, as fast as possible, and is killed at a random time; then another is
started. After each kill, the file is read, and other files in the folder are counted. It needs a system with fork.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import eigencode
from eigencode import Autoencoder


def main():
    """Kill processes, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    n_kills = parser.parse_args().kills
    X, moments = np.random.default_rng(0).normal(size=(100, 20)), random.Random(0)
    models = [Autoencoder(k, hidden=(200,), max_epochs=1, random_state=0).fit(X) for k in (2, 4)]
    answers = [model.transform(X) for model in models]
    n_broken = n_left = n_seen = 0
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / "m.safetensors"
        for _ in range(n_kills):
            process = saving(models, target)
            time.sleep(moments.uniform(0.0, 0.1))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            n_left += others(target)
            if target.exists():
                found, n_seen = eigencode.load(target).transform(X), n_seen + 1
                n_broken += not any(np.array_equal(found, answer) for answer in answers)
        models[0].save(target)
        n_at_last = others(target)
    print(f"{n_kills} kills, a file after {n_seen}: {n_broken} broken, {n_left} times something left behind")
    print(f"{n_at_last} left behind after one more save")
    return int(n_broken > 0 or n_at_last > 0)


def saving(models, target):
    """The id of a process that saves repeatedly."""
    process = os.fork()
    if process:
        return process
    while True:
        for model in models:
            model.save(target)


def others(target):
    """The number of files other than the saved one."""
    return sum(item != target for item in target.parent.iterdir())


if __name__ == "__main__":
    sys.exit(main())
