"""Measure the figures of README again, and write them into it; the picture is drawn again too. Takes about ten minutes.

.ci/figures.py                      the figures of the first table, and the picture
.ci/figures.py --long ADBENCH       those of the second table, with the date and the machine: some hours and 10 GB of
                                    disk; ADBENCH is a folder with tables of ADBench, as benchmarks/anomaly.py takes it
.ci/figures.py --only streaming     of either table the figures whose command has this word

What depends on a random seed is written as mean ± standard deviation over the seeds, with as many digits as the
deviation leaves. On the same machine the same code gives the same digits.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent


@dataclass
class Figure:
    """What is measured, the command, where its output has the values, and how they are written."""

    what: str
    command: str
    patterns: tuple[str, ...]
    form: str

    def measure(self, adbench: str) -> str:
        """Run the command and return what it found; a command that misses its own target has printed it too."""
        arguments = [sys.executable, *shlex.split(self.command.replace("ADBENCH", shlex.quote(adbench)))[1:]]
        output = subprocess.run(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False).stdout
        found = [Values(re.findall(pattern, output, re.MULTILINE)) for pattern in self.patterns]
        if missing := [pattern for pattern, values in zip(self.patterns, found, strict=True) if not values.texts]:
            sys.exit(f"{self.command} has not printed {missing[0]}:\n{output}")
        return self.form.format(*found)


@dataclass
class Values:
    """All values of a figure: one as it was printed, several as their mean and standard deviation."""

    texts: list[str]

    def __str__(self) -> str:
        if len(self.texts) == 1:
            return self.texts[0]
        values = np.array(self.texts, dtype=float)
        deviation = values.std(ddof=1)
        n_digits = min(3, max(0, -int(np.floor(np.log10(deviation))))) if deviation > 0 else 3
        return f"{values.mean():.{n_digits}f} ± {deviation:.{n_digits}f}"

    @property
    def least(self) -> str:
        """The smallest value, with two digits after the point."""
        return f"{min(map(float, self.texts)):.2f}"

    @property
    def most(self) -> str:
        """The largest value, with two digits after the point."""
        return f"{max(map(float, self.texts)):.2f}"


FIGURES = [
    Figure(
        "passengers of the Titanic that were not fitted, rebuilt from 8 numbers each: share of labels that are right "
        "(by the most frequent label); squared error of numbers, divided by that of the mean; three splits",
        "python benchmarks/tables.py docs/titanic.csv --kinds Autoencoder --seeds 3",
        tuple(rf"Autoencoder\(8\) .*{value} (\S+?)\)? " for value in ("categories", r"\(mode", "numbers")),
        "{0} ({1}); {2}",
    ),
    Figure(
        "in a row, one number is replaced by a usual one that does not fit the row: how often the first reason is this "
        "column (how often the largest z-score is); three splits",
        "python benchmarks/planted.py docs/titanic.csv --seeds 3",
        (r"titanic +correlation +\d+ +(\S+)", r"titanic +correlation +\d+ +\S+ +(\S+)"),
        "{0} ({1})",
    ),
    Figure(
        "half of all cells hidden, 30 measurements of breast cancer: squared error of what is filled in, of the "
        "variance (iterative ridge regression); three masks",
        "python benchmarks/imputation.py breast_cancer --masks 3 --shares 0.5 --missing random --draws 0 --by-mask "
        "--methods ridge eigencode",
        (r"mask \d.* eigencode (\S+)", r"mask \d.* ridge (\S+)"),
        "{0} ({1})",
    ),
    Figure(
        "error on test rows over that of PCA: four tables with 2, 4 and 8 components, least and largest (largest of "
        "one split); three splits",
        "python benchmarks/small_tables.py --splits 3",
        (r"^ *\S+ +\d+ +\S+ +\S+ +(\d\.\d+) +\S+ +\S+$", r"^ *\S+ +\d+ +\S+ +\S+ +\d\.\d+ +(\S+) +\S+$"),
        "{0.least} to {0.most} ({1.most})",
    ),
]

LONG_FIGURES = [
    Figure(
        "odd rows of ten tables of ADBench, fitted to half of the normal rows: area under the ROC curve in per cent "
        "(nearest neighbour, isolation forest); how far the nearest neighbour is above, with the standard error over "
        "the tables; three splits",
        "python benchmarks/anomaly.py ADBENCH --methods detector 'kNN 1' isolation",
        (
            r"^mean +(\d\S+)",
            r"^mean +\d\S+ +(\S+)",
            r"^mean +\d\S+ +\S+ +(\S+)",
            r"^to the first +\S+ \+- *\S+ +([+-]\S+)",
            r"^to the first +\S+ \+- *\S+ +\S+ \+- *(\S+)",
        ),
        "{0} ({1}, {2}); {3} ± {4}",
    ),
    Figure(
        "false alarms on the normal rows of these tables that were not fitted, where 0.01, 0.05, 0.1 are asked for: "
        "means of twenty splits",
        "python benchmarks/anomaly.py ADBENCH --rates --epochs 2 --seeds 20",
        tuple(r"^mean" + r" +\S+" * n + r" +(\S+)" for n in range(3)),
        "{0}, {1}, {2}",
    ),
    Figure(
        "20,000,000 rows of 64 columns from Parquet: own memory of the process; rows a second beside those of rows in "
        "memory",
        "python benchmarks/streaming.py",
        (r"^own memory (\d+ MB)", r"^rows a second beside those in memory: (\S+)"),
        "{0}; {1}",
    ),
    Figure(
        "a fit with a checkpoint that is killed at random moments and begun again, beside the same fit without kills; "
        "processor time of the steps, as a multiple",
        "python benchmarks/kills.py --seconds 600 --rows 40000 --epochs 2000 --steps 2800",
        (
            r"^(\d+) kills",
            r"kills, (\d+) steps",
            r"steps, (\d+) of them",
            r"same bits: (\S+)",
            r"^damaged files: (.*)",
            r"^CPU: .*: (\S+) times",
        ),
        "{0} kills in {1} steps, {2} made twice; same bits: {3}; damaged files: {4}; {5} times",
    ),
]


def machine() -> str:
    """The day and what this was measured on."""
    information = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", information)
    features = " with AVX-512" if "avx512f" in information else ""
    name = model[1] if model else "a processor without a name"
    return f"{datetime.date.today()}, {name}{features}, {os.cpu_count()} processors"


def write(readme: Path, name: str, figures: list[Figure], new: dict[str, list[str]]) -> None:
    """Replace rows of a table of README; the others stay, those of figures that are no longer measured go."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = readme.read_text().partition(begin)
    table, _, after = rest.partition(end)
    head, rule, *lines = table.splitlines()
    known = {line.removeprefix("| ").split(" | ")[0]: line for line in lines}
    known |= {what: f"| {' | '.join([what, *cells])} |" for what, cells in new.items()}
    kept = [known[figure.what] for figure in figures if figure.what in known]
    readme.write_text(before + begin + "\n".join([head, rule, *kept]) + f"\n{end}{after}")


def main() -> None:
    """Run the commands and write each figure as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readme", nargs="?", type=Path, default=ROOT / "README.md")
    parser.add_argument("--long", metavar="ADBENCH", default="")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    name, figures = ("long figures", LONG_FIGURES) if options.long else ("figures", FIGURES)
    for figure in [figure for figure in figures if options.only in figure.command]:
        where = [machine()] if options.long else []
        cells = [figure.measure(options.long), *where, f"`{figure.command}`"]
        print(" | ".join([figure.what, *cells]), flush=True)
        write(options.readme, name, figures, {figure.what: cells})
    if not options.long and not options.only:
        subprocess.run([sys.executable, "docs/front.py"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
