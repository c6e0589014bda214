"""Measures of the code: short functions, few imports, short files, and a page that shows the modules there are."""

import ast
import io
import re
import sys
import tokenize
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import pytest

import eigencode
from eigencode import Autoencoder, fitting
from eigencode.options import options_of

SOURCE = Path(eigencode.__file__).parent
ROOT = Path(__file__).parent.parent
MODULES = sorted(SOURCE.rglob("*.py"))
FILES = sorted([*MODULES, *SOURCE.rglob("*.pyi")])

MEDIAN, MOST_OF_95_PER_CENT, LONGEST = 5, 16, 40
"""Lines of code in the body of a function: the median, the 95th percentile, and the most."""

MOST_IMPORTS = 12
"""Modules of the package that one module imports."""

MOST_LINES = 450
"""Lines of a file."""

LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
"""Tokens that are no code."""


def name_of(path):
    return str(path.relative_to(SOURCE))


def lines_of_code(text):
    """Numbers of the lines that hold code: no comments, blanks or docstrings."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        is_documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if is_documented and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def functions():
    """The lines of code in the body of each function of the package, those of nested functions among them."""
    for path in MODULES:
        text = path.read_text()
        lines = lines_of_code(text)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = sum(node.body[0].lineno <= line <= node.end_lineno for line in lines)
                yield size, f"{name_of(path)}:{node.lineno} {node.name}"


def test_functions_are_short():
    found = sorted(functions(), reverse=True)
    sizes = [size for size, _ in found]
    high = quantiles(sizes, n=20)[-1]
    report = f"median {median(sizes)}, 95th percentile {high}; the longest:\n" + "\n".join(
        f"{size} lines: {name}" for size, name in found if size > MOST_OF_95_PER_CENT
    )
    assert median(sizes) <= MEDIAN, report
    assert high <= MOST_OF_95_PER_CENT, report
    assert sizes[0] <= LONGEST, report


def is_for_types_only(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imported(node):
    """Modules of this package that a syntax tree imports, inside functions too, but for those of types alone."""
    if is_for_types_only(node):
        return set()
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "eigencode":
        within = SOURCE.joinpath(*node.module.split(".")[1:])
        inner = [a.name for a in node.names if (within / f"{a.name}.py").exists() or (within / a.name).is_dir()]
        return {f"{node.module}.{name}" for name in inner} or {node.module}
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names if alias.name.partition(".")[0] == "eigencode"}
    return set().union(*map(imported, ast.iter_child_nodes(node)))


def test_no_module_imports_many_others():
    counts = {name_of(path): len(imported(ast.parse(path.read_text()))) for path in MODULES if path.stem != "__init__"}
    assert {name: n for name, n in counts.items() if n > MOST_IMPORTS} == {}, f"more than {MOST_IMPORTS} imports"


def test_no_file_is_long():
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}, f"more than {MOST_LINES} lines"


def tree(page):
    """The folders and modules that a page's tree shows, each with its phrase."""
    block = page.partition("    src/eigencode/\n")[2]
    folders = []
    for line in block.splitlines():
        found = re.match(r"    (?P<indent> +)(?P<name>\S+)(?: +(?P<phrase>.+))?$", line)
        if not found:
            return
        depth = len(found["indent"]) // 2
        folders[depth - 1 :] = [found["name"]]
        yield "".join(folders), found["phrase"]


def test_the_tree_in_the_documentation_is_the_one_on_the_disk():
    shown = list(tree((ROOT / "docs" / "architecture.md").read_text()))
    assert [name for name, phrase in shown if not phrase] == [], "these have no phrase"
    folders = {f"{name_of(path.parent)}/" for path in MODULES if path.parent != SOURCE}
    there = {name_of(path) for path in MODULES if path.stem != "__init__"} | {"__init__.py"} | folders
    names = [name for name, _ in shown]
    assert sorted(there - set(names)) == [], "the tree lacks a line for each of these"
    assert sorted(set(names) - there) == [], "the tree has a line for what is not there"
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('def f(x):\n    """One."""\n\n    # why\n    return x\n', {1, 5}),
        ('def f():\n    return """a\nb"""\n', {1, 2, 3}),
        ('class A:\n    """One\n\n    two."""\n\n    x = 1  # why\n', {1, 6}),
    ],
)
def test_lines_of_code_are_counted_without_docstrings_comments_and_blanks(text, expected):
    assert lines_of_code(text) == expected


def test_functions_that_the_documentation_names_are_where_it_says():
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"`([\w/]+\.py): ([\w.]+)`", page)
    assert len(named) > 20
    for name, function in named:
        tree = ast.parse((SOURCE / name).read_text())
        for part in function.split("."):
            tree = next((node for node in ast.walk(tree) if getattr(node, "name", None) == part), None)
            assert tree is not None, f"{name} has no {function}"


def stops_of(page, path):
    """The numbered functions of one of the page's paths."""
    section = page.partition(f"## The path of {path}:")[2].partition("\n## ")[0]
    stops = re.findall(r"(\d+)\. `(?:[\w/]+\.py: )?([\w.]+)`", section)
    assert [int(number) for number, _ in stops] == [*range(1, len(stops) + 1)]
    return [name for _, name in stops]


class Watched(Autoencoder):
    """An autoencoder that knows which functions of the package read its options."""

    options = frozenset(option.name for option in options_of(Autoencoder))
    read_by = None

    def __getattribute__(self, name):
        if name in Watched.options and Watched.read_by is not None:
            code = sys._getframe(1).f_code
            Watched.read_by.add((Path(code.co_filename).name, code.co_name))
        return super().__getattribute__(name)


@pytest.mark.parametrize("given", [{}, {"image_shape": (1, 2, 3)}, {"tied": True, "n_components": 0.5}])
def test_options_are_read_by_the_functions_on_the_documented_path(given, monkeypatch):
    """Up to the run; the options of reading, as 'missing_values', are read by helpers beside `read_rows`."""
    make_run = fitting.make_run

    def last(*args):
        run, Watched.found, Watched.read_by = make_run(*args), Watched.read_by, None
        return run

    monkeypatch.setattr(fitting, "make_run", last)
    monkeypatch.setattr(Watched, "read_by", set())
    Watched(max_epochs=0, random_state=0, **given).fit(np.random.default_rng(0).normal(size=(40, 6)))
    stops = stops_of((ROOT / "docs" / "architecture.md").read_text(), "an option")
    readers = {name for file, name in Watched.found if file not in ("inputs.py", "gaps.py")}
    assert readers == set(stops) - {"read_rows", "_training_options"}


@pytest.mark.parametrize("path", ["a batch", "an option"])
def test_a_path_has_twelve_functions_at_most(path):
    assert 8 <= len(stops_of((ROOT / "docs" / "architecture.md").read_text(), path)) <= 12
