"""Every block of Python, and those marked as bash, in the README and the pages run as printed; none is too wide."""

import ast
import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

import copies
import pytest
from mktestdocs import check_md_file

ROOT = Path(__file__).parent.parent


@pytest.mark.draws_globally
@pytest.mark.parametrize("page", ["README.md", *sorted(page.name for page in (ROOT / "docs").glob("*.md"))])
def test_the_blocks_run(page, tmp_path, monkeypatch):
    if page == "production.md":
        for package in ("onnx", "onnxscript", "onnxruntime", "huggingface_hub", "skops"):
            pytest.importorskip(package)
    if page == "tracking.md":
        pytest.importorskip("tensorboard")
    if page == "report.md":
        pytest.importorskip("vl_convert")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "docs" if page == "README.md" else tmp_path
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "docs" / "titanic.csv", folder)
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    check_md_file(path, memory=True)
    copies.write_script(tmp_path / "bin" / "eigencode")
    folders = [str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    check_md_file(path, lang="bash")  # in the same folder, with the files that the blocks of Python have written


@pytest.fixture
def figures(monkeypatch):
    """The script that measures the figures of README."""
    spec = importlib.util.spec_from_file_location("figures", ROOT / ".ci" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "figures", module)
    spec.loader.exec_module(module)
    return module


def test_the_figures_of_the_readme_are_those_that_the_script_measures(figures):
    lines = (ROOT / "README.md").read_text().splitlines()
    for figure in [*figures.FIGURES, *figures.LONG_FIGURES]:
        (line,) = [line for line in lines if line.startswith(f"| {figure.what} | ")]
        assert line.endswith(f" | `{figure.command}` |")
        assert (ROOT / figure.command.split()[1]).is_file()


def test_measured_figures_replace_their_rows_and_keep_the_others(figures, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- f -->\n| what | x |\n|---|---|\n| old | 1 |\n| b | 2 |\n<!-- end of f -->\nafter\n")
    known = [figures.Figure(name, "", (), "") for name in "ab"]
    figures.write(readme, "f", known, {"a": ["3"]})
    assert readme.read_text() == (
        "before\n<!-- f -->\n| what | x |\n|---|---|\n| a | 3 |\n| b | 2 |\n<!-- end of f -->\nafter\n"
    )


def test_a_figure_has_the_digits_that_its_deviation_leaves(figures):
    assert str(figures.Values(["0.981", "0.991", "0.986"])) == "0.986 ± 0.005"
    assert str(figures.Values(["10", "30"])) == "20 ± 14"
    assert str(figures.Values(["1.0", "1.0"])) == "1.000 ± 0.000"
    assert str(figures.Values(["987 MB"])) == "987 MB"


def blocks(path):
    """The blocks of code of a page, without those that are directives."""
    found = re.findall(r"(?ms)^```(\S*)[^\n]*\n(.*?)^```$", path.read_text())
    return [block for language, block in found if not language.startswith("{")]


def prompts(path):
    """The lines of the examples in docstrings."""
    return [line.strip() for line in path.read_text().splitlines() if re.match(r"\s*(>>>|\.\.\.) ", line)]


def statements(path):
    """The lines of a page of the gallery that are code, not prose."""
    text = path.read_text()
    lines = text.splitlines()[ast.parse(text).body[0].end_lineno :]
    return [line for line in lines if not line.startswith("#")]


def test_no_line_of_code_that_pages_show_is_wider_than_88_columns():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    lines = [line for page in pages for block in blocks(page) for line in block.splitlines() if page.stem != "log"]
    lines += [line for path in (ROOT / "src").rglob("*.py") for line in prompts(path)]
    lines += [line for path in (ROOT / "examples").glob("*.py") for line in statements(path)]
    assert len(lines) > 2000
    assert [line for line in lines if len(line) > 88] == []
