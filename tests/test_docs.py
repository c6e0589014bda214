"""Every block of Python, and those marked as bash, in the README and the pages run as printed; none is too wide."""

import ast
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from mktestdocs import check_md_file

ROOT = Path(__file__).parent.parent


@pytest.mark.draws_globally
@pytest.mark.parametrize("page", ["README.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))])
def test_the_blocks_run(page, tmp_path, monkeypatch):
    if page == "production.md":
        for package in ("onnx", "onnxscript", "onnxruntime", "huggingface_hub", "skops"):
            pytest.importorskip(package)
    if page == "tracking.md":
        pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "docs" if page == "README.md" else tmp_path
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "docs" / "titanic.csv", folder)
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    check_md_file(path, memory=True)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    check_md_file(path, lang="bash")  # in the same folder, with the files that the blocks of Python have written


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
