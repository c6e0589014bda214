"""Standard streams that are closed, full or narrow; files that a command must not write over."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import copies
import numpy as np
import pytest
import torch

import eigencode
from eigencode.cli import main
from eigencode.cli.streams import Answer, Messages
from eigencode.errors import FileError

needs_shell = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")

COMMANDS = [
    "--help",
    "--version",
    "fit --help",
    "describe m.safetensors",
    "describe m.safetensors --json",
    "score m.safetensors rows.csv",
    "score m.safetensors rows.csv --json",
    "transform m.safetensors rows.csv --output -",
    "reconstruct m.safetensors rows.csv --output -",
    "sample m.safetensors --n-rows 50000 --output -",
    "decode m.safetensors codes.csv --output -",
    "fit rows.csv --output new.safetensors --max-epochs 0",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and its rows, with a name that few encodings have."""
    path = tmp_path_factory.mktemp("streams")
    X = np.random.default_rng(0).normal(size=(30, 3))
    lines = ["größe,名,x", *(",".join(map(str, row)) for row in X)]
    (path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    import pandas as pd

    frame = pd.DataFrame(X, columns=["größe", "名", "x"])
    model = eigencode.Autoencoder(2, hidden=(3,), max_epochs=1, random_state=0).fit(frame).fit_density(frame)
    model.save(path / "m.safetensors")
    codes = pd.DataFrame(model.transform(frame), columns=model.get_feature_names_out())
    codes.to_csv(path / "codes.csv", index=False)
    return path


def shell(folder, command, redirection="", **environment):
    python = f"{sys.executable} -c 'import sys; from eigencode.cli import main; sys.exit(main())'"
    source = os.path.dirname(os.path.dirname(eigencode.__file__))
    return subprocess.run(
        ["sh", "-c", f"{python} {command} {redirection}"],
        cwd=folder,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": source, **environment},
        check=False,
    )


@needs_shell
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("output", ["full", "closed", "none"])
def test_an_answer_that_cannot_be_written_is_one_line_and_exit_code_1(folder, monkeypatch, capsys, command, output):
    monkeypatch.chdir(folder)
    with open("/dev/full", "w", encoding="utf-8") as stream:
        if output == "closed":
            stream.close()
        monkeypatch.setattr(sys, "stdout", None if output == "none" else stream)
        assert main(command.split()) == 1  # nothing is left in it that could not be written
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Cannot")]
    assert len(lines) == 1
    assert lines[0].startswith("Cannot write to standard output")


@needs_shell
@pytest.mark.parametrize("stream", ["full", "none"])
def test_a_fit_continues_if_its_messages_cannot_be_written(folder, monkeypatch, capsys, stream):
    monkeypatch.chdir(folder)
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stderr", full if stream == "full" else None)
        arguments = f"fit rows.csv --output {stream}.safetensors --max-epochs 2 --verbose".split()
        assert main(arguments) == 0
        assert main(["describe", "none.safetensors.x"]) == 1
        assert main(["fit", "--nonsense"]) == 2
    assert (folder / f"{stream}.safetensors").exists()


@needs_shell
@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "code"),
    [(">/dev/full", 1), (">&-", 1), ("2>&-", 0), (">/dev/full 2>/dev/full", 1), ("<&- >&- 2>&-", 1)],
)
def test_a_process_ends_without_a_traceback(folder, redirection, code):
    found = shell(folder, "--version", redirection)
    assert found.returncode == code
    assert found.stderr.count(b"\n") == (code if "2>" not in redirection else 0)


def test_a_file_that_is_opened_does_not_take_the_place_of_a_closed_stream():
    program = """
import os, sys
from eigencode.cli.streams import on_safe_streams
os.close(0)
on_safe_streams(lambda: print(os.open(os.devnull, os.O_RDONLY), file=sys.stderr))()
"""
    found = subprocess.run([copies.python(), "-c", program], capture_output=True, text=True, check=True)
    assert int(found.stderr) > 2


@pytest.mark.versions
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_characters_that_a_terminal_lacks_are_escaped(folder, monkeypatch, encoding):
    monkeypatch.chdir(folder)

    def printed(arguments):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(arguments.split()) == 0
        assert stream.errors == "strict"
        return stream.buffer.getvalue().decode(encoding)

    described = printed("describe m.safetensors")
    for name in ("größe: real", "名: real"):
        assert name.encode(encoding, "backslashreplace").decode(encoding) in described
    assert "Usage" in printed("fit --help")
    assert json.loads(printed("describe m.safetensors --json"))["feature_names"] == ["größe", "名", "x"]


@needs_shell
@pytest.mark.slow
def test_a_terminal_of_another_encoding_shows_messages(folder):
    found = shell(folder, "describe größe", LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert found.returncode == 1
    assert found.stderr.startswith(b"There is no model file")


def test_a_closed_standard_input_is_empty(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["transform", "m.safetensors", "-", "--output", "-"]) == 1
    assert "is empty" in capsys.readouterr().err


@needs_shell
@pytest.mark.slow
def test_answers_are_written_to_pipes_and_open_files(folder, monkeypatch, capfdbinary):
    monkeypatch.chdir(folder)

    def written(output):
        assert main(["transform", "m.safetensors", "rows.csv", "--output", output]) == 0
        return capfdbinary.readouterr().out

    wanted = written("-")
    assert wanted.count(b"\n") == 31
    assert written("/dev/stdout") == wanted  # a file, which is open
    found = shell(folder, "transform m.safetensors rows.csv --output /dev/stdout", "| cat")
    assert (found.returncode, found.stdout) == (0, wanted)
    os.mkfifo("pipe.csv")
    with subprocess.Popen(["cat", "pipe.csv"], stdout=subprocess.PIPE) as reader:
        written("pipe.csv")
        assert reader.communicate()[0] == wanted
    assert Path("pipe.csv").is_fifo()


# -- what must not be written over


@pytest.mark.parametrize(
    "arguments",
    [
        "transform m.safetensors rows.csv --output {model}",
        "reconstruct m.safetensors rows.csv --output {model}",
        "score m.safetensors rows.csv --output {model}",
        "decode m.safetensors codes.csv --output {model}",
        "sample m.safetensors --n-rows 3 --output {model}",
        "transform m.safetensors rows.csv --output {rows}",
        "score m.safetensors rows.csv --output {rows}",
        "transform m.safetensors rows.csv rows.csv --output {rows}",
        "fit rows.csv --output {as_model}",
        "sweep rows.csv --over n-components=1,2 --output new.safetensors --table {rows}",
        "sweep rows.csv --over n-components=1,2 --output {as_model}",
    ],
)
def test_no_command_overwrites_its_inputs(folder, monkeypatch, capsys, arguments):
    monkeypatch.chdir(folder)
    links = {
        "model": ("m.safetensors", "to_model.csv"),
        "rows": ("rows.csv", "to_rows.csv"),
        "as_model": ("rows.csv", "to_rows.safetensors"),
    }
    for target, link in links.values():
        if not os.path.lexists(link):
            os.symlink(target, link)
    before = {name: (folder / name).read_bytes() for name in ("m.safetensors", "rows.csv", "codes.csv")}
    assert main(arguments.format(**{name: link for name, (_, link) in links.items()}).split()) == 1
    assert "it is an input" in capsys.readouterr().err
    assert before == {name: (folder / name).read_bytes() for name in before}


@needs_shell
@pytest.mark.slow
def test_no_command_overwrites_its_standard_input(folder):
    found = shell(folder, "transform m.safetensors - --output rows.csv", "< rows.csv")
    assert found.returncode == 1
    assert b"it is an input" in found.stderr


# -- the streams themselves


class Broken:
    """A stream that takes nothing."""

    closed = False
    encoding = "ascii"

    def write(self, text):
        raise OSError(28, "No space left on device")

    flush = property(lambda self: lambda: self.write(""))


def test_answers_fail_with_an_error_and_messages_without():
    for stream in (Broken(), None):
        with pytest.raises(FileError, match="Cannot write to standard output"):
            Answer(stream).write("x")
        Answer(stream).flush_or_discard()
        messages = Messages(stream)
        assert messages.write("abc") == 3
        messages.flush()
        assert not messages.isatty() if stream is None else True


@pytest.mark.parametrize(
    "command",
    [
        "fit {long}.csv --output new.safetensors",
        "fit {long}/rows.csv --output new.safetensors",
        "fit rows.csv --output {long}.safetensors",
        "transform m.safetensors rows.csv --output {long}.csv",
        "transform {long}.safetensors rows.csv --output new.csv",
        "reconstruct m.safetensors rows.csv --output {long}.csv",
        "sample m.safetensors --n-rows 2 --output {long}.csv",
        "describe {long}.safetensors",
        "sweep rows.csv --output new.safetensors --over n_components=1,2 --table {long}.csv",
    ],
)
def test_errors_of_the_system_are_one_line(folder, monkeypatch, capsys, command):
    monkeypatch.chdir(folder)
    assert main(command.format(long="x" * 300).split()) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("Cannot ")
    assert printed.endswith("Got the error File name too long.\n")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ["fit", "", "--output", "new.safetensors"],
        ["fit", "rows.csv", "--output", ""],
        ["transform", "", "rows.csv", "--output", "new.csv"],
        ["transform", "m.safetensors", "rows.csv", "", "--output", "new.csv"],
        ["sample", "m.safetensors", "--n-rows", "2", "--output", ""],
        ["sweep", "rows.csv", "--output", "new.safetensors", "--over", "n_components=1,2", "--table", ""],
        ["describe", ""],
        ["demo", "--output", ""],
    ],
)
def test_an_empty_path_is_not_the_current_folder(folder, monkeypatch, capsys, command):
    monkeypatch.chdir(folder)
    assert main(command) == 1
    assert capsys.readouterr().err == "The path of a file cannot be empty. Got ''. Name a file.\n"


def lack_of_memory():
    """What torch raises for more bytes than there are."""
    try:
        torch.empty(2**56, dtype=torch.float64)
    except RuntimeError as error:
        return error


def test_other_errors_of_the_system_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.safetensors").touch()
    for error, says in [
        (OSError(5, "Input/output error", "disk"), "Cannot use 'disk'. Got the error Input/output error.\n"),
        (OSError("no more threads"), "The operating system refused. Got the error no more threads.\n"),
        (MemoryError(), "This needs more memory than there is. Use fewer rows or columns.\n"),
        (lack_of_memory(), "This needs more memory than there is. Use fewer rows or columns.\n"),
    ]:

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr("eigencode.io.read", fail)
        assert main(["describe", "m.safetensors"]) == 1
        assert capsys.readouterr().err == says


@pytest.mark.parametrize("n_rows", ["99999999999999", "99999999999999999999999"])
def test_more_rows_than_fit_into_memory_are_refused(folder, monkeypatch, capsys, n_rows):
    monkeypatch.chdir(folder)
    assert main(["sample", "m.safetensors", "--n-rows", n_rows, "--output", "new.csv"]) == 1
    assert f"{n_rows} rows of 3 columns needs about" in capsys.readouterr().err


@pytest.mark.versions
def test_an_answer_to_a_stream_that_takes_only_text(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with redirect_stdout(io.StringIO()) as printed:
        assert main(["reconstruct", "m.safetensors", "rows.csv", "--output", "-"]) == 0
    assert printed.getvalue().splitlines()[0] == "größe,名,x"
    assert len(printed.getvalue().splitlines()) == 31


@pytest.mark.versions
def test_quoted_cells_to_a_stream_that_takes_only_text(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["a,b", *('"x, y",1' if i % 2 else "z,0" for i in range(40))]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    assert main(["fit", "rows.csv", "--output", "m.safetensors", "--max-epochs", "1", "--n-components", "1"]) == 0
    with redirect_stdout(io.StringIO()) as printed:
        assert main(["impute", "m.safetensors", "rows.csv", "--output", "-"]) == 0
    assert printed.getvalue().splitlines() == lines


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_closed_folder(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    private = tmp_path / "private.csv"
    private.write_text("a,b\n1,2\n")
    private.chmod(0)
    for command in [
        f"fit {closed}/rows.csv --output new.safetensors",
        f"fit {private} --output new.safetensors",
        f"fit rows.csv --output {closed}/new.safetensors",
        f"describe {closed}/m.safetensors",
        f"sample m.safetensors --n-rows 2 --output {closed}/new.csv",
    ]:
        assert main(command.split()) == 1
        assert capsys.readouterr().err.endswith("Got the error Permission denied.\n")


def test_a_closed_input_is_empty(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["transform", "m.safetensors", "-", "--output", "new.csv"]) == 1
    assert capsys.readouterr().err.startswith("'standard input' is empty.")
