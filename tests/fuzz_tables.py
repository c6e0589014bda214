"""Damaged tables: whatever is in a file, it gives finite numbers or an error of ours, soon and in little memory.

    python tests/fuzz_tables.py 3000

Small tables of every format are mutated (bytes flipped, cut, inserted, repeated, swapped between files, numbers in
headers made huge) and read in one process whose address space may grow by a gigabyte.
"""

from __future__ import annotations

import gzip
import io
import random
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet

from eigencode.data.files import read_table
from eigencode.errors import EigencodeError

MEMORY = 1 << 30
"""Bytes by which the address space may grow."""

HUGE = [
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00" * 8,
    b"99999999999999999999",
    b"(",
    b'"',
    b"\n",
    b"\xe9",
]


def seeds() -> dict[str, bytes]:
    """Small tables by a file name of their format."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(40, 4)).round(3), columns=["a", "b", "c", "d e"]).assign(n=range(40))
    text = frame.to_csv(index=False)
    found = {
        "plain.csv": text.encode(),
        "quoted.csv": frame.assign(s='x "y", z').to_csv(index=False, quoting=1).encode(),
        "comma.csv": frame.to_csv(index=False, sep=";", decimal=",").encode(),
        "tabs.tsv": frame.to_csv(index=False, sep="\t").encode(),
        "wide.csv": text.encode("utf-16"),
        "packed.csv.gz": gzip.compress(text.encode(), mtime=0),
    }
    table = pa.Table.from_pandas(frame).append_column("s", pa.array([0.5, 2.0] * 20).dictionary_encode())
    for codec in ("snappy", "gzip", "zstd", "none"):
        stream = io.BytesIO()
        pa.parquet.write_table(table, stream, compression=codec, use_dictionary=codec != "none")
        found[f"{codec}.parquet"] = stream.getvalue()
    for codec in (None, "lz4", "zstd"):
        for opened in (pa.ipc.new_file, pa.ipc.new_stream):
            stream = io.BytesIO()
            with opened(stream, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
                writer.write_table(table)
            found[f"{opened.__name__}-{codec}.arrow"] = stream.getvalue()
    for name, array in {"f8": frame.to_numpy(), "i2": np.asfortranarray(frame.to_numpy().astype(">i2"))}.items():
        stream = io.BytesIO()
        np.save(stream, array)
        found[f"{name}.npy"] = stream.getvalue()
    return found


def mutated(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The content with one to four random changes, near its ends more often than elsewhere."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        near_end = rng.random() < 0.5
        at = rng.randrange(max(len(data), 1))
        at = min(at, 200) if near_end and rng.random() < 0.5 else max(at, len(data) - 200) if near_end else at
        change = rng.randrange(8)
        if change == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif change == 1 and data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        elif change == 2:
            del data[at:]
        elif change == 3:
            del data[at : at + rng.randrange(1, 40)]
        elif change == 4:
            data[at:at] = rng.choice(HUGE)
        elif change == 5:
            data[at : at + 4] = rng.choice(HUGE)
        elif change == 6:
            data[at:at] = data[at : at + rng.randrange(1, 400)] * rng.choice([1, 2, 50])
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            data[at : at + 30] = other[start : start + rng.randrange(1, 200)]
    return bytes(data)


def outcome(path: Path, columns: tuple[str, ...] = ()) -> str:
    """How reading a file ends: 'read', or the name of one of our errors; all else is raised."""
    try:
        rows = read_table(path, include=columns).rows
    except EigencodeError as error:
        return type(error).__name__ if len(str(error)) < 2000 else "a message that is too long"
    assert rows.ndim == 2
    assert np.isfinite(rows).all()
    return "read"


def limit_memory() -> None:
    """Let the address space grow by `MEMORY` from here on, where the system has such limits."""
    try:
        import resource
    except ImportError:
        return
    size = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


def run(n_tables: int, seed: int = 0) -> dict[str, object]:
    """Read so many mutated tables; counts of outcomes, the longest time and the growth of memory."""
    rng, found = random.Random(seed), seeds()
    counts: dict[str, int] = {}
    slowest, largest = (0.0, ""), (0, "")
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in found.items():
            (Path(folder) / name).write_bytes(content)
            outcome(Path(folder) / name)
        limit_memory()
        start = process.memory_info().rss
        for i in range(n_tables):
            name = rng.choice(list(found))
            path = Path(folder) / f"{i}-{name}"
            path.write_bytes(mutated(found[name], list(found.values()), rng))
            before = time.process_time()
            try:
                ended = outcome(path, rng.choice([(), (), ("a", "n")]))
            except BaseException:
                print(f"table {i}, from {name}, seed {seed}", file=sys.stderr)
                raise
            slowest = max(slowest, (time.process_time() - before, path.name))
            largest = max(largest, (_peak(process) - start, path.name))
            counts[ended] = counts.get(ended, 0) + 1
            path.unlink()
    return {"outcomes": counts, "slowest": slowest, "megabytes": (round(largest[0] / 1e6, 1), largest[1])}


def _peak(process: psutil.Process) -> int:
    """The largest memory of the process so far on Linux, and what it has elsewhere."""
    with suppress(OSError):
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
        return int(status["VmHWM"].split()[0]) * 1024
    return process.memory_info().rss


if __name__ == "__main__":
    warnings.simplefilter("error")
    result = run(int(sys.argv[1]) if len(sys.argv) > 1 else 3000, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    for name, value in result.items():
        print(f"{name:10} {value}")
    assert result["slowest"][0] < 1, result["slowest"]
    assert result["megabytes"][0] < 200, result["megabytes"]
