"""Parts and estimators written outside the package, by what docs/extending.md says: trained, saved, loaded, swept."""

import ast
import importlib.util
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import softplus

import eigencode
from eigencode import Autoencoder, AutoencoderSearch, fit_many
from eigencode.cli import flags, main
from eigencode.cli.app import EXAMPLES
from eigencode.errors import OptionError
from eigencode.parts import Code, Distribution, Likelihood, Penalty, Posterior
from eigencode.testing import check_code, check_likelihood, check_penalty

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
QUICK = {"hidden": (8,), "max_epochs": 30, "random_state": 0}


def run(line):
    return main(shlex.split(line))


def statements_of_the_page(*kinds):
    """The source of all statements of these kinds in the Python blocks of the page."""
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        for node in ast.parse(block).body:
            if isinstance(node, kinds):
                first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
                yield "\n".join(block.splitlines()[first - 1 : node.end_lineno])


def imports_of_the_page():
    return list(dict.fromkeys(statements_of_the_page(ast.Import, ast.ImportFrom)))


def classes_of_the_page():
    return list(statements_of_the_page(ast.ClassDef))


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The page's classes as a file of a user's, in the current folder, beside a table."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("\n\n".join([*imports_of_the_page(), *classes_of_the_page()]))
    rows = np.random.default_rng(0).normal(size=(150, 5)) @ np.diag([3.0, 2, 1, 0.5, 0.2])
    pd.DataFrame(rows, columns=list("abcde")).to_csv("rows.csv", index=False)
    spec = importlib.util.spec_from_file_location("mine", "mine.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["mine"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mine"]


@pytest.fixture
def rows(mine):
    return pd.read_csv("rows.csv").to_numpy()


def test_each_is_written_in_ten_to_twenty_lines():
    classes = classes_of_the_page()
    assert len(classes) >= 4
    assert all(len([line for line in text.splitlines() if line.strip()]) <= 20 for text in classes)


def test_they_keep_the_promises_of_their_kinds(mine):
    check_penalty(mine.OnSphere(0.5))
    check_code(mine.Softsign())
    check_likelihood(mine.NoisyRows())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["penalty", "code", "likelihood", "estimator"])
def test_they_are_trained_saved_loaded_and_swept(mine, rows, name):
    made, grid = {
        "penalty": (
            Autoencoder(2, penalties=[mine.OnSphere()], **QUICK),
            {"penalties": [[mine.OnSphere(0.1)], [mine.OnSphere(3.0)]]},
        ),
        "code": (Autoencoder(2, code=mine.Softsign(), **QUICK), {"code__slope": [0.5, 2.0]}),
        "likelihood": (Autoencoder(2, likelihood=mine.NoisyRows(), **QUICK), {"n_components": [1, 2]}),
        "estimator": (mine.SphericalAutoencoder(2, weight=3.0, **QUICK), {"weight": [0.1, 3.0]}),
    }[name]
    model = made.fit(rows)
    assert model.best_objective_ < model.history_[0]["validation_objective"]
    model.save("model.safetensors")
    own = [mine.OnSphere, mine.Softsign, mine.NoisyRows, mine.SphericalAutoencoder]
    again = eigencode.load("model.safetensors", parts=own)
    np.testing.assert_array_equal(again.transform(rows), model.transform(rows))
    np.testing.assert_array_equal(again.score_samples(rows), model.score_samples(rows))
    search = AutoencoderSearch(made, grid, cv=2, random_state=0).fit(rows)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_models_that_differ_in_a_declared_number_are_trained_as_one(mine, rows):
    models = [Autoencoder(2, penalties=[mine.OnSphere(w)], optimizer="adam", **QUICK) for w in (0.1, 3.0)]
    assert fit_many(models, rows) == ["2 models in one program"]


# -- on the command line


@pytest.mark.versions
def test_a_named_estimator_on_the_command_line(mine, capsys):
    options = "--n-components 2 --hidden 8 --max-epochs 2 --random-state 0"
    assert run(f"fit rows.csv --parts mine.py --kind spherical --weight 3 {options} -o m.safetensors") == 0
    assert "transform m.safetensors rows.csv --output codes.parquet --parts mine.py" in capsys.readouterr().out
    assert run("describe m.safetensors --parts mine.py") == 0
    assert re.search(r"SphericalAutoencoder\noptions +weight=3.0", capsys.readouterr().out)
    for line in (
        "transform m.safetensors rows.csv -o codes.csv",
        "decode m.safetensors codes.csv -o decoded.csv",
        "reconstruct m.safetensors rows.csv -o rebuilt.csv",
        "score m.safetensors rows.csv",
        "impute m.safetensors rows.csv -o full.csv",
        "export m.safetensors -o m.pt2 --methods transform",
    ):
        assert run(f"{line} --parts=mine.py") == 0
    np.testing.assert_array_equal(pd.read_csv("decoded.csv").columns, list("abcde"))
    assert "spherical" not in flags.KINDS, "a kind is known while its command runs"
    assert "weight=0.1" not in capsys.readouterr().out
    assert (
        run(f"sweep rows.csv --parts mine.py --kind spherical --over weight=0.1,3 --folds 2 {options} -o s.safetensors")
        == 0
    )
    assert re.search(r"chosen +weight=", capsys.readouterr().out)


@pytest.mark.versions
def test_help_shows_the_options_of_an_own_kind(mine, capsys):
    assert run("fit --help --parts mine.py") == 0
    assert "Options of --kind spherical" in capsys.readouterr().out
    assert run("fit --help") == 0
    assert "spherical" not in capsys.readouterr().out


def test_a_module_is_found_by_its_name_and_imports_those_beside_it(mine, capsys):
    Path("beside_mine.py").write_text("from mine_too import *\n")
    Path("mine_too.py").write_text(Path("mine.py").read_text())
    fit = "fit rows.csv --kind spherical --n-components 2 --hidden 8 --max-epochs 1 -o m.safetensors"
    before = list(sys.path)
    assert run(f"{fit} --parts beside_mine") == 0
    assert run("describe m.safetensors --parts beside_mine.py") == 0
    assert sys.path == before


def test_nothing_is_imported_because_a_file_says_so(mine, capsys):
    assert run("fit rows.csv --parts mine.py --kind spherical --n-components 2 --max-epochs 1 -o m.safetensors") == 0
    assert run("describe m.safetensors") == 1
    printed = capsys.readouterr().err
    assert "uses the estimator 'SphericalAutoencoder'" in printed
    assert "name the module that has it with --parts" in printed
    assert run("fit rows.csv --kind spherical -o m.safetensors") == 2


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        (None, "lost.py", "--parts names a file that does not exist. Got 'lost.py'."),
        (
            None,
            "no.such.module",
            "Cannot import 'no.such.module' for --parts. Got the error ModuleNotFoundError: No mod",
        ),
        (None, "''", "--parts takes a Python file or a module. Got ''. Name a file"),
        (None, ".", "--parts takes a Python file or a module. Got '.'. Name a file"),
        ("import nosuchlibrary", "own.py", "Got the error ModuleNotFoundError: No module named 'nosuchlibrary'."),
        ("x = 1", "own.py", "There are no parts and no estimators in 'own.py'"),
        ("from eigencode.parts import Penalty", "own.py", "There are no parts and no estimators in 'own.py'"),
        ("x = 1\nx = = 2", "own.py", "Got the error SyntaxError: invalid syntax (line 2)."),
        ("1 / 0", "own.py", "Cannot import 'own.py' for --parts. Got the error ZeroDivisionError: division by zero."),
        ("raise SystemExit(3)", "own.py", "Cannot import 'own.py' for --parts. Got the error SystemExit: 3."),
        (
            "from eigencode import Autoencoder\nclass SparseAutoencoder(Autoencoder): pass",
            "own.py",
            "--kind sparse is a kind of eigencode. Got the class SparseAutoencoder in --parts. Rename the class.",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_an_error(mine, capsys, code, name, message):
    if code is not None:
        Path(name).write_text(code)
    for line in (f"fit rows.csv --parts {name} -o m.safetensors", f"describe m.safetensors --parts {name}"):
        assert run(line) == 1
        assert message in capsys.readouterr().err
    assert list(flags.KINDS) == list(flags.BUILT_IN)


@pytest.mark.parametrize(
    ("signature", "options", "message"),
    [
        (
            "self, n_components=2",
            "--max-epochs 1",
            "unexpected keyword argument 'max_epochs'. Let its constructor take",
        ),
        ("self, n_components", "", "missing 1 required positional argument: 'n_components'. Let its constructor take"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "sweep --over n_components=1,2 --folds 2"])
def test_a_constructor_that_does_not_take_the_options_is_refused(mine, capsys, command, signature, options, message):
    body = "super().__init__(n_components, hidden=(4,), max_epochs=2, random_state=0)"
    code = f"class FixedAutoencoder(Autoencoder):\n    def __init__({signature}): {body}\n"
    Path("own.py").write_text(f"from eigencode import Autoencoder\n{code}")
    assert run(f"{command} rows.csv --parts own.py --kind fixed {options} -o w.safetensors") == 1
    printed = capsys.readouterr().err
    assert printed.startswith(
        "Cannot make an autoencoder of --kind fixed with these options. Got the error TypeError: "
    )
    assert message in printed
    assert printed.count("\n") == 1


def test_code_of_ones_own_that_fails_in_training_is_named_with_its_line(mine, capsys):
    text = (
        Path("mine.py").read_text().replace("return self.weight * (trace.z.norm(dim=-1)", "return self.wait * (trace.z")
    )
    Path("mine.py").write_text(text)
    assert run("fit rows.csv --parts mine.py --kind spherical --n-components 2 --max-epochs 1 -o m.safetensors") == 1
    printed = capsys.readouterr().err
    assert re.search(
        r"A part or estimator of your own failed: mine.py, line \d+, in forward. Got the error Attr", printed
    )


def test_help_without_own_parts_imports_no_torch():
    program = "import sys; from eigencode.cli import main; main(['fit', '--help']); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "--parts" in found
    assert found.strip().endswith("False")


class Logistic(Distribution):
    def __init__(self, location):
        self.mean = location

    def log_prob(self, x):
        return x - self.mean - 2 * softplus(x - self.mean)

    def sample(self, generator):
        return self.mean + torch.rand(self.mean.shape, generator=generator).logit(1e-6)


class LogisticLikelihood(Likelihood):
    def forward(self, output):
        return Logistic(output)


def test_a_constructor_may_set_the_mean_of_a_distribution(rows):
    check_likelihood(LogisticLikelihood())
    assert np.isfinite(Autoencoder(2, likelihood=LogisticLikelihood(), **QUICK).fit(rows).score(rows))


def test_two_modules_may_be_named(mine):
    Path("other.py").write_text("from eigencode.parts import Point\nclass Mine(Point): pass\n")
    fit = "fit rows.csv --kind spherical --n-components 2 --max-epochs 1 -o m.safetensors"
    assert run(f"{fit} --parts other.py --parts mine.py") == 0
    with pytest.raises(OptionError, match="Mine"):
        eigencode.load("m.safetensors", parts=["Mine"])


class Scattered(Posterior):
    """Mean and variance are attributes, as those of a distribution of columns may be."""

    def __init__(self, mean):
        self.mean, self.variance = mean, torch.ones_like(mean)

    def draw(self, noise):
        return self.mean if noise is None else self.mean + noise

    def log_prob(self, z):
        return -0.5 * ((z - self.mean).square() + math.log(2 * math.pi)).sum(-1)


class ScatteredCode(Code):
    is_stochastic = is_elementwise = is_identity = True

    def draw_noise(self, n_rows, n_components, generator):
        return torch.randn(n_rows, n_components, generator=generator)

    def forward(self, output):
        return Scattered(output)


def test_a_posterior_may_set_its_mean_and_variance():
    check_code(ScatteredCode())
    rows = np.random.default_rng(0).normal(size=(60, 5))
    model = Autoencoder(2, code=ScatteredCode(), max_epochs=2, random_state=0).fit(rows)
    assert model.best_objective_ <= model.history_[0]["validation_objective"]


class WithoutBase(Penalty):
    def __init__(self, weight=1.0):
        self.weight = weight

    def forward(self, trace, composition):
        return self.weight * trace.z.square().sum(-1)


class OtherName(Penalty):
    def __init__(self, weight=1.0):
        super().__init__()
        self.strength = weight

    def forward(self, trace, composition):
        return self.strength * trace.z.square().sum(-1)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (WithoutBase, r"constructor of WithoutBase does not call .*Begin its __init__ with super\(\)\.__init__\(\)"),
        (OtherName, r"under their names, and OtherName lacks 'weight'\. Write self\.weight = weight in its __init__"),
    ],
)
def test_a_constructor_that_does_not_keep_its_promises_is_said(part, message):
    with pytest.raises(OptionError, match=message):
        Autoencoder(1, penalties=[part()], max_epochs=1).fit(np.eye(9))


@pytest.mark.parametrize("given", [OtherName, "mine.py", 3])
def test_parts_of_a_file_are_given_in_a_list(tmp_path, given):
    Autoencoder(1, max_epochs=1, random_state=0).fit(np.eye(9)).save(tmp_path / "m.safetensors")
    with pytest.raises(OptionError, match=r"'parts' must be a list\. Got .*Write parts=\[\.\.\.\]"):
        eigencode.load(tmp_path / "m.safetensors", parts=given)


@pytest.mark.parametrize("name", sorted({*EXAMPLES} - {"demo"}))
def test_every_command_that_fits_or_reads_a_model_takes_own_parts(name, capsys):
    assert run(f"{name} --help") == 0
    assert " --parts " in capsys.readouterr().out
