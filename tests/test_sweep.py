"""The command ``sweep``: what it finds is what the library's search finds, and what it refuses it refuses before."""

import json
import re
import shlex
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from sklearn.base import clone

import eigencode
from eigencode import Autoencoder, AutoencoderSearch, LinearAutoencoder, training
from eigencode.cli import flags, main, sweeps
from eigencode.data.files import read_table, write_columns
from eigencode.descriptions import print_json
from eigencode.errors import DataError

QUICK = {"hidden": (4,), "max_epochs": 8, "learning_rate": 0.05, "optimizer": "adam", "random_state": 0}
FIXED = "--hidden 4 --max-epochs 8 --learning-rate 0.05 --optimizer adam --random-state 0"


def run(line):
    """The exit code of a command, written as into a shell."""
    return main(shlex.split(line))


def strict(text):
    """One line of strict JSON."""
    assert text.count("\n") == 1
    return json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


@pytest.fixture(scope="module")
def frame():
    """Ninety rows near a bent plane, in five columns."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(90, 2))
    rows = np.hstack([z, z**2, z[:, :1] * z[:, 1:]]) + 0.1 * rng.normal(size=(90, 5))
    return pd.DataFrame(rows, columns=list("abcde"))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, frame):
    """The current folder, with rows.csv in it."""
    monkeypatch.chdir(tmp_path)
    frame.assign(label="w").to_csv("rows.csv", index=False)
    return tmp_path


@pytest.fixture(scope="module")
def searched(frame):
    grid = {"n_components": [1, 2, 3], "activation": ["gelu", "tanh"]}
    return AutoencoderSearch(Autoencoder(**QUICK), grid, cv=3, random_state=0).fit(frame)


SWEEP = (
    "sweep rows.csv --exclude label --output m.safetensors --over n_components=1,2,3 --over activation=gelu,tanh "
    f"--folds 3 {FIXED}"
)


def test_the_input_is_not_overwritten(folder, capsys):
    before = (folder / "rows.csv").read_bytes()
    assert run(f"{SWEEP} --table rows.csv") == 1
    assert "it is an input" in capsys.readouterr().err
    assert (folder / "rows.csv").read_bytes() == before


# -- what it finds


def test_the_answer_is_the_librarys(searched, frame, capsys):
    assert run(f"{SWEEP} --json") == 0
    out, err = capsys.readouterr()
    printed = strict(out)
    results = searched.cv_results_
    assert (err, printed["model"], printed["table"], printed["picture"]) == ("", "m.safetensors", None, None)
    found = printed["search"]
    assert found["candidates"] == [
        {
            "params": params,
            "test_scores": [pytest.approx(results[f"split{fold}_test_score"][i], rel=1e-9) for fold in range(3)],
            "mean_test_score": pytest.approx(results["mean_test_score"][i], rel=1e-9),
            "standard_error": pytest.approx(results["standard_error"][i], rel=1e-7),
            "rank_test_score": results["rank_test_score"][i],
            "n_components": params["n_components"],
            "n_weights": results["n_weights"][i],
            "budget": 1.0,
        }
        for i, params in enumerate(results["params"])
    ]
    assert found["best_index"] == searched.best_index_
    assert found["best_params"] == searched.best_params_
    assert (found["rule"], found["scoring"], found["n_splits"]) == ("one_standard_error", "leave_one_out", 3)
    assert found["notes"] == searched.notes_
    model = eigencode.load("m.safetensors")
    assert printed["objective"] == model.best_objective_
    assert list(model.feature_names_in_) == list(frame.columns)
    np.testing.assert_allclose(model.transform(frame), searched.transform(frame), rtol=1e-9, atol=1e-9)


def test_rule_scoring_and_kind_reach_the_search(frame, capsys):
    line = "sweep rows.csv --exclude label --output m.safetensors --kind linear --over n-components=1,3,5 --folds 2"
    assert run(f"{line} --rule best --scoring reconstruction --random-state 4 --json") == 0
    found = strict(capsys.readouterr().out)["search"]
    linear = LinearAutoencoder(random_state=4)
    options = {"cv": 2, "rule": "best", "scoring": "reconstruction", "random_state": 4}
    same = AutoencoderSearch(linear, {"n_components": [1, 3, 5]}, **options).fit(frame)
    scores = [candidate["mean_test_score"] for candidate in found["candidates"]]
    np.testing.assert_allclose(scores, same.cv_results_["mean_test_score"], rtol=1e-7, atol=1e-12)
    assert found["best_index"] == same.best_index_ == 2
    assert type(eigencode.load("m.safetensors")) is LinearAutoencoder


@pytest.mark.versions
def test_the_printed_candidates_and_choice(searched, capsys):
    assert run(SWEEP) == 0
    out, err = capsys.readouterr()
    head, *rows = out.split("\n\n")[0].splitlines()
    results = searched.cv_results_
    assert err == ""
    assert re.split(r"\s{2,}", head.strip()) == [
        "activation", "n_components", "score", "std. error", "components", "weights",
    ]  # fmt: skip
    assert len(rows) == 6
    decimals = len(rows[0].split()[2].partition(".")[2])
    usual = np.sort(results["standard_error"])[3]
    assert float(f"{usual:.2g}") == pytest.approx(round(usual, decimals))
    for i, row in enumerate(rows):
        params, score = results["params"][i], results["mean_test_score"][i]
        error = results["standard_error"][i]
        cells = [params["activation"], str(params["n_components"]), f"{score:.{decimals}f}", f"{error:.{decimals}f}"]
        cells += [str(params["n_components"]), str(int(results["n_weights"][i]))]
        assert row.split()[:6] == cells
        assert ("best" in row) == (results["rank_test_score"][i] == 1)
        assert ("chosen" in row) == (i == searched.best_index_)
    assert f"\ntrained  {'; '.join(searched.trained_)}\n" in out
    best = searched.best_params_
    chosen = (
        f"chosen   activation={best['activation']}, n_components={best['n_components']}: the fewest components with"
    )
    assert chosen in out
    assert "mean over 3 validation folds, larger is better" in out
    assert "The model is in m.safetensors." in out
    assert "eigencode transform m.safetensors rows.csv --output codes.parquet" in out


@pytest.mark.versions
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_table_is_the_results_in_plain_columns(ending, frame, capsys):
    line = f"sweep rows.csv --exclude label --output m.safetensors --table t.{ending} --folds 2 --max-epochs 1"
    over = "--over hidden=/,4,6/4 --over learning_rate=1e-3,auto --over tied=false,true --over n_components=1"
    assert run(f"{line} {over} --optimizer adam --random-state 0 --json") == 0
    found = strict(capsys.readouterr().out)
    table = pd.read_csv("t.csv") if ending == "csv" else pd.read_parquet("t.parquet")
    assert list(table.columns) == [
        "param_hidden", "param_learning_rate", "param_n_components", "param_tied", "split0_test_score",
        "split1_test_score", "mean_test_score", "std_test_score", "standard_error", "rank_test_score", "n_components",
        "n_weights", "budget", "chosen",
    ]  # fmt: skip
    assert found["table"] == f"t.{ending}"
    candidates = found["search"]["candidates"]
    assert len(table) == len(candidates) == 12
    written = {"[]": "/", "[4]": "4", "[6, 4]": "6/4"}
    for (_, row), candidate in zip(table.iterrows(), candidates, strict=True):
        params = candidate["params"]
        assert row["param_hidden"] == written[str(params["hidden"])]
        assert row["param_learning_rate"] == str(params["learning_rate"])
        assert row["param_tied"] is params["tied"] or row["param_tied"] == params["tied"]
        assert row["param_n_components"] == 1
        np.testing.assert_allclose(row[["split0_test_score", "split1_test_score"]].astype(float),
                                   candidate["test_scores"], rtol=1e-12)  # fmt: skip
        assert row["mean_test_score"] == pytest.approx(candidate["mean_test_score"], rel=1e-12)
    assert list(np.flatnonzero(table["chosen"])) == [found["search"]["best_index"]]
    assert table["param_tied"].dtype == bool
    assert table["param_n_components"].dtype == int


@pytest.mark.versions
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_picture_is_drawn(ending, capsys):
    line = f"sweep rows.csv --exclude label --output m.safetensors --over n_components=1,2 --folds 2 {FIXED}"
    assert run(f"{line} --picture p.{ending}") == 0
    with open(f"p.{ending}", "rb") as file:
        start = file.read(100)
    if ending == "png":
        image = imread("p.png")[..., :3]
        assert image.shape[1] > 1000
        assert ((image - [189 / 255, 31 / 255, 1 / 255]) ** 2).sum(-1).min() < 1e-3  # the star of the choice
    else:
        assert start.startswith(b"<?xml")


def test_candidates_that_cannot_be_fitted_are_reported_and_null(capsys):
    line = "sweep rows.csv --exclude label --output m.safetensors --over likelihood=gaussian,poisson --n-components 1"
    with warnings.catch_warnings(action="default"):
        assert run(f"{line} --folds 2 {FIXED} --json --picture p.png --table t.csv") == 0
    out, err = capsys.readouterr()
    good, bad = strict(out)["search"]["candidates"]
    assert (bad["mean_test_score"], bad["test_scores"], bad["n_components"]) == (None, [None, None], None)
    assert good["mean_test_score"] < 0
    assert err.startswith("Warning: 2 of 4 fits failed and are scored NaN; the first error: ")
    assert err.count("\n") == 1
    assert list(pd.read_csv("t.csv")["chosen"]) == [True, False]
    line = "sweep rows.csv --exclude label --output n.safetensors --over likelihood=bernoulli,poisson --folds 2"
    assert run(line) == 1
    assert capsys.readouterr().out == ""


def test_a_bar_of_all_models_is_shown_when_asked_for(capsys):
    line = f"sweep rows.csv --exclude label --output m.safetensors --over n_components=1,2 --folds 2 {FIXED}"
    assert run(f"{line} --verbose --json") == 0
    out, err = capsys.readouterr()
    strict(out)
    assert "4 of 4 models done" in err


# -- values as they are typed


@pytest.mark.versions
@pytest.mark.parametrize(
    ("kind", "typed", "values"),
    [
        ("plain", "n_components=2,4,auto", [2, 4, "auto"]),
        ("plain", "n-components=2", [2]),
        ("plain", "--n-components=2,2,3,2", [2, 3]),
        ("plain", "hidden=256/64,128,/,auto", [(256, 64), (128,), (), "auto"]),
        ("plain", "learning_rate=1e-3,0.01,auto", [1e-3, 0.01, "auto"]),
        ("plain", "max_seconds=none,2.5", [None, 2.5]),
        ("plain", "scale=none,common", ["none", "common"]),
        ("plain", "tied=true,false", [True, False]),
        ("plain", "device=cpu,cuda:1", ["cpu", "cuda:1"]),
        ("plain", "image_shape=none,1/8/8", [None, (1, 8, 8)]),
        ("denoising", "level=0.1,1,auto", [0.1, 1.0, "auto"]),
        ("stacked", "layers=20/10,auto", [(20, 10), "auto"]),
    ],
)
def test_values_are_those_of_the_flags(kind, typed, values):
    name = typed.removeprefix("--").partition("=")[0].replace("-", "_")
    (found,) = sweeps.grid_given(kind, [typed], {}).items()
    assert found == (name, values)
    assert [type(value) for value in found[1]] == [type(value) for value in values]
    # What is written can be read back.
    again = f"{name}={','.join(map(flags.format_value, values))}"
    assert sweeps.grid_given(kind, [again], {}) == {name: values}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "eigencode sweep needs --over. NAME=VALUE,VALUE,...: an option"),
        ("--over n_components", "--over takes NAME=VALUE,VALUE,.... Got 'n_components'."),
        ("--over n_component=2,3", "names no option of --kind plain. Got 'n_component'. Did you mean 'n_components'?"),
        ("--over encoder=1", "--over names no option of --kind plain. Got 'encoder'."),
        ("--over =1,2", "--over names no option of --kind plain. Got ''."),
        ("--over solver=exact", "--solver is not an option of --kind plain, but of --kind linear."),
        ("--kind linear --over hidden=8", "--hidden is not an option of --kind linear, but of "),
        (
            "--over n_components=2,0",
            "--n-components must be an int in the range [1, inf), a float in the range (0, 1) or 'auto'. Got 0",
        ),
        ("--over n_components=2,,4", "Got '' instead."),
        ("--over n_components=", "Got '' instead."),
        ("--over n_components=2.5", "Got 2.5 instead."),
        ("--over n_components=2/4", "Got '2/4' instead."),
        ("--over n_components=none", "Got 'none' instead."),
        ("--over hidden=8/,4", "Got (8, '') instead."),
        ("--over hidden=8/x", "Got (8, 'x') instead."),
        ("--over hidden=8/0", "Got (8, 0) instead."),
        ("--over tied=yes", "must be a bool. Got 'yes' instead."),
        ("--over activation=relo,tanh", "Did you mean 'relu'?"),
        ("--over beta=nan", "in the range [0, inf). Got nan instead."),
        ("--over beta=1,2 --over beta=3", "--over takes all values of an option at once. Got 'beta' twice."),
        (
            "--over n_components=2,3 --n-components 2",
            "'n_components' cannot have both one value and several. Got --n-comp",
        ),
        ("--over beta=1,2 --scale comon", "Did you mean 'common'?"),
        ("--over beta=1,2 --kind linaer", "Did you mean 'linear'?"),
        ("--over beta=1,2 --folds 1", "--folds must be >= 2. Got '1'"),
        ("--over beta=1,2 --folds two", "--folds takes a whole number. Got 'two'"),
        ("--over beta=1,2 --rule bset", '"bset"'),
        ("--over beta=1,2 --scoring likelihood", '"likelihood"'),
        ("--over beta=1,2 --flods 3", "Did you mean --folds?"),
    ],
)
def test_wrong_arguments_are_refused_with_a_hint(folder, arguments, says, capsys):
    before = sorted(folder.iterdir())
    assert run(f"sweep rows.csv --exclude label --output m.safetensors {arguments}") == 2
    out, err = capsys.readouterr()
    assert says in err
    assert (out, err.count("\n"), err.splitlines()[-1]) == ("", 2, "See eigencode sweep --help")
    assert sorted(folder.iterdir()) == before


# -- files


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--output no/m.safetensors", "there is no folder 'no'"),
        ("--output m.csv", "Known are: '.safetensors'."),
        ("--output m.safetensors --table no/t.csv", "there is no folder 'no'"),
        ("--output m.safetensors --table t.npy", "Known are: '.csv', '.parquet'."),
        ("--output m.safetensors --table -", "Got no ending."),
        ("--output m.safetensors --picture no/p.png", "there is no folder 'no'"),
        ("--output m.safetensors --picture p.jpg", "Got '.jpg'."),
        ("--output m.safetensors --folds 91", "91 folds need at least as many rows. Got 90."),
    ],
)
def test_writing_and_folds_are_checked_before_the_work(folder, monkeypatch, arguments, says, capsys):
    monkeypatch.setattr(AutoencoderSearch, "fit", lambda *_: pytest.fail("the work began"))
    before = sorted(folder.iterdir())
    assert run(f"sweep rows.csv --exclude label --over n_components=1,2 {arguments}") == 1
    out, err = capsys.readouterr()
    assert says in err
    assert (out, err.count("\n")) == ("", 1)
    assert sorted(folder.iterdir()) == before


def test_rows_that_cannot_be_read_are_refused(capsys):
    assert run("sweep none.csv --output m.safetensors --over n_components=1,2") == 1
    assert "There is no file 'none.csv'" in capsys.readouterr().err


def test_an_interrupted_search_writes_nothing(folder, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("eigencode.estimators.fit_many.group_runs", interrupted)
    before = sorted(folder.iterdir())
    with warnings.catch_warnings(action="default"):
        assert run(f"{SWEEP} --table t.csv --picture p.png") == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")
    assert sorted(folder.iterdir()) == before


def test_an_interrupted_fit_of_the_choice_saves_its_best_weights(monkeypatch, capsys):
    train_all = training.train_all

    def interrupted(runner):
        epochs = train_all(runner)
        yield next(epochs)
        raise KeyboardInterrupt

    monkeypatch.setattr("eigencode.training.train_all", interrupted)
    with warnings.catch_warnings(action="default"):
        assert run(f"{SWEEP} --table t.csv") == 130
    out, err = capsys.readouterr()
    assert err == "Warning: Training was interrupted; the best weights so far are kept.\n"
    assert "The model is in m.safetensors." in out
    assert eigencode.load("m.safetensors").history_[-1]["epoch"] == 1
    assert len(read_table("t.csv", exclude=["param_activation"]).rows) == 6


def test_an_error_at_the_end_keeps_the_old_files(monkeypatch, capsys):
    def failing(*_):
        raise DataError("The rows cannot be used")

    write_columns("t.csv", {"old": np.array([1.0])})
    monkeypatch.setattr(AutoencoderSearch, "fit", failing)
    assert run(f"{SWEEP} --table t.csv") == 1
    assert capsys.readouterr() == ("", "The rows cannot be used.\n")
    assert read_table("t.csv").names == ["old"]


# -- neighbours


def test_the_choice_has_its_settings_and_no_fit(searched):
    model = sweeps.best_estimator(searched)
    assert model.get_params() == {**Autoencoder(**QUICK).get_params(), **searched.best_params_}
    assert not hasattr(model, "history_")
    assert clone(searched.estimator).get_params() == Autoencoder(**QUICK).get_params()


def test_nan_is_null_at_any_depth(capsys):
    print_json({"a": [{"b": np.nan, "c": (1.5, np.inf)}], "d": "nan"})
    assert strict(capsys.readouterr().out) == {"a": [{"b": None, "c": [1.5, None]}], "d": "nan"}


@pytest.mark.versions
def test_help_shows_the_command(capsys):
    assert run("--help") == 0
    listed = capsys.readouterr().out
    assert re.search(r"sweep +Fit an autoencoder with each of many settings", listed)
    assert listed.index(" fit ") < listed.index(" sweep ") < listed.index(" transform ")
    assert run("sweep --help") == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Usage: eigencode sweep ROWS... --output MODEL --over NAME=VALUE,... [OPTIONS]" in printed
    for flag in ["--over", "--folds", "--rule", "--scoring", "--table", "--picture", "--json", "--n-components"]:
        assert f" {flag} " in printed
    assert "hidden=64,128/64; / is the empty sequence" in printed
