"""What the command line says of options and values that it cannot use."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from eigencode import AnomalyDetector, Autoencoder
from eigencode.cli import main
from eigencode.cli.app import EXAMPLES, app
from eigencode.data.files import write_columns

ROWS = np.random.default_rng(0).normal(size=(60, 3))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with rows in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("rows.csv", "-odd.csv"):
        write_columns(name, dict(zip("abc", ROWS.T, strict=True)))
    return tmp_path


def said(line, capsys):
    """The first line of the message for wrong arguments."""
    assert main(shlex.split(line)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()[0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("demo -v", "Unknown option: -v. Options of one letter are -o, -q."),
        ("predict -f", "Unknown option: -f. Options of one letter are -o, -q."),
        (
            "fit rows.csv -n 3",
            "Unknown option: -n. Options of one letter are -o, -q; --no-header, --names, --n-components and 3 more "
            "begin with n.",
        ),
        ("score m r -S", "Unknown option: -S. Options of one letter are -o, -q; --separator, --shard begin with s."),
        (
            "decode m c --zzz",
            "Unknown option: --zzz. Options are --output, --include, --exclude, --no-header, --names, --separator, "
            "--decimal, --encoding, --image-size, --parts, --quiet.",
        ),
        ("transform m r --sep ,", "Unknown option: --sep. Did you mean --separator?"),
        ("-", "Unknown command: '-'. Files come after a command, as in eigencode describe -."),
        ("rows.csv", "Unknown command: 'rows.csv'. Files come after a command, as in eigencode describe rows.csv."),
        ("describe -odd.csv", "Unknown option: -odd.csv. Write ./-odd.csv for the file of this name."),
        ("fti rows.csv", "Unknown command: 'fti'. Did you mean 'fit'?"),
        ("a" * 300, f"Unknown command: {'a' * 300!r}. Known are: {', '.join(map(repr, EXAMPLES))}."),
        ("''", f"Unknown command: ''. Known are: {', '.join(map(repr, EXAMPLES))}."),
    ],
)
def test_unknown_options_and_commands(line, says, folder, capsys):
    assert said(line, capsys) == says


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sample m -n 2.5 -o x.csv", "-n takes a whole number. Got '2.5'."),
        ("sample m -n= -o x.csv", "-n takes a whole number. Got ''."),
        ("sample m --n-rows=0x10 -o x.csv", "--n-rows takes a whole number. Got '0x10'."),
        ("impute m r -o x.csv --draws=0", "--draws must be >= 1. Got '0'."),
        ("detect m r -o x.csv --false-alarms=10%", "--false-alarms takes a number. Got '10%'."),
        ("detect m r -o x.csv --false-alarms=nan", "--false-alarms must be > 0 and < 1. Got 'nan'."),
        ("detect m r -o x.csv --false-discoveries=1", "--false-discoveries must be > 0 and < 1. Got '1'."),
        ("score m r --json=", "--json takes true, false or no value. Got ''."),
        ("fit r -o m.safetensors --tied=maybe", "--tied takes true, false or no value. Got 'maybe'."),
        (
            "describe rows.csv --missing-values nan",
            "--missing-values must be a float, a str or a sequence of floats or strings. Got (nan,) instead.",
        ),
    ],
)
def test_values_that_cannot_be_used(line, says, folder, capsys):
    assert said(line, capsys) == says


def whole_numbers():
    """Each flag that takes a whole number and nothing else, with its command."""
    for command in EXAMPLES:
        for argument in app[command].assemble_argument_collection():
            if argument.hint in (int, int | None):
                yield command, argument.name


def test_no_whole_number_is_rounded(capsys):
    flags = set(whole_numbers())
    assert {("sample", "--n-rows"), ("sweep", "--folds"), ("fit", "--processes"), ("detect", "--explain")} <= flags
    for command, flag in flags:
        files = "r" if command in ("fit", "sweep") else "m" if command == "sample" else "m r"
        more = "--over hidden=8" if command == "sweep" else ""
        says = said(f"{command} {files} --output x {more} {flag}=1.5", capsys)
        # Options of an autoencoder are checked with those of its kind.
        assert re.fullmatch(rf"{flag} (takes a whole number|must be .*int.*|is not an option of .*)( Got|\.).*", says)
        assert "'1.5'" in says or "is not an option" in says


def test_methods_without_a_name_are_said_as_typed(folder, capsys):
    Autoencoder(1, max_epochs=0).fit(ROWS).save("m.safetensors")
    assert main(["export", "m.safetensors", "-o", "m.onnx", "--methods="]) == 1
    assert "cannot be exported. Got ''. Known are: 'transform'" in capsys.readouterr().err
    assert not (folder / "m.onnx").exists()


def test_no_more_reasons_are_written_than_columns_can_give(folder, capsys):
    AnomalyDetector(0.1, autoencoder=Autoencoder(1, max_epochs=0)).fit(ROWS).save("d.safetensors")
    detect = ["detect", "d.safetensors", "rows.csv", "-q", "--all", "--explain"]
    for n in ("3", "2000"):
        assert main([*detect, n, "-o", f"{n}.csv"]) == 0
    assert (folder / "2000.csv").read_bytes() == (folder / "3.csv").read_bytes()
    assert (folder / "3.csv").read_text().split("\n")[0].count("observed") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_of_files_that_are_not_text(folder, capsys):
    """Bytes that are not UTF-8, as older systems wrote the umlauts of a name."""
    name = os.fsdecode(b"gr\xf6\xdfe")
    shutil.copy("rows.csv", f"{name}.csv")
    write_columns("rows.parquet", {"a": ROWS[:, 0], "b": ROWS[:, 1], "c": ROWS[:, 2]})
    shutil.copy("rows.parquet", f"{name}.parquet")
    Autoencoder(1, max_epochs=0).fit(ROWS).save(f"{name}.safetensors")
    shutil.copy(f"{name}.safetensors", "m.safetensors")
    for ending in ("csv", "parquet"):
        for rows in (f"{name}.{ending}", f"rows.{ending}"):
            assert main(["transform", "m.safetensors", rows, "-o", f"codes of {rows}", "-q"]) == 0
        assert Path(f"codes of {name}.{ending}").read_bytes() == Path(f"codes of rows.{ending}").read_bytes()
    capsys.readouterr()
    assert main(["transform", f"{name}.safetensors", "rows.csv", "-o", "x.csv"]) == 1
    says = (
        "safetensors reads no file whose name is not UTF-8. Got 'gr\\udcf6\\udcdfe.safetensors'. Give the file another"
    )
    assert says in capsys.readouterr().err
