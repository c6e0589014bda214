"""Reasons for anomalies: suspicious cells beside a literal version, contributions that add up, planted faults."""

import itertools
import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats

import eigencode
from eigencode import AnomalyDetector, Autoencoder, LinearAutoencoder
from eigencode.data.tables import compact
from eigencode.detection.suspicion import LEVEL, MOST_HIDDEN, CellDensity
from eigencode.errors import DataError, OptionError
from eigencode.estimators.inputs import read_rows

D, N_FACTORS, NOISE = 8, 2, 0.3


def rows_of(n_rows, seed):
    """Rows of eight columns about a plane, in different units."""
    loadings = np.random.default_rng(7).normal(size=(N_FACTORS, D))
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, N_FACTORS)) @ loadings + NOISE * rng.normal(size=(n_rows, D))
    return rows * np.logspace(-2, 2, D) + 50


@pytest.fixture(scope="module")
def fitted():
    return AnomalyDetector(autoencoder=LinearAutoencoder(N_FACTORS), random_state=0).fit(rows_of(600, 0))


def literal(x, center, covariance):
    """The suspicious cells of a row by trying all sets, how surprising each cell is, and what is expected of it."""

    def conditional(j, clean):
        others = [i for i in clean if i != j]
        gain = covariance[j, others] @ np.linalg.inv(covariance[np.ix_(others, others)])
        return center[j] + gain @ (x[others] - center[others]), covariance[j, j] - gain @ covariance[others, j]

    def distance(clean):
        away = x[clean] - center[clean]
        return away @ np.linalg.inv(covariance[np.ix_(clean, clean)]) @ away

    known, everyone = [j for j in range(len(x)) if not np.isnan(x[j])], range(len(x))
    limit = scipy.stats.chi2.isf(LEVEL / len(x), 1) / 2
    hidden, best = (), 0.0
    for size in range(1, min(MOST_HIDDEN, len(x) // 2) + 1):
        left = {some: [j for j in known if j not in some] for some in itertools.combinations(known, size)}
        gains = {some: (distance(known) - distance(clean)) / 2 - size * limit for some, clean in left.items()}
        most = max(gains, key=gains.get)
        if gains[most] <= best:
            break
        hidden, best = most, gains[most]
    clean = [j for j in known if j not in hidden]
    means, variances = np.array([conditional(j, clean) for j in everyone]).T
    return list(hidden), np.nan_to_num((x - means) ** 2 / variances / 2), means


def test_suspicious_cells_are_those_of_conditional_densities():
    rng = np.random.default_rng(0)
    loadings, noise, center = rng.normal(size=(6, 3)), rng.uniform(0.05, 0.2, size=6), rng.normal(size=6)
    covariance = loadings @ loadings.T + np.diag(noise)
    rows = rng.multivariate_normal(center, covariance, size=60)
    rows[:30, 2] += 6
    rows[10:50, 4] -= 5
    rows[::7, 1] = np.nan
    found = CellDensity.of_numbers(np.ones(1), center[None], covariance[None]).suspicion(rows)
    hidden, surprise, expected = zip(*(literal(x, center, covariance) for x in rows), strict=True)
    assert [np.flatnonzero(one).tolist() for one in found.hidden] == list(hidden)
    assert {len(one) for one in hidden} >= {0, 1, 2}
    np.testing.assert_allclose(found.surprise, surprise, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.expected, expected, rtol=1e-8)


def test_two_wrong_cells_that_fit_together_are_found():
    """Without the third one the others agree, five deviations away from the mean; without both, nothing is odd."""
    covariance = np.full((4, 4), 1.0) + 0.1 * np.eye(4)
    covariance[3, :3] = covariance[:3, 3] = 0
    found = CellDensity.of_numbers(np.ones(1), np.zeros((1, 4)), covariance[None]).suspicion(np.array([[5.0, 5, 0, 0]]))
    assert found.hidden.tolist() == [[True, True, False, False]]
    np.testing.assert_allclose(found.expected, 0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:X has gaps")
def test_a_gap_is_the_first_reason_where_many_columns_and_few_rows_have_none():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 25)) + rng.normal(size=(300, 25))
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), random_state=0).fit(rows[:100])
    new, wrong = rows[100:].copy(), rng.integers(25, size=200)
    new[np.arange(200), wrong] = np.nan
    first = model.explain(new, n_columns=1)
    assert (first.column == np.array([f"x{j}" for j in wrong])).mean() > 0.95


def test_a_mixture_compares_a_value_with_its_most_likely_ones():
    """By numerical integration over one cell of rows of two, one of them a gap in some rows."""
    weights, means = np.array([0.3, 0.7]), np.array([[0.0, 0.0, 1.0], [3.0, -1.0, 0.0]])
    covariances = np.stack([np.eye(3) + 0.5, np.eye(3) - 0.2])
    density = CellDensity.of_numbers(weights, means, covariances)
    normals = [scipy.stats.multivariate_normal(m, c) for m, c in zip(means, covariances, strict=True)]
    x = np.array([0.5, 0.7, -0.2])
    found = density.suspicion(x[None])
    grid = np.linspace(-30, 30, 60_001)
    line = np.tile(x, (len(grid), 1))
    line[:, 1] = grid
    joint = np.array([w * n.pdf(line) for w, n in zip(weights, normals, strict=True)])
    here = sum(w * n.pdf(x) for w, n in zip(weights, normals, strict=True))
    assert found.surprise[0, 1] == pytest.approx(np.log(joint.max(1).sum() / here), rel=1e-5)
    assert found.expected[0, 1] == pytest.approx((joint.sum(0) @ grid) / joint.sum(), rel=1e-5)


def test_labels_are_compared_by_bayes_rule():
    """Two labels that are told by a number: log-odds of linear discriminant analysis."""
    rng = np.random.default_rng(0)
    label = rng.random(200_000) < 0.2
    number = rng.normal(size=len(label)) + 2 * label
    rows = np.column_stack([number, label, ~label]).astype(float)
    covariance = np.cov(rows.T) + 1e-9 * np.eye(3)
    shares = np.array([np.nan, 0.2, 0.8])
    density = CellDensity(
        np.ones(1), rows.mean(0)[None], covariance[None], np.array([1, 2]), shares, np.zeros(3), np.ones(3)
    )
    new = np.array([[2.5, 0, 1], [-0.5, 1, 0], [0.0, 0, 1], [np.nan, 1, 0]])
    found = density.suspicion(new)
    odds = np.log(0.2 / 0.8) + scipy.stats.norm(2).logpdf(new[:3, 0]) - scipy.stats.norm(0).logpdf(new[:3, 0])
    np.testing.assert_allclose(found.surprise[:3, 1], [max(odds[0], 0), max(-odds[1], 0), max(odds[2], 0)], atol=0.05)
    assert found.surprise[3, 1] == pytest.approx(np.log(4), abs=1e-3)
    assert found.expected[:, 1:].tolist() == [[1, 0], [0, 1], [0, 1], [0, 1]]


@pytest.mark.filterwarnings("ignore:X has gaps")
def test_contributions_add_up(fitted):
    rows = np.concatenate([rows_of(30, 1), 3 * rows_of(10, 2), rows_of(1, 3) * 1e4])
    rows[3, 2] = np.nan
    found = fitted.explain(rows)
    nats = fitted.unlikeness_.row_nats(fitted.autoencoder_, read_rows(fitted, rows))
    np.testing.assert_allclose(found.groupby("row").contribution.sum(), nats, rtol=1e-9)
    np.testing.assert_allclose(found.groupby("row").nats.first(), nats, rtol=1e-9)
    scores = found.groupby("row")[["nats_tail", "neighbors", "beyond"]].first().sum(axis=1)
    np.testing.assert_allclose(scores, -fitted.score_samples(rows), rtol=1e-9)


def planted(kind, n_rows, seed):
    """Rows with one fault each, and the columns that are wrong."""
    rng = np.random.default_rng(seed)
    rows, spread = rows_of(n_rows, seed), rows_of(5000, 99).std(0)
    wrong = rng.integers(D, size=n_rows)
    every = np.arange(n_rows)
    if kind == "correlation":  # the cell of another row, which is far enough from its own to be told
        other = rows_of(50 * n_rows, seed + 1).reshape(n_rows, 50, D)[every, :, wrong]
        far = np.abs(other - rows[every, wrong][:, None])
        rows[every, wrong] = other[every, far.argmax(1)]
        return rows, wrong[:, None]
    shift = 5 * spread * rng.choice([-1, 1], size=(n_rows, 1))
    rows[every, wrong] += shift[every, wrong]
    second = (wrong + 1 + rng.integers(D - 1, size=n_rows)) % D
    if kind == "two":
        rows[every, second] += shift[every, second]
        return rows, np.stack([wrong, second], 1)
    return rows, wrong[:, None]


@pytest.mark.parametrize("kind", ["one", "two", "correlation"])
def test_the_first_reasons_are_the_planted_columns(fitted, kind):
    rows, wrong = planted(kind, 200, 5)
    found = fitted.explain(rows, n_columns=wrong.shape[1])
    columns = found.column.str.removeprefix("x").astype(int).to_numpy().reshape(200, -1)
    assert (np.sort(columns, 1) == np.sort(wrong, 1)).all(1).mean() > 0.9
    clean = rows_of(200, 5)
    firsts = found[found["rank"] == 1]
    units = np.logspace(-2, 2, D)[columns[:, 0]]
    errors = (firsts.expected - clean[np.arange(200), columns[:, 0]]) / units
    assert np.median(np.abs(errors)) < 2 * NOISE
    assert (firsts.direction == np.where(firsts.observed > firsts.expected, "above", "below")).all()


@pytest.mark.versions
def test_the_frame_has_the_rows_and_columns_of_the_data():
    frame = pd.DataFrame(rows_of(200, 1)[:, :3], columns=["a", "b", "c"], index=np.arange(200) + 1000)
    model = AnomalyDetector(autoencoder=Autoencoder(1, max_epochs=5), random_state=0).fit(frame)
    found = model.explain(frame[:5])
    assert found["row"].tolist() == np.repeat(np.arange(1000, 1005), 3).tolist()
    assert found["rank"].tolist() == [1, 2, 3] * 5
    assert set(found["column"]) == {"a", "b", "c"}
    assert (found.groupby("row").contribution.diff().dropna() <= 0).all()
    first = found.iloc[0]
    assert first.observed == frame.loc[1000, first.column]


def mixed(n_rows, seed):
    """Two numbers, a category and a boolean that follow one factor."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n_rows)
    kind = np.where(z > 0.5, "high", np.where(z < -0.5, "low", "mid"))
    b, n = 2 * z + 0.3 * rng.normal(size=n_rows), rng.poisson(np.exp(z))
    return pd.DataFrame({"a": z, "b": b, "n": n, "kind": kind, "ok": z > 0, "one": 1, "unit": "cm"})


@pytest.fixture(scope="module")
def of_mixed():
    return AnomalyDetector(autoencoder=Autoencoder(2, max_epochs=20), random_state=0).fit(mixed(500, 0))


@pytest.mark.filterwarnings("ignore:X has gaps")
def test_gaps_and_values_that_cannot_be_are_reasons(of_mixed):
    clean = mixed(100, 1)
    assert (of_mixed.predict(clean) == -1).mean() < 0.15
    faults = {
        "a": (np.nan, "missing"),
        "n": (-1, "below"),
        "kind": ("alien", "unseen"),
        "ok": (None, "missing"),
        "unit": ("in", "unseen"),
    }
    for name, (value, direction) in faults.items():
        wrong = clean.assign(**{name: pd.Series([value] * 100, dtype=object if name == "ok" else None)})
        found = of_mixed.explain(wrong, n_columns=1)
        assert (found.column == name).mean() > 0.9
        assert (found.direction[found.column == name] == direction).all()
        # By six seeds .88 to .91 of the rows where a count cannot be (the cell before may be less likely), .99 others.
        assert (of_mixed.score_samples(wrong) < of_mixed.score_samples(clean)).mean() > 0.8


@pytest.mark.versions
@pytest.mark.filterwarnings("ignore:X has gaps")
@pytest.mark.parametrize("form", [pd.DataFrame, pl.from_pandas], ids=["pandas", "polars"])
def test_values_that_stand_for_gaps_are_missing(form):
    options = {"missing_values": [-999, "none"], "max_epochs": 2}
    model = AnomalyDetector(autoencoder=Autoencoder(2, **options), random_state=0).fit(form(mixed(300, 0)))
    wrong = mixed(20, 1).assign(a=-999.0, kind="none")
    found = model.explain(form(wrong), output="records")
    for record in found:
        of_column = {reason["column"]: reason for reason in record["reasons"]}
        for name in ("a", "kind"):
            assert (of_column[name]["observed"], of_column[name]["direction"]) == (None, "missing")
        assert of_column["b"]["observed"] == wrong["b"].iloc[record["row"]]


def _as_dates(days):
    return days.dt.date


@pytest.mark.parametrize("fitted", [pd.Series, _as_dates, lambda days: days.dt.tz_localize("UTC")])
@pytest.mark.parametrize("given", [pd.Series, _as_dates, lambda days: days.dt.tz_localize("UTC")])
def test_times_are_compared_with_those_of_other_types(fitted, given):
    """Rows may have dates where those fitted had times, or times with a zone."""
    z = np.random.default_rng(0).normal(size=200)
    days = pd.Series(pd.Timestamp("2026-01-01") + pd.to_timedelta(np.rint(30 * z), unit="D"))
    rows = pd.DataFrame({"a": z, "b": 2 * z, "day": days})
    autoencoder = LinearAutoencoder(1)
    model = AnomalyDetector(autoencoder=autoencoder, random_state=0).fit(rows.assign(day=fitted(days)))
    for year, direction in (("1990", "below"), ("2060", "above")):
        new = rows[:3].assign(day=given(pd.Series(pd.to_datetime([f"{year}-01-01"] * 3))))
        found = model.explain(new, n_columns=1)
        assert found.column.tolist() == ["day"] * 3
        assert found.direction.tolist() == [direction] * 3


@pytest.mark.versions
@pytest.mark.parametrize("kind", ["times as text", "ordered", "ranked"])
def test_text_with_an_order_is_above_or_below(kind):
    """Days in the order of a calendar are in another one as text; levels have the order that their type gives."""
    n = 6 if kind == "ordered" else 78
    place = np.resize(np.arange(n), 300)
    if kind == "times as text":
        names = pd.date_range("2026-01-20", periods=n).strftime("%d.%m.%Y").tolist()
        assert names[-1] < names[0]
    else:
        names = [f"level {n - number:03d}" for number in range(n)]
    text = pd.Series(np.array(names)[place])
    level = text if kind == "times as text" else pd.Categorical(text, names, ordered=True)
    rows = pd.DataFrame({"a": place + 0.0, "b": 2.0 * place, "level": level})
    model = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(rows)
    new = rows[:2].assign(a=[0.0, place.max()], b=[0.0, 2.0 * place.max()])
    new["level"] = pd.Series([names[-1], names[0]]).astype(rows["level"].dtype)
    found = model.explain(new, n_columns=3)
    found = found[found.column == "level"]
    assert found.observed.tolist() == [names[-1], names[0]]
    assert found.direction.tolist() == ["above", "below"]


def test_a_wrong_label_is_the_first_reason_of_its_row(of_mixed):
    model = of_mixed
    clean = mixed(300, 1)
    clean = clean[clean.kind != "mid"]
    wrong = clean.assign(kind=clean.kind.map({"low": "high", "high": "low"}))
    first = model.explain(wrong, n_columns=1).set_index("row")
    assert (first.column == "kind").mean() > 0.9
    is_found = first.column == "kind"
    assert np.mean(first.expected[is_found].to_numpy() == clean.kind[is_found].to_numpy(object)) > 0.9
    assert first.observed[is_found].tolist() == wrong.kind[is_found].tolist()
    assert (first.direction[is_found] == "other").mean() > 0.9
    unseen = model.explain(clean.assign(kind="alien"), n_columns=1)
    assert (unseen.column == "kind").mean() > 0.9
    found = model.explain(wrong)
    assert set(found.column) == {"a", "b", "n", "kind", "ok", "one", "unit"}
    np.testing.assert_allclose(found.groupby("row").contribution.sum(), found.groupby("row").nats.first(), rtol=1e-9)


def test_reasons_are_the_same_after_loading(fitted, tmp_path):
    fitted.save(tmp_path / "detector.safetensors")
    again = eigencode.load(tmp_path / "detector.safetensors")
    pd.testing.assert_frame_equal(again.explain(rows_of(9, 1)), fitted.explain(rows_of(9, 1)))


def test_a_large_frame_is_measured_as_a_small_one(monkeypatch):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=200), "color": rng.choice(list("abc"), 200)})
    detector = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(frame)
    scores, reasons = detector.score_samples(frame), detector.explain(frame)
    monkeypatch.setattr(compact, "COMPACT_FROM", 1)
    np.testing.assert_array_equal(detector.score_samples(frame), scores)
    pd.testing.assert_frame_equal(detector.explain(frame), reasons)


def test_a_zero_is_not_unseen_where_a_skewed_column_has_zeros():
    rng = np.random.default_rng(0)
    skewed = np.where(rng.random(300) < 0.1, 0.0, np.exp(2 * rng.normal(size=300)))
    frame = pd.DataFrame({"price": skewed, "size": rng.normal(size=300)})
    detector = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(frame)
    assert detector.columns_.columns[0].kind.kind == "positive"
    rows = frame[frame["price"] == 0].head(1)
    below = rows.assign(price=-1.0)
    found = [detector.explain(each).query("column == 'price'").iloc[0] for each in (rows, below)]
    assert found[0]["contribution"] < found[1]["contribution"] - 4
    assert detector.columns_.allows(pd.concat([rows, below]))[:, 0].tolist() == [True, False]


def test_records_have_the_labels_of_rows_as_json_values(fitted):
    rows = pd.DataFrame(rows_of(2, 1), index=pd.to_datetime(["2020-01-01", "2020-01-02"]))
    found = fitted.explain(rows, n_columns=1, output="records")
    assert [row["row"] for row in found] == ["2020-01-01T00:00:00", "2020-01-02T00:00:00"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("n_columns", [0, -1, 1.5, True])
def test_a_number_of_columns_is_checked(fitted, n_columns):
    with pytest.raises(OptionError, match="'n_columns' must be a positive int"):
        fitted.explain(rows_of(1, 1), n_columns=n_columns)


@pytest.fixture(scope="module")
def labelled():
    """A frame of mixed columns with labels of its rows, and a detector fitted to it."""
    rng = np.random.default_rng(0)
    columns = {"size": rng.normal(size=120), "color": rng.choice(list("abc"), 120), "day": "2026-01-02"}
    frame = pd.DataFrame(columns, index=[f"row {i}" for i in range(120)])
    frame["day"] = pd.to_datetime(frame["day"]) + pd.to_timedelta(rng.integers(90, size=120), unit="D")
    frame.loc["row 40", "color"] = "alien"
    return frame, AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(frame.drop(index="row 40"))


@pytest.mark.parametrize("n_rows_of_block", [7, 1000])
def test_the_reasons_of_chosen_rows_are_those_among_all(labelled, n_rows_of_block, tmp_path, monkeypatch):
    """By numbers, a mask or a series; of a frame with labels of its rows, of an array, and of a file."""
    frame, detector = labelled
    monkeypatch.setattr("eigencode.data.block_sources.rows_of_block", lambda n_columns: n_rows_of_block)
    monkeypatch.setattr("eigencode.data.named_files.STREAMED_FROM", 1)
    every, records = detector.explain(frame, n_columns=2), detector.explain(frame, n_columns=2, output="records")
    chosen = [3, 40, 41, 119]
    mask = np.isin(np.arange(120), chosen)
    expected = every[every["row"].isin(frame.index[chosen])].reset_index(drop=True)
    for rows in (chosen, [119, 3, 41, 40, 3], mask, pd.Series(mask, frame.index)):
        pd.testing.assert_frame_equal(detector.explain(frame, rows=rows, n_columns=2), expected)
    found = detector.explain(frame, rows=chosen, n_columns=2, output="records")
    of_chosen = [pd.DataFrame([each for row in some for each in row["reasons"]]) for some in (found, records)]
    every_record = of_chosen[1].iloc[[line for row in chosen for line in (2 * row, 2 * row + 1)]]
    pd.testing.assert_frame_equal(of_chosen[0], every_record.reset_index(drop=True))
    assert [row["row"] for row in found] == ["row 3", "row 40", "row 41", "row 119"]
    with pytest.raises(OptionError, match="Got 9223372036854775808"):
        detector.explain(frame, rows=[2**63])
    frame.to_parquet(tmp_path / "rows.parquet", index=False)
    of_file = detector.explain(tmp_path / "rows.parquet", rows=chosen, n_columns=2)
    assert of_file["row"].tolist() == np.repeat(chosen, 2).tolist()
    assert of_file["column"].tolist() == expected["column"].tolist()
    np.testing.assert_allclose(of_file["contribution"], expected["contribution"])


def test_a_mask_with_the_labels_of_the_rows_in_another_order_is_taken_by_its_labels(labelled):
    frame, detector = labelled
    mask = pd.Series(np.isin(np.arange(120), [3, 40]), frame.index)
    expected = detector.explain(frame, rows=mask)
    pd.testing.assert_frame_equal(detector.explain(frame, rows=mask.sort_index()), expected)
    pd.testing.assert_frame_equal(detector.explain(frame, rows=mask.astype("boolean").iloc[::-1]), expected)
    by_position = mask.set_axis(np.arange(119, -1, -1))  # other labels
    pd.testing.assert_frame_equal(detector.explain(frame, rows=by_position), expected)


@pytest.mark.versions
def test_a_mask_of_rows_whose_labels_have_levels_or_gaps(labelled):
    frame, detector = labelled
    chosen = np.isin(np.arange(120), [3, 40])
    levels = pd.MultiIndex.from_product([range(12), range(10)])
    for index in (levels, pd.Index([np.nan, *range(119)]), pd.IntervalIndex.from_breaks(range(121))):
        rows = frame.set_axis(index)
        expected = detector.explain(rows, rows=chosen)
        for mask in (pd.Series(chosen), pd.Series(chosen, index), pd.Series(chosen, index).iloc[::-1]):
            pd.testing.assert_frame_equal(detector.explain(rows, rows=mask), expected)


@pytest.mark.parametrize("rows", [[], np.zeros(120, bool)])
def test_no_rows_have_no_reasons(labelled, rows):
    frame, detector = labelled
    found = detector.explain(frame, rows=rows, n_columns=2)
    assert len(found) == 0
    assert found.columns.tolist() == detector.explain(frame[:1]).columns.tolist()
    assert detector.explain(frame, rows=rows, output="records") == []


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([1, 120], OptionError, "'rows' must be from 0 to 119, as X has 120 rows. Got 120"),
        ([-1, 5], OptionError, "Got -1"),
        (np.ones(119, bool), DataError, "A mask must have an item for each row of X. Got 119 and 120 rows"),
        ([0.5], OptionError, "a mask of the rows of X, or their numbers. Got the type float64"),
        (np.ones((120, 1), bool), OptionError, r"Got the shape \(120, 1\)"),
        (["row 3"], OptionError, "their numbers"),
    ],
)
def test_rows_that_are_not_in_the_table_are_refused(labelled, rows, error, message, monkeypatch):
    frame, detector = labelled
    monkeypatch.setattr(type(detector), "_rows", lambda *_: pytest.fail("rows are read before they are checked"))
    with pytest.raises(error, match=message):
        detector.explain(frame, rows=rows)


def test_no_reasons_have_the_types_of_reasons():
    frame = pl.DataFrame({"a": np.arange(120.0), "b": ["x", "y"] * 60, "c": np.arange(120.0)[::-1] % 7})
    detector = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(frame)
    found = detector.explain(frame, rows=[])
    assert len(found) == 0
    assert found.schema == detector.explain(frame[:2]).schema
