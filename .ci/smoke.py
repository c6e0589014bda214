"""Try an installed wheel as a stranger would, from outside of the repository; say what the archives lack.

python -I smoke.py DIST
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

import eigencode


def main(dist: Path) -> None:
    """Look into the archives, then use the library and the command line."""
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    must_hold("the wheel", shipped, ["eigencode/py.typed", "eigencode/__init__.py", "eigencode/cli/__init__.py"])
    strangers = {name for name in shipped if not name.startswith(("eigencode/", f"eigencode-{eigencode.__version__}"))}
    assert not strangers, f"the wheel has files that are not of the package: {sorted(strangers)}"
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ["LICENSE", "README.md", "CHANGELOG.md", "Makefile", "constraints.txt", "constraints-lowest.txt"]
    wanted += ["src/eigencode/py.typed", "tests/conftest.py", "tests/test_package.py", "tests/golden/api.txt"]
    must_hold("the sdist", names, [*wanted, "docs/index.md", "docs/conf.py"])

    home = Path(eigencode.__file__).parent
    assert Path(sys.prefix) in home.parents, f"eigencode is imported from {home}, not from this environment"
    assert (home / "py.typed").exists(), "py.typed is not installed"
    assert version("eigencode") == eigencode.__version__
    assert f"-{eigencode.__version__}-" in wheel.name

    rows = np.random.default_rng(0).normal(size=(200, 2)) @ np.array([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]])
    model = eigencode.Autoencoder(n_components=2, max_epochs=2, random_state=0).fit(rows)
    model.save("m.safetensors")
    codes = eigencode.load("m.safetensors").transform(rows)
    assert (codes == model.transform(rows)).all()

    np.savetxt("rows.csv", rows, delimiter=",", header="a,b,c", comments="")
    command("fit", "rows.csv", "--output", "n.safetensors", "--n-components", "2", "--max-epochs", "2")
    command("transform", "n.safetensors", "rows.csv", "--output", "codes.parquet")
    command("reconstruct", "n.safetensors", "rows.csv", "--output", "back.npy")
    assert np.load("back.npy").shape == rows.shape
    assert command("--version").strip() == eigencode.__version__
    print(f"{wheel.name} and {sdist.name} are in order.")


def must_hold(what: str, names: set[str], wanted: list[str]) -> None:
    """Name what is missing."""
    missing = sorted(set(wanted) - names)
    assert not missing, f"{what} lacks {missing}"


def command(*words: str) -> str:
    """Run the installed command and give what it says."""
    script = Path(sys.executable).parent / "eigencode"
    return subprocess.run([script, *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
