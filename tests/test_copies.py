"""Programs that begin as copies of a process end as those that Python itself starts."""

import os
import signal
import subprocess
import sys

import copies
import pytest

PROGRAMS = {
    "answers": "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['MINE'], sys.stdin.read()[::-1])",
    "code": "import sys; print('half'); sys.exit(3)",
    "message": "import sys; sys.exit('what was wrong')",
    "error": "1 / 0",
    "registered": "import atexit; atexit.register(print, 'last'); print('first')",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(.2), print('late'))).start()",
}


def ended(python, program, folder):
    """The exit code, what was printed, and the last line of the errors."""
    given = {"cwd": folder, "env": {**os.environ, "MINE": "ö \n"}, "input": "typed"}
    found = subprocess.run([python, "-c", program, "a b", ""], capture_output=True, text=True, **given)
    return found.returncode, found.stdout, found.stderr.splitlines()[-1:]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_copy_ends_as_python_does(name, tmp_path):
    assert ended(copies.python(), PROGRAMS[name], tmp_path) == ended(sys.executable, PROGRAMS[name], tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="the signals are POSIX's")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_copy_ends_by_its_signal(name, tmp_path):
    number = getattr(signal, name)
    assert ended(copies.python(), f"import os; os.kill(os.getpid(), {number:d})", tmp_path) == (-number, "", [])


def test_a_copy_that_is_lost_has_not_succeeded(tmp_path):
    if copies.python() == sys.executable:
        pytest.skip("there are no copies")
    lost = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
    assert ended(copies.python(), lost, tmp_path) == (1, "", ["the copy is lost"])


@pytest.mark.parametrize("missing", [AttributeError, PermissionError])
def test_python_itself_starts_programs_where_the_system_cannot_wait_for_copies(missing, monkeypatch):
    def fail(pid):
        raise missing

    monkeypatch.setattr(os, "pidfd_open", fail, raising=False)
    assert copies.python.__wrapped__() == sys.executable


@pytest.mark.skipif(os.name != "posix", reason="the script is POSIX's")
def test_a_script_begins_with_any_path_of_python(tmp_path, monkeypatch):
    link = tmp_path / "my python"
    link.symlink_to(sys.executable)
    monkeypatch.setattr(copies, "python", lambda: str(link))
    copies.write_script(tmp_path / "bin" / "eigencode")
    script = tmp_path / "bin" / "eigencode"
    script.write_text(
        script.read_text().replace("from eigencode.cli import main", "main = lambda: print(sys.argv[1:])")
    )
    found = subprocess.run([script, "a b", "c"], capture_output=True, text=True, check=True)
    assert found.stdout == "['a b', 'c']\n"
