"""Run the notebooks of this folder again, or those that are named, and keep their outputs: `make notebooks`."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent

for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(HERE.glob("*.ipynb")):
    book = nbformat.read(path, 4)
    where = {"metadata": {"path": str(HERE)}}
    NotebookClient(book, timeout=300, resources=where, record_timing=False, coalesce_streams=True).execute()
    nbformat.write(book, path)
    print(path.name, f"{path.stat().st_size:,} bytes")
