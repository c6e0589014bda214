"""The command line: what it writes is what the library answers, and what it refuses it refuses in one message."""

import shlex
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

import eigencode
from eigencode import Autoencoder, cli
from eigencode.data.files import read_table, write_columns
from eigencode.options import AutoencoderOptions, options_of

KNOBS = options_of(AutoencoderOptions)
QUICK = ["--n-components", "2", "--hidden", "8", "--max-epochs", "2", "--random-state", "0"]


def run(line, *more):
    """The exit code of a command, written as into a shell."""
    return cli.main([*shlex.split(line), *more])


@pytest.fixture(scope="session")
def frame():
    """Two hundred rows along a parabola, and a column of words."""
    z = np.random.default_rng(0).normal(size=(200, 1))
    rows = np.hstack([z, z**2, -z])
    return pd.DataFrame(rows, columns=["x", "y", "z"]).assign(label="word")


@pytest.fixture
def folder(tmp_path, monkeypatch, frame):
    """The current folder, with rows.csv and rows.parquet in it."""
    monkeypatch.chdir(tmp_path)
    frame.to_csv("rows.csv", index=False)
    frame.to_parquet("rows.parquet")
    return tmp_path


@pytest.fixture
def model(folder):
    assert run("fit rows.csv --output model.safetensors --exclude label", *QUICK) == 0
    return eigencode.load(folder / "model.safetensors")


# -- flags


@pytest.mark.parametrize("option", KNOBS, ids=lambda option: option.name)
def test_every_knob_for_it_is_a_flag(option, capsys):
    assert run("fit --help") == 0
    said = capsys.readouterr().out
    flag = f"--{option.name.replace('_', '-')}"
    assert (f" {flag} " in said) == option.knob.on_command_line
    assert hasattr(cli.AUTOMATIC, option.name) == option.knob.on_command_line
    if option.knob.on_command_line:
        assert getattr(cli.AUTOMATIC, option.name) == option.default
        words = " ".join(said.replace("│", " ").split())
        assert " ".join(option.knob.help.split()[:3]) in words


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("", {}),
        ("--n-components 8 --hidden 128 64", {"n_components": 8, "hidden": (128, 64)}),
        ("--hidden 128 --hidden 64", {"hidden": (128, 64)}),
        ("--hidden 128", {"hidden": (128,)}),
        ("--hidden", {"hidden": ()}),
        ("--hidden auto --n-components auto", {"hidden": "auto", "n_components": "auto"}),
        ("--learning-rate 1e-3 --beta 2", {"learning_rate": 1e-3, "beta": 2.0}),
        ("--scale none --start plain", {"scale": "none", "start": "plain"}),
        ("--verbose --device cpu", {"verbose": True, "device": "cpu"}),
        ("--no-verbose --random-state 7", {"verbose": False, "random_state": 7}),
    ],
)
def test_flags_reach_the_estimator(folder, monkeypatch, words, given):
    class Reached(Exception):
        pass

    def fit(self, X):
        raise Reached(self.get_params())

    monkeypatch.setattr(Autoencoder, "fit", fit)
    with pytest.raises(Reached) as reached:
        run(f"fit rows.csv --output model.safetensors --columns x y {words}")
    assert reached.value.args[0] == {**Autoencoder().get_params(), **given}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fti rows.csv", 'Did you mean "fit"?'),
        ("fit rows.csv --output m.safetensors --n-component 3", "Did you mean --n-components?"),
        ("fit rows.csv --output m.safetensors --scale comon", "Did you mean 'common'?"),
        ("fit rows.csv --output m.safetensors --activation relo", "Did you mean 'relu'?"),
        ("fit rows.csv --output m.safetensors --n-components 0", "in the range [1, inf), or 'auto'. Got 0 instead."),
        ("fit rows.csv --output m.safetensors --n-components 3.5", "must be an int in the range [1, inf)"),
        ("fit rows.csv --output m.safetensors --hidden 8 0", "Got (8, 0) instead."),
        ("fit rows.csv --output m.safetensors --hidden 8 x", "Got (8, 'x') instead."),
        ("fit rows.csv --output m.safetensors --beta nan", "must be a float in the range [0, inf)"),
        ("fit rows.csv", "--output requires an argument"),
        ("fit", "ROWS requires an argument"),
        ("transform model.safetensors", "ROWS requires an argument"),
        ("describe a b", "'b'"),
    ],
)
def test_what_is_not_understood_is_refused_with_advice(line, says, capsys):
    assert run(line) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert err.count("\n") == 2
    assert err.splitlines()[-1].startswith("See eigencode")
    assert out == ""


def test_help_needs_nothing_heavy():
    program = """
import sys
from eigencode.cli import main
assert main(["--help"]) == main(["fit", "--help"]) == 0
assert main(["fit", "rows.csv", "--scale", "comon"]) == 2
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = found.stdout.splitlines()[-1].split()
    assert "cyclopts" in modules
    assert not {"torch", "numpy", "sklearn", "scipy", "pyarrow", "matplotlib", "safetensors", "tqdm"} & set(modules)


def test_the_version_is_said(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == eigencode.__version__


# -- commands


def test_fit_is_the_librarys_fit(folder, frame, capsys):
    assert run("fit rows.csv --output model.safetensors --exclude label", *QUICK) == 0
    model = eigencode.load("model.safetensors")
    same = Autoencoder(n_components=2, hidden=(8,), max_epochs=2, random_state=0).fit(frame[["x", "y", "z"]])
    assert list(model.feature_names_in_) == ["x", "y", "z"]
    np.testing.assert_array_equal(model.transform(frame[["x", "y", "z"]]), same.transform(frame[["x", "y", "z"]]))
    out = capsys.readouterr().out
    kept = same.history_[same.best_epoch_]["held_out_objective"]
    assert f"held-out objective  {kept:.5g} nats a row" in out
    assert f"linear baseline     {same.baseline_.history_[0]['held_out_objective']:.5g}\n" in out
    printed = next(line for line in out.splitlines() if line.startswith("  eigencode transform"))
    assert cli.main(shlex.split(printed)[1:]) == 0
    np.testing.assert_array_equal(read_table("codes.parquet").rows, same.transform(frame[["x", "y", "z"]]))


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npy"])
@pytest.mark.parametrize("source", ["rows.csv", "rows.parquet", "shuffled.csv", "bare.npy"])
def test_answers_are_the_librarys(model, frame, source, ending, capsys):
    frame[["label", "z", "x", "y"]].to_csv("shuffled.csv")
    rows = frame[["x", "y", "z"]]
    np.save("bare.npy", rows.to_numpy())
    assert run(f"transform model.safetensors {source} --output codes{ending}") == 0
    codes = read_table(f"codes{ending}")
    np.testing.assert_array_equal(codes.rows, model.transform(rows))
    assert run(f"reconstruct model.safetensors {source} --output back{ending}") == 0
    back = read_table(f"back{ending}")
    np.testing.assert_array_equal(back.rows, model.reconstruct(rows))
    if ending != ".npy":
        assert codes.names == ["autoencoder0", "autoencoder1"]
        assert back.names == ["x", "y", "z"]
    assert f"200 rows of 3 columns are in back{ending}." in capsys.readouterr().out


def test_columns_without_names_are_chosen_by_place(folder, frame):
    np.save("rows.npy", frame[["x", "y", "z"]].assign(constant=0.0).to_numpy())
    assert run("fit rows.npy --output model.safetensors --exclude 3", *QUICK) == 0
    assert run("transform model.safetensors rows.npy --output codes.csv --exclude 3") == 0
    assert run("reconstruct model.safetensors rows.npy --output back.csv --columns 0 1 2") == 0
    model, rows = eigencode.load("model.safetensors"), frame[["x", "y", "z"]].to_numpy()
    np.testing.assert_array_equal(read_table("codes.csv").rows, model.transform(rows))
    assert read_table("back.csv").names == ["x0", "x1", "x2"]


def test_describe_says_what_the_model_is(model, capsys):
    capsys.readouterr()
    assert run("describe model.safetensors") == 0
    said = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    said = {name: fact.strip() for name, fact in said.items()}
    # Two maps of 3-8-2 and 2-8-3 with biases, and the linear paths 3-2 and 2-3 beside them.
    n_weights = (3 * 8 + 8 + 8 * 2 + 2) + (2 * 8 + 8 + 8 * 3 + 3) + (3 * 2 + 2) + (2 * 3 + 3)
    assert n_weights - (2 + 3) <= int(said["weights"]) <= n_weights
    assert said["kind"] == "Autoencoder"
    assert said["code size"] == "2, from 3 columns"
    assert said["hidden layers"] == "8, mirrored in the decoder"
    assert said["likelihood"] == "GaussianLikelihood()"
    assert said["scale"].startswith(f"{model.scale_}: ")
    assert said["start"].startswith("linear: ")
    assert said["training"] == f"2 epochs by adam; the weights after epoch {model.best_epoch_} were kept"
    kept = model.history_[model.best_epoch_]["held_out_objective"]
    assert said["held-out objective"].startswith(f"{kept:.5g} nats a row")
    assert said["linear baseline"] == f"{model.baseline_.history_[0]['held_out_objective']:.5g}"
    assert said["seed"] == "0"
    assert said["arithmetic"] == "float32 on cpu, 1 thread"
    assert said["columns"] == "x, y, z"
    assert said["written by"] == f"eigencode {eigencode.__version__}"


@pytest.mark.parametrize(
    ("flags", "noted"), [("--max-epochs 0", True), ("--max-epochs 40", False), ("--hidden --max-epochs 0", False)]
)
def test_a_nonlinear_part_that_won_nothing_is_told(folder, flags, noted, capsys):
    words = "--exclude label --n-components 1 --random-state 0"
    assert run(f"fit rows.csv --output model.safetensors {words} {flags}") == 0
    assert ("a linear model would do" in capsys.readouterr().out) == noted


# -- failures


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fit rwos.csv --output m.safetensors", "There is no file 'rwos.csv'. Did you mean 'rows.csv'?"),
        ("fit rows.csv --output m.safetensors", "--exclude label"),
        ("fit rows.csv --output m.safetensors --exclude lable", "Did you mean 'label'?"),
        ("fit rows.csv --output rows.csv", "Known are: '.safetensors'."),
        ("fit rows.csv --output no/m.safetensors", "there is no folder 'no'"),
        ("fit one.csv --output m.safetensors", "Fitting takes two rows at least. Got 1 in 'one.csv'."),
        ("fit rows.csv --output m.safetensors --columns x y --device tpu9", "The device 'tpu9' cannot be used"),
        ("transform model.safetensors rows.csv --output codes.txt", "Got '.txt'"),
        ("transform model.safetensors rows.csv --output no/codes.csv", "there is no folder 'no'"),
        ("transform model.safetensors other.csv --output codes.csv", "none named 'z'"),
        ("reconstruct nothing.safetensors rows.csv --output back.csv", "There is no model file 'nothing.safetensors'"),
        ("describe rows.csv", "is not a whole safetensors file"),
        ("demo --output rows.csv/demo", "Cannot make the folder 'rows.csv/demo'"),
    ],
)
def test_failures_are_one_message(model, line, says, capsys):
    write_columns("one.csv", {"x": np.array([1.0])})
    write_columns("other.csv", {"x": np.array([1.0]), "y": np.array([1.0])})
    capsys.readouterr()
    assert run(line) == 1
    out, err = capsys.readouterr()
    assert says in err
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize("output", ["no/m.safetensors", "m.sft", "folder.safetensors"])
def test_an_output_that_cannot_be_written_is_refused_before_the_fit(folder, output, monkeypatch):
    monkeypatch.setattr(Autoencoder, "fit", lambda self, X: pytest.fail("the work began"))
    (folder / "folder.safetensors").mkdir()
    assert run(f"fit rows.csv --exclude label --output {output}") == 1


def test_an_old_output_stays_until_the_new_one_is_whole(model, capsys):
    write_columns("codes.csv", {"old": np.array([1.0])})
    write_columns("gaps.csv", {"x": np.array([np.nan]), "y": np.array([1.0]), "z": np.array([1.0])})
    assert run("transform model.safetensors gaps.csv --output codes.csv") == 1
    assert read_table("codes.csv").names == ["old"]
    assert run("transform model.safetensors rows.csv --output codes.csv") == 0
    assert read_table("codes.csv").names == ["autoencoder0", "autoencoder1"]


def test_an_interrupted_fit_keeps_what_it_has_and_says_so_in_a_line(folder, monkeypatch, capsys):
    one_epoch = Autoencoder.iter_fit

    def interrupted(self, X, y=None):
        yield next(one_epoch(self, X))
        raise KeyboardInterrupt

    monkeypatch.setattr(Autoencoder, "iter_fit", interrupted)
    with warnings.catch_warnings(action="default"):
        assert run("fit rows.csv --output model.safetensors --exclude label", *QUICK) == 0
    assert capsys.readouterr().err == "Warning: Training was interrupted; the best weights so far are kept.\n"
    assert eigencode.load("model.safetensors").history_[-1]["epoch"] == 1
