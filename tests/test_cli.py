"""The command line: what it writes is what the library answers, and what it refuses it refuses in one message."""

import io
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import copies
import numpy as np
import pandas as pd
import pytest
import rich.style  # noqa: F401 (draws from the global generator when it is imported)

import eigencode
from eigencode import Autoencoder, descriptions, training
from eigencode.cli import main
from eigencode.cli.flags import KINDS, facts_told
from eigencode.data.files import read_table, write_columns
from eigencode.errors import InterruptedWarning, ResultWarning
from eigencode.options import AutoencoderOptions, options_of

OPTIONS = options_of(AutoencoderOptions)
QUICK = ["--n-components", "2", "--hidden", "8", "--max-epochs", "2", "--random-state", "0"]


def run(line, *more):
    """The exit code of a command, written as into a shell."""
    return main([*shlex.split(line), *more])


@pytest.fixture
def typed(monkeypatch):
    """Give bytes, or the bytes of a file, to standard input."""

    def type_in(content):
        content = content if isinstance(content, bytes) else Path(content).read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return type_in


@pytest.fixture(scope="session")
def frame():
    """Two hundred rows along a parabola, and a column of text."""
    z = np.random.default_rng(0).normal(size=(200, 1))
    rows = np.hstack([z, z**2, -z])
    return pd.DataFrame(rows, columns=["x", "y", "z"]).assign(label="text")


@pytest.fixture
def folder(tmp_path, monkeypatch, frame):
    """The current folder, with rows.csv and rows.parquet in it."""
    monkeypatch.chdir(tmp_path)
    frame.to_csv("rows.csv", index=False)
    frame.to_parquet("rows.parquet")
    return tmp_path


@pytest.fixture(scope="module")
def file_of_a_model(frame, tmp_path_factory):
    """What a fit to rows.csv writes."""
    folder = tmp_path_factory.mktemp("fitted")
    frame.to_csv(folder / "rows.csv", index=False)
    files = [str(folder / "rows.csv"), "--output", str(folder / "model.safetensors")]
    assert main(["fit", *files, "--exclude", "label", *QUICK]) == 0
    return folder / "model.safetensors"


@pytest.fixture
def model(folder, file_of_a_model):
    """The model in model.safetensors."""
    shutil.copy(file_of_a_model, "model.safetensors")
    return eigencode.load("model.safetensors")


@pytest.fixture(scope="module")
def help_of_fit():
    """What ``fit --help`` prints."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert run("fit --help") == 0
    return printed.getvalue()


# -- flags


@pytest.mark.versions
@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_for_the_command_line_is_a_flag(option, help_of_fit):
    flag = f"--{option.name.replace('_', '-')}"
    elsewhere = [own.on_command_line for kind in KINDS.values() for own in options_of(getattr(eigencode, kind))
                 if own.name == option.name]  # fmt: skip
    assert (f" {flag} " in help_of_fit) == any(elsewhere)
    if option.on_command_line:
        _, text = " ".join(help_of_fit.replace("│", " ").split()).split(f" {flag} ", 1)
        assert " ".join(option.info.help.split()[:3]) in text[:100]
        assert option.default is None or text.partition("[default: ")[2].startswith(str(option.default))


@pytest.mark.versions
@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("", {}),
        ("--n-components 8 --hidden 128 64", {"n_components": 8, "hidden": (128, 64)}),
        ("--hidden 128 --hidden 64", {"hidden": (128, 64)}),
        ("--hidden 128,64 --image-shape 1,28,28", {"hidden": (128, 64), "image_shape": (1, 28, 28)}),
        ("--hidden=128, 64, 32", {"hidden": (128, 64, 32)}),
        ("--missing-values=-999,-1 unknown 1,x", {"missing_values": (-999, -1, "unknown", 1, "x")}),
        ("--missing-values -999,-1", {"missing_values": (-999, -1)}),
        ("--missing-values -999,", {"missing_values": (-999,)}),
        ("--missing-values -.5,NA,0 --hidden 8", {"missing_values": (-0.5, "NA", 0), "hidden": (8,)}),
        ("--missing-values ,", {"missing_values": ","}),
        ("--columns x=count,y=1,2", {"columns": {"x": "count", "y": ("1", "2")}}),
        ("--columns x=count y=1,2", {"columns": {"x": "count", "y": ("1", "2")}}),
        ("--columns x=count, y=1,2", {"columns": {"x": "count", "y": ("1", "2")}}),
        ("--hidden 128", {"hidden": (128,)}),
        ("--hidden", {"hidden": ()}),
        ("--hidden auto --n-components auto", {"hidden": "auto", "n_components": "auto"}),
        ("--learning-rate 1e-3 --beta 2", {"learning_rate": 1e-3, "beta": 2.0}),
        ("--scale none --init random", {"scale": "none", "init": "random"}),
        ("--verbose --device cpu", {"verbose": True, "device": "cpu"}),
        ("--no-verbose --random-state 7", {"verbose": False, "random_state": 7}),
    ],
)
def test_flags_reach_the_estimator(folder, monkeypatch, arguments, given):
    class Reached(Exception):
        pass

    def fit(self, X):
        raise Reached(self.get_params())

    monkeypatch.setattr(Autoencoder, "fit", fit)
    with pytest.raises(Reached) as reached:
        run(f"fit rows.csv --output model.safetensors --include x y {arguments}")
    assert reached.value.args[0] == {**Autoencoder().get_params(), **given}


@pytest.mark.versions
def test_the_hint_on_consumed_arguments_appears_only_if_it_helps(capsys):
    for line in [
        "fit rows.csv --hidden 8 0 --output m.safetensors",
        "fit rows.csv --exclude label",
        "fit --scale none",
    ]:
        assert run(line) == 2
        assert "takes every argument" not in capsys.readouterr().err


@pytest.mark.versions
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fit {rows} --columns q=count", "--columns names a column that is not there. Got 'q'."),
        ("fit rows.npy --columns q=count", "--columns needs rows whose columns have names."),
        ("fit {rows} --columns y=count", "Column 'y' cannot be a column of counts. Got 0."),
        ("fit {rows} --kind anomaly --time x", "--time is for windows. Got no window. Give --window too."),
        ("fit {rows} --kind sparse --active 3 --weight 2", "Set either --active or --weight, not both."),
        (
            "fit {rows} --kind denoising --noise masking --level 3",
            "--level must be a share of the cells, from 0 to 1, for --noise masking. Got 3.0 instead.",
        ),
        ("fit {rows} --kind variational --ordered", "The code of --kind variational is fixed. Got --ordered."),
        ("fit {rows} --image-shape 2 2", "--image-shape must be three numbers"),
        ("fit {rows} --image-shape 1 2 2", "Give --image-shape as (channels, height, width) of the rows."),
        ("transform model.safetensors {rows} --n-components 9", "--n-components must be an int from 1 to 2. Got 9."),
        ("describe nothing", "There is no model file 'nothing'. Known are: 'model.safetensors'"),
        ("transform modle.safetensors {rows}", "There is no model file 'modle.safetensors'. Did you mean 'model."),
        ("describe rows.csv model.safetensors", "It is that of a model, which is given before the rows, or alone."),
    ],
)
def test_errors_have_the_names_that_were_typed(model, line, says, capsys):
    np.save("rows.npy", np.random.default_rng(0).normal(size=(20, 3)))
    typed = line.format(rows="rows.csv --exclude label")
    output = {"fit": "--output m.safetensors", "transform": "--output c.csv", "describe": ""}[line.split()[0]]
    assert run(f"{typed} {output}") == 1
    err = capsys.readouterr().err
    assert says in err
    assert "'columns'" not in err
    assert "parameter" not in err


@pytest.mark.filterwarnings("always:X has gaps")
def test_warnings_have_the_name_of_the_file_and_are_printed_once(model, frame, capsys):
    frame.mask(np.eye(200, 4) > 0).to_csv("gaps.csv", index=False)
    assert run("score model.safetensors gaps.csv") == 0
    says = "'gaps.csv' has gaps (NaN), and the rows that the model was fitted to had none: answers may be poor."
    assert [line for line in capsys.readouterr().err.splitlines() if "Warning" in line] == [f"Warning: {says}"]
    assert run("transform model.safetensors gaps.csv rows.csv --output c.csv") == 0
    assert "Warning: The table has gaps" in capsys.readouterr().err


def test_a_note_has_the_kind_as_it_is_typed(folder, capsys):
    assert run("fit rows.csv --exclude label --output m.safetensors --max-epochs 1 --init random") == 0
    assert "try a larger --max-epochs" in capsys.readouterr().out
    notes = "the nonlinear part is no better than the linear baseline: a LinearAutoencoder is enough"
    assert facts_told({"kind": "LinearAutoencoder", "note": notes}) == {
        "kind": "LinearAutoencoder",
        "note": "the nonlinear part is no better than the linear baseline: --kind linear is enough",
    }


def test_one_row_is_not_several(model, frame, capsys):
    frame.head(1).to_csv("one.csv", index=False)
    capsys.readouterr()
    assert run("transform model.safetensors one.csv --output c.csv") == 0
    assert capsys.readouterr().out == "1 row of 2 columns is in c.csv.\n"


@pytest.mark.versions
def test_help_lists_the_exit_codes(capsys):
    for line in ["--help", "fit --help", "score --help"]:
        assert run(line) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "Exit codes: 0 if done; 1 if the command failed" in printed
        assert "130, 143 or 129 if it was interrupted by Ctrl-C, SIGTERM or SIGHUP" in printed


@pytest.mark.versions
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fti rows.csv", "Did you mean 'fit'?"),
        ("fit rows.csv --output m.safetensors --n-component 3", "Did you mean --n-components?"),
        ("fit rows.csv --output m.safetensors --scale comon", "Did you mean 'common'?"),
        ("fit rows.csv --output m.safetensors --activation relo", "Did you mean 'relu'?"),
        ("fit rows.csv --output m.safetensors --n-components 0", "in the range (0, 1) or 'auto'. Got 0 instead."),
        ("fit rows.csv --output m.safetensors --n-components 3.5", "must be an int in the range [1, inf)"),
        ("fit rows.csv --output m.safetensors --hidden 8 0", "Got (8, 0) instead."),
        ("fit rows.csv --output m.safetensors --hidden 8 x", "Got (8, 'x') instead."),
        (
            "fit rows.csv --output m.safetensors --hidden 8,x",
            "must be an int in the range [1, inf), a sequence of ints in the range [1, inf) or 'auto'. Got '8,x'",
        ),
        (
            "fit rows.csv --output m.safetensors --image-shape 0,8,8",
            "--image-shape must be a sequence of ints in the range [1, inf) or 'auto'. Got (0, 8, 8) instead.",
        ),
        ("fit rows.csv --output m.safetensors --beta nan", "must be a float in the range [0, inf)"),
        (
            "fit rows.csv",
            "eigencode fit needs --output. File for the model: a .safetensors file. Example: eigencode fit rows.csv "
            "--n-components 2 --output model.safetensors\n",
        ),
        ("fit rows.csv -o", "-o needs a value. File for the model: a .safetensors file."),
        ("fit", "eigencode fit needs ROWS. Tables: a .csv, .tsv"),
        ("transform model.safetensors", "standard input. Example: eigencode transform model.safetensors rows.csv"),
        ("fit --exclude label rows.csv -o m.safetensors", "here label rows.csv: put ROWS before it."),
        ("describe rows.csv --columns x=count,x=real", "--columns names a column more than once."),
        ("describe rows.csv --columns label", "--columns takes name=kind, as zip=category. Got 'label'."),
        (
            "fit --output m.safetensors --exclude label rows.csv",
            "--exclude takes every argument up to the next flag, here label rows.csv: put ROWS before it.",
        ),
        ("fit --include x rows.csv --output m.safetensors", "here x rows.csv: put ROWS before it."),
        (
            "fit --exclude=label --hidden 8 - --output m.safetensors",
            "--hidden takes every argument up to the next",
        ),
        ("transform --include x m.safetensors rows.csv --output -", "here x m.safetensors rows.csv: put MODEL before"),
        ("fit rows.csv --hidden 8 more.csv --output m.safetensors", "here 8 more.csv: put files before it."),
        ("fit rows.csv --output -- m.safetensors", "--output needs a value."),
        ("score model.safetensors rows.csv --jsno", "Did you mean --json?"),
        ("fit rows.csv --output m.safetensors --seed 1", "Unknown option: --seed. Did you mean --random-state?"),
        ("fit rows.csv --output m.safetensors --xyz 1", "Unknown option: --xyz. Options are --output, --include,"),
        ("fit rows.csv --include --output m.safetensors", "--include needs a value. Columns to use"),
        ("fit rows.csv --output m.safetensors --missing-values", "--missing-values needs a value. Value"),
        ("fit rows.csv --output m.safetensors --columns", "--columns needs a value."),
        ("export m.safetensors --output m.onnx --methods", "--methods needs a value. Answers to give"),
        ("detect --id x m.safetensors rows.csv --output -", "here x m.safetensors rows.csv: put MODEL before it."),
        ("export --methods score m.safetensors --output m.pt2", "here score m.safetensors: put MODEL before it."),
        ("--versoin", "Unknown option: --versoin. Did you mean --version?"),
        ("-v", "Unknown option: -v. Did you mean -V?"),
        ("--quiet fit rows.csv", "Unknown option: --quiet. Options of a command come after it, as in eigencode fit"),
        (
            "sample model.safetensors 6 --output drawn.csv",
            "Unexpected arguments: '6'. Example: eigencode sample generator.safetensors -n 100 --output drawn.csv\n",
        ),
    ],
)
def test_wrong_arguments_are_refused_with_a_hint(line, says, capsys):
    assert run(line) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert err.count("\n") == 2
    assert err.splitlines()[-1].startswith("See eigencode")
    assert out == ""


HELP = """
assert main(["--help"]) == main(["transform", "--help"]) == 0
assert main(["transform", "model.safetensors"]) == 2
"""
HELP_OF_FIT = """
assert main(["fit", "--help"]) == main(["sweep", "--help"]) == 0
fit = ["fit", "rows.csv", "--output", "model.safetensors"]
assert main([*fit, "--scale", "comon"]) == main([*fit, "--kind", "linear", "--hidden", "8"]) == main(fit[:2]) == 2
assert main(["sweep", "rows.csv", "--output", "m.safetensors", "--over", "n_components=0"]) == 2
"""
LARGE = {"torch", "matplotlib", "safetensors", "numpy", "sklearn", "scipy", "pyarrow", "tqdm"}


@pytest.mark.parametrize("lines", [HELP, HELP_OF_FIT])
def test_help_and_usage_errors_import_no_large_package(lines):
    program = f"""
import sys
from eigencode.cli import main
{lines}
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = found.stdout.splitlines()[-1].split()
    assert "cyclopts" in modules
    assert not LARGE & set(modules)


@pytest.mark.versions
@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_printed(flag, capsys):
    assert run(flag) == 0
    assert capsys.readouterr().out.strip() == eigencode.__version__


# -- commands


@pytest.mark.versions
def test_fit_is_the_librarys_fit(folder, frame, capsys):
    assert run("fit rows.csv --output model.safetensors --exclude label", *QUICK) == 0
    model = eigencode.load("model.safetensors")
    same = Autoencoder(n_components=2, hidden=(8,), max_epochs=2, random_state=0).fit(frame[["x", "y", "z"]])
    assert list(model.feature_names_in_) == ["x", "y", "z"]
    np.testing.assert_array_equal(model.transform(frame[["x", "y", "z"]]), same.transform(frame[["x", "y", "z"]]))
    out = capsys.readouterr().out
    kept = same.history_[same.best_epoch_]["validation_objective"]
    assert f"validation objective  {kept:.5g} nats a row" in out
    assert f"linear baseline       {same.baseline_.history_[0]['validation_objective']:.5g}\n" in out
    printed = next(line for line in out.splitlines() if " transform " in line)
    arguments = shlex.split(printed)
    assert main(arguments[arguments.index("transform") :]) == 0
    np.testing.assert_array_equal(read_table("codes.parquet").rows, same.transform(frame[["x", "y", "z"]]))


@pytest.mark.versions
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


@pytest.mark.versions
@pytest.mark.parametrize("name", ["[1] a.csv", "{b}.csv", "new\nline.csv", "ünï码.csv", "a*b.csv", '"quoted".csv'])
def test_files_of_odd_names(name, model, folder):
    shutil.copy("rows.csv", name)
    output = name.replace(".csv", ".parquet")
    assert main(["transform", "model.safetensors", name, "--exclude", "label", "--output", output]) == 0
    expected = model.transform(pd.read_csv("rows.csv").drop(columns="label"))
    # Products of rows in another layout may differ by rounding.
    np.testing.assert_allclose(pd.read_parquet(output), expected, rtol=1e-9, atol=1e-12)


def test_a_pattern_may_begin_with_a_bracket(model, folder):
    assert run("transform model.safetensors '[rx]ows.csv' --exclude label --output codes.npy") == 0
    assert len(np.load("codes.npy")) == len(pd.read_csv("rows.csv"))


def test_columns_without_names_are_chosen_by_number(folder, frame):
    np.save("rows.npy", frame[["x", "y", "z"]].assign(constant=0.0).to_numpy())
    assert run("fit rows.npy --output model.safetensors --exclude 3", *QUICK) == 0
    assert run("transform model.safetensors rows.npy --output codes.csv --exclude 3") == 0
    assert run("reconstruct model.safetensors rows.npy --output back.csv --include 0 1 2") == 0
    model, rows = eigencode.load("model.safetensors"), frame[["x", "y", "z"]].to_numpy()
    np.testing.assert_array_equal(read_table("codes.csv").rows, model.transform(rows))
    assert read_table("back.csv").names == ["x0", "x1", "x2"]


@pytest.mark.versions
def test_describe_says_what_the_model_is(model, capsys):
    capsys.readouterr()
    assert run("describe model.safetensors") == 0
    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    printed = {name: fact.strip() for name, fact in printed.items()}
    # Two maps of 3-8-2 and 2-8-3 with biases, and the linear paths 3-2 and 2-3 beside them.
    n_weights = (3 * 8 + 8 + 8 * 2 + 2) + (2 * 8 + 8 + 8 * 3 + 3) + (3 * 2 + 2) + (2 * 3 + 3)
    assert n_weights - (2 + 3) <= int(printed["weights"]) <= n_weights
    assert printed["kind"] == "Autoencoder"
    assert printed["code size"] == "2, from 3 columns"
    assert printed["hidden layers"] == "8, mirrored in the decoder"
    assert printed["likelihood"] == "GaussianLikelihood()"
    assert printed["scale"].startswith(f"{model.scale_}: ")
    assert printed["init"].startswith("linear: ")
    training = f"up to epoch {model.history_[-1]['epoch']} by {model.optimizer_}"
    assert printed["training"] == f"{training}; the weights kept are of epoch {model.best_epoch_}"
    kept = model.history_[model.best_epoch_]["validation_objective"]
    assert printed["validation objective"].startswith(f"{kept:.5g} nats a row")
    assert printed["linear baseline"] == f"{model.baseline_.history_[0]['validation_objective']:.5g}"
    assert printed["seed"] == "0"
    assert printed["arithmetic"] == "float32 on cpu, 1 thread"
    assert printed["columns"].startswith("x: real, from ")
    assert printed["written by"] == f"eigencode {eigencode.__version__}"


def test_notes_of_the_fit_are_printed(folder, monkeypatch, capsys):
    fit = Autoencoder.fit

    def noted(self, X):
        fit(self, X).notes_ = ["a linear model would do", "take care"]
        print("chatter")
        return self

    monkeypatch.setattr(Autoencoder, "fit", noted)
    assert run("fit rows.csv --output model.safetensors --exclude label", *QUICK) == 0
    out, err = capsys.readouterr()
    assert f"note                  a linear model would do\n{' ' * 22}take care\n" in out
    assert err == "chatter\n"


def test_decode_is_the_librarys_inverse(model, frame, capsys):
    assert run("transform model.safetensors rows.csv --output codes.csv") == 0
    assert run("decode model.safetensors codes.csv --output back.parquet") == 0
    back = read_table("back.parquet")
    assert back.names == ["x", "y", "z"]
    np.testing.assert_array_equal(back.rows, model.inverse_transform(model.transform(frame[["x", "y", "z"]])))
    # Codes without names are matched by position; those with other names are refused.
    np.save("codes.npy", read_table("codes.csv").rows)
    assert run("decode model.safetensors codes.npy --output again.parquet") == 0
    np.testing.assert_array_equal(read_table("again.parquet").rows, back.rows)
    assert run("decode model.safetensors rows.csv --output again.parquet") == 1
    assert (
        "lacks columns that the model reads. Got none named 'autoencoder0', 'autoencoder1'." in capsys.readouterr().err
    )


def test_score_is_the_librarys(model, frame, capsys):
    rows = frame[["x", "y", "z"]]
    capsys.readouterr()
    assert run("score model.safetensors rows.csv --output scores.csv") == 0
    scores = read_table("scores.csv")
    assert scores.names == ["log_likelihood", "reconstruction_error", "scaled_reconstruction_error"]
    same = [model.score_samples(rows), model.reconstruction_error(rows), model.reconstruction_error(rows, scaled=True)]
    np.testing.assert_array_equal(scores.rows.T, same)
    out = capsys.readouterr().out
    assert f"log-likelihood        {model.score(rows):.5g} nats a row\n" in out
    assert f"reconstruction error  {same[1].mean():.5g} a row, in the data's units\n" in out
    assert out.endswith("200 rows of 3 columns are in scores.csv.\n")
    assert run("score model.safetensors rows.csv") == 0
    assert out.startswith(capsys.readouterr().out)


# -- JSON


def strict(text):
    """One line of strict JSON."""
    assert text.count("\n") == 1

    def refuse(constant):
        pytest.fail(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.versions
def test_fit_and_describe_print_one_object(folder, capsys):
    assert run("fit rows.csv --output model.safetensors --exclude label --verbose --json", *QUICK) == 0
    fitted = strict(capsys.readouterr().out)
    model = eigencode.load("model.safetensors")
    assert fitted.pop("model") == "model.safetensors"
    assert fitted["feature_names"] == ["x", "y", "z"]
    assert fitted["hidden"] == [8]
    assert fitted["objective"] == model.history_[model.best_epoch_]["validation_objective"]
    assert fitted["baseline_objective"] == model.baseline_.history_[0]["validation_objective"]
    assert (fitted["prior"], fitted["likelihood"]) == (None, "GaussianLikelihood()")
    assert run("describe model.safetensors --json") == 0
    assert strict(capsys.readouterr().out) == {**fitted, "version": eigencode.__version__}


def test_score_prints_one_object(model, frame, capsys):
    capsys.readouterr()
    assert run("score model.safetensors rows.csv --json --output scores.csv") == 0
    printed = strict(capsys.readouterr().out)
    assert printed["log_likelihood"] == pytest.approx(model.score(frame[["x", "y", "z"]]), rel=1e-12)
    assert printed["n_rows"] == 200
    assert printed["output"] == "scores.csv"
    assert len(read_table("scores.csv").rows) == 200


def test_nan_is_null(capsys):
    descriptions.print_json({"a": math.nan, "b": -math.inf, "c": 1.5, "d": None})
    assert strict(capsys.readouterr().out) == {"a": None, "b": None, "c": 1.5, "d": None}


# -- streams


@pytest.mark.versions
@pytest.mark.parametrize("command", ["transform", "reconstruct", "score"])
def test_a_hyphen_is_standard_input_and_output(model, typed, command, capsysbinary):
    assert run(f"{command} model.safetensors rows.csv --output answer.csv") == 0
    capsysbinary.readouterr()
    typed("rows.csv")
    assert run(f"{command} model.safetensors - --output -") == 0
    out, err = capsysbinary.readouterr()
    assert out == Path("answer.csv").read_bytes()
    assert (b"log-likelihood" in err) == (command == "score")
    assert command == "score" or err == b"<stream>: not read, since the model does not have them: 'label'.\n"


def test_codes_go_round_through_streams(model, typed, frame, capsysbinary):
    run("transform model.safetensors rows.csv --output codes.csv")
    typed("codes.csv")
    capsysbinary.readouterr()
    assert run("decode model.safetensors - --output=-") == 0
    back = pd.read_csv(io.BytesIO(capsysbinary.readouterr().out))
    rows = frame[["x", "y", "z"]]
    np.testing.assert_allclose(back, model.reconstruct(rows), rtol=0, atol=1e-12)


@pytest.mark.versions
def test_fit_reads_a_stream(model, typed, frame, capsys):
    typed("rows.csv")
    assert run("fit - --output same.safetensors --exclude label", *QUICK) == 0
    same, rows = eigencode.load("same.safetensors"), frame[["x", "y", "z"]]
    np.testing.assert_array_equal(same.transform(rows), model.transform(rows))
    assert list(same.feature_names_in_) == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"x,y\n1,inf\n", "infinite cells. Got 1 in column 'y' (the first in line 2)"),
        (b"x,y\n1\n", "Every line of '<stream>' must have 2 cells, as the first line has. Got 1 in line 2."),
        (b"\xff\xfex", "is not text in utf-16"),
        (b"x,y\n", "has no rows"),
        (b"x,x\n1,2\n", "more than one column of the same name"),
    ],
)
def test_a_stream_is_checked_like_a_file(folder, typed, content, says, capsys):
    typed(content)
    assert run("fit - --output model.safetensors") == 1
    out, err = capsys.readouterr()
    assert says in err
    assert "'<stream>'" in err
    assert (out, err.count("\n")) == ("", 1)


def test_two_answers_cannot_share_standard_output(model, capsys):
    capsys.readouterr()
    assert run("score model.safetensors rows.csv --output - --json") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("name a file for --output.\nSee eigencode score --help\n")


@pytest.mark.parametrize("line", ["transform model.safetensors rows.csv --output -", "describe model.safetensors"])
def test_a_reader_that_closes_early_is_not_a_failure(model, line, monkeypatch, capsys):
    capsys.readouterr()
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        assert run(line) == 0
    passed_over = "rows.csv: not read, since the model does not have them: 'label'.\n"
    assert capsys.readouterr().err == (passed_over if "rows.csv" in line else "")


@pytest.mark.skipif(os.name != "posix", reason="the pipe is a POSIX shell's")
def test_a_pipeline_of_processes(model):
    program = shlex.join([copies.python(), "-c", "import sys; from eigencode.cli import main; sys.exit(main())"])
    encode = f"{program} transform model.safetensors - --output - < rows.csv"
    line = f"set -o pipefail; {encode} | {program} decode model.safetensors - --output - | head -n 1"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment)
    printed = "standard input: not read, since the model does not have them: 'label'.\n"
    assert (found.returncode, found.stdout, found.stderr) == (0, "x,y,z\n", printed)


# -- failures


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fit rwos.csv --output m.safetensors", "There is no file 'rwos.csv'. Did you mean 'rows.csv'?"),
        ("fit rows.csv --output m.safetensors --columns label=real", "Column 'label' should have numbers. Got 'text'"),
        (
            "fit rows.csv --output m.safetensors --columns x=reel",
            "column 'x' is not known. Got 'reel'. Did you mean 'real'",
        ),
        ("fit rows.csv --output m.safetensors --exclude lable", "Did you mean 'label'?"),
        ("fit rows.csv --output rows.csv", "Known are: '.safetensors'."),
        ("fit rows.csv --output no/m.safetensors", "there is no folder 'no'"),
        ("fit one.csv --output m.safetensors", "Fitting needs at least two rows. Got 1 in 'one.csv'."),
        ("fit rows.csv --output m.safetensors --include x y --device tpu9", "The device 'tpu9' cannot be used"),
        ("transform model.safetensors rows.csv --output codes.txt", "Got '.txt'"),
        ("transform model.safetensors rows.csv --output no/codes.csv", "there is no folder 'no'"),
        ("transform model.safetensors other.csv --output codes.csv", "none named 'z'"),
        ("reconstruct nothing.safetensors rows.csv --output back.csv", "There is no model file 'nothing.safetensors'"),
        (
            "describe bad.safetensors",
            "is not a complete safetensors file",
        ),
        ("demo --output rows.csv/demo", "The folder 'rows.csv/demo' cannot be used"),
    ],
)
def test_failures_are_one_message(model, line, says, capsys):
    Path("bad.safetensors").write_bytes(Path("rows.csv").read_bytes())
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


@pytest.mark.parametrize("line", ["transform model.safetensors rows.csv", "reconstruct model.safetensors rows.csv"])
def test_inputs_are_not_overwritten(model, line, capsys):
    before = Path("rows.csv").read_bytes()
    assert run(f"{line} --output ./rows.csv") == 1
    assert "it is an input. Give the result another name" in " ".join(capsys.readouterr().err.split())
    assert Path("rows.csv").read_bytes() == before


def test_an_old_output_stays_until_the_new_one_is_complete(model, capsys):
    write_columns("codes.csv", {"old": np.array([1.0])})
    write_columns("infinite.csv", {"x": np.array([np.inf]), "y": np.array([1.0]), "z": np.array([1.0])})
    assert run("transform model.safetensors infinite.csv --output codes.csv") == 1
    assert read_table("codes.csv").names == ["old"]
    assert run("transform model.safetensors rows.csv --output codes.csv") == 0
    assert read_table("codes.csv").names == ["autoencoder0", "autoencoder1"]


def test_an_interrupted_fit_saves_its_best_weights_with_one_message(folder, monkeypatch, capsys):
    train_all = training.train_all

    def interrupted(runner):
        epochs = train_all(runner)
        yield next(epochs)
        raise KeyboardInterrupt

    monkeypatch.setattr("eigencode.training.train_all", interrupted)
    with warnings.catch_warnings(action="default"):
        assert run("fit rows.csv --output model.safetensors --exclude label", *QUICK) == 130
    out, err = capsys.readouterr()
    assert err == "Warning: Training was interrupted; the best weights so far are kept.\n"
    assert "The model is in model.safetensors." in out
    assert eigencode.load("model.safetensors").history_[-1]["epoch"] == 1


def test_an_interrupted_density_leaves_the_model(folder, monkeypatch, capsys):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Autoencoder, "_find_density", interrupted)
    with warnings.catch_warnings(action="default"):
        assert run("fit rows.csv --output model.safetensors --exclude label", *QUICK) == 130
    assert capsys.readouterr().err == "Warning: Fitting the density was interrupted; the model is saved without one.\n"
    assert not hasattr(eigencode.load("model.safetensors"), "mixture_")


@pytest.mark.parametrize(("kind", "code"), [(InterruptedWarning, 130), (ResultWarning, 0)])
def test_an_interruption_is_known_by_its_class_and_not_by_its_message(folder, monkeypatch, kind, code):
    fit = Autoencoder.fit

    def warned(self, X):
        warnings.warn("Training was interrupted, or something else.", kind, stacklevel=1)
        return fit(self, X)

    monkeypatch.setattr(Autoencoder, "fit", warned)
    with warnings.catch_warnings(action="default"):
        assert run("fit rows.csv --output model.safetensors --exclude label", *QUICK) == code


def test_an_interruption_elsewhere_is_one_line_and_leaves_no_file(model, monkeypatch, capsys):
    def interrupted(self, X, **options):
        raise KeyboardInterrupt

    capsys.readouterr()
    monkeypatch.setattr(Autoencoder, "transform", interrupted)
    assert run("transform model.safetensors rows.csv --output codes.csv") == 130
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", "Interrupted.")
    assert not os.path.exists("codes.csv")


def test_the_first_components_of_an_ordered_code_can_be_asked_for(tmp_path, monkeypatch, capsys, digits):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", digits[:300])
    fit = "fit rows.npy --n-components 4 --max-epochs 2 --random-state 0"
    assert run(f"{fit} --output m.safetensors --ordered") == 0
    assert run("transform m.safetensors rows.npy --output codes.npy --n-components 2") == 0
    assert run("reconstruct m.safetensors rows.npy --output rebuilt.npy --n-components 2") == 0
    model = eigencode.load("m.safetensors")
    np.testing.assert_array_equal(np.load("codes.npy"), model.transform(digits[:300])[:, :2])
    np.testing.assert_array_equal(np.load("rebuilt.npy"), model.reconstruct(digits[:300], n_components=2))
    assert run(f"{fit} --output plain.safetensors") == 0
    assert run("transform plain.safetensors rows.npy --output codes.npy --n-components 2") == 1
    assert "--ordered" in capsys.readouterr().err


WRONG = """
describe lost.safetensors
transform lost.safetensors rows.csv --output codes.csv
transform there.safetensors lost.csv --output codes.csv
score there.safetensors lost.csv
decode there.safetensors lost.csv --output table.csv
sample there.safetensors --given lost.csv --output table.csv
detect there.safetensors lost.csv --output table.csv
report there.safetensors rows.csv --output lost/page.html
export lost.safetensors --output graph.onnx
export there.safetensors --output graph.txt
export there.safetensors --output lost/graph.onnx
fit lost.csv --output model.safetensors
fit rows.csv --output model.safetensors --include q
fit rows.csv --output model.safetensors --columns q=count
fit rows.csv --output model.safetensors --checkpoint rows.csv
sweep rows.csv --output model.safetensors --over n_components=1,2 --table lost/table.csv
demo --output rows.csv
"""


def test_what_is_wrong_with_files_and_columns_is_said_before_torch_is_loaded(folder):
    """It takes seconds to load."""
    (folder / "there.safetensors").write_text("no model")
    program = """
import sys
from eigencode.cli import main
for line in sys.argv[1].strip().splitlines():
    print(main(line.split()), "torch" in sys.modules, line)
import eigencode
try:
    eigencode.load("lost.safetensors")
except eigencode.errors.MissingFileError:
    print(1, "torch" in sys.modules, "load")
"""
    done = subprocess.run([sys.executable, "-c", program, WRONG], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"1 False {line}" for line in [*WRONG.strip().splitlines(), "load"]]
