"""Measure the figures of README again, and write them into it; the picture is drawn again too. Takes about ten minutes.

.ci/figures.py [README.md]
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

FIGURES = [
    (
        "passengers of the Titanic that were not fitted, rebuilt from 8 numbers each: labels that are right (the most "
        "frequent one); squared error of numbers, of that of the mean",
        "python benchmarks/tables.py docs/titanic.csv --kinds Autoencoder",
        r"Autoencoder\(8\) .* categories (\S+) \(mode (\S+)\)  numbers (\S+)",
        "{} ({}); {}",
    ),
    (
        "a number replaced by a usual one that does not go with its row: the first reason is this column (the largest "
        "z-score is)",
        "python benchmarks/planted.py docs/titanic.csv",
        r"titanic +correlation +\d+ +(\S+) +(\S+)",
        "{} ({})",
    ),
    (
        "half of all cells hidden by one mask, 30 measurements of breast cancer ([five masks](docs/comparison.md)): "
        "squared error of what is filled in, of the variance (iterative ridge regression)",
        "python benchmarks/imputation.py breast_cancer --masks 1 --shares 0.5 --missing random --draws 0 --methods "
        "ridge eigencode",
        r"ridge +1 +\S+ +(\S+)[\s\S]*eigencode +1 +\S+ +(\S+)",
        "{1} ({0})",
    ),
    (
        "error on test rows over that of PCA: four tables with 2, 4 and 8 components, least and largest",
        "python benchmarks/small_tables.py --splits 1",
        r"(?m)^ *\S+ +\d+ +\S+ +\S+ +(\d\.\d+) +\S+ +\S+$",
        "{least} to {most}",
    ),
]
"""What is measured, the command, where its output has the figures, and how they are written."""


def measured(command: str, pattern: str, form: str) -> str:
    """Run a command and return its figures; a command that misses its own target has printed them too."""
    arguments = [sys.executable, *shlex.split(command)[1:]]
    output = subprocess.run(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False).stdout
    found = re.findall(pattern, output)
    if not found:
        sys.exit(f"{command} has not printed {pattern}:\n{output}")
    first = found[0] if isinstance(found[0], tuple) else found
    return form.format(*first, least=min(found), most=max(found))


def main(readme: Path) -> None:
    """Run all commands and write the table."""
    rows = ["| what | measured | command |", "|---|---|---|"]
    for what, command, pattern, form in FIGURES:
        rows.append(f"| {what} | {measured(command, pattern, form)} | `{command}` |")
        print(rows[-1], flush=True)
    begin, end = "<!-- figures -->\n", "<!-- end of figures -->"
    before, _, rest = readme.read_text().partition(begin)
    table = "\n".join(rows)
    readme.write_text(f"{before}{begin}{table}\n{end}{rest.partition(end)[2]}")
    subprocess.run([sys.executable, "docs/front.py"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main(Path(*sys.argv[1:] or [ROOT / "README.md"]))
