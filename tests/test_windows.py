"""Windows of a time series: which rows they have, gaps in time, and faults that no row shows by itself."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import eigencode
from eigencode import AnomalyDetector, LinearAutoencoder
from eigencode.data.windows import series_starts, window_rows
from eigencode.errors import DataError, OptionError
from eigencode.estimators.reasons import Reasons


def series(n_rows, seed, first=0):
    """Three sensors: an oscillation, the same two rows later, and their product; each minute."""
    rng, t = np.random.default_rng(seed), np.arange(first - 2, first + n_rows)
    wave = np.sin(t / 3) + 0.3 * np.sin(t / 7.7)
    columns = {"inlet": wave[2:], "outlet": wave[:-2], "power": wave[2:] * wave[:-2]}
    frame = pd.DataFrame(columns) + 0.05 * rng.normal(size=(n_rows, 3))
    return frame.assign(time=pd.Timestamp("2026-01-01") + pd.to_timedelta(t[2:], unit="min"))


@pytest.fixture(scope="module")
def detector():
    model = AnomalyDetector(0.05, window=6, time="time", autoencoder=LinearAutoencoder(6), random_state=0)
    return model.fit(series(2000, 0))


def test_each_row_has_the_window_that_ends_with_it():
    starts = series_starts(9, np.array([0, 1, 2, 3, 10, 11, 12, 13, 14]))
    numbers = window_rows(starts, 3)
    for row in range(9):
        first = int(starts[row])
        end = max(row, first + 2)
        assert numbers[row].tolist() == [end - 2, end - 1, end]
    assert window_rows(np.array([0, 0]), 4).tolist() == [[0, 0, 0, 1]] * 2


def test_a_fault_in_time_is_found_where_no_row_is_unusual(detector):
    """Forty rows are in the opposite order; each row by itself is as before."""
    new = series(600, 1, first=5000)
    faulty = new.copy()
    faulty.iloc[300:340, :3] = new.iloc[300:340, :3].to_numpy()[::-1]
    alarms = detector.predict(faulty) == -1
    assert alarms.shape == (600,)
    assert alarms[306:340].mean() > 0.8
    assert alarms[:300].mean() < 0.12
    single = AnomalyDetector(0.05, autoencoder=LinearAutoencoder(1), random_state=0).fit(series(2000, 0).iloc[:, :3])
    assert (single.predict(faulty.iloc[:, :3]) == -1)[306:340].mean() < 0.3
    assert set(detector.explain(faulty[310:330], n_columns=3)["column"].str.extract(r"\[(.*)\]")[0]) <= {
        "t",
        *(f"t-{lag}" for lag in range(1, 6)),
    }


@pytest.mark.versions
def test_reasons_of_chosen_windows_are_computed_of_these_only(detector, monkeypatch):
    """Each is that among all rows: a window has rows which are not chosen, and those after a gap in time begin anew."""
    new = series(100, 1, first=5000)
    halves = pd.concat([new[:40], new[60:]], ignore_index=True)
    every, seen, whole = detector.explain(halves, n_columns=3), [], Reasons.of
    monkeypatch.setattr(Reasons, "of", lambda *asked: seen.append(len(asked[-1].array)) or whole(*asked))
    found = detector.explain(halves, rows=[2, 39, 40, 55], n_columns=3)
    assert seen == [4]
    expected = every[every["row"].isin([2, 39, 40, 55])].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)


def test_the_windows_held_out_do_not_overlap_with_those_learned(detector):
    known = detector.calibration_
    assert detector.false_alarms_ == 0.05
    assert 19 <= len(known.scores) <= 2000 * 0.25 / 6
    assert any("do not overlap" in note for note in detector.notes_)
    shares = [(detector.predict(series(600, s, first=3000 * s)) == -1).mean() for s in range(2, 8)]
    assert np.mean(shares) < 0.12


@pytest.mark.versions
def test_no_window_goes_beyond_a_gap_in_time(detector):
    new = series(100, 1, first=5000)
    halves = pd.concat([new[:40], new[60:]])
    scores = detector.score_samples(halves)
    np.testing.assert_allclose(scores[:40], detector.score_samples(new[:40]))
    np.testing.assert_allclose(scores[40:], detector.score_samples(new[60:]))
    as_polars = pl.from_pandas(halves)
    np.testing.assert_allclose(detector.score_samples(as_polars), scores)


def test_a_file_keeps_windows(detector, tmp_path):
    new = series(100, 1)
    detector.save(tmp_path / "detector")
    again = eigencode.load(tmp_path / "detector")
    np.testing.assert_array_equal(again.predict(new), detector.predict(new))


def test_what_cannot_be_a_series_is_refused(detector):
    new = series(100, 1)
    with pytest.raises(DataError, match="in the order of 'time'"):
        detector.predict(new[::-1])
    with pytest.raises(DataError, match="The table has no column 'time' of times. Its columns are: 'inlet', 'outlet'"):
        detector.predict(new.drop(columns="time"))
    with pytest.raises(OptionError, match="'time' is for windows"):
        AnomalyDetector(time="time").fit(new)
    with pytest.raises(DataError, match="Windows of 60 rows take at least"):
        AnomalyDetector(window=60, autoencoder=LinearAutoencoder(1)).fit(new.drop(columns="time"))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("kind", "b", r"Got column 'kind', constant: always 'b' .*\. Leave it out\."),
        ("number", range(100), r"Got column 'number', identifier: .*\. Leave it out\."),
        ("when", pd.date_range("2026-01-01", periods=100), r"Got column 'when', time: .*, or name it in 'time'\."),
    ],
)
def test_a_column_that_is_not_of_numbers_is_named(column, values, message):
    rows = series(100, 1).drop(columns="time").assign(**{column: values})
    with pytest.raises(DataError, match="Windows are of columns of numbers and booleans. " + message):
        AnomalyDetector(window=3, autoencoder=LinearAutoencoder(1)).fit(rows)


def test_numbers_of_all_kinds_are_a_series():
    """Counts, skewed numbers and booleans are kinds of their own in a table, and numbers in windows."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {"count": rng.poisson(2, 200), "skewed": np.exp(2 * rng.normal(size=200)), "on": rng.random(200) < 0.5}
    )
    detector = AnomalyDetector(window=2, autoencoder=LinearAutoencoder(2), random_state=0)
    of_array = detector.fit(array := rows.to_numpy(np.float64)).score_samples(array)
    assert detector.fit(rows).score_samples(rows).tolist() == of_array.tolist()
