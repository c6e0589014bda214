"""One epoch from Parquet files: the memory of the process, and the speed beside rows in memory.

    python benchmarks/streaming.py [--rows 20000000] [--columns 64] [--batch-size 4096] [--folder DIR]

Writes the files first, in row groups of 131,072 rows, unless the folder has them. The network is 64-512-128-16. Prints
the largest sum of anonymous and swapped memory (pages of files are not counted), which is to be below 1.2 GB, and the
rows a second of one epoch beside those of 500,000 rows in memory, by the clock and by processor time; the first is to
be at least .8 of the second. The rows in memory are trained on before and after, since other processes may be at work.
Then the cost of a row for 10^4 rows and more, from files and from memory. Linux only.
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
from eigencode.data import named_files

BOUND, SHARE = 1200.0, 0.8
GROUP = 2**17
IN_MEMORY = 500_000


def own_memory() -> float:
    """MB of this process without pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "VmSwap"))) / 1e3


def write(folder: Path, n_rows: int, n_columns: int) -> None:
    """Write rows near a curved surface of four dimensions, a row group at a time."""
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


def trained(X: object, batch_size: int) -> tuple[float, float, float, float]:
    """Microseconds of an epoch and of the preparation for each row, each by the clock and by processor time."""
    model = Autoencoder(16, hidden=(512, 128), max_epochs=1, random_state=0, optimizer="adam", batch_size=batch_size)
    times = [(time.perf_counter(), time.process_time())]
    history = model.iter_fit(X)
    times.append((time.perf_counter(), time.process_time()))
    n_rows = [row["rows"] for row in history][-1]
    times.append((time.perf_counter(), time.process_time()))
    (a, b), (c, d), (e, f) = times
    return tuple(1e6 * each / n_rows for each in (e - c, f - d, c - a, d - b))


def first_rows(folder: Path, n_rows: int) -> np.ndarray:
    with pa.parquet.ParquetFile(next(iter(sorted(folder.iterdir())))) as file:
        batch = pa.Table.from_batches(list(file.iter_batches(2**16, row_groups=range(-(-n_rows // GROUP)))))[:n_rows]
    return np.stack([column.to_numpy() for column in batch.columns], axis=1)


def show(name: str, found: tuple[float, float, float, float]) -> None:
    epoch, epoch_cpu, before, before_cpu = found
    print(f"{name:28}{epoch:9.2f}{epoch_cpu:9.2f}{before:9.2f}{before_cpu:9.2f}", flush=True)


def compare(folder: Path, batch_size: int) -> None:
    print(f"{'microseconds a row':28}{'epoch':>9}{'CPU':>9}{'before':>9}{'CPU':>9}")
    rows = first_rows(folder, IN_MEMORY)
    in_memory = [trained(rows, batch_size)]
    show("in memory", in_memory[0])
    del rows
    most, done = [own_memory()], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            most[0] = max(most[0], own_memory())

    threading.Thread(target=watch, daemon=True).start()
    from_files = trained(folder, batch_size)
    done.set()
    show("from files", from_files)
    in_memory.append(trained(first_rows(folder, IN_MEMORY), batch_size))
    show("in memory again", in_memory[1])
    wall, cpu = (np.mean([each[i] for each in in_memory]) / from_files[i] for i in (0, 1))
    print(f"own memory {most[0]:.0f} MB at most: {'within' if most[0] < BOUND else 'beyond'} {BOUND:.0f} MB")
    print(
        f"rows a second beside those in memory: {wall:.2f} by the clock, {cpu:.2f} by processor time, at least {SHARE}"
    )


def throughput(folder: Path, batch_size: int, n_rows: int) -> None:
    """The cost of a row for more and more rows, at least a second each."""
    print("\ncost of a row, from files and in memory")
    for n in (n for n in (10_000, 30_000, 100_000, 300_000, 1_000_000, 2_000_000) if n <= n_rows):
        rows = first_rows(folder, n)
        with tempfile.TemporaryDirectory() as part:
            table = pa.table({f"x{j}": column for j, column in enumerate(rows.T)})
            pa.parquet.write_table(table, f"{part}/rows.parquet", row_group_size=GROUP, use_dictionary=False)
            del table
            named_files.STREAMED_FROM, usual = 1, named_files.STREAMED_FROM
            show(f"{n:,} from files", trained(part, batch_size))
            named_files.STREAMED_FROM = usual
        show(f"{n:,} in memory", trained(rows, batch_size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--folder", help="folder of the files, which are kept; else a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.folder or temporary)
        folder.mkdir(exist_ok=True)
        if not any(folder.iterdir()):
            write(folder, given.rows, given.columns)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e9
        print(f"{given.rows:,} x {given.columns}, {size:.1f} GB of Parquet", flush=True)
        compare(folder, given.batch_size)
        throughput(folder, given.batch_size, given.rows)


if __name__ == "__main__":
    main()
