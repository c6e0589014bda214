"""How the program is called: what it prints to be tried runs as printed, and its help's examples do."""

import functools
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import copies
import numpy as np
import pytest

from eigencode import Autoencoder, AutoencoderClassifier, demo, invocation
from eigencode.cli import main
from eigencode.cli.app import EXAMPLES
from eigencode.data.files import read_table, write_columns

posix = pytest.mark.skipif(os.name != "posix", reason="the shell is POSIX's")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(120, 2))
    write_columns("rows.csv", dict(zip("abcd", np.hstack([z, z**2]).T, strict=True)))
    return tmp_path


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The console script, in a folder below the present one that no PATH names."""
    path = tmp_path / "my venv" / "bin" / "eigencode"
    copies.write_script(path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return path


def printed(out):
    """The command lines among what was printed."""
    return [line.strip() for line in out.splitlines() if line.startswith("  ") and ".safetensors" in line]


def in_a_shell(line):
    environment = {**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment)


@posix
@pytest.mark.parametrize("name", ["my rows \u00e9\u4e2d's.csv", "codes.parquet"])
def test_what_a_fit_prints_runs_as_printed(name, folder, script, capsys):
    write_columns(name, dict(zip("abcd", read_table("rows.csv").rows.T, strict=True)))
    assert main(["fit", name, "--output", "my model.safetensors", "--max-epochs", "1"]) == 0
    (line,) = printed(capsys.readouterr().out)
    assert line.startswith("'my venv/bin/eigencode' transform 'my model.safetensors' ")
    found = in_a_shell(line)
    assert (found.returncode, found.stderr) == (0, "")
    assert "120 rows" in found.stdout


@posix
def test_columns_that_have_no_names_are_chosen_again(folder, script, capsys):
    np.save("rows.npy", read_table("rows.csv").rows)
    assert main(["fit", "rows.npy", "--exclude", "3", "--output", "m.safetensors", "--max-epochs", "1"]) == 0
    (line,) = printed(capsys.readouterr().out)
    found = in_a_shell(line)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_script_by_its_name_its_path_or_a_python(folder, script, monkeypatch):
    assert invocation.program() == [os.path.join("my venv", "bin", "eigencode")]
    monkeypatch.chdir(script.parent)
    assert invocation.program() == [os.path.join(".", "eigencode")]
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", os.pathsep.join([str(script.parent), "/usr/bin"]))
    assert invocation.program() == ["eigencode"]
    other = folder / "other" / "eigencode"
    other.parent.mkdir()
    shutil.copy(script, other)
    monkeypatch.setenv("PATH", os.pathsep.join([str(other.parent), str(script.parent)]))
    assert invocation.program() == [os.path.join("my venv", "bin", "eigencode")]
    monkeypatch.setattr(sys, "argv", [str(Path(invocation.__file__).with_name("__main__.py"))])
    assert invocation.program()[-2:] == ["-m", "eigencode"]


@posix
def test_several_processes_are_the_program_that_was_typed(folder, script):
    """They print the commands that one process prints."""
    assert invocation.this_program() == [sys.executable, str(script)]
    line = "'my venv/bin/eigencode' fit rows.csv --output m.safetensors --max-epochs 1 --processes 2"
    found = in_a_shell(line)
    assert (found.returncode, found.stderr) == (0, "")
    (line,) = printed(found.stdout)
    assert line.startswith("'my venv/bin/eigencode' transform m.safetensors ")


def test_several_processes_are_a_module_where_one_is(monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(Path(invocation.__file__).with_name("__main__.py"))])
    assert invocation.this_program() == [sys.executable, "-m", "eigencode"]


def test_the_package_runs_as_a_module():
    found = subprocess.run([sys.executable, "-m", "eigencode", "-V"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", found.stdout)


@pytest.mark.versions
def test_the_name_alone_shows_the_help(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert main([]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.versions
@pytest.mark.parametrize("name", EXAMPLES)
def test_sentences_of_a_help_fill_its_lines(name, capsys):
    """A line of a paragraph ends where the next word does not fit, and nowhere else."""
    assert main([name, "--help"]) == 0
    printed = capsys.readouterr().out
    width = len(re.search("^╭.*╮$", printed, flags=re.MULTILINE)[0])
    told = printed.partition("\n\n")[2].partition("╭")[0].strip()
    for paragraph in told.split("\n\n"):
        for line, following in itertools.pairwise(paragraph.splitlines()):
            assert len(f"{line.rstrip()} {following.split()[0]}") > width


@pytest.mark.versions
def test_every_command_has_an_example(capsys):
    assert main(["--help"]) == 0
    commands = set(re.findall(r"^│ ([a-z]+) ", capsys.readouterr().out, flags=re.MULTILINE))
    assert commands == set(EXAMPLES)
    for name in commands:
        assert main([name, "--help"]) == 0
        printed = capsys.readouterr().out
        example = printed.partition("Example:\n\n")[2].partition("\n\nExit codes")[0]
        assert [line.strip() for line in example.splitlines()] == list(EXAMPLES[name])


@pytest.mark.parametrize("name", sorted({*EXAMPLES} - {"demo"}))
def test_every_command_that_reads_files_can_be_quiet(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hidden = []
    monkeypatch.setattr("eigencode.progress.hide", lambda: hidden.append(name))
    assert main([*shlex.split(EXAMPLES[name][-1])[1:], "--quiet"]) == 1
    assert hidden
    assert "There is no" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", ["--max-epochs 2", pytest.param("", marks=pytest.mark.long, id="as long as they take")]
)
def test_the_examples_run_as_printed(folder, monkeypatch, capsys, more):
    if more:
        monkeypatch.setattr(demo, "Autoencoder", functools.partial(Autoencoder, max_epochs=2))
    labels = read_table("rows.csv").rows[:, 0] > 0
    autoencoder = Autoencoder(2, hidden=(8,), max_epochs=2, random_state=0)
    classifier = AutoencoderClassifier(autoencoder=autoencoder, max_epochs=2, random_state=0)
    classifier.fit(read_table("rows.csv").frame, labels).save("classifier.safetensors")
    for lines in EXAMPLES.values():
        for line in lines:
            fits = line.split()[1] in ("fit", "sweep")
            assert main(shlex.split(f"{line} {more}" if fits else line)[1:]) == 0, capsys.readouterr().err


@pytest.mark.versions
def test_completion_is_written_for_a_shell(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["--install-completion", "--shell", "bash"]) == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("n-components" in path.read_text() for path in written)


@pytest.mark.versions
def test_commands_run_where_pydantic_is_imported(folder, capsys):
    """The parser of commands checks types by it, even those of defaults, if any other package has imported it."""
    pytest.importorskip("pydantic")
    assert main(shlex.split("fit rows.csv --n-components 2 --max-epochs 0 --output model.safetensors")) == 0
    assert main(shlex.split("describe rows.csv")) == 0, capsys.readouterr().err
    assert main(shlex.split("fit rows.csv --activation swish --output model.safetensors")) == 2
    assert "swish" in capsys.readouterr().err
