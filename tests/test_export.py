"""Export: graphs answer as the model does, and what cannot be exported is refused with the reason."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import eigencode
from eigencode import (
    AnomalyDetector,
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderRegressor,
    LinearAutoencoder,
    SparseAutoencoder,
    VariationalAutoencoder,
)
from eigencode.errors import DataError, FileError, MissingFileError, OptionError
from eigencode.export import detector as of_detectors
from eigencode.export import files, graph_of, operators
from eigencode.export.operators import lgamma

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

QUICK = {"max_epochs": 3, "hidden": (8,), "random_state": 0}
RNG = np.random.default_rng(0)
Z = RNG.normal(size=(300, 2))
ROWS = (Z @ RNG.normal(size=(2, 5)) * [1, 3, 10, 0.1, 1] + RNG.normal(size=(300, 5)) * 0.1 + 7).astype(np.float32)
ROWS[:, 4] = 3.0  # a constant column
GAPS = np.where(RNG.random(ROWS.shape) < 0.1, np.nan, ROWS).astype(np.float32)
COUNTS = RNG.poisson(np.exp(Z @ RNG.normal(size=(2, 4)) + 1)).astype(np.float32)
SHARES = (1 / (1 + np.exp(-ROWS[:, :4] + 7))).astype(np.float32)


def answers(path, rows):
    """What onnxruntime answers, by the names of the outputs."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, {given.name: rows}), strict=True))


def asked(model, X):
    """1,000 rows: of those fitted, with new gaps, and the extremes of each column."""
    rng = np.random.default_rng(1)
    rows = X[rng.integers(len(X), size=1000)]
    rows = rows + 0 if model.composition_.likelihood.in_data_units else rows * (1 + 0.1 * rng.normal(size=rows.shape))
    ends = [np.nanmin(X, 0), np.nanmax(X, 0), np.full(X.shape[1], np.nan)]
    rows = np.concatenate([rows, ends]).astype(np.float32)
    rows[:400][rng.random((400, X.shape[1])) < 0.2] = np.nan
    return rows


@pytest.mark.filterwarnings("ignore:X has gaps")
def test_onnx_answers_as_the_model_does(tmp_path):
    X = GAPS
    model = Autoencoder(2, **QUICK).fit(X)
    model.export(tmp_path / "m.onnx")
    rows = asked(model, X)
    found = answers(tmp_path / "m.onnx", rows)
    assert list(found) == ["transform", "reconstruct", "score_samples", "impute"]
    for method, answer in found.items():
        expected = getattr(model, method)(rows)
        spread = model.scaler_.divisor if expected.shape == rows.shape else expected.std(0)
        if any(model.scaler_.logarithmic) and expected.shape == rows.shape:
            spread = np.nanstd(X, 0)  # a scale of counts is one of their logarithms
        assert answer.shape == expected.shape
        size = np.maximum(spread, np.abs(expected - np.median(expected, 0)))
        assert (np.abs(answer - expected) / size).max() < 1e-5, method


DETECTORS = {
    "five models": (lambda: AnomalyDetector(0.03, autoencoder=LinearAutoencoder(2), random_state=0), ROWS[:120]),
    "gaps": (lambda: AnomalyDetector(autoencoder=Autoencoder(2, **QUICK), random_state=0), GAPS),
    "no rows kept": (lambda: AnomalyDetector(autoencoder=LinearAutoencoder(2), neighbors=False, random_state=0), ROWS),
}


WHOLE = np.random.default_rng(5).poisson(1.5, size=(500, 7)).astype(np.float64)
ALIKE = pa.table({f"c{j}": pa.array([f"k{label:.0f}" for label in WHOLE[:, j]]) for j in range(4)})
OF_EQUAL_DISTANCES = {
    "whole numbers": ({}, WHOLE),
    "many equal rows": ({}, WHOLE[:, :2] % 3),
    "several models": ({"false_alarms": 0.03}, WHOLE[:150]),
    "windows": ({"window": 3}, WHOLE[:, :2]),
    "categories": ({}, ALIKE),
    "mixed columns": (
        {},
        ALIKE.append_column("n", pa.array(WHOLE[:, 4].astype(int))).append_column("x", pa.array(WHOLE[:, 5] / 3)),
    ),
}


IN_ONNX = [
    pytest.param("onnx", "mixed columns", marks=pytest.mark.slow),
    *(pytest.param("onnx", name, marks=pytest.mark.long) for name in ("windows", "whole numbers")),
]


@pytest.mark.parametrize(("form", "name"), [*[("graph", name) for name in OF_EQUAL_DISTANCES], *IN_ONNX])
def test_a_graph_scores_rows_at_equal_distances_as_its_detector_does(form, name, tmp_path):
    """Each rounds distances in its own way, by which no row may be told from another one at the same distance."""
    options, X = OF_EQUAL_DISTANCES[name]
    fitted, n = X[:400], min(400, len(X) - 100)
    detector = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0, **options).fit(fitted[:n])
    if form == "onnx":
        detector.export(tmp_path / "d.onnx")
    for given in (X[:n], X[n:]):
        numbers = given if isinstance(given, np.ndarray) else graph_of(detector).columns.numbers(given)
        found = answers(tmp_path / "d.onnx", numbers) if form == "onnx" else answered(graph_of(detector), numbers)
        expected = detector.score_samples(given)
        size = np.maximum(expected.std(), np.abs(expected - np.median(expected)))
        assert (np.abs(found["score_samples"] - expected) / size).max() < 1e-5
        assert (found["predict"] == detector.predict(given)).all()
        assert np.abs(found["p_values"] - detector.p_values(given)).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "name"),
    [
        *(("graph", name) for name in DETECTORS),
        ("onnx", "no rows kept"),
        *(pytest.param("onnx", name, marks=pytest.mark.long) for name in ("gaps", "five models")),
    ],
)
def test_a_detector_answers_as_its_graph_does(form, name, tmp_path):
    make, X = DETECTORS[name]
    X = X.astype(np.float64)
    detector = make().fit(X)
    graph = graph_of(detector)
    if form == "onnx":
        detector.export(tmp_path / "d.onnx")

    def ask(rows):
        return answered(graph, rows) if form == "graph" else answers(tmp_path / "d.onnx", rows)

    rng = np.random.default_rng(1)
    near = X[rng.permutation(len(X))[:60]] * (1 + 0.01 * rng.normal(size=(60, X.shape[1])))
    rows = np.concatenate([near, X[:20], 10 * X[:5], 1e6 * X[:3]])
    found = ask(rows)
    assert list(found) == ["score_samples", "decision_function", "predict", "p_values"]
    expected = detector.score_samples(rows)
    assert np.abs((found["score_samples"] - expected) / np.maximum(expected.std(), np.abs(expected))).max() < 1e-5
    assert (found["predict"] == detector.predict(rows)).all()
    steps = np.abs(found["p_values"] - detector.p_values(rows)) * (len(detector.calibration_.scores) + 1)
    assert (steps > 0.5).mean() < 0.05, "equal scores may be told apart by rounding, but in few rows"
    if name != "gaps":
        rows[0, 1] = np.nan
        asked = ask(rows)
        assert np.isnan(asked["score_samples"][0])
        assert asked["predict"][0] == 0
        assert np.isfinite(asked["score_samples"][1:]).all()


def test_codes_are_decoded_by_a_graph_of_their_own(fitted, tmp_path):
    fitted.export(tmp_path / "d.onnx", "inverse_transform")
    codes = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    (found,) = answers(tmp_path / "d.onnx", codes).values()
    assert np.abs((found - fitted.inverse_transform(codes)) / fitted.scaler_.divisor).max() < 1e-5


def test_a_torch_program_answers_too(fitted, cancer, tmp_path):
    fitted.export(tmp_path / "m.pt2", ["transform", "impute"])
    rows = cancer[:9].astype(np.float32)
    rows[0, 3] = np.nan
    found = torch.export.load(tmp_path / "m.pt2").module()(torch.from_numpy(rows))
    with pytest.warns(UserWarning, match="has gaps"):
        expected = fitted.impute(rows)
    assert np.abs((found["impute"].numpy() - expected) / fitted.scaler_.divisor).max() < 1e-5
    assert set(found) == {"transform", "impute"}


def table(n=400, seed=0):
    """Columns of every kind, with gaps."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    days = np.array("2024-01-01", "datetime64[s]") + (np.round(z * 100) * 86_400).astype("timedelta64[s]")
    columns = {
        "real": z,
        "category": np.where(z > 0, "x", "y"),
        "count": rng.poisson(np.exp(z / 2 + 1)),
        "boolean": z > 0.3,
        "positive": np.exp(2 * z + 3),
        "zeros": np.where(rng.random(n) < 0.6, 0, np.exp(z + rng.normal(size=n))),
        "time": days,
        "share": 1 / (1 + np.exp(-z)),
        "whole": np.round(z * 100).astype(int),
    }
    return pa.table({name: pa.array(values, mask=rng.random(n) < 0.1) for name, values in columns.items()})


def test_mixed_columns_are_numbers_and_an_unseen_label_is_the_next_number(tmp_path):
    rows = table()
    model = Autoencoder(3, max_epochs=3, hidden=(8,), random_state=0).fit(rows)
    model.export(tmp_path / "m.pt2")
    graph = graph_of(model)
    program = torch.export.load(tmp_path / "m.pt2").module()
    assert {column.kind.kind for column, _ in graph.columns.parts} > {"category", "count", "boolean", "time", "share"}
    strange = rows.set_column(1, "category", pa.array(["z"] * 5 + rows["category"].to_pylist()[5:]))
    for given in (rows, strange):
        X = graph.columns.numbers(given)
        for name, answer in program(torch.from_numpy(X)).items():
            expected = getattr(model, name)(given)
            expected = graph.columns.numbers(expected) if isinstance(expected, pa.Table) else expected
            spread = np.maximum(expected.std(0), np.abs(expected - np.median(expected, 0)))
            assert (np.abs(answer.numpy() - expected) / spread).max() < 1e-5, name


def strange(rows):
    """The same with labels, shares, counts and a constant that no row fitted had."""
    n = len(rows)
    odd = {"category": ["new"] * 9, "share": [2.0] * 6, "count": [-1.0, 0.5], "one": ["another", None], "real": [None]}
    for name, values in odd.items():
        values = [*values, *rows[name].to_pylist()[len(values) :]]
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values))
    assert len(rows) == n
    return rows


def require_same_alarms(detector, given, found, bound=1e-5):
    """Scores that agree, and alarms and p-values but for rows whose scores are those of rows held out."""
    expected = detector.score_samples(given)
    assert np.abs((found["score_samples"] - expected) / np.maximum(expected.std(), np.abs(expected))).max() < bound
    assert (found["predict"] != detector.predict(given)).mean() < 0.05
    assert (np.abs(found["p_values"] - detector.p_values(given)) > 1e-6).mean() < 0.05


def answered(graph, X):
    """The graph's answers, without a file."""
    with torch.no_grad():
        return {name: found.numpy() for name, found in graph(torch.from_numpy(X)).items()}


@pytest.mark.parametrize("estimator", [Autoencoder(2, **QUICK), VariationalAutoencoder(2, **QUICK)])
def test_no_rows_have_no_answers(estimator):
    graph = graph_of(estimator.fit(ROWS))
    some, none = (answered(graph, ROWS[:n].astype(np.float32)) for n in (3, 0))
    assert {name: answer.shape for name, answer in none.items()} == {
        name: (0, *answer.shape[1:]) for name, answer in some.items()
    }


@pytest.mark.parametrize(
    "autoencoder", [Autoencoder(2, **QUICK), LinearAutoencoder(2), VariationalAutoencoder(2, **QUICK)]
)
def test_a_detector_of_mixed_columns_answers_as_its_graph_does(autoencoder):
    rows = table().append_column("one", pa.array(["k"] * 400))
    rate = 0.03 if isinstance(autoencoder, LinearAutoencoder) else 0.05
    detector = AnomalyDetector(rate, autoencoder=autoencoder, random_state=0).fit(rows.slice(0, round(12 / rate - 200)))
    graph = graph_of(detector)
    assert graph.columns.labels["one"] == ["k"]
    odd = strange(rows.slice(200, 200))
    if isinstance(autoencoder, VariationalAutoencoder):  # which refuses counts below 0
        odd = odd.set_column(2, "count", rows["count"].slice(200, 200))
    usual, unusual = (answered(graph, graph.columns.numbers(given)) for given in (rows, odd))
    require_same_alarms(detector, rows, usual)
    require_same_alarms(detector, odd, unusual)
    assert (unusual["score_samples"][:2] < usual["score_samples"][200:202] - 1).all()


def test_models_of_a_detector_may_know_fewer_labels_than_all_rows_have():
    rows = table().slice(0, 160)
    labels = pa.array([f"only {row}" if row % 8 == 7 else "usual" for row in range(160)])
    rows = rows.append_column("labels", labels)
    detector = AnomalyDetector(0.03, autoencoder=LinearAutoencoder(2), neighbors=False, random_state=0).fit(rows)
    assert detector.folds_[0].autoencoder.columns_.n_cells < detector.columns_.n_cells
    graph = graph_of(detector)
    example = graph.example()
    for name, answer in answered(graph, example).items():
        np.testing.assert_allclose(answer, graph.expected(name, example), rtol=1e-6, atol=1e-9)
    require_same_alarms(detector, rows, answered(graph, graph.columns.numbers(rows)))


@pytest.mark.long
def test_onnx_of_a_detector_of_mixed_columns_and_of_one_of_windows(tmp_path):
    rows = table().append_column("one", pa.array(["k"] * 400))
    detector = AnomalyDetector(autoencoder=Autoencoder(2, **QUICK), random_state=0).fit(rows)
    detector.export(tmp_path / "d.onnx")
    for given in (rows, strange(rows)):
        found = answers(tmp_path / "d.onnx", graph_of(detector).columns.numbers(given))
        require_same_alarms(detector, given, found)
    X = ROWS.astype(np.float64)
    detector = AnomalyDetector(autoencoder=LinearAutoencoder(2), window=3, random_state=0).fit(X)
    detector.export(tmp_path / "w.onnx")
    for n_rows in (1, 2, 300):
        require_same_alarms(detector, X[:n_rows], answers(tmp_path / "w.onnx", X[:n_rows]))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_file_of_a_detector_of_windows_takes_any_number_of_rows(form, tmp_path):
    X = ROWS.astype(np.float64)
    detector = AnomalyDetector(autoencoder=LinearAutoencoder(2), window=3, random_state=0).fit(X)
    detector.export(path := tmp_path / f"w.{form}")
    program = torch.export.load(path).module() if form == "pt2" else None
    for n_rows in (0, 1, 2, 300):
        given = X[:n_rows]
        found = program(torch.from_numpy(given)) if program else answers(path, given)
        if n_rows:
            require_same_alarms(detector, given, {name: np.asarray(answer) for name, answer in found.items()})
        else:
            assert {len(answer) for answer in found.values()} == {0}


def test_the_graph_of_a_detector_of_windows_takes_one_series():
    frame = pd.DataFrame(ROWS.astype(np.float64), columns=list("abcde")).assign(time=range(300))
    detector = AnomalyDetector(autoencoder=LinearAutoencoder(2), window=3, time="time", random_state=0).fit(frame)
    graph = graph_of(detector)
    for n_rows in (1, 2, 3, 300):
        given = frame.head(n_rows)
        require_same_alarms(detector, given, answered(graph, np.array(given.drop(columns="time"))))
    assert files.metadata(graph)["window"] == 3
    assert detector.time == "time"


@pytest.mark.parametrize("autoencoder", [SparseAutoencoder(4, **QUICK), VariationalAutoencoder(2, **QUICK)])
def test_a_detector_scores_very_far_rows_as_its_graph_does(autoencoder):
    X = ROWS.astype(np.float64)
    detector = AnomalyDetector(autoencoder=autoencoder, random_state=0).fit(X)
    far = np.repeat(X[:1], 6, axis=0)
    far[:, 0] = [1e2, 1e10, -1e40, 1e150, 1e300, -1e308]
    found = answered(graph_of(detector), far)["score_samples"]
    np.testing.assert_allclose(found, detector.score_samples(far), rtol=1e-5)
    assert (np.diff(found) <= 0).all()


def test_gaps_beside_extreme_cells_are_filled_up_to_the_largest_values_fitted():
    model = LinearAutoencoder(1).fit(rows := table())  # which extrapolates
    graph = graph_of(model, "impute")
    given = rows.slice(0, 20)
    for name, values in (("positive", [1e300] * 20), ("count", [None] * 20)):
        given = given.set_column(given.column_names.index(name), name, pa.array(values, rows[name].type))
    expected = graph.columns.numbers(model.impute(given))
    found = answered(graph, graph.columns.numbers(given))["impute"]
    counts = expected[:, [column.name for column, _ in graph.columns.parts].index("count")]
    assert counts.max() == np.nanmax(rows["count"].to_pandas())
    assert np.abs((found - expected) / (1 + np.abs(expected))).max() < 1e-6


def cities():
    """A category of many values, of which the rare ones have codes, beside a column of labels and gaps."""
    rng = np.random.default_rng(0)
    z, n = rng.normal(size=2000), 2000
    columns = {"city": [f"c{number:.0f}" for number in z * 60], "a": z, "b": rng.choice(["x", "y"], n)}
    return pa.table({name: pa.array(values, mask=rng.random(n) < 0.05) for name, values in columns.items()})


@pytest.mark.slow
def test_onnx_of_categories_of_many_values_answers_as_the_model_does(tmp_path):
    rows = cities()
    model = Autoencoder(2, max_epochs=3, hidden=(8,), random_state=0).fit(rows)
    model.export(tmp_path / "m.onnx", ["reconstruct", "score_samples"])
    columns = graph_of(model).columns
    assert any(getattr(column.kind, "n_bits", 0) for column, _ in columns.parts)
    strange = rows.set_column(0, "city", pa.array([*["unseen"] * 5, *rows["city"].to_pylist()[5:]]))
    for given in (rows, strange):
        found = answers(tmp_path / "m.onnx", columns.numbers(given))
        for method, answer in found.items():
            expected = getattr(model, method)(given)
            expected = columns.numbers(expected) if isinstance(expected, pa.Table) else expected
            spread = np.maximum(expected.std(0), np.abs(expected - np.median(expected, 0))) + 1e-30
            assert (np.abs(answer - expected) / spread).max() < 1e-5, method


@pytest.mark.slow
def test_onnx_of_scores_that_hardly_differ(tmp_path):
    """Those of one column of labels, which one component rebuilds."""
    rows = pd.DataFrame({"label": np.random.default_rng(0).choice(list("xyz"), 300)})
    model = Autoencoder(1, hidden=(), max_epochs=2, random_state=0).fit(rows)
    path = tmp_path / "model.onnx"
    model.export(path, ["score_samples"])
    found = onnxruntime.InferenceSession(path).run(None, {"X": np.arange(3.0)[:, None]})[0]
    expected = model.score_samples(pd.DataFrame({"label": model.columns_.columns[0].kind.labels}))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_classes_and_numbers_are_predicted(tmp_path):
    y = np.where(ROWS[:, 0] > 7, "high", "low")
    head = {"autoencoder": LinearAutoencoder(2), "max_epochs": 3, "random_state": 0}
    model = AutoencoderClassifier(**head).fit(ROWS, y)
    model.export(tmp_path / "c.onnx")
    found = answers(tmp_path / "c.onnx", ROWS)
    kept = json.loads(onnx.load(tmp_path / "c.onnx").metadata_props[0].value)
    assert (np.array(kept["classes"])[found["predict"]] == model.predict(ROWS)).all()
    assert np.abs(found["predict_proba"] - model.predict_proba(ROWS)).max() < 1e-5
    numbers = AutoencoderRegressor(**head).fit(ROWS, ROWS[:, 1].astype(float) + 1e6)
    numbers.export(tmp_path / "r.onnx")
    assert np.abs(answers(tmp_path / "r.onnx", ROWS)["predict"] - numbers.predict(ROWS)).max() < 1e-4


def test_columns_far_from_zero_are_given_in_float64(tmp_path):
    X = np.random.default_rng(0).normal(size=(100, 3)) + np.array([1e9, 0, 0])
    model = LinearAutoencoder(1).fit(X)
    model.export(tmp_path / "m.onnx", "reconstruct")
    found = answers(tmp_path / "m.onnx", X)["reconstruct"]
    assert np.abs((found - model.reconstruct(X)) / model.scaler_.divisor).max() < 1e-5


def test_values_that_stand_for_gaps_do_so_in_the_graph(tmp_path):
    model = Autoencoder(2, missing_values=-999, max_epochs=0, random_state=0).fit(GAPS)
    model.export(tmp_path / "m.pt2", "impute")
    program = torch.export.load(tmp_path / "m.pt2").module()
    marked = torch.from_numpy(np.nan_to_num(GAPS, nan=-999))
    assert torch.equal(program(marked)["impute"], program(torch.from_numpy(GAPS))["impute"])


def test_a_graph_that_answers_otherwise_is_not_written(fitted, tmp_path, monkeypatch):
    wrong = lambda graph: (b"", lambda rows: {"transform": fitted.transform(rows) * 1.01})  # noqa: E731
    monkeypatch.setitem(files.WRITERS, ".onnx", wrong)
    with pytest.raises(DataError, match="does not answer 'transform' as the model does"):
        fitted.export(tmp_path / "m.onnx", "transform")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("methods", [[], 5, [5], True])
def test_methods_are_named_or_left_out(methods, tmp_path):
    model = Autoencoder(2, **QUICK).fit(ROWS)
    with pytest.raises(OptionError, match="names of methods"):
        model.export(tmp_path / "m.onnx", methods)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused(fitted, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:  # before a graph is made, which takes seconds
        patched.setattr(files, "graph_of", lambda *_: pytest.fail("a graph was made"))
        with pytest.raises(FileError, match=r"'\.pb'.*'\.onnx', '\.pt2'"):
            fitted.export(tmp_path / "m.pb")
        with pytest.raises(MissingFileError, match="there is no folder"):
            fitted.export(tmp_path / "none" / "m.onnx")
    with pytest.raises(OptionError, match="'sample'"):
        fitted.export(tmp_path / "m.onnx", "sample")

    detector = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(ROWS)
    n_known = len(detector.unlikeness_.known.rows)  # rows that look like anomalies are not kept
    monkeypatch.setattr(of_detectors, "MOST_EXACT", 100)
    with pytest.raises(OptionError, match=rf"{n_known} rows. .*known_rows=100"):
        detector.export(tmp_path / "m.onnx")

    class Odd(torch.nn.Module):
        def forward(self, x):
            return x[:, :2] if x.sum() > 0 else x[:, 1:3]

    model = Autoencoder(2, encoder=Odd(), max_epochs=0, random_state=0).fit(ROWS)
    with pytest.raises(OptionError, match="depend on the values"):
        model.export(tmp_path / "m.onnx")


def test_the_command_exports_a_saved_model(fitted, cancer, tmp_path, monkeypatch, capsys):
    from eigencode.cli import main

    fitted.save(tmp_path / "m.safetensors")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "m.safetensors", "--output", "m.onnx", "--methods", "transform,"]) == 0
    assert "m.onnx" in capsys.readouterr().out
    codes = answers("m.onnx", cancer.astype(np.float32))["transform"]
    assert np.abs(codes - fitted.transform(cancer.astype(np.float32))).max() < 1e-4
    kept = json.loads(onnx.load("m.onnx").metadata_props[0].value)
    assert kept["methods"] == ["transform"]
    assert kept["version"] == eigencode.__version__
    assert main(["export", "none.safetensors", "--output", "m.pb"]) == 1
    assert "The ending of 'm.pb' does not name a format" in capsys.readouterr().err
    assert main(["export", "m.safetensors", "--output", "m.safetensors"]) == 1
    np.savetxt("rows.csv", cancer[:20], delimiter=",")
    capsys.readouterr()
    for command, write in (
        (["export", "m.safetensors"], lambda: fitted.export("m.zip")),
        (["report", "m.safetensors", "rows.csv"], lambda: fitted.report(cancer, "m.zip")),
    ):
        with pytest.raises(FileError) as raised:
            write()
        assert main([*command, "--output", "m.zip"]) == 1
        assert capsys.readouterr().err.strip() == str(raised.value)  # it lists all endings


def test_the_series_for_the_logarithm_of_the_gamma_function():
    x = torch.logspace(-6, 7, 2000, dtype=torch.float64)
    assert ((lgamma(x) - torch.lgamma(x)).abs() <= 1e-12 * (1 + torch.lgamma(x).abs())).all()


def test_onnx_of_ordered_classes_in_rows_that_are_far_from_them(tmp_path):
    """The exporter's own logarithm of a sigmoid is -inf there, and its product with 0 no number."""
    rng = np.random.default_rng(0)
    size = rng.integers(0, 3, 200)
    labels = pd.Categorical.from_codes(size, ["low", "middle", "high"], ordered=True)
    rows = pd.DataFrame({"x": rng.normal(size=200) + 2 * size, "size": labels})
    model = Autoencoder(1, max_epochs=1, random_state=0).fit(rows)
    rows["x"] *= 10
    model.export(tmp_path / "m.onnx", methods=["score_samples"])
    found = answers(tmp_path / "m.onnx", graph_of(model).columns.numbers(rows))["score_samples"]
    np.testing.assert_allclose(found, model.score_samples(rows), rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_convolutions_of_float64_are_those_of_torch(n_axes, stride, padding, dilation, groups):
    random = torch.Generator().manual_seed(0)
    x, bias = (torch.randn(*shape, generator=random).double() for shape in [(3, 4, *(9, 8, 7)[:n_axes]), (6,)])
    usual, transposed = (torch.randn(a, b, *(3, 2, 2)[:n_axes], generator=random).double() for a, b in [(6, 4), (4, 6)])
    given = bias, stride, padding, dilation, groups
    expected = getattr(torch.nn.functional, f"conv{n_axes}d")(x, usual[:, : 4 // groups], *given)
    found = operators.usual_convolution(x, usual[:, : 4 // groups], *given)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for rest in range(min(stride, max(stride, dilation))):
        given = bias, stride, padding, rest, groups, dilation
        expected = getattr(torch.nn.functional, f"conv_transpose{n_axes}d")(x, transposed[:, : 6 // groups], *given)
        found = operators.transposed_convolution(x, transposed[:, : 6 // groups], *given)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_onnx_of_a_detector_of_many_columns_without_gaps(digits, tmp_path):
    rng = np.random.default_rng(0)
    X = digits[:400] + rng.normal(size=(400, 64))
    autoencoder = Autoencoder(4, image_shape=(1, 8, 8), **QUICK)
    detector = AnomalyDetector(autoencoder=autoencoder, random_state=0).fit(X)
    detector.export(tmp_path / "d.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "d.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == "tensor(double)"
    given = np.concatenate([X[:60], X[:60] + rng.normal(size=(60, 64)), 10 * X[:5], 1e6 * X[:3]])
    require_same_alarms(detector, given, answers(tmp_path / "d.onnx", given))


@pytest.mark.parametrize("sparsity", ["l1", "top_k"])
def test_the_iterations_for_optimal_codes_are_one_loop_of_a_graph(sparsity, tmp_path):
    """Otherwise there would be thousands of operators, for each method again."""
    model = SparseAutoencoder(8, code="optimal", sparsity=sparsity, max_epochs=2, random_state=0).fit(ROWS)
    model.export(tmp_path / "m.pt2", methods=["transform", "score_samples"])
    program = torch.export.load(tmp_path / "m.pt2")
    assert len(program.graph.nodes) < 1_000
    for n_rows in (1, 200):
        found = program.module()(torch.from_numpy(ROWS[:n_rows]))
        for name, answer in found.items():
            expected = getattr(model, name)(ROWS[:n_rows])
            assert np.abs(answer.numpy() - expected).max() < 1e-4 * getattr(model, name)(ROWS).std()
