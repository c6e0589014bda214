"""Tables of mixed columns on the command line: what comes out has the columns and types of what went in."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import eigencode
from eigencode.cli import main

pytestmark = pytest.mark.versions

QUICK = "--hidden 8 --max-epochs 2 --random-state 0"


def run(line):
    """The exit code of a command, written as into a shell."""
    return main(shlex.split(line))


@pytest.fixture(scope="module")
def people():
    """Sixty rows with columns of every kind, and gaps."""
    rng = np.random.default_rng(0)
    n = 60
    age = rng.integers(1, 80, n)
    frame = pd.DataFrame(
        {
            "name": [f"person{i}" for i in range(n)],
            "age": pd.Series(age, dtype="Int64"),
            "height": (150 + rng.normal(size=n) * 10).round(1),
            "sex": np.where(rng.random(n) < 0.5, "m", "f"),
            "zip": rng.choice(["01234", "99999", "04100"], n),
            "adult": age >= 18,
            "born": pd.Timestamp("2020-01-01") - pd.to_timedelta(365 * age, "D"),
        }
    )
    frame.loc[3, ["age", "sex"]] = None
    frame.loc[5, "height"] = np.nan
    return frame


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, people):
    """A folder with people.csv, and a model of it with a density."""
    folder = tmp_path_factory.mktemp("tables")
    people.to_csv(folder / "people.csv", index=False)
    assert run(f"fit {folder}/people.csv --output {folder}/m.safetensors {QUICK}") == 0
    return folder


@pytest.fixture
def folder(fitted, monkeypatch, capsys):
    """That folder, as the current one."""
    monkeypatch.chdir(fitted)
    capsys.readouterr()
    return fitted


def table(path):
    """A written table, read by pandas; text with zeros before it stays text."""
    return pd.read_csv(path, dtype={"zip": str}) if str(path).endswith(".csv") else pd.read_parquet(path)


def test_imputing_keeps_the_text_of_all_other_cells(folder, people):
    assert run("impute m.safetensors people.csv --output full.csv") == 0
    before, after = (Path(name).read_text().splitlines() for name in ("people.csv", "full.csv"))
    changed = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert changed == [4, 6]  # the lines of the rows 3 and 5
    full = table("full.csv")
    assert not full.isna().to_numpy().any()
    assert full.loc[3, "sex"] in ("m", "f")
    assert full["age"].dtype == np.int64
    pd.testing.assert_frame_equal(full.drop([3, 5]), table("people.csv").drop([3, 5]), check_dtype=False)


def test_draws_of_gaps_are_several_files(folder):
    assert run("impute m.safetensors people.csv --draws 3 --random-state 0 --output drawn.parquet") == 0
    drawn = [table(f"drawn-{i}.parquet") for i in (1, 2, 3)]
    assert len({frame.loc[5, "height"] for frame in drawn}) == 3
    assert all(frame["height"].drop(5).equals(drawn[0]["height"].drop(5)) for frame in drawn)
    assert run("impute m.safetensors people.csv --draws 3 --output -") == 2


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_answers_have_the_columns_and_types_fitted(folder, people, ending):
    kinds = {"age": "i", "height": "f", "adult": "b"}
    for line, n_rows in [("reconstruct m.safetensors people.csv", 60), ("sample m.safetensors -n 7", 7)]:
        assert run(f"{line} --output answer{ending}") == 0
        answer = table(f"answer{ending}")
        assert list(answer) == list(people)
        assert len(answer) == n_rows
        assert {name: answer[name].dropna().infer_objects().dtype.kind for name in kinds} == kinds
        assert set(answer["zip"]) <= set(people["zip"])
        assert pd.to_datetime(answer["born"]).notna().all()
    assert run("reconstruct m.safetensors people.csv --output answer.parquet") == 0
    assert table("answer.parquet")["name"].equals(people["name"].astype(table("answer.parquet")["name"].dtype))


def test_rows_are_drawn_given_some_of_their_columns(folder, capsys):
    Path("given.csv").write_text("sex,age\nf,70\nm,5\n,8\n")
    assert run("sample m.safetensors --given given.csv --random-state 0 --output drawn.csv") == 0
    drawn = table("drawn.csv")
    assert drawn["age"].tolist() == [70, 5, 8]
    assert drawn["sex"].tolist()[:2] == ["f", "m"]
    assert drawn["sex"].isin(["f", "m"]).all()
    Path("given.csv").write_text("sex\nf\nnever\n")
    assert run("sample m.safetensors --given given.csv --output drawn.csv") == 1
    assert "'sex'" in (message := capsys.readouterr().err)
    assert "'never' in row 1. Known labels: f, m" in message
    assert run("sample m.safetensors --given sex=f --output drawn.csv") == 2
    assert "takes a table: for sex=f, a CSV file with the lines 'sex' and 'f'." in capsys.readouterr().err
    assert (
        run("sample m.safetensors --output drawn.csv") == run("sample m.safetensors -n 2 --given g --output d.csv") == 2
    )


def test_transform_and_score_read_the_table_as_it_was_fitted(folder, people, capsys):
    model = eigencode.load("m.safetensors")
    assert run("transform m.safetensors people.csv --output codes.csv") == 0
    assert run("score m.safetensors people.csv --output scores.csv") == 0
    given = people.assign(born=people["born"].dt.date)
    np.testing.assert_allclose(table("codes.csv"), model.transform(given), rtol=1e-6)
    np.testing.assert_allclose(table("scores.csv")["log_likelihood"], model.score_samples(given), rtol=1e-6)
    people.assign(more=1, other=2).to_csv("more.csv", index=False)
    capsys.readouterr()
    assert run("transform m.safetensors more.csv --output codes.csv") == 0
    assert "more.csv: not read, since the model does not have them: 'more', 'other'." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("age,", "years,", "lacks columns that the model reads. Got none named 'age'."),
        (",True,", ",perhaps,", "Column 'adult' of 'bad.csv' must have booleans, as in fitting. Got 'perhaps' in line"),
        ("person7,", "person7,old", "Column 'age' of 'bad.csv' must have numbers, as in fitting. Got 'old"),
        (",2", ",soon 2", "as in fitting. Got 'soon 2"),
    ],
)
def test_tables_unlike_the_one_fitted_are_refused(folder, old, new, says, capsys):
    Path("bad.csv").write_text(Path("people.csv").read_text().replace(old, new))
    assert run("transform m.safetensors bad.csv --output codes.csv") == 1
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1


def test_a_column_may_have_only_gaps_or_numbers_now(folder, people):
    people.head(4).assign(sex="", age="", zip=1234).to_csv("odd.csv", index=False)
    assert run("impute m.safetensors odd.csv --output full.csv") == 0
    full = table("full.csv")
    assert full["zip"].tolist() == ["1234"] * 4
    assert full["sex"].isin(["m", "f"]).all()
    assert full["age"].notna().all()


def test_a_file_without_the_columns_that_were_left_out(folder, people):
    """A model of rows with names fills the gaps of rows without them."""
    people.drop(columns="name").to_csv("nameless.csv", index=False)
    assert run("impute m.safetensors nameless.csv --output filled.csv") == 0
    filled = pd.read_csv("filled.csv", dtype={"zip": str})
    assert list(filled) == list(people)[1:]
    assert filled.notna().all().all()
    assert (filled["zip"] == people["zip"]).all()


def test_describe_says_what_the_columns_of_a_table_are(folder, capsys):
    assert run("describe people.csv") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "rows 60 columns 7" in printed
    for text in [
        "name identifier: left out (a different text in each row)",
        "sex category: 2 categories",
        "zip category: 3 categories",
        "adult boolean: true or false (booleans)",
        "born time: from 19",
        "(1 gap, numbers)",
        "note: column 'name' is left out: a different text in each row",
        "--columns NAME=KIND",
    ]:
        assert text in printed
    assert run("describe people.csv --columns zip=text sex=f,m --missing-values 170 --json") == 0
    facts = json.loads(capsys.readouterr().out)
    kinds = {column["name"]: column["kind"] for column in facts["columns"]}
    assert (facts["n_rows"], facts["n_sampled"], kinds["zip"], kinds["sex"]) == (60, 60, "text", "ordered")
    assert run("describe m.safetensors") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "zip: category" in printed
    cells = "GaussianLikelihood() of 3 cells, CategoricalLikelihood() of 7 cells, BernoulliLikelihood() of 1 cell"
    assert f"likelihood {cells}" in printed


def test_a_table_that_does_not_fit_into_memory_is_described_by_a_sample(folder, capsys, monkeypatch):
    monkeypatch.setattr("eigencode.data.named_files.STREAMED_FROM", 1)
    monkeypatch.setattr("eigencode.data.block_sources.SAMPLE_ROWS", 20)
    monkeypatch.setattr("eigencode.data.files.FileColumns.read", lambda self: pytest.fail("reads all rows"))
    assert run("describe people.csv --columns zip=text") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"rows 60 columns 7, as \d cells, by a sample of 20 rows", printed)
    assert "zip text: left out" in printed
    assert run("describe people.csv --json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["n_rows"], facts["n_sampled"]) == (60, 20)


def test_errors_of_times_are_said_to_be_in_seconds(folder, people, capsys):
    assert run("score m.safetensors people.csv") == 0
    assert "a row, in the data's units, times in seconds\n" in capsys.readouterr().out
    assert run(f"fit people.csv --exclude born --output other.safetensors {QUICK}") == 0
    assert run("score other.safetensors people.csv") == 0
    assert "a row, in the data's units\n" in capsys.readouterr().out


def test_kinds_and_gaps_are_flags(folder, capsys):
    Path("grades.csv").write_text(
        "grade,zip,x\n" + "".join(f"{['low', 'mid', 'high'][i % 3]},{i % 4},{i % 7 or -999}\n" for i in range(60))
    )
    line = f"fit grades.csv --output g.safetensors --columns zip=category --columns grade=low,mid,high {QUICK}"
    assert run(f"{line} --missing-values -999") == 0
    model = eigencode.load("g.safetensors")
    found = {column.name: column for column in model.columns_.columns}
    assert [found[name].kind.kind for name in ("grade", "zip")] == ["ordered", "category"]
    assert found["grade"].kind.labels == ("low", "mid", "high")
    assert found["x"].n_gaps == 9
    assert run("impute g.safetensors grades.csv --output full.csv") == 0
    full = pd.read_csv("full.csv")
    assert (full["x"] > -999).all()
    assert full["zip"].tolist() == [i % 4 for i in range(60)]


def test_a_table_without_a_header(folder, people):
    people.to_csv("bare.csv", index=False, header=False)
    names = ",".join(people)
    assert run(f"fit bare.csv --names {names} --output b.safetensors {QUICK}") == 0
    assert run(f"reconstruct b.safetensors bare.csv --names {names} --output back.csv") == 0
    assert list(table("back.csv")) == list(people)
    assert run(f"fit bare.csv --no-header --output c.safetensors {QUICK}") == 0
    assert run("reconstruct c.safetensors bare.csv --no-header --output back.csv") == 0
    assert list(table("back.csv")) == [str(i) for i in range(7)]
