"""Every block of Python, and those marked as bash, in the README and the pages run as printed."""

import os
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
    if page == "report.md":
        pytest.importorskip("vl_convert")
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "docs" / "titanic.csv", tmp_path)
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    check_md_file(path, memory=True)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    check_md_file(path, lang="bash")  # in the same folder, with the files that the blocks of Python have written
