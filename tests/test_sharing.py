"""The Hugging Face Hub and MLflow: a model comes back as it was, without pickle."""

import json
import pickletools
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

import eigencode
from eigencode import AnomalyDetector, Autoencoder, AutoencoderClassifier
from eigencode.errors import FileError, FileIsFolderError, OptionError

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": RNG.normal(size=80), "b|<c>": RNG.normal(size=80), "d": RNG.choice(["x", "y"], 80)})
QUICK = {"max_epochs": 2, "hidden": (4,), "random_state": 0}


@pytest.fixture(scope="module")
def model():
    return Autoencoder(2, **QUICK).fit(FRAME)


class TestHub:
    @pytest.fixture
    def hub(self):
        pytest.importorskip("huggingface_hub")
        import eigencode.hub

        return eigencode.hub

    def test_a_folder_brings_the_model_back(self, hub, model, tmp_path):
        hub.save_pretrained(model, tmp_path / "m")
        again = hub.from_pretrained(tmp_path / "m")
        assert (again.transform(FRAME) == model.transform(FRAME)).all()
        assert json.loads((tmp_path / "m" / "config.json").read_text())["kind"] == "Autoencoder"

    def test_the_card_says_what_the_model_is(self, hub, model, tmp_path):
        hub.save_pretrained(model, tmp_path / "people", license="mit")
        text = (tmp_path / "people" / "README.md").read_text()
        assert "library_name: eigencode" in text
        assert "license: mit" in text
        assert 'from_pretrained("people")' in text
        assert f"{model.best_objective_:.5g} nats a row" in text
        assert "b\\|&lt;c>" in text, "a column's name must not break the table"
        hub.save_pretrained(model, tmp_path / "people", license="apache-2.0")
        assert "license: mit" in (tmp_path / "people" / "README.md").read_text(), "an edited card stays"

    def test_the_card_of_a_detector_says_that_rows_are_in_the_file(self, hub):
        detector = AnomalyDetector(false_alarms=0.1, random_state=0).fit(FRAME[["a", "b|<c>"]])
        kept = len(detector.unlikeness_.known.rows)
        assert f"It contains {kept} of the rows themselves." in str(hub.model_card(detector))
        without = AnomalyDetector(false_alarms=0.1, neighbors=False, random_state=0).fit(FRAME[["a", "b|<c>"]])
        assert "of the rows themselves" not in str(hub.model_card(without))

    def test_a_new_repository_is_private_unless_asked(self, hub, model, tmp_path, monkeypatch):
        import shutil

        from huggingface_hub import hub_mixin

        made = []

        class Api:
            def __init__(self, token):
                made.append(token)

            def create_repo(self, repo_id, private, exist_ok):
                made.append(private)
                return type("Repository", (), {"repo_id": repo_id})

            def upload_folder(self, repo_id, folder_path, **options):
                shutil.copytree(folder_path, tmp_path / "sent")
                return f"address of {repo_id}, {options['commit_message']}"

        monkeypatch.setattr(hub_mixin, "HfApi", Api)
        answer = hub.push_to_hub(model, "me/people", token="secret", commit_message="first")
        assert answer == "address of me/people, first"
        assert made == ["secret", True]
        assert (hub.from_pretrained(tmp_path / "sent").transform(FRAME) == model.transform(FRAME)).all()
        assert 'from_pretrained("me/people")' in (tmp_path / "sent" / "README.md").read_text()

    def test_a_model_that_is_not_fitted_is_refused(self, hub, tmp_path):
        with pytest.raises(NotFittedError):
            hub.save_pretrained(Autoencoder(2), tmp_path / "m")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["owner/there_is_none", "not a name", "/no/such/folder"])
    def test_what_is_not_there_is_a_file_error(self, hub, name, tmp_path):
        with pytest.raises(FileError, match="no model to read"):
            hub.from_pretrained(name, local_files_only=True, cache_dir=tmp_path)


@pytest.mark.draws_globally  # the names of MLflow's runs
class TestMLflow:
    @pytest.fixture
    def store(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        mlflow = pytest.importorskip("mlflow")
        with warnings.catch_warnings(action="ignore"):  # of its own modules, when they are imported
            import mlflow.pyfunc
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
        yield mlflow
        mlflow.set_tracking_uri(before)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:Hint. Inferred schema")
    def test_a_logged_model_comes_back(self, store, model, tmp_path):
        import eigencode.mlflow

        with store.start_run():
            info = eigencode.mlflow.log_model(model, input_example=FRAME[:5])
        again = eigencode.mlflow.load_model(info.model_uri)
        assert (again.transform(FRAME) == model.transform(FRAME)).all()
        asked = store.pyfunc.load_model(info.model_uri)
        assert (asked.predict(FRAME) == model.transform(FRAME)).all()
        scores = asked.predict(FRAME, params={"method": "score_samples"})
        assert (scores == model.score_samples(FRAME)).all()
        with pytest.raises(OptionError, match="no such method"):
            asked.predict(FRAME, params={"method": "scor"})
        for path in (tmp_path / "runs").rglob("*"):
            if path.is_file():
                with pytest.raises(ValueError, match=r"opcode|pickle|not enough|no newline|STOP"):
                    list(pickletools.genops(path.read_bytes()))

    def test_what_predicts_answers_by_predictions(self, store, tmp_path):
        import eigencode.mlflow

        classifier = AutoencoderClassifier(Autoencoder(2, **QUICK)).fit(FRAME[["a", "b|<c>"]], FRAME["d"])
        eigencode.mlflow.save_model(classifier, tmp_path / "c")
        asked = store.pyfunc.load_model(str(tmp_path / "c"))
        assert (asked.predict(FRAME[["a", "b|<c>"]]) == classifier.predict(FRAME[["a", "b|<c>"]])).all()
        with pytest.raises(FileIsFolderError, match="exists already"):
            eigencode.mlflow.save_model(classifier, tmp_path / "c")

    def test_what_is_not_there_is_a_file_error(self, store):
        import eigencode.mlflow

        with pytest.raises(FileError, match="no model to read"):
            eigencode.mlflow.load_model("models:/none/1")


def test_the_core_imports_neither():
    assert not {"hub", "mlflow"} & set(dir(eigencode))
