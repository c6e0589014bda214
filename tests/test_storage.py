"""One file, whole or not at all, that never runs code."""

import json
import os

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

import eigencode
from eigencode import Autoencoder
from eigencode.errors import FileError, StorageError
from eigencode.parts import MLP, GaussianLikelihood, GaussianNoise, Penalty


def assert_same_model(one, other, rows):
    for name in ("transform", "reconstruct", "score_samples"):
        np.testing.assert_array_equal(getattr(one, name)(rows), getattr(other, name)(rows))
    fitted = {
        n: v for n, v in vars(one).items() if n.endswith("_") and n not in {"baseline_", "composition_", "scaler_"}
    }
    for name, value in fitted.items():
        assert str(getattr(other, name)) == str(value), name
    assert repr(one) == repr(other)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "float64", "scale": "none"},
        {"activation": nn.LeakyReLU(0.3), "start": "plain"},
        {"corruption": GaussianNoise(0.3), "likelihood": GaussianLikelihood(0.1), "hidden": ()},
        {"encoder": MLP((5,), "tanh"), "decoder": MLP(())},
    ],
    ids=str,
)
def test_a_model_read_back_gives_the_same_answers(cancer, tmp_path, options):
    model = Autoencoder(2, **{"hidden": (6,), "max_epochs": 2, "random_state": 0, **options}).fit(cancer)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    assert_same_model(model, again, cancer)
    if model.baseline_ is not None:
        assert_same_model(model.baseline_, again.baseline_, cancer)
    again.save(tmp_path / "again.safetensors")
    assert_same_model(eigencode.load(tmp_path / "again.safetensors"), model, cancer)


def test_numpys_numbers_are_saved_as_pythons(cancer, tmp_path):
    model = Autoencoder(2, max_epochs=np.int64(1), learning_rate=np.float32(0.5), hidden=[np.int64(3)]).fit(cancer)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    assert (again.max_epochs, again.learning_rate, again.hidden) == (1, 0.5, [3])
    np.testing.assert_array_equal(again.transform(cancer), model.transform(cancer))


def test_column_names_and_generators_survive(cancer, tmp_path):
    import pandas as pd

    frame = pd.DataFrame(cancer).add_prefix("c")
    model = Autoencoder(2, max_epochs=0, random_state=np.random.default_rng(0)).fit(frame)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    assert again.feature_names_in_.tolist() == frame.columns.tolist()
    assert again.seed_ == model.seed_
    np.testing.assert_array_equal(again.transform(frame), model.transform(frame))


class Lasso(Penalty):
    """A part of the user's own."""

    def forward(self, trace, composition):
        return trace.z.abs().sum(1)


def test_parts_of_ones_own_are_named_by_the_caller(cancer, tmp_path):
    model = Autoencoder(2, hidden=(4,), penalties=(Lasso(),), max_epochs=1, random_state=0).fit(cancer)
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(StorageError, match=r"uses the part 'Lasso'.*parts=\[Lasso\]"):
        eigencode.load(tmp_path / "m.safetensors")
    assert_same_model(eigencode.load(tmp_path / "m.safetensors", parts=[Lasso]), model, cancer)


def test_a_torch_module_of_ones_own_is_filled_with_the_saved_weights(cancer, tmp_path):
    def module(value):
        linear = nn.utils.skip_init(nn.Linear, 30, 2)
        nn.init.constant_(linear.weight, value)
        nn.init.constant_(linear.bias, value)
        return nn.Sequential(linear)

    model = Autoencoder(2, encoder=module(0.1), max_epochs=2, random_state=0).fit(cancer)
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(StorageError, match=r"module 'Sequential'.*parts=\[Sequential\(\.\.\.\)\]"):
        eigencode.load(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors", parts=[module(9.0)])
    np.testing.assert_array_equal(again.transform(cancer), model.transform(cancer))


def test_the_file_is_weights_and_json_only(cancer, fitted, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    with safetensors.safe_open(tmp_path / "m.safetensors", "pt") as file:
        header = json.loads(file.metadata()["eigencode"], parse_constant=lambda word: pytest.fail(word))
        names = list(file.keys())
    assert header["format"] == 1
    assert header["version"] == eigencode.__version__
    assert header["model"]["parameters"]["n_components"] == 4
    assert "composition.encoder.linear.weight" in names


def test_a_failed_write_leaves_the_old_file_whole(fitted, tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        fitted.save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unfitted_model_and_an_unwritable_place_are_refused(fitted, tmp_path):
    with pytest.raises(NotFittedError):
        Autoencoder().save(tmp_path / "m.safetensors")
    with pytest.raises(FileError, match="Cannot write"):
        fitted.save(tmp_path / "no" / "such" / "folder.safetensors")


def test_files_that_are_not_ours_are_refused_in_words(fitted, tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileError, match="There is no model file"):
        eigencode.load(path)
    fitted.save(path)
    content = path.read_bytes()
    for length in (0, 4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(StorageError, match="not a whole safetensors file"):
            eigencode.load(path)
    safetensors.torch.save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(StorageError, match="not written by eigencode"):
        eigencode.load(path)


def rewritten(path, change):
    """Change the JSON of a model file."""
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["eigencode"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header, tensors)
    safetensors.torch.save_file(tensors, path, {"eigencode": json.dumps(header)})


def test_a_newer_format_and_misfitting_weights_are_refused(fitted, tmp_path):
    path = tmp_path / "m.safetensors"
    fitted.save(path)
    rewritten(path, lambda header, tensors: header.update(format=99, version="9.9"))
    with pytest.raises(StorageError, match=r"format 99, newer than.*eigencode 9\.9"):
        eigencode.load(path)
    fitted.save(path)
    rewritten(path, lambda header, tensors: tensors.pop("composition.encoder.linear.weight"))
    with pytest.raises(StorageError, match="do not fit"):
        eigencode.load(path)


@pytest.mark.parametrize("spec", [{"part": "os.system", "arguments": {}}, {"torch": "Module", "arguments": {}}])
def test_a_name_in_a_file_imports_nothing(fitted, tmp_path, spec):
    path = tmp_path / "m.safetensors"
    fitted.save(path)
    rewritten(path, lambda header, tensors: header["model"]["parameters"].update(activation=spec))
    with pytest.raises(StorageError, match="not part of this version"):
        eigencode.load(path)


def test_a_parameter_that_json_cannot_hold_is_refused_before_anything_is_written(fitted, tmp_path):
    import copy

    model = copy.deepcopy(fitted)
    model.hidden = {3}
    with pytest.raises(StorageError, match="'hidden' cannot be saved without pickle"):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())
