"""One file, whole or not at all, that never runs code."""

import copy
import itertools
import json
import math
import os
from dataclasses import dataclass

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from conftest import untimed
from sklearn.exceptions import NotFittedError
from torch import nn

import eigencode
from eigencode import Autoencoder
from eigencode.errors import FileError, OptionError, StorageError
from eigencode.estimators.base import BaseAutoencoder
from eigencode.options import check_options, option
from eigencode.parts import MLP, GaussianLikelihood, GaussianNoise, GaussianWeights, Penalty


def assert_same_model(one, other, rows):
    for name in ("transform", "reconstruct", "score_samples"):
        np.testing.assert_array_equal(getattr(one, name)(rows), getattr(other, name)(rows))
    fitted = {
        n: v for n, v in vars(one).items() if n.endswith("_") and n not in {"baseline_", "composition_", "scaler_"}
    }
    for name, value in fitted.items():
        found = getattr(other, name)
        if name == "history_":
            value, found = untimed(value), untimed(found)  # a file does not keep seconds
        assert str(found) == str(value), name
    assert repr(one) == repr(other)


@pytest.mark.versions
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "float64", "scale": "none"},
        {"activation": nn.LeakyReLU(0.3), "init": "random"},
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


@pytest.mark.versions
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


@pytest.mark.parametrize("given", [[Lasso()], (Lasso(),), [], ()], ids=str)
def test_lists_stay_lists_and_tuples_tuples(cancer, tmp_path, given):
    model = Autoencoder(2, hidden=[4], penalties=given, max_epochs=0, random_state=0).fit(cancer)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors", parts=[Lasso])
    assert (again.hidden, model.hidden_, again.hidden_) == ([4], (4,), (4,))
    assert type(again.penalties) is type(given)
    assert repr(again) == repr(model)


def test_arrays_among_arguments_stay_arrays(cancer, tmp_path):
    variances = np.array([0.2, 0.1])
    model = Autoencoder(2, hidden=(), weight_prior=GaussianWeights(variances), max_epochs=0).fit(cancer)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    for prior in (again.weight_prior, again.composition_.weight_prior):
        np.testing.assert_array_equal(prior.variance, variances, strict=True)


@dataclass(frozen=True)
class Ranges:
    """A record of arrays and plain values."""

    low: np.ndarray
    names: tuple[str, ...]
    share: float


@dataclass(eq=False, repr=False)
class Ranged(Autoencoder):
    """An estimator of the user's own, with an option and fitted attributes of its own."""

    margin: float = option(0.5, "How far beyond.", low=0)

    @classmethod
    def saved_attributes(cls):
        own = {"ranges_": Ranges, "labels_": np.ndarray, "table_": dict, "inner_": list[BaseAutoencoder] | None}
        return super().saved_attributes() | own

    def fit(self, X, y=None, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.ranges_ = Ranges(X.min(0), ("a", "b"), math.inf)
        self.labels_ = np.array(["left", "right"])
        self.table_ = {"part": 1, "pairs": [(1, 2)], 3: None, "tensor": torch.arange(3), "flags": X[:2] > 0}
        return self


def test_an_estimator_of_ones_own_keeps_what_it_names(cancer, tmp_path):
    path = tmp_path / "m.safetensors"
    model = Ranged(2, hidden=(4,), margin=0.25, max_epochs=1, random_state=0).fit(cancer)
    model.save(path)
    with pytest.raises(StorageError, match=r"estimator 'Ranged'.*parts=\[Ranged\]"):
        eigencode.load(path)
    again = eigencode.load(path, parts=[Ranged])
    assert type(again) is type(again.baseline_) is Ranged
    assert again.margin == 0.25
    np.testing.assert_array_equal(again.transform(cancer), model.transform(cancer))
    np.testing.assert_array_equal(again.ranges_.low, cancer.min(0))
    assert (again.ranges_.names, again.ranges_.share) == (("a", "b"), math.inf)
    np.testing.assert_array_equal(again.labels_, model.labels_, strict=True)
    assert list(again.table_) == ["part", "pairs", 3, "tensor", "flags"]
    assert again.table_["pairs"] == [(1, 2)]
    assert torch.equal(again.table_["tensor"], torch.arange(3))
    np.testing.assert_array_equal(again.table_["flags"], cancer[:2] > 0, strict=True)
    assert not hasattr(again, "inner_")


def test_fitted_models_inside_a_model_are_kept_whole(cancer, tmp_path):
    model = Ranged(2, hidden=(4,), max_epochs=1, random_state=0).fit(cancer)
    model.inner_ = [Autoencoder(3, max_epochs=1, random_state=seed).fit(cancer) for seed in (1, 2)]
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors", parts=[Ranged])
    for one, other in zip(model.inner_, again.inner_, strict=True):
        assert_same_model(one, other, cancer)
        assert_same_model(one.baseline_, other.baseline_, cancer)
    np.testing.assert_array_equal(again.transform(cancer), model.transform(cancer))


def test_a_density_of_codes_is_kept(cancer, tmp_path):
    model = Autoencoder(2, hidden=(4,), max_epochs=1, random_state=0).fit(cancer).fit_density(cancer)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.sample(5, random_state=0), model.sample(5, random_state=0))


def test_numbers_that_are_none_are_kept_in_valid_json(cancer, tmp_path):
    model = Autoencoder(2, hidden=(4,), max_epochs=1, random_state=0).fit(cancer)
    odd = [math.nan, math.inf, -math.inf, np.float32(math.nan), 0.1 + 0.2, 5e-324]
    model.history_ = [{"epoch": i, "step": i, "validation_objective": value} for i, value in enumerate(odd)]
    model.best_objective_ = math.nan
    path = tmp_path / "m.safetensors"
    model.save(path)
    rewritten(path, lambda header, tensors: None, parse_constant=pytest.fail)
    again = eigencode.load(path)
    found = [row["validation_objective"] for row in again.history_]
    np.testing.assert_array_equal(found, [float(value) for value in odd])
    assert math.isnan(again.best_objective_)


def test_what_is_given_beside_a_file_is_checked(fitted, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    for wrong in (5, "Lasso", Lasso.forward, dict):
        with pytest.raises(OptionError, match="classes of parts or estimators, or instances of torch modules"):
            eigencode.load(tmp_path / "m.safetensors", parts=[wrong])


def test_a_model_whose_options_were_spoilt_is_refused_before_anything_is_written(fitted, tmp_path):
    model = copy.deepcopy(fitted).set_params(n_components="many")
    with pytest.raises(OptionError, match="'n_components' parameter"):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


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


@pytest.mark.versions
def test_the_file_is_weights_and_json_only(cancer, fitted, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    with safetensors.safe_open(tmp_path / "m.safetensors", "pt") as file:
        header = json.loads(file.metadata()["eigencode"], parse_constant=pytest.fail)
        names = list(file.keys())
    assert header["format"] == 2
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


def test_an_unfitted_model_and_an_unwritable_folder_are_refused(fitted, tmp_path):
    with pytest.raises(NotFittedError):
        Autoencoder().save(tmp_path / "m.safetensors")
    with pytest.raises(FileError, match="Cannot write"):
        fitted.save(tmp_path / "no" / "such" / "folder.safetensors")


@pytest.mark.versions
def test_files_that_are_not_ours_are_refused(fitted, tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileError, match="There is no model file"):
        eigencode.load(path)
    fitted.save(path)
    content = path.read_bytes()
    for length in (0, 4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(StorageError, match="not a complete safetensors file"):
            eigencode.load(path)
    safetensors.torch.save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(StorageError, match="not written by eigencode"):
        eigencode.load(path)


def rewritten(path, change, **options):
    """Change the JSON of a model file."""
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["eigencode"], **options)
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
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


GONE = object()
"""Instead of a value: its key is removed."""


def paths_in(value, path=()):
    """The path to every value in nested JSON; long lists by their first two items."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths_in(item, (*path, key))


def damaged(header, path, value):
    """The JSON with another value at a path."""
    header = copy.deepcopy(header)
    holder = header
    for key in path[:-1]:
        holder = holder[key]
    if value is GONE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return header


@pytest.mark.parametrize("values", [[GONE], [None, "wrong", 0.5, {"part": "MLP"}, [[]]]], ids=["gone", "changed"])
def test_a_damaged_description_raises_our_error_or_does_no_harm(tmp_path, values):
    """Each value of the JSON in turn: an error of ours, or a model that answers as it should in shape."""
    path, rows = tmp_path / "m.safetensors", np.random.default_rng(0).normal(size=(40, 3))
    options = {"corruption": GaussianNoise(0.1), "penalties": [Lasso()], "activation": nn.LeakyReLU(0.3)}
    model = Autoencoder(2, hidden=(3,), likelihood=GaussianLikelihood("learned"), random_state=0, **options)
    model.partial_fit(rows).save(path)
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["eigencode"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    n_refused = 0
    for where, value in zip(paths_in(header), itertools.cycle(values), strict=False):
        safetensors.torch.save_file(tensors, path, {"eigencode": json.dumps(damaged(header, where, value))})
        try:
            again = eigencode.load(path, parts=[Lasso])
        except StorageError:
            n_refused += 1
            continue
        check_options(again)
        assert (again.transform(rows).shape, again.score_samples(rows).shape) == ((40, 2), (40,)), where
        assert "Autoencoder(" in repr(again), where
    assert n_refused > 80


@pytest.mark.versions
def test_damaged_tensors_raise_our_error(fitted, tmp_path):
    path = tmp_path / "m.safetensors"
    fitted.save(path)
    with safetensors.safe_open(path, "pt") as file:
        names, metadata = list(file.keys()), file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in names}
    assert {"scaler.center", "baseline.scaler.divisor", "composition.encoder.linear.weight"} <= set(names)
    for name in names:
        for spoil in (lambda t: None, lambda t: t.reshape(-1)[1:].clone(), lambda t: t[None].clone()):
            changed = {**tensors, name: spoil(tensors[name])}
            if changed[name] is None:
                del changed[name]
            safetensors.torch.save_file(changed, path, metadata)
            with pytest.raises(StorageError, match="do(es)? not fit|lacks the tensor|rebuilt"):
                eigencode.load(path)


@pytest.mark.versions
@pytest.mark.parametrize("spec", [{"part": "os.system", "arguments": {}}, {"torch": "Module", "arguments": {}}])
def test_a_name_in_a_file_imports_nothing(fitted, tmp_path, spec):
    path = tmp_path / "m.safetensors"
    fitted.save(path)
    rewritten(path, lambda header, tensors: header["model"]["parameters"].update(activation=spec))
    with pytest.raises(StorageError, match="not part of this version"):
        eigencode.load(path)


def test_a_parameter_that_json_cannot_hold_is_refused_before_anything_is_written(fitted, tmp_path):
    model = copy.deepcopy(fitted)
    model.hidden = {3}
    with pytest.raises(StorageError, match="'hidden' cannot be saved without pickle"):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_model_with_huge_codes_is_saved_and_read(fitted, tmp_path):
    """As where a classifier's encoder was trained until its classes are far apart: the squares of errors overflow."""
    model = copy.deepcopy(fitted).set_params(device="cpu")
    for p in model.composition_.encoder.parameters():
        p.data.mul_(1e11)
    X = model.scaler_.center + model.scaler_.divisor * np.random.default_rng(0).normal(size=(9, model.n_features_in_))
    codes = model.transform(X.astype(np.float32))
    assert np.abs(codes).max() > 1e9
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(eigencode.load(tmp_path / "m.safetensors").transform(X.astype(np.float32)), codes)
    for p in model.composition_.decoder.parameters():
        p.data.mul_(1e30)
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(StorageError, match="output is not finite for rows near the mean"):
        eigencode.load(tmp_path / "m.safetensors")
