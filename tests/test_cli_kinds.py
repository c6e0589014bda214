"""The command line for every kind of autoencoder: options of its own, fits, draws, descriptions."""

import dataclasses
import json
import re
import shlex
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pandas as pd
import pytest

import eigencode
from eigencode import Autoencoder, estimators, options
from eigencode.cli import flags, main
from eigencode.data.files import read_table
from eigencode.descriptions import description, own_options, summary
from eigencode.options import AutoencoderOptions, options_of
from eigencode.parts import GaussianWeights, Penalty

COMMON = {option.name for option in options_of(AutoencoderOptions) if option.on_command_line}
QUICK = {"n_components": 3, "max_epochs": 2, "random_state": 0}


def run(line):
    """The exit code of a command, written as into a shell."""
    return main(shlex.split(line))


def panels(capsys):
    """What ``fit --help`` says, by the title of the panel; each panel as one line."""
    assert run("fit --help") == 0
    parts = re.split(r"╭─ (.*?) ─+╮", capsys.readouterr().out.partition("Example")[0])
    return {
        title: " ".join(text.partition("╰")[0].replace("│", " ").split())
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def quick(kind):
    """Options of a short fit; the closed form of a linear one takes no epochs."""
    return {name: value for name, value in QUICK.items() if (kind, name) != ("linear", "max_epochs")}


def words_of(options):
    """Options as flags."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())


def estimator(kind):
    return getattr(eigencode, flags.KINDS[kind])


@pytest.fixture(scope="module")
def rows(digits):
    return digits[:150]


@pytest.fixture
def folder(tmp_path, monkeypatch, rows):
    """The current folder, with digits in rows.npy and rows.csv."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", rows)
    pd.DataFrame(rows[:, 20:24], columns=list("abcd")).to_csv("rows.csv", index=False)
    return tmp_path


# -- kinds and their flags


def test_every_autoencoder_is_a_kind():
    known = [n for n in estimators.__all__ if n.endswith("Autoencoder")]
    assert sorted(flags.KINDS.values()) == sorted([*known, "AnomalyDetector"])
    assert flags.KINDS["plain"] == "Autoencoder"
    assert flags.KINDS["linear"] == "LinearAutoencoder"


@pytest.mark.versions
@pytest.mark.parametrize("kind", flags.KINDS)
def test_help_lists_the_options_of_each_kind_with_it(kind, capsys):
    printed = panels(capsys)
    own = [option for option in options_of(estimator(kind)) if option.name not in COMMON and option.on_command_line]
    listed = re.findall(r"(?:^| )(--[a-z-]+) (?!linear)", printed.pop(f"Options of --kind {kind}", ""))
    # A flag that several kinds share says with which of them it means what.
    found = {flag for flag in listed if flag != "--kind" and not flag.startswith("--no-")}
    assert {f"--{option.name.replace('_', '-')}" for option in own} == found
    for option in own:
        assert f"--{option.name.replace('_', '-')} " not in printed["Autoencoder"]


@pytest.mark.versions
def test_help_lists_defaults_that_differ_by_kind(capsys):
    printed = panels(capsys)
    assert "--precision CHOICE" in printed["Autoencoder"]
    assert re.search(r"\[default: auto;[^\]]* float64 for --kind linear", printed["Autoencoder"])
    assert "[choices: exact, gradient] [default: exact]" in printed["Options of --kind linear"]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("", {}),
        ("--kind plain --n-components 4", {"n_components": 4}),
        ("--kind linear", {}),
        ("--kind linear --solver gradient --precision float32", {"solver": "gradient", "precision": "float32"}),
        ("--solver gradient --kind linear", {"solver": "gradient"}),
        ("--kind variational --n-draws 5 --warmup 2.5", {"n_draws": 5, "warmup": 2.5}),
        ("--kind denoising --noise masking --level 0.3", {"noise": "masking", "level": 0.3}),
    ],
)
def test_options_not_given_have_the_defaults_of_the_kind(folder, monkeypatch, arguments, given):
    class Reached(Exception):
        pass

    def fit(self, X):
        raise Reached(self)

    kind = re.search(r"--kind (\w+)", arguments + " --kind plain")[1]
    monkeypatch.setattr(estimator(kind), "fit", fit)
    with pytest.raises(Reached) as reached:
        run(f"fit rows.npy --output m.safetensors {arguments}")
    (model,) = reached.value.args
    assert type(model) is estimator(kind)
    assert model.get_params() == {**estimator(kind)().get_params(), **given}


@pytest.mark.versions
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--kind linaer", "There is no such --kind. Got 'linaer'. Did you mean 'linear'?"),
        ("--kind quantum", "There is no such --kind. Got 'quantum'. Known are: "),
        ("--kind", "--kind needs a value. Kind of autoencoder."),
        ("--solver exact", "--solver is not an option of --kind plain, but of --kind linear."),
        ("--kind linear --hidden 8", "--hidden is not an option of --kind linear, but of --kind plain, "),
        ("--kind linear --solver exct", "must be 'exact' or 'gradient'. Got 'exct' instead. Did you mean 'exact'?"),
        (
            "--kind linear --tied --no-ordered --n-draws 2",
            "--n-draws is not an option of --kind linear, but of --kind v",
        ),
        ("--kind variational --n-draws 0", "in the range [1, inf). Got 0 instead."),
        ("--kind linear --solvr exact", "Did you mean --solver?"),
    ],
)
def test_an_option_of_other_kinds_is_refused_with_their_names(folder, arguments, says, capsys):
    assert run(f"fit rows.npy --output m.safetensors {arguments}") == 2
    out, err = capsys.readouterr()
    assert says in err
    assert (out, err.count("\n"), err.splitlines()[-1]) == ("", 2, "See eigencode fit --help")
    assert not (folder / "m.safetensors").exists()


class Rough(AutoencoderOptions):
    level: float = options.option(0.5, "How rough.", low=0, high=1)
    mode: Literal["dry"] = options.option("dry", "The way.")


class Smooth(AutoencoderOptions):
    level: float | Literal["auto"] = options.option("auto", "How smooth.", low=1)
    mode: Literal["dry", "wet"] = options.option("dry", "The way.")


@pytest.fixture
def two_kinds(monkeypatch):
    """Two kinds with options of the same names, which differ."""
    kinds = {
        "plain": AutoencoderOptions,
        "rough": dataclasses.dataclass(Rough),
        "smooth": dataclasses.dataclass(Smooth),
    }
    monkeypatch.setattr(flags, "kind_group", lambda kind: kind)
    found = flags.flags_of(kinds)
    monkeypatch.setattr(flags, "KINDS", kinds)
    monkeypatch.setattr(flags, "known_flags", lambda: found)
    return found


def test_a_flag_of_several_kinds_describes_each(two_kinds):
    level, mode = two_kinds["level"], two_kinds["mode"]
    assert level.groups == mode.groups == ("rough", "smooth")
    assert level.help == "With --kind rough: How rough. Range [0, 1]. With --kind smooth: How smooth. Range [1, inf)."
    assert level.default == "0.5; auto for --kind smooth"
    assert (mode.help, mode.default) == ("The way.", "dry")
    assert set(mode.alternatives) == {Literal["dry"], Literal["dry", "wet"]}
    assert two_kinds["beta"].groups == (flags.AUTOENCODER,)


def test_a_flag_of_several_kinds_is_checked_by_the_kind(two_kinds):
    assert flags.options_given("rough", SimpleNamespace(level=0.25, mode=None, beta=None)) == {"level": 0.25}
    assert flags.options_given("smooth", SimpleNamespace(level="auto", mode="wet")) == {"level": "auto", "mode": "wet"}
    for kind, name, value in [("rough", "level", "auto"), ("rough", "mode", "wet"), ("smooth", "level", 0.25)]:
        with pytest.raises(flags.FlagError, match=f"^--{name} must be"):
            flags.options_given(kind, SimpleNamespace(**{name: value}))
    with pytest.raises(
        flags.FlagError, match="--level is not an option of --kind plain, but of --kind rough or smooth."
    ):
        flags.options_given("plain", SimpleNamespace(level=1))


# -- fits


@pytest.mark.parametrize("kind", [kind for kind in flags.KINDS if kind != flags.DETECTOR])
def test_every_kind_through_the_shell_is_the_librarys(folder, rows, kind, capsys):
    assert run(f"fit rows.npy --kind {kind} --output m.safetensors --json {words_of(quick(kind))}") == 0
    printed = json.loads(capsys.readouterr().out)
    model, same = eigencode.load("m.safetensors"), estimator(kind)(**quick(kind)).fit(rows)
    assert type(model) is estimator(kind)
    assert printed["kind"] == type(model).__name__
    assert printed["options"] == json.loads(json.dumps(own_options(same)))
    assert printed["objective"] == pytest.approx(same.best_objective_, rel=1e-12)
    assert run("transform m.safetensors rows.npy --output codes.parquet") == 0
    np.testing.assert_allclose(read_table("codes.parquet").rows, same.transform(rows), rtol=1e-9, atol=1e-9)
    assert run("reconstruct m.safetensors rows.npy --output back.npy") == 0
    np.testing.assert_allclose(np.load("back.npy"), same.reconstruct(rows), rtol=1e-9, atol=1e-9)
    assert run("decode m.safetensors codes.parquet --output decoded.npy") == 0
    np.testing.assert_allclose(
        np.load("decoded.npy"), same.inverse_transform(same.transform(rows)), rtol=1e-9, atol=1e-9
    )
    assert run("score m.safetensors rows.npy --output scores.csv") == 0
    np.testing.assert_allclose(read_table("scores.csv").rows[:, 0], same.score_samples(rows), rtol=1e-9, atol=1e-9)
    capsys.readouterr()
    assert run("describe m.safetensors") == 0
    out = capsys.readouterr().out
    assert re.search(rf"^kind +{type(model).__name__}$", out, re.MULTILINE)
    for name in own_options(same):
        assert re.search(rf"^options .*\b{name}=", out, re.MULTILINE)
    assert ("\noptions" in out) == bool(own_options(same))


@pytest.mark.versions
def test_options_of_a_kind_take_effect(folder, rows, capsys):
    line = f"fit rows.npy --kind linear --output m.safetensors --solver gradient {words_of(QUICK)}"
    assert run(line) == 0
    assert eigencode.load("m.safetensors").init_ == "random"
    capsys.readouterr()
    assert run("describe m.safetensors") == 0
    assert "options             solver='gradient'\n" in capsys.readouterr().out


@pytest.mark.versions
def test_errors_name_flags(folder, rows, capsys):
    assert run("fit rows.npy --kind linear --max-epochs 5 --output m.safetensors") == 1
    printed = capsys.readouterr().err
    assert "Got --max-epochs 5 and --solver exact. Use --solver gradient." in printed
    assert "=" not in printed


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("Use hidden=(64, 32), please", "Use --hidden 64 32, please"),
        ("Got beta=0.5.", "Got --beta 0.5."),
        ("learning_rate=1e-3", "--learning-rate 1e-3"),
        ("Use sparsity='l1' or 'top_k'", "Use --sparsity l1 or top_k"),
        ("tied=True or tied=False", "--tied or --no-tied"),
        ("no hidden=()", "no hidden=()"),
        ("a column x=3 and my_beta=2", "a column x=3 and my_beta=2"),
        ("code=GaussianCode()", "code=GaussianCode()"),
        ("n_components must be 1", "--n-components must be 1"),
        (
            "There is no column 'n_components' in 'max_epochs.csv'",
            "There is no column 'n_components' in 'max_epochs.csv'",
        ),
        ("The 'beta' parameter of Autoencoder must be 1", "--beta must be 1"),
        ("the model's batch_size, or x's 'beta'", "the model's --batch-size, or x's 'beta'"),
    ],
)
def test_python_arguments_are_printed_as_flags(message, typed):
    assert flags.with_flags(message) == typed


def test_kinds_combine_with_options_of_the_command_line(folder, rows):
    line = f"fit rows.npy --kind denoising --likelihood poisson --ordered --output m.safetensors {words_of(QUICK)}"
    assert run(line) == 0
    composition = eigencode.load("m.safetensors").composition_
    names = [type(term).__name__ for term in (composition.likelihood, composition.code, composition.corruption)]
    assert names == ["PoissonLikelihood", "NestedDropout", "GaussianNoise"]


class Shortness(Penalty):
    def __init__(self, weight=0.1):
        super().__init__()
        self.weight = weight

    def forward(self, trace, composition):
        return self.weight * trace.z.square().sum(1)


def test_every_term_of_the_formula_is_described(rows):
    terms = {"penalties": [Shortness(0.5)], "weight_prior": GaussianWeights(0.01)}
    facts = {**summary(Autoencoder(hidden=(4,), **terms, **QUICK).fit(rows)), "version": "0"}
    printed = description(facts)
    assert printed["penalties"] == "Shortness(weight=0.5)"
    assert printed["weight prior"] == repr(GaussianWeights(0.01))
    assert "corruption" not in printed
    assert json.loads(json.dumps(facts)) == facts


def test_options_that_are_objects_are_described_by_their_repr():
    model = eigencode.DenoisingAutoencoder(noise=eigencode.parts.GaussianNoise(0.5))
    assert own_options(model) == {"noise": repr(eigencode.parts.GaussianNoise(0.5)), "level": "auto"}


# -- draws


@pytest.fixture
def variational(folder):
    assert run(f"fit rows.csv --kind variational --output v.safetensors {words_of(QUICK)}") == 0
    return eigencode.load("v.safetensors")


def test_draws_are_the_librarys(variational, capsys):
    assert run("sample v.safetensors --n-rows 7 --random-state 3 --output drawn.csv") == 0
    assert "7 rows of 4 columns are in drawn.csv." in capsys.readouterr().out
    drawn = read_table("drawn.csv")
    assert drawn.names == list("abcd")
    np.testing.assert_array_equal(drawn.rows, variational.sample(7, random_state=3))
    assert run("sample v.safetensors --n-rows 7 --random-state 3 --mean --output mean.npy") == 0
    np.testing.assert_array_equal(np.load("mean.npy"), variational.sample(7, mean=True, random_state=3))
    assert np.abs(np.load("mean.npy") - drawn.rows).max() > 0


def test_draws_without_a_seed_differ(variational, capsys):
    capsys.readouterr()
    assert run("sample v.safetensors --n-rows 2 --output -") == run("sample v.safetensors --n-rows 2 --output -") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == lines[3] == "a,b,c,d"
    assert len(lines) == 6
    assert lines[1:3] != lines[4:]
    assert err == ""


def test_rows_are_drawn_from_a_density_fitted_to_the_codes(folder):
    assert run(f"fit rows.csv --output m.safetensors {words_of(QUICK)}") == 0
    assert run("sample m.safetensors --n-rows 5 --random-state 0 --output drawn.csv") == 0
    table = read_table("rows.csv").frame
    same = Autoencoder(**QUICK).fit(table)
    np.testing.assert_array_equal(read_table("drawn.csv").rows, same.sample(5, random_state=0))


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("sample v.safetensors --output drawn.csv", 2, "Give either --n-rows or --given."),
        ("sample v.safetensors --n-rows 0 --output drawn.csv", 2, "--n-rows must be >= 1. Got '0'"),
        (
            "sample v.safetensors --n-rows 1 --random-state -1 --output drawn.csv",
            2,
            "--random-state must be >= 0. Got '-1'",
        ),
        (
            "sample --n-rows 1 --output drawn.csv",
            2,
            "eigencode sample needs MODEL. Model file, written by fit",
        ),
        ("sample v.safetensors --n-rows 1 --output drawn.txt", 1, "Got '.txt'"),
        ("sample w.safetensors --n-rows 1 --output drawn.csv", 1, "There is no model file 'w.safetensors'"),
    ],
)
def test_impossible_draws_are_refused(folder, line, code, says, capsys):
    assert run(line) == code
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""
