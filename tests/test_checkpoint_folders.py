"""The folder of a checkpoint: what it refuses, and that the last good state stays whatever happens."""

import itertools
import json
import os
import time
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from eigencode import Autoencoder, AutoencoderClassifier, AutoencoderSearch, Checkpoint, LinearAutoencoder
from eigencode.errors import DataError, FileAccessError, FileError, OptionError, ResultWarning, StorageError
from eigencode.io import CheckpointFolder
from eigencode.training.run import Clock
from eigencode.training.runner import SingleRunner

QUICK = {"hidden": (8,), "max_epochs": 3, "batch_size": 64, "optimizer": "adam", "random_state": 0}


class Killed(BaseException):
    """Ends a fit as a signal would that cannot be handled."""


@pytest.fixture
def X(digits):
    return digits[:200]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def killed_fit(X, folder, step=8, **options):
    """A fit that is killed in a step, all of whose states were written."""
    numbers = itertools.count(1)
    with pytest.MonkeyPatch.context() as patch:
        made = SingleRunner.step

        def killing(*given):
            if next(numbers) == step:
                raise Killed
            return made(*given)

        patch.setattr(SingleRunner, "step", killing)
        with pytest.raises(Killed):
            Autoencoder(3, **QUICK | options).fit(X, checkpoint=Checkpoint(folder, rows=1))


def states(folder):
    return sorted(path.name for path in folder.glob("*.safetensors"))


def assert_same_weights(one, other):
    for a, b in zip(one.composition_.parameters(), other.composition_.parameters(), strict=True):
        assert torch.equal(a, b)


def linear(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Linear(64, 3)


# -- another fit


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"learning_rate": 0.1}, r"learning_rate was 'auto' and is 0\.1"),
        ({"hidden": (4,)}, r"hidden was \[8\] and is \[4\]"),
        ({"random_state": 1}, "random_state was 0 and is 1"),
        ({"encoder": torch.nn.Tanh()}, "encoder was None and is .*Tanh"),
    ],
)
def test_other_options_are_named(options, says, X, folder):
    killed_fit(X, folder)
    with pytest.raises(OptionError, match=f"that of another fit. Got {says}"):
        Autoencoder(3, **QUICK | options).fit(X, checkpoint=folder)
    assert states(folder) == ["000000000006.safetensors", "000000000007.safetensors"]


def test_a_list_is_the_same_option_as_a_tuple(X, folder):
    killed_fit(X, folder, penalties=())
    model = Autoencoder(3, **QUICK | {"penalties": [], "hidden": [8]}).fit(X, checkpoint=folder)
    assert_same_weights(model, whole(X))


def test_states_of_another_fit_are_refused(X, folder, tmp_path):
    for name, options in (("other", {"learning_rate": 0.1}), ("run", {})):
        killed_fit(X, tmp_path / name, **options)
    (folder / "fit.json").write_bytes((tmp_path / "other" / "fit.json").read_bytes())
    before = states(folder)
    with pytest.raises(StorageError, match=r"No state in .* is a state of another fit than that in 'fit.json'"):
        Autoencoder(3, **QUICK | {"learning_rate": 0.1}).fit(X, checkpoint=folder)
    assert states(folder) == before


def test_other_rows_are_named(X, folder):
    killed_fit(X, folder)
    again = Autoencoder(3, **QUICK)
    with pytest.raises(DataError, match=r"Got shape of X was \[200, 64\] and is \[199, 64\], X has other values"):
        again.fit(X[:-1], checkpoint=folder)
    other = X.copy()
    other[17, 20] += 1
    with pytest.raises(DataError, match="Got X has other values"):
        again.fit(other, checkpoint=folder)
    with pytest.raises(DataError, match="sample_weight"):
        again.fit(X, sample_weight=np.linspace(1, 2, 200), checkpoint=folder)
    assert not hasattr(again, "history_")


def test_another_kind_is_named(X, folder):
    killed_fit(X, folder)
    with pytest.raises(OptionError, match="estimator was 'Autoencoder' and is 'LinearAutoencoder'"):
        LinearAutoencoder(3, random_state=0).fit(X, checkpoint=folder)


def test_labels_and_settings_of_composed_models_are_compared(X, folder):
    y = np.arange(200) % 2
    autoencoder = Autoencoder(3, **QUICK)
    model = AutoencoderClassifier(autoencoder=autoencoder, max_epochs=1, random_state=0)
    model.fit(X, y, checkpoint=folder)
    with pytest.raises(DataError, match="y has other values"):
        model.fit(X, 1 - y, checkpoint=folder)
    autoencoder.fit(X)
    with pytest.raises(OptionError, match="autoencoder was Autoencoder and is"):
        model.fit(X, y, checkpoint=folder)


def test_a_network_that_is_made_again_has_the_weights_of_the_checkpoint(X, folder):
    """Its first weights are of no use any more, and are others in each process unless a seed is set."""
    fits = [Autoencoder(3, **QUICK | {"encoder": linear(seed)}) for seed in range(2)]
    first, again = (model.fit(X, checkpoint=folder) for model in fits)
    assert_same_weights(first, again)
    frozen = linear(0).requires_grad_(requires_grad=False)
    with pytest.raises(OptionError, match="encoder was"):
        Autoencoder(3, **QUICK | {"encoder": frozen}).fit(X, checkpoint=folder)


def test_a_seed_that_was_drawn_is_kept(X, folder):
    options = QUICK | {"random_state": None, "max_epochs": 1}
    first, again = (Autoencoder(3, **options).fit(X, checkpoint=folder) for _ in range(2))
    assert first.seed_ == again.seed_ == json.loads((folder / "fit.json").read_text())["seed"]
    assert Autoencoder(3, **options).fit(X).seed_ != first.seed_


def test_progress_and_device_may_be_others(X, folder, capsys):
    killed_fit(X, folder)
    Autoencoder(3, **QUICK, verbose=True, device="cpu").fit(X, checkpoint=folder)
    assert "goes on from step 7." in capsys.readouterr().err


@pytest.fixture
def stays_in_files(monkeypatch):
    monkeypatch.setattr("eigencode.data.named_files.STREAMED_FROM", 1000)


@pytest.mark.versions
def test_rows_in_files_go_on_and_are_compared(X, folder, tmp_path, stays_in_files):
    """Without reading all of them: by the sizes of row groups, and a sample."""
    for name, rows in (("rows", X), ("others", X + 1)):
        pq.write_table(pa.table({f"x{j}": rows[:, j] for j in range(64)}), tmp_path / f"{name}.parquet", 50)
    whole = Autoencoder(3, **QUICK).fit(tmp_path / "rows.parquet")
    killed_fit(tmp_path / "rows.parquet", folder)
    with pytest.raises(DataError, match="X has other values"):
        Autoencoder(3, **QUICK).fit(tmp_path / "others.parquet", checkpoint=folder)
    assert_same_weights(Autoencoder(3, **QUICK).fit(tmp_path / "rows.parquet", checkpoint=folder), whole)


def test_rows_that_can_be_read_once_are_refused(X, folder, stays_in_files):
    with pytest.raises(OptionError, match="A checkpoint needs rows that can be read again"):
        Autoencoder(3, **QUICK).fit(iter([X[:50], X[50:]]), checkpoint=folder)


# -- damage


def whole(X):
    return Autoencoder(3, **QUICK).fit(X)


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1  # within a tensor, where the file format sees nothing
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [flipped, cut, lambda path: path.write_bytes(b"")])
def test_a_damaged_state_is_left_out(damage, X, folder):
    killed_fit(X, folder)
    damage(folder / states(folder)[-1])
    with pytest.warns(ResultWarning, match=r"000000000007.*Training goes on from '.*000000000006.safetensors'"):
        model = Autoencoder(3, **QUICK).fit(X, checkpoint=folder)
    assert_same_weights(model, whole(X))


def test_damage_everywhere_is_an_error(X, folder):
    killed_fit(X, folder)
    for name in states(folder):
        flipped(folder / name)
    with pytest.raises(StorageError, match="No state in .* can be used") as error:
        Autoencoder(3, **QUICK).fit(X, checkpoint=folder)
    assert "Save the model" not in str(error.value)
    (folder / "fit.json").write_text('{"seed": 0')
    with pytest.raises(StorageError, match=r"fit.json' is damaged"):
        Autoencoder(3, **QUICK).fit(X, checkpoint=folder)


def test_other_files_in_the_folder_are_no_states_and_stay(X, folder):
    folder.mkdir()
    others = ["a.safetensors", "b.safetensors", "0.safetensors"]
    for name in others:
        (folder / name).write_bytes(b"a model")
    killed_fit(X, folder)
    assert len(states(folder)) == len(others) + 2
    assert_same_weights(Autoencoder(3, **QUICK).fit(X, checkpoint=folder), whole(X))
    assert [(folder / name).read_bytes() for name in others] == [b"a model"] * 3


def test_a_fit_that_was_killed_before_its_first_state_begins_again(X, folder):
    killed_fit(X, folder)
    for name in states(folder):
        (folder / name).unlink()
    assert_same_weights(Autoencoder(3, **QUICK).fit(X, checkpoint=folder), whole(X))


# -- folders that cannot be used


@pytest.fixture
def full_disk():
    """Files may not become larger than a few bytes, which is an error of the system as a full disk is."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(n_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_at_the_start_is_an_error(X, folder, full_disk):
    model = Autoencoder(3, **QUICK)
    full_disk(8000)
    with pytest.raises(FileError, match=r"Cannot write '.*000000000000.safetensors'"):
        model.fit(X, checkpoint=folder)
    assert not hasattr(model, "history_")
    assert states(folder) == []


def test_a_full_disk_later_is_a_warning_and_the_last_state_stays(X, folder, full_disk):
    killed_fit(X, folder)
    before = {name: (folder / name).read_bytes() for name in states(folder)}
    full_disk(8000)
    says = "The fit goes on, and the last state is 000000000007"
    with pytest.warns(ResultWarning, match=says) as said:
        model = Autoencoder(3, **QUICK).fit(X, checkpoint=Checkpoint(folder, rows=1))
    assert len([each for each in said if "Cannot write" in str(each.message)]) == 1
    assert_same_weights(model, whole(X))
    assert {name: (folder / name).read_bytes() for name in states(folder)} == before


def test_a_folder_that_is_a_file_or_in_one(X, folder):
    folder.write_text("")
    for path, says in ((folder, "A folder is wanted. Got the file"), (folder / "run", "cannot be used")):
        with pytest.raises(FileError, match=says):
            Autoencoder(3, **QUICK).fit(X, checkpoint=path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_write_protected(X, folder):
    folder.mkdir(mode=0o500)
    with pytest.raises(FileAccessError, match="cannot be used"):
        Autoencoder(3, **QUICK).fit(X, checkpoint=folder)


def test_files_that_the_system_does_not_let_us_use(X, folder, monkeypatch):
    (folder / "lock").mkdir(parents=True)
    with pytest.raises(FileError, match=r"^'lock' in the checkpoint folder '.*' cannot be used\. Got the error"):
        Autoencoder(3, **QUICK).fit(X, checkpoint=folder)
    (folder / "lock").rmdir()
    (folder / "fit.json").symlink_to("nowhere")
    with pytest.raises(FileError, match=r"^'fit.json' in the checkpoint folder"):
        Autoencoder(3, **QUICK).fit(X, checkpoint=folder)
    (folder / "fit.json").unlink()

    def refused(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("eigencode.io.checkpoints.os.unlink", refused)
    with pytest.warns(ResultWarning, match=r"Permission denied.*The fit goes on, and the last state is 0") as said:
        model = Autoencoder(3, **QUICK).fit(X, checkpoint=Checkpoint(folder, rows=64))
    assert len([each for each in said if "Permission denied" in str(each.message)]) == 1
    assert_same_weights(model, whole(X))


def test_a_link_to_nowhere_is_named(X, folder):
    folder.symlink_to("nowhere")
    with pytest.raises(FileError, match=r"Got '.*run', a link to 'nowhere', which does not exist\."):
        Autoencoder(3, **QUICK).fit(X, checkpoint=folder)


def test_two_runs_cannot_use_one_folder(X, folder):
    pytest.importorskip("fcntl")
    other = CheckpointFolder(Checkpoint(folder))
    with pytest.raises(FileAccessError, match="Another run uses the checkpoint folder"):
        Autoencoder(3, **QUICK).fit(X, checkpoint=folder)
    other.close()
    epochs = Autoencoder(3, **QUICK).iter_fit(X, checkpoint=folder)
    next(epochs)
    with pytest.raises(FileAccessError):
        Autoencoder(3, **QUICK).fit(X, checkpoint=folder)
    epochs.close()
    assert_same_weights(Autoencoder(3, **QUICK).fit(X, checkpoint=folder), whole(X))


@pytest.mark.parametrize("given", [{"minutes": 0}, {"minutes": "1"}, {"rows": 1.5}, {"rows": -1}])
def test_impossible_intervals_are_refused(given, folder):
    with pytest.raises(OptionError, match="of a checkpoint must be"):
        Checkpoint(folder, **given)
    with pytest.raises(OptionError, match="path"):
        Checkpoint(3)


# -- time, and searches


def test_a_time_limit_counts_the_seconds_of_all_attempts():
    clock = Clock(ends=100.0, decay_begins=80.0, begins=50.0).resumed(20.0)
    assert (clock.ends, clock.decay_begins, clock.begins, clock.trained_share) == (80.0, 60.0, 30.0, 0.4)


@pytest.mark.parametrize("late", [0.0, 3.0])
def test_a_run_whose_preparation_took_all_its_time_is_over_at_once(monkeypatch, late):
    monkeypatch.setattr(time, "monotonic", lambda: 50.0)
    clock = Clock.starting_at(began=40.0 - late, max_seconds=10.0, decay_share=0.4)
    assert clock.is_up()
    assert (clock.trained_share, clock.resumed(2.0).trained_share) == (0.0, 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: 50.25)
    assert clock.share == 1.0


def test_a_run_that_waits_for_others_keeps_the_seconds_of_all_attempts(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 57.0)  # seven seconds after it was prepared
    clock = Clock(ends=100.0, decay_begins=80.0, begins=50.0).resumed(20.0).restarted()
    assert (clock.ends, clock.decay_begins, clock.begins, clock.elapsed) == (87.0, 67.0, 37.0, 20.0)
    assert Clock(begins=50.0).resumed(20.0).restarted().elapsed == 20.0


def test_seconds_go_on(X, folder):
    killed_fit(X, folder, step=8)  # after two epochs
    first = json.loads((folder / "fit.json").read_text())
    model = Autoencoder(3, **QUICK).fit(X, checkpoint=folder)
    seconds = [row["seconds"] for row in model.history_]
    assert seconds == sorted(seconds)
    assert first["estimator"] == "Autoencoder"


def test_a_search_does_not_fit_finished_candidates_again(X, folder):
    """The first candidates are finished when the second program is killed."""

    def search():
        grid = {"n_components": [2, 3], "optimizer": ["adam", "lbfgs"]}
        return AutoencoderSearch(Autoencoder(**QUICK), grid, cv=2, random_state=0)

    made, step = [], SingleRunner.step
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")

        def counted(runner, batch, active=(True,)):
            made.append(runner.runs[0].optimizer)
            if len(made) == limit:
                raise Killed
            return step(runner, batch, active)

        patch.setattr(SingleRunner, "step", counted)
        limit = 0
        expected = search().fit(X)
        n_steps = len(made)
        made.clear()
        limit = 20
        with pytest.raises(Killed):
            search().fit(X, checkpoint=folder)
        limit = 0
        found = search().fit(X, checkpoint=folder)
    assert len(made) < n_steps + 20
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"], rtol=1e-3)
    assert found.best_params_ == expected.best_params_
