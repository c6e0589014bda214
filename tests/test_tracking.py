"""Tracking: a store has the rows of a history, and the training is the same with and without it."""

import numpy as np
import pytest

from eigencode import Autoencoder, load
from eigencode.cli import main
from eigencode.errors import FileError, OptionError
from eigencode.tracking import tracked

X = np.random.default_rng(0).normal(size=(120, 4))
OPTIONS = {"n_components": 2, "hidden": (4,), "max_epochs": 3, "random_state": 0}


def scalars(folder, name):
    """The steps and values of a TensorBoard log."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = events.EventAccumulator(str(folder))
    log.Reload()
    return [(event.step, event.value) for event in log.Scalars(name)]


@pytest.fixture
def mlflow_store(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    return (tmp_path / "runs").as_uri()


def runs(store):
    """The runs of a store of MLflow, and a function that gives a metric's steps and values."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    found = client.search_runs(["0"])
    return found, lambda run, name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


def test_tensorboard_has_the_history(tmp_path):
    pytest.importorskip("tensorboard")
    model = Autoencoder(**OPTIONS)
    passed = list(tracked(model.iter_fit(X), f"tensorboard:{tmp_path / 'runs'}", model.get_params()))
    assert passed == model.history_[1:]
    for name in ("validation_objective", "training_objective", "learning_rate", "rows"):
        steps, values = zip(*scalars(tmp_path / "runs", name), strict=True)
        assert steps == tuple(row["step"] for row in passed)
        assert values == pytest.approx([row[name] for row in passed], rel=1e-6)
    same = Autoencoder(**OPTIONS).fit(X)
    assert (same.transform(X) == model.transform(X)).all()


def test_a_fit_that_goes_on_replaces_what_was_logged_after_its_checkpoint(tmp_path):
    pytest.importorskip("tensorboard")
    to = f"tensorboard:{tmp_path / 'runs'}"
    for steps, value in (((1, 2, 3, 4), 0.0), ((3, 4, 5), 1.0)):
        list(tracked(({"step": step, "objective": value} for step in steps), to))
    assert scalars(tmp_path / "runs", "objective") == [(1, 0.0), (2, 0.0), (3, 1.0), (4, 1.0), (5, 1.0)]


@pytest.mark.draws_globally  # the names of MLflow's runs
def test_mlflow_has_the_history_and_the_options(mlflow_store):
    model = Autoencoder(**OPTIONS)
    passed = list(tracked(model.iter_fit(X), f"mlflow:{mlflow_store}", model.get_params()))
    (run,), history = runs(mlflow_store)
    assert run.info.status == "FINISHED"
    assert (run.data.params["n_components"], run.data.params["hidden"]) == ("2", "(4,)")
    expected = [(row["step"], row["validation_objective"]) for row in passed]
    assert history(run, "validation_objective") == expected


@pytest.mark.draws_globally
def test_a_fit_that_ends_early_is_marked_in_mlflow(mlflow_store):
    def rows():
        yield {"step": 1, "validation_objective": 2.0}
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(tracked(rows(), f"mlflow:{mlflow_store}"))
    (run,), history = runs(mlflow_store)
    assert (run.info.status, history(run, "validation_objective")) == ("FAILED", [(1, 2.0)])


def test_of_several_processes_the_first_logs(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setattr("eigencode.processes.is_first", lambda: False)
    assert list(tracked([{"step": 1}], f"tensorboard:{tmp_path / 'runs'}")) == [{"step": 1}]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("to", "hint"), [("tensorbord:runs", "tensorboard"), ("tensorboard", "Name a folder"), ("wandb:x", "'mlflow:URI'")]
)
def test_other_systems_are_refused(to, hint):
    with pytest.raises(OptionError, match=hint):
        tracked([], to)


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")])
def test_a_package_that_is_not_installed_is_named(name, package, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(OptionError, match=rf"eigencode\[{name}\]"):
        tracked([], f"{name}:runs")


@pytest.mark.draws_globally
def test_a_store_that_cannot_be_written_to_is_a_file_error(tmp_path, mlflow_store):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="of MLflow"):
        list(tracked([{"step": 1}], "mlflow:nothing://there"))
    with pytest.raises(FileError, match="of MLflow"):  # after the run has begun
        list(tracked([{"step": 1, "no name?": 1.0}], f"mlflow:{mlflow_store}"))
    pytest.importorskip("tensorboard")
    with pytest.raises(FileError, match="Cannot write"):
        list(tracked([{"step": 1}], f"tensorboard:{tmp_path / 'file'}"))


class TestCommand:
    @pytest.fixture
    def rows(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        np.savetxt("rows.csv", X, delimiter=",", header="a,b,c,d", comments="")
        return ["fit", "rows.csv", "--n-components", "2", "--hidden", "4", "--max-epochs", "3", "--random-state", "0"]

    def test_a_fit_is_logged_and_is_the_same(self, rows):
        pytest.importorskip("tensorboard")
        assert main([*rows, "--output", "m.safetensors"]) == 0
        assert main([*rows, "--output", "n.safetensors", "--log", "tensorboard:runs"]) == 0
        model, other = load("m.safetensors"), load("n.safetensors")
        assert [step for step, _ in scalars("runs", "validation_objective")] == [r["step"] for r in model.history_[1:]]
        objectives = [[row["validation_objective"] for row in each.history_] for each in (model, other)]
        assert objectives[0] == objectives[1]

    def test_wrong_names_are_errors_before_the_rows_are_read(self, rows, monkeypatch, capsys):
        monkeypatch.setattr("eigencode.cli.fit_commands.read_rows", lambda *_, **__: pytest.fail("rows were read"))
        assert main([*rows, "--output", "m.safetensors", "--log", "wandb:x"]) == 1
        assert "tensorboard:DIR" in capsys.readouterr().err

    def test_detectors_are_refused(self, rows, capsys):
        pytest.importorskip("tensorboard")
        assert (
            main(["fit", "rows.csv", "--output", "m.safetensors", "--kind", "anomaly", "--log", "tensorboard:r"]) == 2
        )
        assert "--kind anomaly" in capsys.readouterr().err

    @pytest.mark.filterwarnings("always::eigencode.errors.InterruptedWarning")
    def test_an_interruption_keeps_what_was_learned(self, rows, monkeypatch, capsys):
        def interrupted(epochs, to, options):
            yield next(epochs)
            raise KeyboardInterrupt

        monkeypatch.setattr("eigencode.tracking.tracked", interrupted)
        monkeypatch.setattr("eigencode.tracking.system_of", lambda to: None)
        assert main([*rows, "--output", "m.safetensors", "--log", "tensorboard:runs"]) == 130
        assert len(load("m.safetensors").history_) == 2
        assert "best weights so far" in capsys.readouterr().err
