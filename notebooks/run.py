"""Run the notebooks of this folder again, or those that are named, and keep their outputs: `make notebooks`."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
QUIET = [
    "--log-level=ERROR"
]  # each kernel warns that it talks over TCP; warnings of Python go into the outputs as before

for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(HERE.glob("*.ipynb")):
    book = nbformat.read(path, 4)
    options = {"timeout": 300, "record_timing": False, "coalesce_streams": True, "extra_arguments": QUIET}
    NotebookClient(book, resources={"metadata": {"path": str(HERE)}}, **options).execute()
    nbformat.write(book, path)
    print(path.name, f"{path.stat().st_size:,} bytes")
