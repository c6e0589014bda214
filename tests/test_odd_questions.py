"""Odd questions to fitted models: an answer, or an error in this package's own words."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from eigencode import AnomalyDetector, Autoencoder, AutoencoderRegressor, processes
from eigencode.detection import conformal
from eigencode.errors import DataError, OptionError, StorageError, TrainingError
from eigencode.estimators.members import _standardised
from eigencode.parts import MLP, GaussianCode, TopK
from eigencode.report.charts import axis, chart, units
from eigencode.report.pieces import figure

QUICK = {"max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 2)) @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(300, 4))


@pytest.fixture(scope="module")
def model(rows):
    return Autoencoder(2, **QUICK).fit(rows)


@pytest.fixture(scope="module")
def detector(rows):
    return AnomalyDetector(autoencoder=Autoencoder(2, **QUICK), random_state=0).fit(rows)


@pytest.mark.versions
def test_answers_to_a_pandas_frame_are_written(rows, tmp_path):
    frame, path = pd.DataFrame(rows, columns=list("abcd")), tmp_path / "codes.parquet"
    model = Autoencoder(2, **QUICK).fit(frame)
    model.transform(frame, output=path)
    np.testing.assert_array_equal(pyarrow.parquet.read_table(path).to_pandas(), model.transform(frame))


@pytest.mark.parametrize("cell", [1e300, -1e308])
def test_cells_too_far_to_condition_on_are_named(model, rows, cell):
    given = rows[:4].copy()
    given[:, 1] = np.nan
    given[2, 0] = cell
    with pytest.raises(DataError, match="no finite answer .* row 2.* wrong cell"):
        model.sample(given=given, random_state=0)


def test_two_given_columns_of_one_name_are_an_error(rows):
    frame = pd.DataFrame(rows, columns=list("abcd"))
    with pytest.raises(DataError, match="same name"):
        Autoencoder(2, **QUICK).fit(frame).sample(given=frame[["a", "a"]])


@pytest.mark.parametrize("first_row", [100, -8192, 1.5, None, "a", True])
def test_the_first_row_of_a_part_is_a_multiple_of_a_chunk(model, rows, first_row):
    with pytest.raises(OptionError, match="multiple of 8,192"):
        model.impute(rows, n_draws=2, random_state=0, first_row=first_row)


def test_more_draws_than_fit_into_memory_are_refused(model, rows):
    with pytest.raises(DataError, match="memory"):
        model.impute(rows, n_draws=10**15)


@pytest.mark.parametrize("rate", ["a", None, float("nan"), 0])
def test_rates_are_numbers(detector, rows, rate):
    with pytest.raises(OptionError, match="between 0 and 1"):
        detector.discoveries(rows, rate)


@pytest.mark.parametrize("share", ["a", None, 1])
def test_shares_of_anomalies_are_numbers(detector, rows, share):
    with pytest.raises(OptionError, match="share"):
        detector.drift(rows, anomalies=share)


@pytest.mark.parametrize("p", [[], [2.0], [np.nan], ["a"], [[0.1]], 0.5, None])
def test_p_values_of_drift_are_checked(detector, p):
    with pytest.raises(DataError, match="P-values"):
        detector.drift_from(p)
    assert 0 <= conformal.drift(conformal.checked([1, 0]), [0.5]) <= 1


def test_reasons_and_reports_of_gaps_only_have_no_foreign_warnings(detector, model, tmp_path):
    pytest.importorskip("vl_convert")
    gaps = np.full((3, 4), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert len(detector.explain(gaps))
        model.report(gaps, tmp_path / "report.html")


def test_cells_whose_squares_overflow_are_standardised_without_a_warning(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _standardised(2.0**1020 * rows, np.arange(200))
    np.testing.assert_array_equal(found, _standardised(rows, np.arange(200)))


def test_values_that_differ_by_rounding_have_a_histogram(rows, tmp_path):
    pytest.importorskip("vl_convert")
    codes = np.full((30, 1), np.float32(3.0))
    codes[0] = np.nextafter(codes[0], np.float32(4))
    assert sum(bar["n"] for bar in units(codes, [0])["data"]["values"]) == 30
    model = AutoencoderRegressor(Autoencoder(2, **QUICK), **QUICK).fit(rows, rows[:, 0])
    model.report(np.repeat(rows[:1], 30, axis=0), tmp_path / "report.html")


def test_no_text_keeps_a_script_element_of_a_report_open():
    pytest.importorskip("vl_convert")
    name = "<!--<script></script>"
    drawn = chart([{"row": name}], mark="point", encoding={"x": axis("row", "nominal")})
    (content,) = re.findall(r"json\">(.*)</script>", figure(drawn, "A chart."))
    assert "<" not in content
    assert [each["row"] for each in json.loads(content)["data"][0]["values"]] == [name]


def test_a_negative_seed_of_a_checkpoint_is_damage(rows, tmp_path):
    Autoencoder(2, **QUICK).fit(rows, checkpoint=tmp_path)
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": -1}))
    with pytest.raises(StorageError, match="seed"):
        Autoencoder(2, **QUICK).fit(rows, checkpoint=tmp_path)


@pytest.mark.parametrize("variable", ["RANK", "WORLD_SIZE"])
def test_what_is_no_number_in_the_environment_is_named(monkeypatch, variable):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(variable, "a")
    with pytest.raises(TrainingError, match=f"{variable} .* 'a'"):
        processes.numbered()


def test_a_number_of_one_process_alone_does_not_keep_it_from_writing(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes.numbered() == (0, 1)
    assert processes.is_first()


def test_gaps_are_standardised_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _standardised(np.array([[1.0, np.nan], [3.0, 4.0]], dtype=np.float32), np.arange(2)).tolist() == [
            [-1.0, 0.0],
            [1.0, 0.0],
        ]


@pytest.mark.parametrize(
    "part",
    [{"code": GaussianCode(True)}, {"encoder": MLP((True,))}, {"encoder": MLP((2.0,))}, {"code": TopK(True)}],
)
def test_true_is_no_number_of_anything_in_a_part(rows, part):
    with pytest.raises(OptionError, match="must be an? .*int.* Got (True|2.0)"):
        Autoencoder(2, hidden=(), max_epochs=0, **part).fit(rows)


@pytest.mark.parametrize("n_components", [True, 1.0, 0])
def test_true_is_no_number_of_components(rows, n_components):
    model = Autoencoder(2, hidden=(), max_epochs=0).fit(rows)
    for ask in (model.transform, model.reconstruct):
        with pytest.raises(OptionError, match="n_components must be an int from 1 to 2"):
            ask(rows, n_components=n_components)
