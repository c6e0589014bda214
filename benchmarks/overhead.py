"""Claim: the training loop takes little more time than a minimal hand-written one.

Both train the same network (nonlinear layers and a linear path) on the same rows with the same batches, precision,
threads, clipping by norm, and a learning rate set at each step; rounds alternate, and the ratio of medians is printed.

    python benchmarks/overhead.py
"""

import argparse
import itertools
import statistics
import time

import numpy as np
import torch
from torch import nn

from eigencode import Autoencoder

WORK = {"784-512-256-32": (784, (512, 256), 32, 5_120, 1.15), "64-32-8": (64, (32,), 8, 12_800, 1.3)}


def layers(*widths):
    """Linear layers with GELU between them."""
    steps = [module for a, b in itertools.pairwise(widths) for module in (nn.Linear(a, b), nn.GELU())]
    return nn.Sequential(*steps[:-1])


class Network(nn.Module):
    """The same maps as the library's default, written by hand."""

    def __init__(self, d, hidden, k):
        super().__init__()
        self.f, self.g = layers(d, *hidden, k), layers(k, *hidden[::-1], d)
        self.a, self.b = nn.Linear(d, k), nn.Linear(k, d)

    def forward(self, x):
        z = self.a(x) + self.f(x)
        return self.b(z) + self.g(z)


def bare_epochs(rows, d, hidden, k, batch_size, precision):
    """Seconds per epoch of the minimal loop, for each epoch."""
    model = Network(d, hidden, k)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    cast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    while True:
        began = time.perf_counter()
        total = torch.zeros(())
        for batch in torch.randperm(len(rows)).split(batch_size):
            x = rows[batch]
            optimizer.zero_grad()
            with cast:
                rebuilt = model(x)
            loss = (rebuilt.float() - x).square().sum(1).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            for group in optimizer.param_groups:
                group["lr"] = 2e-3
            optimizer.step()
            total += loss.detach()
        total.item()
        yield time.perf_counter() - began


def our_epochs(rows, d, hidden, k, batch_size, precision):
    """Seconds per epoch of the library's loop, with its history and its choice of the best weights."""
    model = Autoencoder(
        k, hidden=hidden, batch_size=batch_size, max_epochs=10_000, patience=10_000, validation_fraction=1 / len(rows),
        precision=precision, random_state=0,
    )  # fmt: skip
    run = model.iter_fit(rows.numpy())
    torch.set_num_threads(model.execution_.n_threads)
    while True:
        began = time.perf_counter()
        next(run)
        yield time.perf_counter() - began


def main():
    """Print a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=256)
    options = parser.parse_args()
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads, {torch.backends.cpu.get_cpu_capability()}")
    for name, (d, hidden, k, n, target) in WORK.items():
        torch.set_num_threads(threads)
        rows = torch.from_numpy(np.random.default_rng(0).normal(size=(n, d)).astype(np.float32))
        sides = [our_epochs, bare_epochs]
        # The library's loop comes first: it chooses precision and threads, and the minimal loop uses the same.
        runs = [side(rows, d, hidden, k, options.batch_size, "float32") for side in sides]
        times = [[], []]
        for _ in range(options.rounds):
            for run, found in zip(runs, times, strict=True):
                found.append(next(run))
        steps = -(-n // options.batch_size)
        ours, bare = (statistics.median(found[2:]) / steps * 1e6 for found in times)
        ratio = statistics.median(a / b for a, b in zip(*(found[2:] for found in times), strict=True))
        print(
            f"{name:>16}, batch {options.batch_size}, {torch.get_num_threads()} threads: {ours:8.0f} us a step, "
            f"bare {bare:8.0f}, ratio {ratio:.3f} (target {target})"
        )


if __name__ == "__main__":
    main()
