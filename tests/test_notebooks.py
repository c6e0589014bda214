"""Notebooks: models show themselves there, progress is one line, and the notebooks of the repository run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import sklearn

from eigencode import AnomalyDetector, Autoencoder, LinearAutoencoder

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
X = np.random.default_rng(0).normal(size=(200, 4)) @ np.random.default_rng(1).normal(size=(4, 4))


def shown(model):
    return model._repr_mimebundle_()["text/html"]


def test_a_fitted_model_shows_its_figures_and_its_training(fitted):
    html = shown(fitted)
    assert f"{fitted.best_objective_:.5g} nats a row" in html
    assert f"{fitted.baseline_.history_[0]['validation_objective']:.5g}" in html
    points = re.search(r'<polyline points="(.*?)"', html)[1].split()
    assert len(points) == len(fitted.history_)
    heights = [float(point.split(",")[1]) for point in points]
    assert heights[fitted.best_epoch_] == max(heights)  # the lowest objective is drawn lowest
    assert "eigencode-card" in fitted._repr_html_()  # of other programs than Jupyter


def test_notes_are_listed_as_text(fitted, monkeypatch):
    monkeypatch.setattr(fitted, "notes_", ["a < b"])
    assert "<li>a &lt; b</li>" in shown(fitted)


@pytest.mark.filterwarnings("ignore::eigencode.errors.ResultWarning")
def test_models_of_every_kind_show_themselves():
    linear = LinearAutoencoder(2).fit(X)
    assert "2 components of 4 columns" in shown(linear)
    assert "<svg" not in shown(linear).partition("eigencode-card")[2]
    detector = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(1), random_state=0).fit(X)
    assert "eigencode-card" in shown(detector)
    assert "eigencode-card" not in shown(Autoencoder(2))
    with sklearn.config_context(display="text"):
        assert "text/html" not in linear._repr_mimebundle_()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebooks_are_small_and_complete(path):
    assert path.stat().st_size < 300_000
    cells = json.loads(path.read_text())["cells"]
    text = ["".join(cell["source"]) for cell in cells]
    assert "**What you get:**" in text[0]
    assert text[-1].startswith("## What to do next")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "run 'make notebooks'"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert sum("image/png" in output.get("data", ()) for output in outputs) >= 1
    assert "/tmp/" not in path.read_text().replace("/tmp/ipykernel", "")


def test_there_are_five_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["anomalies", "gaps", "images", "rows", "size"]


SHORTER = {r"max_epochs=\d+": "max_epochs=1", r"cv=\d": "cv=2", "20_000": "1_000"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of models that learned for one epoch
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_of_notebooks_run_with_few_epochs_and_rows(path, monkeypatch):
    """Whole ones take minutes."""
    monkeypatch.chdir(path.parent)
    names = {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            for pattern, shorter in SHORTER.items():
                source = re.sub(pattern, shorter, source)
            exec(source, names)


CELLS = [
    "import numpy as np\n"
    "from eigencode import Autoencoder\n"
    "X = np.random.default_rng(0).normal(size=(20_000, 8))\n"
    "model = Autoencoder(2, max_epochs=3, random_state=0, verbose=True).fit(X)",
    "model",
]
"""A notebook that shows progress and a model."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [None, *(pytest.param(path, marks=pytest.mark.long, id=path.stem) for path in NOTEBOOKS)]
)
def test_notebooks_run(path, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    code = nbformat.v4.new_code_cell
    book = nbformat.read(path, 4) if path else nbformat.v4.new_notebook(cells=[code(text) for text in CELLS])
    where = {"metadata": {"path": str(path.parent if path else tmp_path)}}
    nbclient.NotebookClient(book, timeout=300, resources=where, record_timing=False, coalesce_streams=True).execute()
    assert path or "eigencode-card" in book.cells[-1].outputs[0].data["text/html"]
    for cell in book.cells:
        streams = [output for output in cell.get("outputs", ()) if output.output_type == "stream"]
        assert len(streams) <= 2, "progress is one line, which is replaced"
        assert sum(len(output.text.splitlines()) for output in streams) < 40
