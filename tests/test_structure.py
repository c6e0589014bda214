"""The structure of the package: imports point one way, the public page is lazy and true, options are written once."""

import ast
import importlib
import importlib.util
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from types import FunctionType

import copies
import numpy as np
import pytest
from conftest import AUTOENCODERS

import eigencode
from eigencode import Autoencoder, options
from eigencode.errors import EigencodeError, OptionError, did_you_mean
from eigencode.lazy import file_of
from eigencode.options import AutoencoderOptions, options_of

SOURCE = Path(eigencode.__file__).parent
ROOT = Path(__file__).parent.parent
PAGES = sorted(".".join(stub.relative_to(SOURCE.parent).parent.parts) for stub in SOURCE.rglob("__init__.pyi"))


# A module may import from its own layer and from those before it.
LAYERS = [
    {
        "lazy",
        "_version",
        "errors",
        "constructors",
        "options",
        "domains",
        "progress",
        "words",
        "invocation",
        "batch",
        "checkpoint",
        "processes",
        "threads",
        "whole_operations",
    },
    {"parts"},
    {"data"},
    {"detection"},
    {"model"},
    {"training"},
    {"io"},
    {"fitting"},
    {"export"},
    {"descriptions"},
    {"report"},
    {"estimators"},
    {"search_rounds", "search_scores"},
    {"search"},
    {"hub", "mlflow", "tracking"},
    {"plots"},
    {"demo"},
    {"testing"},
    {"cli"},
    {"__main__"},
]
# Parts and data do not import each other.
UNRELATED = {("data", "parts")}


MODULES = [path for path in SOURCE.rglob("*.py") if path.name != "__init__.py"]


def imports_of(path):
    """The modules of this package that a file imports, but for type checkers, each with the functions it is within."""
    found = []

    def look(node, depth):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, depth) for alias in node.names if alias.name.startswith("eigencode."))
        if isinstance(node, ast.ImportFrom) and node.module == "eigencode":
            found.extend((home_of(alias.name), depth) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("eigencode."):
            found.append((node.module, depth))
        for child in ast.iter_child_nodes(node):
            look(child, depth + isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    look(ast.parse(path.read_text()), 0)
    return found


def home_of(name):
    """The module that the page ``eigencode`` takes a name from, or the module of that name."""
    is_module = (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").exists()
    return f"eigencode.{name}" if is_module else getattr(eigencode, name).__module__


def test_imports_point_one_way():
    """In functions too."""
    rank = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    for path in MODULES:
        home = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for module, _ in imports_of(path):
            name = module.split(".")[1]
            assert rank[name] <= rank[home], f"{path} imports {module}, which stands above it"
            assert (home, name) not in UNRELATED, f"{path} knows {name}"


def test_no_function_imports_a_module_of_this_package():
    """What is to be imported late is taken from a page; but commands that draw import matplotlib with their modules."""
    late = {
        (path.relative_to(SOURCE).parts[0], module) for path in MODULES for module, depth in imports_of(path) if depth
    }
    assert late <= {("cli", "eigencode.demo"), ("cli", "eigencode.plots")}


def test_every_public_method_has_a_docstring_of_its_own_or_of_what_it_overrides():
    paths = [path.relative_to(SOURCE).with_suffix("") for path in MODULES if path.stem != "__main__"]
    names = [".".join(("eigencode", *path.parts)) for path in paths]
    for package, user in {"onnxscript": "export", "huggingface_hub": "hub", "mlflow": "mlflow"}.items():
        if importlib.util.find_spec(package) is None:
            names = [name for name in names if not name.startswith(f"eigencode.{user}")]
    classes = [cls for name in names for cls in vars(importlib.import_module(name)).values() if inspect.isclass(cls)]
    ours = {cls for cls in classes if cls.__module__.startswith("eigencode.") and not cls.__name__.startswith("_")}
    methods = {(cls, name) for cls in ours for name, value in vars(cls).items() if not name.startswith("_")
               and isinstance(value, FunctionType | property | classmethod | staticmethod)}  # fmt: skip
    assert len(methods) > 500
    assert [f"{cls.__name__}.{name}" for cls, name in methods if not inspect.getdoc(getattr(cls, name))] == []


@pytest.mark.parametrize("name", PAGES)
def test_each_name_of_a_page_is_there(name):
    """A page's names are written in its ``__init__.pyi`` alone."""
    module = importlib.import_module(name)
    assert module.__all__ == dir(module) == sorted(set(dir(module)))
    modules = {path.stem for path in Path(module.__file__).parent.iterdir()}
    assert not modules & set(dir(module)), "a module of this name would hide what is meant"
    if name != "eigencode.export" or importlib.util.find_spec("onnxscript"):
        assert all(getattr(module, public) is not None for public in module.__all__)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'Autoencodre'"):
        module.Autoencodre  # noqa: B018


@pytest.mark.parametrize("name", ["eigencode", "eigencode.parts", "eigencode.plots", "eigencode.testing"])
def test_each_public_name_has_a_page_of_the_api(name):
    listed = (ROOT / "docs" / "api" / "index.md").read_text().split()
    public = [f"~{name}.{line}" for line in dir(importlib.import_module(name)) if line != "__version__"]
    assert [line for line in listed if line.rpartition(".")[0] == f"~{name}" and line not in public] == []
    assert [line for line in public if line not in listed] == [], "docs/api/index.md lacks a line for each of these"


def test_importing_the_package_imports_nothing_heavy():
    program = "import sys, eigencode; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "sklearn", "pyarrow", "matplotlib", "scipy"} & set(found)


@pytest.mark.parametrize(
    "work",
    [
        "Autoencoder(2, hidden=(4,), max_epochs=1).fit(X)",
        "Autoencoder(2, hidden=(4,), max_epochs=1, optimizer='lbfgs').fit(X)",
        "Autoencoder(2, hidden=(3,), max_epochs=1, image_shape=(1, 4, 4)).fit(X)",
        "VariationalAutoencoder(2, hidden=(4,), max_epochs=1).fit(X)",
        "SparseAutoencoder(6, hidden=(), max_epochs=1).fit(X)",
        "ContractiveAutoencoder(2, hidden=(4,), max_epochs=1).fit(X)",
        "ContractiveAutoencoder(2, hidden=(4, 3), max_epochs=1).fit(X)",
        "ContractiveAutoencoder(9, hidden=(12, 10), max_epochs=1).fit(X)",
        "ContractiveAutoencoder(9, hidden=(3,), max_epochs=1, tied=False, image_shape=(1, 4, 4)).fit(X)",
        "fit_many([ContractiveAutoencoder(9, hidden=(12, 10), max_epochs=1, random_state=s) for s in (0, 1)], X)",
        "m = Autoencoder(9, hidden=(12,), max_epochs=1).fit(X); m.jacobian_spectrum(X); m.degrees_of_freedom(X);"
        "m.leave_one_out_score(X)",
        "AutoencoderSearch(Autoencoder(hidden=(4,), max_epochs=1), {'n_components': [2, 9]}, cv=2).fit(X)",
    ],
)
def test_no_work_imports_a_compiler(work):
    """First fits and answers take less time than torch's compiler, and its algebra, take to be imported."""
    program = (
        "import sys, warnings, numpy as np; from eigencode import *; warnings.simplefilter('ignore');"
        "X = np.random.default_rng(0).normal(size=(60, 16));"
        f"{work};"
        "print(*sorted({'sympy', 'torch._dynamo', 'torch._inductor'} & set(sys.modules)))"
    )
    found = subprocess.run([copies.python(), "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not found


def test_no_global_state_is_set_by_name():
    """Seeds, default types and thread numbers of the whole process are not ours to set."""
    forbidden = (
        "torch.manual_seed",
        "np.random.seed",
        "random.seed",
        "set_default_dtype",
        "set_default_device",
        "import pyplot",
        "matplotlib.pyplot",
    )
    for path in SOURCE.rglob("*.py"):
        for name in forbidden:
            assert name not in path.read_text(), f"{name} in {path}"


def test_no_module_can_reach_a_network():
    """But the two for this purpose, which no other module imports, and a function for logs that are asked for."""
    sharing = {"hub.py": "huggingface_hub", "mlflow.py": "mlflow", "tracking.py": "mlflow"}
    network = {"socket", "ssl", "urllib", "http", "requests", "httpx", "ftplib", *sharing.values()}
    for path in SOURCE.rglob("*.py"):
        assert not {"eigencode.hub", "eigencode.mlflow"} & {module for module, _ in imports_of(path)}
        allowed = {sharing.get(path.name)}
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not (network - allowed) & {name.split(".")[0] for name in names}, path
    tracking = ast.parse((SOURCE / "tracking.py").read_text()).body
    assert "mlflow" not in {getattr(node, "module", None) for node in tracking}


def test_every_option_is_an_argument_with_a_type_a_default_and_help():
    arguments = inspect.signature(Autoencoder).parameters
    options = options_of(AutoencoderOptions)
    assert [option.name for option in options] == list(arguments)
    for option in options:
        assert arguments[option.name].default == option.default
        assert f"{option.name} : {option.type_name}, default {option.default!r}" in Autoencoder.__doc__
        assert option.info.help[0].isupper() or option.info.help[0] == "'"
        assert option.info.help.endswith(".")
        option.check(option.default, "Autoencoder")


def test_positional_arguments_stop_at_the_size_of_the_code():
    kinds = [p.kind for p in inspect.signature(Autoencoder).parameters.values()]
    assert kinds[0] == inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds[1:]) == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("n_components", [1, np.int32(5), "auto"], [0, 2.5, True, None, "many"]),
        ("hidden", [(), (3,), [4, 2], 3, "auto"], [(0,), 0, "8", (1.5,), None]),
        ("scale", ["auto", "none"], ["Common", None, 1]),
        ("beta", [0, 0.5, np.float32(2)], [-1, float("nan"), "1"]),
        ("validation_fraction", [0, 0.99], [1, -0.1]),
        ("learning_rate", [1e-9, "auto"], [0, -1, "fast"]),
        ("max_epochs", [0, 7, "auto"], [-1, 1.5]),
        ("verbose", [True, False, np.True_], [1, None, "yes"]),
        ("random_state", [None, 0, np.random.default_rng(0)], [-1, "zero"]),
    ],
)
def test_each_option_knows_its_domain(name, good, bad):
    (option,) = (option for option in options_of(AutoencoderOptions) if option.name == name)
    for value in good:
        option.check(value, "Autoencoder")
    for value in bad:
        with pytest.raises(OptionError, match=f"The '{name}' parameter of Autoencoder must be"):
            option.check(value, "Autoencoder")


def test_errors_say_what_was_wrong_what_was_found_and_what_to_try():
    error = OptionError("The answer must be a number", got="'x' instead", hint="Try 42")
    assert str(error) == "The answer must be a number. Got 'x' instead. Try 42."
    assert isinstance(error, ValueError)
    assert isinstance(error, EigencodeError)
    assert did_you_mean("relu6", ["relu", "tanh"]) == "Did you mean 'relu'?"
    assert did_you_mean("zzz", ["relu", "tanh"]) == "Known are: 'relu', 'tanh'"
    assert did_you_mean("zzz", ["relu"], "Its columns are") == "Its columns are: 'relu'"
    assert options.OptionInfo("", low=0, open_low=True, high=1).interval == "(0, 1]"


def own_code(function):
    """Lines of a function's own, its docstring left out."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    body = tree.body[1:] if ast.get_docstring(tree) else tree.body
    return sum(node.end_lineno - node.lineno + 1 for node in body)


@pytest.mark.parametrize("cls", AUTOENCODERS)
def test_options_read_from_a_file_are_those_of_its_estimator(cls):
    read = options.declared_options(file_of("eigencode.estimators", cls.__name__), cls.__name__)
    assert options_of(read) == options_of(cls)


@pytest.mark.parametrize("cls", AUTOENCODERS)
def test_a_named_autoencoder_says_its_options_beside_its_docstring(cls):
    """One file is to be read, and written, for one of them."""
    common = {option.name: option for option in options_of(AutoencoderOptions)}
    own = {option.name for option in options_of(cls) if common.get(option.name) != option}
    assert own == set(inspect.get_annotations(cls))
    assert cls.__doc__.strip()


def test_importing_the_estimators_imports_no_torch():
    """Their options are read for a command's help."""
    program = "import sys, eigencode.estimators as e; [getattr(e, n) for n in dir(e)]; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found == "False\n"


@pytest.mark.parametrize("name", [n for n in eigencode.__all__ if n.endswith("Autoencoder")])
def test_a_named_autoencoder_is_a_few_terms_of_the_formula(name):
    """What makes it its kind fits on a page, and it has no pass of its own."""
    cls = getattr(eigencode, name)
    assert own_code(cls._training_options) <= 30
    assert not {"forward", "encode", "decode", "fit", "iter_fit"} & set(vars(cls))


def test_training_knows_no_kind():
    """The loop, the state and the programs see parts by their base class alone."""
    for path in (SOURCE / "training").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eigencode.parts"):
                assert node.module == "eigencode.parts.base", f"{path} imports {node.module}"
