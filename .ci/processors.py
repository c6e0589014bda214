"""Run the quick tests as other processors would, with one thread and two, and with every fixed seed moved.

    python .ci/processors.py [--only NAME ...] [--paths PATH ...] [--all] [pytest's arguments]

Each run takes place in a copy of the repository, made afresh, so the files may be edited meanwhile. A random outcome
differs in its last bits from one processor to the next, and training makes much of them: a test which holds for one
processor's bits, or for one seed only, fails in one of these runs. `--all` runs all that `make test` runs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent

PLAIN = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
CORES = {"OPENBLAS_CORETYPE": "Nehalem"}, {"OPENBLAS_CORETYPE": "Haswell"}

RUNS: dict[str, tuple[dict[str, str], int, int]] = {
    "plain": (PLAIN | CORES[0], 1, 0),
    "avx2, two threads": (AVX2 | CORES[1], 2, 0),
    "avx2, seeds + 1": (AVX2 | CORES[1], 1, 1),
    "plain, two threads, seeds + 2": (PLAIN | CORES[0], 2, 2),
    "this processor, seeds + 3": ({}, 1, 3),
}
"""By name: the environment, the number of threads, and how far the seeds are moved. Each setting comes up once or more;
all combinations would take hours."""

SEED = re.compile(
    r"""(?P<before>
        \b(?:random_state|\w*seed_?)["'\]]*\ ?(?:==?|:)\ ?["']?   # random_state=0, "random_state": 0, seed_ == 0
        | \b(?:default_rng|manual_seed)\(                         # default_rng(0), manual_seed(0)
        | --(?:random-state|seed)["']?,?[ =]["']?                 # --random-state 0, "--random-state", "0"
    )(?P<seed>\d+)\b(?!\.)""",
    re.VERBOSE,
)
SEEDS = re.compile(
    r"""(?P<before>\b(?:s|seed)["']?(?:\ in|,) )(?:range\((?P<number>\d+)\)|\((?P<each>\d+(?:, \d+)+)\))"""
)
FIXED = "# this very seed"
"""What a line says whose seed must stay, since it is about exact bits."""


def moved(text: str, offset: int) -> str:
    """A file's text with every seed that is written as a number moved."""

    def one(found: re.Match[str]) -> str:
        return f"{found['before']}{int(found['seed']) + offset}"

    def several(found: re.Match[str]) -> str:
        if found["number"]:
            return f"{found['before']}range({offset}, {int(found['number']) + offset})"
        return f"{found['before']}({', '.join(str(int(seed) + offset) for seed in found['each'].split(', '))})"

    lines = text.splitlines(keepends=True)
    return "".join(line if FIXED in line else SEEDS.sub(several, SEED.sub(one, line)) for line in lines)


def copy(folder: Path, offset: int) -> None:
    """Copy the repository's files as they are now, with the seeds of tests, examples and pages moved."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if offset and source.suffix in (".py", ".md") and not name.startswith((".ci/", "tests/golden/", "docs/log")):
            target.write_text(moved(source.read_text("utf-8"), offset), "utf-8")
        else:
            shutil.copy2(source, target)


def run(name: str, arguments: list[str]) -> tuple[int, list[str], float]:
    """Run the tests once; how many passed, the names of those that failed, and the seconds it took."""
    environment, n_threads, offset = RUNS[name]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as parent:
        folder, report = Path(parent) / "eigencode", Path(parent) / "report.xml"
        copy(folder, offset)
        own = {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": str(n_threads), "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-m", "pytest", "-q", "--doctest-modules", f"--junitxml={report}", *arguments]
        done = subprocess.run(command, cwd=folder, env={**os.environ, **environment, **own}, check=False)
        if done.returncode not in (0, 1):
            return 0, [f"pytest ended with {done.returncode}"], time.monotonic() - began
        return *outcomes(report), time.monotonic() - began


def outcomes(report: Path) -> tuple[int, list[str]]:
    """How many tests passed, by pytest's report, and the names of those that did not."""
    failed, n_passed = [], 0
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is None:
            n_passed += 1
    return n_passed, failed


def main() -> None:
    """Print a table of all runs, and end with 1 if a test failed in one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", action="extend", choices=RUNS, metavar="NAME", help=f"some of: {'; '.join(RUNS)}"
    )
    parser.add_argument("--paths", nargs="+", default=["src/eigencode", "tests"], help="what to test, in place of all")
    parser.add_argument("--all", action="store_true", help="the slow tests too, as make test")
    options, arguments = parser.parse_known_args()
    arguments += options.paths
    arguments = ["-m", "not long" if options.all else "not slow", *arguments]
    found = {}
    for name in options.only or RUNS:
        print(f"== {name}", flush=True)
        found[name] = run(name, arguments)
    print(f"\n{'configuration':32} {'passed':>7} {'failed':>7} {'minutes':>8}")
    for name, (n_passed, failed, seconds) in found.items():
        print(f"{name:32} {n_passed:7} {len(failed):7} {seconds / 60:8.1f}")
        for test in failed:
            print(f"    {test}")
    sys.exit(any(failed for _, failed, _ in found.values()))


if __name__ == "__main__":
    main()
