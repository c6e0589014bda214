"""Model files: all kinds go on bit for bit as without saving; what is damaged is refused before it costs anything."""

import copy
import importlib.util
import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

import eigencode
from eigencode import Autoencoder, SparseAutoencoder, StackedAutoencoder, VariationalAutoencoder
from eigencode.errors import FileError, FileIsFolderError, MissingFileError, OptionError, StorageError
from eigencode.io.allocation import FREE_NUMBERS, BoundedAllocation
from eigencode.parts import Penalty
from eigencode.parts.networks.base import Linear

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "fuzz_models.py"


@pytest.fixture(scope="module")
def fuzz():
    """The script that damages model files, as a module."""
    spec = importlib.util.spec_from_file_location("fuzz_models", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fitted(fuzz):
    """Small models of all kinds, with rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(fuzz.models())


def reloaded(model, path):
    model.save(path / "m.safetensors")
    return eigencode.load(path / "m.safetensors")


QUESTIONS = ["transform", "reconstruct", "score_samples", "reconstruction_error", "predict", "predict_proba"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_models_of_all_kinds_answer_with_the_same_bits_after_saving(fitted, tmp_path, dtype):
    for model, X in fitted:
        again, rows = reloaded(model, tmp_path), X.astype(dtype)
        asked = [name for name in QUESTIONS if hasattr(model, name)]
        for name in asked:
            found, wanted = getattr(again, name)(rows), getattr(model, name)(rows)
            np.testing.assert_array_equal(found, wanted, err_msg=f"{name} of {model!r}", strict=True)
        assert len(asked) >= 1
        if hasattr(model, "inverse_transform"):
            codes = model.transform(rows)
            np.testing.assert_array_equal(again.inverse_transform(codes), model.inverse_transform(codes))
        if hasattr(model, "mixture_") or isinstance(model, VariationalAutoencoder):
            np.testing.assert_array_equal(again.sample(4, random_state=1), model.sample(4, random_state=1))


@pytest.mark.filterwarnings("ignore")
def test_models_of_all_kinds_learn_on_with_the_same_bits_after_saving(fitted, tmp_path):
    n_tried = 0
    for model, X in fitted:
        if hasattr(model, "partial_fit"):
            live, again = copy.deepcopy(model), reloaded(model, tmp_path)
            for _ in range(2):
                live, again = live.partial_fit(X), reloaded(again.partial_fit(X), tmp_path)
            np.testing.assert_array_equal(again.transform(X), live.transform(X), err_msg=repr(model))
            np.testing.assert_array_equal(again.reconstruct(X), live.reconstruct(X), err_msg=repr(model))
            n_tried += 1
    assert n_tried > 15


@pytest.mark.parametrize("precision", ["auto", "float64"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_stack_learns_on_after_saving(tmp_path, dtype, precision):
    X = np.random.default_rng(0).normal(size=(60, 6)).astype(dtype)
    options = {"max_epochs": 2, "random_state": 0, "precision": precision}
    model = StackedAutoencoder(2, hidden=(4, 3), **options).fit(X)
    again = reloaded(model, tmp_path)
    types = {name: value.dtype for name, value in model.composition_.state_dict().items()}
    assert types == {name: value.dtype for name, value in again.composition_.state_dict().items()}
    np.testing.assert_array_equal(again.partial_fit(X).reconstruct(X), model.partial_fit(X).reconstruct(X))


@pytest.mark.versions
def test_a_matrix_lies_in_memory_as_before(tmp_path):
    X = np.random.default_rng(0).normal(size=(200, 30)).astype(np.float32)
    model = SparseAutoencoder(20, max_epochs=2, random_state=0).fit(X)
    again = reloaded(model, tmp_path)
    assert model.composition_.decoder.directions.shape == (30, 20)
    for one in (model, again):
        assert all(value.is_contiguous() for value in one.composition_.state_dict().values())
    np.testing.assert_array_equal(again.reconstruct(X), model.reconstruct(X))


# -- damaged files


@pytest.mark.filterwarnings("ignore")
def test_files_damaged_at_random_are_refused_or_answer_finite_numbers(fuzz):
    found = fuzz.run(150, first=7000, out=None)
    assert found.keys() <= {"refused", "answered"}
    assert found["refused"] > 75


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The description and the tensors of a small model with a stream and a density."""
    path = tmp_path_factory.mktemp("saved") / "m.safetensors"
    X = np.random.default_rng(0).normal(size=(40, 3))
    Autoencoder(2, hidden=(3,), random_state=0).partial_fit(X).fit_density(X).save(path)
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["eigencode"])
        return header, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def changed(saved, tmp_path, change):
    header, tensors = copy.deepcopy(saved[0]), {name: value.clone() for name, value in saved[1].items()}
    change(header, tensors)
    safetensors.torch.save_file(tensors, tmp_path / "m.safetensors", {"eigencode": json.dumps(header)})
    return tmp_path / "m.safetensors"


def refused(path):
    """The message of a refusal, which costs little."""
    began = time.process_time()
    with pytest.raises(StorageError) as caught:
        eigencode.load(path)
    assert time.process_time() - began < 2
    return str(caught.value)


def setter(path, value):
    def change(header, tensors):
        *outer, last = path.split(".")
        parent = header["model"]
        for key in outer:
            parent = parent[key]
        parent[last] = value

    return change


WIDE = "composition.arguments.encoder.arguments.network.arguments.hidden"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("fitted.n_components_", 200_000_000),
        ("fitted.n_features_in_", 200_000_000),
        (WIDE, [100_000_000, 100_000_000]),
        (WIDE, [2] * 20_000),
        (WIDE, [10**30]),
        ("composition.arguments.penalties", [{"part": "Contractive", "arguments": {}}] * 20_000),
        ("fitted.notes_", {"elements": ["a"], "dtype": "<U500000000"}),
        ("parameters.activation", {"torch": "PReLU", "arguments": {"num_parameters": 10**9}}),
        ("parameters.code", {"part": "Sizes", "arguments": {"n_features": 10**10}}),
        ("fitted.history_", [{}] * 100_000),
        ("fitted.history_", [{"epoch": 0}] * 50_000),
        ("fitted.history_", []),
        ("fitted.best_epoch_", 1000),
        ("fitted.best_epoch_", -1),
        ("fitted.seed_", -1),
        ("fitted.hidden_", [-3]),
        ("fitted.init_", "nowhere"),
        ("fitted.optimizer_", "sgd"),
        ("fitted.explained_variance_ratio_", [{"float": "nan"}]),
        ("fitted.explained_variance_ratio_", [0.1] * 50),
        ("fitted.mean_weight_", 0),
        ("fitted.mean_weight_", {"float": "inf"}),
        ("feature_names", ["a", "a", "b"]),
        ("feature_names", ["a", "b"]),
        ("feature_names", ["a", "b", 3]),
        ("scaler.kind", "x"),
        ("scaler.limit", 0),
        ("scaler.limit", -5.0),
        ("scaler.limit", {"float": "nan"}),
        ("scaler.limit", {"float": "inf"}),
        ("execution.n_threads", -3),
        ("execution.n_threads", 0),
        ("execution.n_threads", 2.5),
        ("execution.n_threads", True),
        ("execution.precision", "float8"),
        ("objective.beta", {"float": "nan"}),
        ("objective.beta", -1.0),
        ("objective.n_rows", 0),
        ("stream.counters.step", "a"),
        ("stream.counters.step", 0.5),
        ("stream.counters.step", None),
        ("stream.counters.epoch", -1),
        ("stream.counters.shows_average", 1),
        ("stream.counters.progress_mark", []),
        ("stream.schedule.peak", {"float": "nan"}),
        ("stream.schedule.warmup", -1),
        ("stream.buffers", []),
        ("stream.buffers", {"x": {"tensor": "scaler.center"}}),
        ("stream.vector", {"tensor": "scaler.center"}),
        ("stream.vector", 5),
        ("stream.optimizer", {}),
        ("stream.history", [3]),
        ("stream.best", {"objective": 1.0}),
    ],
    ids=lambda value: f"{value}"[:40],
)
def test_values_outside_their_domain_are_refused_at_once(saved, tmp_path, path, value):
    refused(changed(saved, tmp_path, setter(path, value)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_and_scales_that_are_no_numbers_are_refused(saved, tmp_path, value):
    names = [name for name in saved[1] if saved[1][name].is_floating_point()]
    assert len(names) > 15
    for name in names:

        def spoil(header, tensors, name=name):
            tensors[name].reshape(-1)[0] = value

        assert refused(changed(saved, tmp_path, spoil))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.fill_(0),
        lambda t: t.fill_(-1),
        lambda t: t[:, None].clone(),
        lambda t: t[1:].clone(),
        lambda t: t.float(),
        lambda t: t.long(),
    ],
    ids=["zero", "negative", "a column", "short", "float32", "integers"],
)
def test_a_divisor_is_a_positive_number_for_each_column(saved, tmp_path, spoil):
    def change(header, tensors):
        tensors["scaler.divisor"] = spoil(tensors["scaler.divisor"])

    refused(changed(saved, tmp_path, change))


def test_covariances_that_are_none_are_refused(saved, tmp_path):
    name = next(name for name in saved[1] if name.endswith("covariances"))

    def change(header, tensors):
        tensors[name] = -tensors[name]

    assert "positive definite" in refused(changed(saved, tmp_path, change))


@pytest.mark.parametrize(
    "text",
    [
        '{"format": Infinity}',
        '{"format": NaN, "version": "1", "model": {}}',
        '{"format": 1e400, "version": "1", "model": {}}',
        '{"format": true, "version": "1", "model": {}}',
        '{"format": "1", "version": "1", "model": {}}',
        '{"format": -1, "version": "1", "model": {}}',
        '{"format": 1, "version": "1", "model": []}',
        '{"format": 1, "version": "1", "model": ' + "[" * 700 + "]" * 700 + "}",
        "[" * 100_000,
        '{"a":' * 50_000,
        "1" * 10_000,
        "null",
        "",
        '"\\ud800"',
    ],
    ids=lambda text: text[:30],
)
def test_descriptions_that_are_none_are_refused(saved, tmp_path, text):
    safetensors.torch.save_file(saved[1], tmp_path / "m.safetensors", {"eigencode": text})
    refused(tmp_path / "m.safetensors")


def test_a_number_too_large_for_a_float_is_damage(saved, tmp_path):
    """Infinity is written in a way of its own."""
    content = json.dumps(saved[0]).replace("{", '{"other": 1e400, ', 1)
    safetensors.torch.save_file(saved[1], tmp_path / "m.safetensors", {"eigencode": content})
    assert "1e400 is not a finite number" in refused(tmp_path / "m.safetensors")


@pytest.mark.parametrize("levels", [90, 300, 700])
def test_lists_nested_many_times_are_refused(saved, tmp_path, levels):
    value = []
    for _ in range(levels):
        value = [value]
    if levels > 100:
        refused(changed(saved, tmp_path, setter("parameters.random_state", value)))
    refused(changed(saved, tmp_path, setter("fitted.notes_", value)))


@pytest.mark.versions
def test_tensors_that_nothing_uses_are_passed_over(saved, tmp_path):
    def change(header, tensors):
        tensors["later"] = torch.zeros(3)

    assert eigencode.load(changed(saved, tmp_path, change)).n_components_ == 2


@pytest.mark.versions
def test_weights_of_another_type_are_refused_with_their_name(saved, tmp_path):
    def change(header, tensors):
        name = "composition.encoder.linear.weight"
        tensors[name] = tensors[name].double()

    message = refused(changed(saved, tmp_path, change))
    assert "float64 of shape (2, 3) for 'encoder.linear.weight', which should be float32 of shape (2, 3)" in message


def test_threads_beyond_the_machines_are_left_out(saved, tmp_path):
    path = changed(saved, tmp_path, setter("execution.n_threads", 4000))
    assert 1 <= eigencode.load(path).execution_.n_threads < 4000


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_that_could_not_be_read_is_not_written(tmp_path, value):
    model = Autoencoder(2, hidden=(3,), max_epochs=0, random_state=0).fit(np.random.default_rng(0).normal(size=(9, 3)))
    with torch.no_grad():
        next(model.composition_.parameters()).fill_(value)
    with pytest.raises(StorageError, match="not finite numbers"):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


# -- what may be built


class Whitened(Penalty):
    """A part of the user's own whose setup computes with numbers, and whose buffer begins at infinity."""

    def setup(self, sizes):
        matrix = torch.randn(sizes.n_features, sizes.n_features, generator=torch.Generator().manual_seed(3))
        values, vectors = torch.linalg.eigh(matrix @ matrix.T + torch.eye(sizes.n_features))
        assert float(values.min()) > 0.9
        self.register_buffer("root", vectors * values.sqrt())
        self.register_buffer("smallest", torch.full((), math.inf))
        self.constant = torch.from_numpy(np.arange(3.0)).float()

    def forward(self, trace, composition):
        return 0.01 * (trace.p.mean @ self.root).square().sum(-1)


def test_parts_whose_setup_computes_are_read_back(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 3))
    model = Autoencoder(2, hidden=(3,), penalties=[Whitened()], max_epochs=1, random_state=0).fit(X)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors", parts=[Whitened])
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    np.testing.assert_array_equal(again.partial_fit(X).transform(X), model.partial_fit(X).transform(X))


@pytest.mark.versions
@pytest.mark.parametrize(
    "make",
    [
        lambda n: torch.empty(n, n),
        lambda n: torch.zeros((n, n)),
        lambda n: torch.ones(size=(n, n)),
        lambda n: torch.full((n, n), 1.0),
        lambda n: torch.rand(n * n, generator=torch.Generator()),
        lambda n: torch.randn([n, n], generator=torch.Generator()),
        lambda n: torch.randint(5, (n, n), generator=torch.Generator()),
        lambda n: torch.arange(n * n),
        lambda n: torch.arange(0, n * n, 1),
        lambda n: torch.eye(n),
        lambda n: torch.eye(n, m=n),
        lambda n: torch.zeros(1).new_zeros(n, n),
        lambda n: torch.zeros(1).repeat(n, n),
        lambda n: Linear(n, n),
        lambda n: nn.PReLU(n * n),
    ],
)
def test_a_small_file_cannot_allocate_much(make):
    with BoundedAllocation([torch.zeros(5)]):
        make(100)
        with pytest.raises(StorageError, match="far more numbers than its file holds"):
            make(10**6)


def test_a_large_file_may_allocate_more():
    with BoundedAllocation([torch.zeros(FREE_NUMBERS)]):
        torch.empty(4 * FREE_NUMBERS)


# -- paths


@pytest.mark.versions
def test_paths_of_models(saved, tmp_path):
    model = eigencode.load(changed(saved, tmp_path, lambda header, tensors: None))
    for path in ("", "a\0b"):
        with pytest.raises(FileError):
            model.save(path)
    for path in (None, 5, object()):
        with pytest.raises(OptionError):
            model.save(path)
    with pytest.raises(FileIsFolderError):
        model.save(tmp_path)
    with pytest.raises(FileIsFolderError):
        eigencode.load(tmp_path)
    with pytest.raises(MissingFileError):
        model.save(tmp_path / "no" / "m.safetensors")
    for missing in (tmp_path / "none.safetensors", str(tmp_path / "no" / "none.safetensors")):
        with pytest.raises(FileNotFoundError, match="There is no model file") as caught:
            eigencode.load(missing)
        assert isinstance(caught.value, FileError)


def test_a_baseline_without_its_objective_is_refused(tmp_path):
    X = np.random.default_rng(0).normal(size=(50, 4))
    model = eigencode.Autoencoder(1, hidden=(3,), init="random", max_epochs=1, random_state=0).fit(X)
    del model.baseline_.history_[0]["validation_objective"]
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(eigencode.errors.StorageError, match="baseline"):
        eigencode.load(tmp_path / "m.safetensors")
