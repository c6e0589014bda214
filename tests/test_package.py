"""The package's promises to those who use it: its public names, its model files, its versions."""

import ast
import difflib
import importlib.util
import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest

import eigencode

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"


def loaded_script(path):
    """A Python file outside of any package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = loaded_script(GOLDEN / "make.py")


# -- public names


def test_the_public_api_is_the_one_promised():
    promised, present = ((GOLDEN / "api.txt").read_text().splitlines(), golden.public_api().splitlines())
    changes = list(difflib.unified_diff(promised, present, "promised", "present", n=0, lineterm=""))
    if changes:
        pytest.fail(
            "The public API is not the one in tests/golden/api.txt. If that is meant, run `make api` and say so in "
            "CHANGELOG.md; what goes away needs a deprecation first (docs/versioning.md).\n" + "\n".join(changes),
            pytrace=False,
        )


# -- model files


MODELS = sorted(path.stem for path in GOLDEN.glob("v*.safetensors"))


def test_each_kind_of_file_of_the_first_version_is_kept():
    kinds = ("plain", "float64-linear", "corruption", "names", "sparse-stream")
    assert {f"v0.1-{kind}" for kind in kinds} <= set(MODELS)


@pytest.mark.parametrize("stem", MODELS)
def test_model_files_of_earlier_versions_answer_as_they_did(stem):
    version, name = stem.split("-", 1)
    model = eigencode.load(GOLDEN / f"{stem}.safetensors", device="cpu")
    with np.load(GOLDEN / f"{version}-answers.npz") as kept:
        rows, expected = kept["rows"], {key: kept[key] for key in kept.files if key.startswith(f"{name}.")}
    present = golden.answers(model, name, rows)
    assert set(expected) <= set(present)
    assert expected
    for key, answer in expected.items():
        np.testing.assert_allclose(present[key], answer, rtol=1e-6, atol=1e-6, err_msg=f"{stem}: {key}")
    assert (getattr(model, "feature_names_in_", None) is not None) == (name == "names")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("v*")), ids=lambda path: path.name)
def test_golden_files_are_small(path):
    assert path.stat().st_size < 16_000


# -- versions


def test_the_lowest_versions_tried_are_those_promised():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    promised = {re.match(r"[\w-]+", line)[0]: re.search(r">=([\d.]+)", line)[1] for line in asked}
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    tried = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    # Older builds of torch are too large to try, and the file says so.
    del promised["torch"]

    def release(version):
        numbers = [int(number) for number in version.split(".")]
        return numbers + [0] * (3 - len(numbers))

    assert {name: release(tried[name]) for name in promised} == {name: release(v) for name, v in promised.items()}


PACKAGES = {"matplotlib", "narwhals", "pandas", "PIL", "polars", "pyarrow", "safetensors"}
WITHOUT = {"benchmarks", "devices", "export", "export_matrix", "recipes", "sharing"}
"""Files that only make rows with these packages, or need others, which `make lowest` does not install."""


def test_each_file_that_uses_packages_says_which_tests_their_versions_can_change():
    """`make lowest` runs these only."""
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        imports = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = {name for node in imports for name in (getattr(node, "module", None), *(a.name for a in node.names))}
        used = {name.split(".")[0] for name in names if name} & PACKAGES
        is_marked = "pytest.mark.versions" in path.read_text()
        assert is_marked or not used or path.stem[5:] in WITHOUT, f"{path.name} uses {used}: mark such tests `versions`"


def test_the_installed_version_is_the_sources():
    assert metadata("eigencode")["Version"] == eigencode.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog or f"## [{eigencode.__version__}]" in changelog


def test_the_package_says_that_it_is_typed():
    assert (Path(eigencode.__file__).parent / "py.typed").exists()


def test_each_promise_names_tests_that_are_there():
    promises = [line for line in (ROOT / "docs" / "promises.md").read_text().splitlines() if ".py" in line]
    assert len(promises) > 10
    for line in promises:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", line)
        assert named, line
        for file, test in named:
            assert f"def {test}" in (ROOT / "tests" / file).read_text(), test
