"""Output files: written completely or not at all, under their own name, with the mode they had."""

import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import eigencode
from eigencode.data import writing
from eigencode.data.writing import atomic_write, check_distinct, check_output, is_stream, temporary_names
from eigencode.errors import (
    EigencodeError,
    FileAccessError,
    FileError,
    FileIsFolderError,
    MissingFileError,
    OptionError,
    as_path,
    file_error,
)

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
needs_modes = pytest.mark.skipif(os.name == "nt", reason="this system has no modes of files")


def written(path, content=b"new"):
    with atomic_write(path) as file:
        file.write(content)


@pytest.fixture(params=["unnamed", "named"])
def way(request, monkeypatch):
    """Both ways of writing a file, where the system has both."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no files without a name")
    return request.param


def test_a_file_appears_complete_and_alone(tmp_path, way):
    path = tmp_path / "x.bin"
    for content in (b"first", b"second, and longer", b""):
        with atomic_write(path) as file:
            file.write(content)
            file.flush()
            before = path.read_bytes() if path.exists() else None
        assert before != content
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


def test_an_unnamed_file_is_invisible_until_it_is_complete(tmp_path):
    if not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no files without a name")
    with atomic_write(tmp_path / "x") as file:
        file.write(b"half")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [RuntimeError("mine"), KeyboardInterrupt()], ids=repr)
def test_an_error_while_writing_leaves_only_the_old_file(tmp_path, way, failure):
    path = tmp_path / "x"
    written(path, b"old")

    def break_off(file):
        file.write(b"half")
        raise failure

    with pytest.raises(type(failure)), atomic_write(path) as file:
        break_off(file)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_at_the_end_leaves_only_the_old_file(tmp_path, way, monkeypatch):
    path = tmp_path / "x"
    written(path, b"old")

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(FileError, match="No space left"):
        written(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@needs_modes
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o755])
def test_the_mode_of_an_existing_file_is_kept(tmp_path, way, mode):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(mode)
    written(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


@needs_modes
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_that_open_would_give(tmp_path, way, umask):
    before = os.umask(umask)
    try:
        written(tmp_path / "x")
        (tmp_path / "plain").write_bytes(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


@needs_modes
def test_a_private_file_is_never_readable_by_others(tmp_path, way):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with atomic_write(path) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600


@needs_pipes
def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path, way):
    (tmp_path / "far").mkdir()
    target, link, second = tmp_path / "far" / "real", tmp_path / "link", tmp_path / "second"
    target.write_bytes(b"old")
    link.symlink_to(Path("far") / "real")
    second.symlink_to(link)
    written(second)
    assert target.read_bytes() == b"new"
    assert link.is_symlink()
    assert second.is_symlink()
    assert list(target.parent.iterdir()) == [target]
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "far" / "other")
    written(dangling)
    assert dangling.is_symlink()
    assert (tmp_path / "far" / "other").read_bytes() == b"new"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(FileError, match="symbolic links"):
        written(loop)


@needs_pipes
def test_another_hard_link_keeps_the_old_file(tmp_path, way):
    path, other = tmp_path / "x", tmp_path / "other"
    path.write_bytes(b"old")
    os.link(path, other)
    written(path)
    assert (path.read_bytes(), other.read_bytes()) == (b"new", b"old")


@needs_pipes
def test_a_named_pipe_is_written_into(tmp_path):
    pipe, got = tmp_path / "pipe.csv", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    check_output(pipe, [".csv"])
    written(pipe)
    reader.join()
    assert got == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@needs_pipes
def test_devices_and_open_files_are_written_into(tmp_path):
    written("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    for name in ("/dev/fd/{}", "/proc/self/fd/{}"):
        if not os.path.isdir(os.path.dirname(name)):
            continue
        with open(tmp_path / "open", "w+b") as file:
            file.write(b"before ")
            file.flush()
            written(name.format(file.fileno()))
            file.seek(0)
            assert file.read() == b"before new"
    assert is_stream("/dev/stdout")
    assert not is_stream(tmp_path)
    assert not is_stream(tmp_path / "none")
    with pytest.raises(FileError, match="Bad file descriptor"):
        written("/dev/fd/987")


def test_a_stream_needs_no_ending(tmp_path):
    assert writing.known_ending(Path(os.devnull), [".csv", ".npy"]) == ".csv"
    with pytest.raises(FileError, match="no ending"):
        writing.known_ending(tmp_path / "x", [".csv", ".npy"])


# -- unfinished files of killed processes


@needs_modes
def test_the_file_of_a_killed_process_is_removed_by_the_next(tmp_path, way):
    path, other = tmp_path / "x", tmp_path / "y"
    for name in (*temporary_names(str(path))[:3], temporary_names(str(other))[0], str(tmp_path / ".other.tmp")):
        Path(name).write_bytes(b"left")
    written(path)
    assert len(list(tmp_path.iterdir())) == 3
    written(other)
    assert {item.name for item in tmp_path.iterdir()} == {"x", "y", ".other.tmp"}


@needs_modes
def test_a_file_that_is_being_written_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path = tmp_path / "x"
    with atomic_write(path) as slow:
        slow.write(b"slow")
        assert len(list(tmp_path.iterdir())) == 1
        written(path, b"fast")
        assert path.read_bytes() == b"fast"
        assert len(list(tmp_path.iterdir())) == 2
    assert path.read_bytes() == b"slow"
    assert list(tmp_path.iterdir()) == [path]


@needs_pipes
def test_a_temporary_name_that_is_a_link_is_not_followed(tmp_path, way):
    path, victim = tmp_path / "x", tmp_path / "victim"
    victim.write_bytes(b"precious")
    first, second, third, *_ = temporary_names(str(path))
    os.symlink(victim, first)
    os.mkfifo(second)
    os.mkdir(third)
    written(path)
    written(path)
    assert (victim.read_bytes(), path.read_bytes()) == (b"precious", b"new")


def test_more_writers_than_temporary_names(tmp_path, way):
    path = tmp_path / "x"
    for name in temporary_names(str(path)):
        os.mkdir(name)
    written(path)
    written(path)
    assert path.read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1 + writing.TEMPORARY_NAMES


def test_the_longest_names_can_be_written(tmp_path, way):
    path = tmp_path / ("é" * 120 + "x" * 15)
    written(path)
    written(path)
    assert path.read_bytes() == b"new"


def write_often(path, letter, n):
    for _ in range(n):
        written(path, letter * 5000)


@needs_modes
def test_processes_that_write_the_same_file_do_not_harm_each_other(tmp_path, way):
    path = tmp_path / "x"
    fork = multiprocessing.get_context("fork")
    crowd = [fork.Process(target=write_often, args=(path, letter, 40)) for letter in (b"a", b"b", b"c", b"d")]
    for process in crowd:
        process.start()
    while any(process.is_alive() for process in crowd):
        if path.exists():
            content = path.read_bytes()
            assert content in [letter * 5000 for letter in (b"a", b"b", b"c", b"d")]
    for process in crowd:
        process.join()
    assert [process.exitcode for process in crowd] == [0] * 4
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys
sys.path[:0] = [{source!r}]
from eigencode.data.writing import atomic_write
number = 0
print("ready", flush=True)
while True:
    number += 1
    with atomic_write({path!r}) as file:
        for _ in range(20):
            file.write(bytes([number % 256]) * 20000)
"""


@pytest.mark.slow
@needs_modes
def test_kills_while_writing_keep_a_complete_file_and_leave_no_other(tmp_path):
    path, n_left = tmp_path / "x", 0
    source = str(Path(eigencode.__file__).parent.parent)
    for number in range(30):
        command = [sys.executable, "-c", WRITER.format(source=source, path=str(path))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.003 * (number % 10) + 0.002)
            process.send_signal(signal.SIGKILL)
        if path.exists():
            content = path.read_bytes()
            assert len(content) == 400_000
            assert len(set(content)) == 1
        n_left += len([item for item in tmp_path.iterdir() if item != path])
    written(path)
    assert list(tmp_path.iterdir()) == [path]


# -- paths


@pytest.mark.parametrize("path", ["", "a\0b", b"", b"a\0"])
def test_empty_and_impossible_paths(tmp_path, path):
    for use in (written, as_path, eigencode.load, lambda path: check_output(path, [".csv"])):
        with pytest.raises(FileError, match="path of a file cannot"):
            use(path)


@pytest.mark.parametrize("path", [None, 5, 2.5, ["x"], {}], ids=repr)
def test_objects_that_are_not_paths(path):
    for use in (written, as_path, eigencode.load, lambda path: check_output(path, [".csv"])):
        with pytest.raises(OptionError, match="must be a string or a path"):
            use(path)


@pytest.mark.parametrize("name", [".", "folder", "folder/", "new/"])
def test_a_folder_in_place_of_a_file(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileIsFolderError, match="Cannot write"):
        written(f"{tmp_path}/{name}")
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]


def test_a_missing_folder(tmp_path):
    for use in (written, lambda path: check_output(path, [".csv"])):
        with pytest.raises(MissingFileError, match="Cannot write"):
            use(tmp_path / "no" / "x.csv")
    with pytest.raises(FileError, match="Cannot write"):
        written(tmp_path / ("x" * 300))


def test_errors_are_of_pythons_classes_too():
    for ours, theirs in [
        (MissingFileError, FileNotFoundError),
        (FileAccessError, PermissionError),
        (FileIsFolderError, IsADirectoryError),
        (FileError, OSError),
    ]:
        cause = theirs(errno.EIO, "why")
        error = file_error(cause, "It failed", got="why", hint="Try again")
        assert type(error) is ours
        assert isinstance(error, EigencodeError)
        assert isinstance(error, theirs)
        assert (str(error), error.errno) == ("It failed. Got why. Try again.", errno.EIO)


@needs_modes
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_protected_file_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"old")
    path.chmod(0o400)
    for use in (written, lambda path: check_output(path, [".csv"])):
        with pytest.raises(FileAccessError):
            use(path)
    assert path.read_bytes() == b"old"


# -- results and inputs


def test_no_result_overwrites_an_input(tmp_path):
    rows, link = tmp_path / "rows.csv", tmp_path / "link.csv"
    rows.write_bytes(b"x")
    (tmp_path / "other.csv").write_bytes(b"y")
    check_output(rows, [".csv"], [tmp_path / "other.csv", tmp_path / "none.csv"])
    with pytest.raises(FileError, match="it is an input"):
        check_output(rows, [".csv"], [tmp_path / "other.csv", rows])
    with open(rows, "rb") as file, pytest.raises(FileError, match="it is an input"):
        check_output(rows, [".csv"], [file.fileno()])
    if hasattr(os, "mkfifo"):
        link.symlink_to(rows)
        hard = tmp_path / "hard.csv"
        os.link(rows, hard)
        for output, read in [(link, rows), (rows, link), (hard, rows), (rows, hard)]:
            with pytest.raises(FileError, match="it is an input"):
                check_output(output, [".csv"], [read])


def test_two_results_must_not_be_one_file(tmp_path):
    check_distinct(tmp_path / "a", tmp_path / "b", None, None, os.devnull, os.devnull)
    with pytest.raises(FileError, match="Two results"):
        check_distinct(tmp_path / "a", None, f"{tmp_path}/./a")
