"""The command detect: alarms, ids and reasons of a detector of the shell are those of the library."""

import io
import json
import shlex

import numpy as np
import pandas as pd
import pytest

import eigencode
from eigencode import AnomalyDetector, Autoencoder, LinearAutoencoder
from eigencode.cli import main
from eigencode.cli.alarms import short
from eigencode.estimators.reasons import Reasons


def run(line):
    """The exit code of a command, written as into a shell."""
    return main(shlex.split(line))


def rows_of(n_rows, seed):
    """Two numbers, a label and a date that follow one factor, and a text that is different in each row."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n_rows)
    return pd.DataFrame(
        {
            "code": [f"{i:04d}" for i in range(n_rows)],
            "a": z,
            "b": 2 * z + 0.3 * rng.normal(size=n_rows),
            "kind": np.where(z > 0, "high", "low"),
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.rint(30 * z), unit="D"),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with rows, rows with three faults, and a detector of the shell."""
    path = tmp_path_factory.mktemp("detect")
    rows_of(300, 0).to_csv(path / "normal.csv", index=False)
    new = rows_of(100, 1)
    new.loc[[5, 60], "b"] = 9.5
    new.loc[70, "kind"] = "alien"
    new.loc[80, "day"] = pd.Timestamp("2020-01-01")
    new.to_csv(path / "new.csv", index=False)
    line = f"fit {path}/normal.csv --kind anomaly --exclude code --output {path}/d.safetensors"
    assert run(f"{line} --n-components 1 --max-epochs 5 --false-alarms 0.02 --random-state 0 --quiet") == 0
    return path


def detect(folder, *flags):
    return main(["detect", f"{folder}/d.safetensors", f"{folder}/new.csv", "--quiet", *flags])


@pytest.mark.versions
def test_the_detector_is_that_of_the_library(folder):
    rows = pd.read_csv(folder / "normal.csv", parse_dates=["day"]).drop(columns="code")
    same = AnomalyDetector(0.02, autoencoder=Autoencoder(1, max_epochs=5), random_state=0).fit(rows)
    found = eigencode.load(folder / "d.safetensors")
    new = pd.read_csv(folder / "new.csv", parse_dates=["day"]).drop(columns="code")
    np.testing.assert_allclose(found.p_values(new), same.p_values(new))


def test_alarms_have_ids_and_reasons(folder, capsys):
    assert detect(folder, "--id", "code", "--explain", "2", "--output", f"{folder}/alarms.csv") == 0
    assert "of 100 rows" in capsys.readouterr().out
    found = pd.read_csv(folder / "alarms.csv", dtype={"code": str}).set_index("row")
    assert {5, 60, 70, 80} <= set(found.index)
    assert (found.code == [f"{row:04d}" for row in found.index]).all()
    assert found.reason_1[[5, 60, 70, 80]].tolist() == ["b", "b", "kind", "day"]
    assert found.observed_1[[5, 70]].tolist() == ["9.5", "alien"]
    assert found.observed_1[80][:10] == "2020-01-01"
    assert found.direction_1[[5, 70, 80]].tolist() == ["above", "unseen", "below"]
    model, new = eigencode.load(folder / "d.safetensors"), pd.read_csv(folder / "new.csv", parse_dates=["day"])
    rows = new.drop(columns="code")
    np.testing.assert_allclose(found.p_value, model.p_values(rows)[found.index], rtol=5e-6)
    assert all(len(digits) <= 8 for digits in pd.read_csv(folder / "alarms.csv", dtype=str).p_value)
    np.testing.assert_allclose(found.score, model.score_samples(rows)[found.index])
    assert sorted(found.index) == np.flatnonzero(model.predict(rows) == -1).tolist()


@pytest.mark.parametrize("name", ["alarms.csv", "alarms.parquet", "alarms.json", "-"])
def test_the_most_unusual_rows_are_first_and_are_printed(folder, name, capsys, monkeypatch):
    """Of a table that is read a few rows at a time; their reasons are printed also where none are written."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("eigencode.data.block_sources.rows_of_block", lambda n_columns: 16)
    monkeypatch.setattr("eigencode.data.named_files.STREAMED_FROM", 1)
    assert run(f"detect d.safetensors new.csv --output {name} --quiet --id code --false-alarms 0.2") == 0
    written = capsys.readouterr()
    as_text, told = {"dtype": {"code": str}}, written.err if name == "-" else written.out
    found = {
        "alarms.csv": lambda: pd.read_csv(name, **as_text),
        "alarms.parquet": lambda: pd.read_parquet(name),
        "alarms.json": lambda: pd.read_json(name, **as_text),
        "-": lambda: pd.read_csv(io.StringIO(written.out), **as_text),
    }[name]()
    model, rows = eigencode.load("d.safetensors"), pd.read_csv("new.csv", parse_dates=["day"]).drop(columns="code")
    scores, p = model.score_and_p_values(rows)
    expected = [row for row in scores.argsort(kind="stable") if p[row] <= 0.2]
    assert len(expected) > 5
    assert expected != sorted(expected)
    assert found["row"].tolist() == expected
    assert found["code"].tolist() == [f"{row:04d}" for row in expected]
    np.testing.assert_allclose(found["score"], scores[expected])
    head, *lines = [line.split() for line in told.split("most unusual rows")[1].splitlines()[2:]]
    assert head == ["code", "row", "p_value", "column", "observed", "expected", "direction"]
    assert [line[:2] for line in lines[::2]] == [[f"{row:04d}", f"{row}"] for row in expected[:5]]
    reasons = [model.explain(rows[row : row + 1], n_columns=2, output="records")[0]["reasons"] for row in expected[:5]]
    first = [[reason["column"] for reason in own] for own in reasons]
    assert [[one[3], two[0]] for one, two in zip(lines[::2], lines[1::2], strict=True)] == first


def test_a_long_text_without_spaces_keeps_its_ends_where_it_is_printed(folder, capsys):
    new = pd.read_csv(folder / "new.csv", dtype={"code": str})
    new.assign(code="https://example.org/" + "x" * 40 + new["code"]).to_csv(folder / "long.csv", index=False)
    line = f"detect {folder}/d.safetensors {folder}/long.csv --output {folder}/long-alarms.csv --quiet --id code"
    assert run(line) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("https"))
    printed, row = line.split()[:2]
    assert printed.endswith(f"...{'x' * 15}{int(row):04d}")
    assert len(printed) == 40


def test_ids_are_written_once_and_none_has_the_name_of_another_column(folder, capsys):
    assert detect(folder, "--id", "code,kind", "--id", "code", "--output", f"{folder}/twice.csv") == 0
    assert pd.read_csv(folder / "twice.csv").columns.tolist() == ["code", "kind", "row", "score", "p_value"]
    new = pd.read_csv(folder / "new.csv", dtype={"code": str})
    new.rename(columns={"code": "score"}).to_csv(folder / "clash.csv", index=False)
    capsys.readouterr()
    line = f"detect {folder}/d.safetensors {folder}/clash.csv --output {folder}/clashed.csv --quiet --id score"
    assert run(line) != 0
    assert "detect writes a column of this name itself. Got --id score" in capsys.readouterr().err
    assert not (folder / "clashed.csv").exists()


def test_nothing_is_printed_of_the_most_unusual_rows_in_json_or_without_alarms(folder, capsys, monkeypatch):
    with monkeypatch.context() as patch:  # nor is it computed, which takes longer than the scores
        patch.delattr(AnomalyDetector, "explain")
        assert detect(folder, "--output", f"{folder}/a.csv", "--json") == 0
        capsys.readouterr()
    assert detect(folder, "--output", f"{folder}/a.csv", "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    rows_of(1, 3).assign(a=0.1, b=0.2, kind="high", day="2026-01-02").to_csv(folder / "one.csv", index=False)
    assert run(f"detect {folder}/d.safetensors {folder}/one.csv --output {folder}/none.csv --quiet") == 0
    assert "unusual" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("observed", "expected", "shown"),
    [
        (70.66917313582013, 88.48004365343176, 88.48),
        (1e9 + 0.25, 1e9 + 0.7512345678, 1e9 + 0.751),
        (0.1, 0.10000000000123456, 0.10000000000123),
        (1234567.0, 1234568.6, 1234568.6),
        (1234567.89, 1234567.89, 1234567.89),
        (None, 0.000123456789, 0.000123457),
        ("alien", "high", "high"),
        (3, 12345678, 12345678),
    ],
)
def test_reasons_have_no_more_digits_than_say_something(observed, expected, shown):
    reason = {"column": "a", "contribution": 160.2354285065245, "observed": observed, "expected": expected}
    assert short(reason) == {**reason, "contribution": 160.235, "expected": shown}


@pytest.mark.versions
def test_parquet_and_json_have_the_same(folder, capsys):
    flags = ["--id", "code,day", "--explain", "3", "--false-discoveries", "0.3"]
    assert detect(folder, *flags, "--output", f"{folder}/alarms.json", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert detect(folder, *flags, "--output", f"{folder}/alarms.parquet", "--all") == 0
    objects, table = json.loads((folder / "alarms.json").read_text()), pd.read_parquet(folder / "alarms.parquet")
    assert printed["n_rows"] == len(table) == 100
    assert printed["n_alarms"] == len(objects) == table.alarm.sum()
    model = eigencode.load(folder / "d.safetensors")
    new = pd.read_csv(folder / "new.csv", parse_dates=["day"]).drop(columns="code")
    assert (table.alarm == model.discoveries(new, 0.3)).all()
    for one in objects:
        line = table.loc[one["row"]]
        assert one["code"] == line.code
        assert [each["column"] for each in one["reasons"]] == [line.reason_1, line.reason_2, line.reason_3]
        assert one["reasons"][0]["contribution"] == pytest.approx(line.contribution_1)
    assert next(one for one in objects if one["row"] == 5)["reasons"][0]["observed"] == 9.5


def test_json_has_null_for_an_id_without_a_value(folder):
    rows = pd.read_csv(folder / "new.csv").assign(batch=np.where(np.arange(100) < 50, np.nan, 1.5))
    rows.to_parquet(folder / "batches.parquet")
    line = f"detect {folder}/d.safetensors {folder}/batches.parquet --id batch --all --output {folder}/batches.json"
    assert run(f"{line} --quiet") == 0

    def refuse(name):
        raise AssertionError(name)

    found = json.loads((folder / "batches.json").read_text(), parse_constant=refuse)
    assert [one["batch"] for one in found] == [None] * 50 + [1.5] * 50


@pytest.mark.filterwarnings("always::eigencode.errors.ResultWarning")
def test_detect_warns_where_most_rows_have_changed(folder, capsys):
    assert detect(folder, "--json", "--output", f"{folder}/as-before.csv") == 0
    said = capsys.readouterr()
    assert "Warning" not in said.err
    assert json.loads(said.out)["drift"] > 0.01
    pd.read_csv(folder / "new.csv").assign(b=lambda rows: rows.b + 1).to_csv(folder / "moved.csv", index=False)
    assert run(f"detect {folder}/d.safetensors {folder}/moved.csv --output {folder}/moved-alarms.csv --json") == 0
    said = capsys.readouterr()
    assert "Warning: More than 10 % of the new rows score otherwise than those held out of the fit" in said.err
    assert json.loads(said.out)["drift"] < 0.01


def test_no_alarms_are_an_empty_table(folder):
    rows_of(1, 3).assign(a=0.1, b=0.2, kind="high", day="2026-01-02").to_csv(folder / "one.csv", index=False)
    line = f"detect {folder}/d.safetensors {folder}/one.csv --explain 2 --id code --output {folder}/none.csv --quiet"
    assert run(line) == 0
    found = pd.read_csv(folder / "none.csv")
    assert len(found) == 0
    assert {"code", "row", "score", "p_value", "reason_2", "expected_2"} <= set(found.columns)


@pytest.mark.versions
@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("--output a.csv --false-alarms 0.1 --false-discoveries 0.1", 2, "either --false-alarms or"),
        ("--output a.csv --false-alarms 1.5", 2, "--false-alarms"),
        ("--output a.csv --explain 0", 2, "--explain"),
        ("--output a.csv --false-alarms 0.00001", 1, "takes at least 99999 rows held out"),
        ("--output a.csv --id cod", 1, "Did you mean 'code'?"),
        ("--output a.xlsx", 1, "'.json'"),
        ("--output - --json", 2, "both write to standard output"),
    ],
)
def test_wrong_arguments_are_refused(folder, capsys, flags, code, message):
    assert detect(folder, *flags.split()) == code
    assert message in capsys.readouterr().err


def test_only_a_detector_detects(folder, capsys):
    assert run(f"fit {folder}/normal.csv --max-epochs 1 --output {folder}/plain.safetensors --quiet") == 0
    assert run(f"detect {folder}/plain.safetensors {folder}/new.csv --output {folder}/no.csv --quiet") == 1
    assert "Fit one with --kind anomaly" in capsys.readouterr().err
    assert run(f"sweep {folder}/normal.csv --kind anomaly --over n_components=1,2 --output {folder}/s.safetensors") == 2


def test_reasons_of_windows_are_those_of_the_whole_series(tmp_path, capsys, monkeypatch):
    """The rows of a window are in the table, not only among the alarms; five models promise only about a rate."""
    t = np.arange(300)
    series = np.sin(t[:, None] / [3, 5]) + 0.05 * np.random.default_rng(0).normal(size=(300, 2))
    rows = pd.DataFrame(series, columns=["inlet", "outlet"])
    autoencoder = LinearAutoencoder(4)
    windows = AnomalyDetector(autoencoder=autoencoder, window=4, random_state=0).fit(rows)
    windows.save(tmp_path / "w.safetensors")
    rows.loc[[100, 200], "inlet"] += 3
    rows.to_csv(tmp_path / "rows.csv", index=False)
    line = f"detect {tmp_path}/w.safetensors {tmp_path}/rows.csv --explain 2 --output {tmp_path}/alarms.json --quiet"
    assert run(line) == 0
    assert "at most 0.05 of normal rows" in capsys.readouterr().out
    alarms, expected = json.loads((tmp_path / "alarms.json").read_text()), windows.explain(rows, n_columns=2)
    for alarm in alarms:
        own = expected[expected["row"] == alarm["row"]]
        assert [reason["column"] for reason in alarm["reasons"]] == own["column"].tolist()
        np.testing.assert_allclose([reason["contribution"] for reason in alarm["reasons"]], own["contribution"], 1e-5)
    seen, whole = [], Reasons.of
    monkeypatch.setattr(Reasons, "of", lambda *asked: seen.append(len(asked[-1].array)) or whole(*asked))
    assert run(f"detect {tmp_path}/w.safetensors {tmp_path}/rows.csv --output {tmp_path}/few.csv --quiet") == 0
    assert len(alarms) > 5, "more are written than printed"
    assert seen == [5], "those of the alarms that are printed are computed, and no others"
    times = pd.Timestamp("2026-01-01") + pd.to_timedelta(t, unit="min")
    timed = AnomalyDetector(autoencoder=autoencoder, window=4, time="time", random_state=0)
    timed.fit(rows.assign(time=times)).save(tmp_path / "t.safetensors")
    rows.assign(time=times).to_csv(tmp_path / "timed.csv", index=False)
    line = f"detect {tmp_path}/t.safetensors {tmp_path}/timed.csv --output {tmp_path}/timed-alarms.csv --quiet"
    assert run(f"{line} --id time") == 0
    found = pd.read_csv(tmp_path / "timed-alarms.csv", parse_dates=["time"])
    assert (found["time"] == times[found["row"]]).all()
    assert run(line) == 0, "the times are read also where they are not written"
    assert pd.read_csv(tmp_path / "timed-alarms.csv")["row"].tolist() == found["row"].tolist()
    capsys.readouterr()
    few = AnomalyDetector(autoencoder=autoencoder, random_state=0).fit(rows[:60])
    few.save(tmp_path / "few.safetensors")
    assert len(few.folds_) == 5
    assert run(f"detect {tmp_path}/few.safetensors {tmp_path}/rows.csv -o {tmp_path}/few.csv --quiet") == 0
    assert "about 0.05 of normal rows" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["score", "sample --n-rows 3", "impute", "reconstruct"])
def test_a_detector_where_an_autoencoder_is_needed_names_detect(command, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    name, *flags = command.split()
    rows = [] if name == "sample" else ["new.csv"]
    assert main([name, "d.safetensors", *rows, *flags, "--output", "answer.csv"]) == 1
    assert "which finds anomalies. Try detect" in capsys.readouterr().err


def test_a_count_of_one_is_in_the_singular(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["predict", "d.safetensors", "new.csv", "--output", "labels.csv"]) == 0
    assert "rows of 1 column are in labels.csv." in capsys.readouterr().out
