"""One epoch from Parquet files: the memory of the process, and the speed beside rows in memory.

    python benchmarks/parquet.py [--rows 20000000] [--columns 64] [--batch-size 4096] [--steps N] [--folder DIR]

Writes the files first, in row groups of 131,072 rows. The network is 64-512-128-16. Prints the largest sum of anonymous
and swapped memory (pages of files are not counted), which is to be below 1.2 GB, and the rows a second in training
beside those of as many rows in memory as make 200 steps, which are to be at most a quarter more. Linux only.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from eigencode import Autoencoder

BOUND, SHARE = 1200.0, 0.8
GROUP = 2**17


def own_memory() -> float:
    """MB of this process without pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "VmSwap"))) / 1e3


def write(folder: Path, n_rows: int, n_columns: int) -> float:
    """Write rows near a curved surface of four dimensions, a row group at a time; return GB."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, n_columns)).astype(np.float32)
    names = [f"x{j}" for j in range(n_columns)]
    schema = pa.schema([(name, pa.float32()) for name in names])
    for part, first_row in enumerate(range(0, n_rows, 16 * GROUP)):
        with pa.parquet.ParquetWriter(folder / f"{part:04}.parquet", schema, use_dictionary=False) as file:
            for first in range(first_row, min(first_row + 16 * GROUP, n_rows), GROUP):
                n = min(GROUP, n_rows - first)
                rows = np.tanh(rng.normal(size=(n, 4)).astype(np.float32) @ weights)
                rows += 0.3 * rng.normal(size=rows.shape).astype(np.float32)
                file.write_table(pa.table([pa.array(column) for column in rows.T], schema=schema))
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e9


def rows_a_second(X: object, most_steps: int | None, options: dict) -> float:
    """Rows a second in training, in one epoch or in so many steps."""
    model = Autoencoder(16, hidden=(512, 128), max_epochs=1, random_state=0, optimizer="adam", **options)
    row = {"rows": 0, "seconds": 1.0}
    for row in model.iter_fit(X):
        if most_steps is not None and row["step"] >= most_steps:
            break
    return row["rows"] / row["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--steps", type=int, help="stop after the first evaluation behind so many steps")
    parser.add_argument("--folder", help="folder of the files; the system's temporary folder by default")
    given = parser.parse_args()
    options = {"batch_size": given.batch_size}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        size = write(Path(folder), given.rows, given.columns)
        print(f"{given.rows:,} x {given.columns}, {size:.1f} GB of Parquet", flush=True)
        most, done = [own_memory()], threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                most[0] = max(most[0], own_memory())

        threading.Thread(target=watch, daemon=True).start()
        began = time.perf_counter()
        from_files = rows_a_second(folder, given.steps, options)
        done.set()
        print(f"{time.perf_counter() - began:.0f} s in all, {from_files:,.0f} rows/s while training", flush=True)
        first = next(iter(sorted(Path(folder).iterdir())))
        n_memory = min(200 * given.batch_size, given.rows)
        file = pa.parquet.ParquetFile(first)
        batch = next(file.iter_batches(n_memory))
        in_memory = rows_a_second(np.stack([column.to_numpy() for column in batch.columns], 1), given.steps, options)
    share = from_files / in_memory
    print(f"own memory {most[0]:.0f} MB at most: {'within' if most[0] < BOUND else 'beyond'} {BOUND:.0f} MB")
    print(f"{in_memory:,.0f} rows/s in memory: a share of {share:.2f}, {'enough' if share >= SHARE else 'too little'}")


if __name__ == "__main__":
    main()
