"""Programs of Python that begin as copies of a process which has imported torch; otherwise each start takes seconds.

`python()` is a stand-in for Python's executable, for programs that need nothing of a fresh start: it takes `-c CODE`,
`-m MODULE` or a file, and `-W ACTION` before it. What is imported when they begin is not theirs, and a signal to the
stand-in ends them at once. This file as a program is the process of which they are copies.
"""

import atexit
import functools
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import eigencode

IMPORTED = ["pandas", "pyarrow.parquet", "sklearn.ensemble", "sklearn.mixture", "eigencode.cli.app", "eigencode.io"]
"""What many programs import, beside all names of eigencode, and with them torch; not its compiler."""

WHOLE_END = {"COPY_ENDS_AS_PYTHON": "1"}
"""Variables with which a program takes all apart at its end, as Python does, which takes a copy a second."""

KEPT = []
"""What must not be collected: a folder and a process, which end with this process."""

STAND_IN = """#!{executable} -IS
import json, os, signal, socket, sys

connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
own = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ), "executable": sys.argv[0]}}
own = json.dumps(own).encode()
socket.send_fds(connection, [len(own).to_bytes(8, "big")], [0, 1, 2])
connection.sendall(own)
code = int.from_bytes(connection.recv(4) or sys.exit("the copy is lost"), "big", signed=True)
if code < 0:
    if code != -signal.SIGKILL:  # which no process can handle in a way of its own
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@functools.cache
def python() -> str:
    """The path of the stand-in, or of Python itself where processes are not copied."""
    folder = tempfile.TemporaryDirectory(prefix="copies")
    address, stand_in = f"{folder.name}/socket", Path(folder.name, "python")
    stand_in.write_text(STAND_IN.format(executable=sys.executable, address=address))
    stand_in.chmod(0o755)
    # A socket has a short address, the first line of a script has neither blanks nor many characters, and some folders
    # have no programs.
    is_short = all(len(path) < 100 and " " not in path for path in (address, sys.executable))
    if not (is_short and os.access(stand_in, os.X_OK) and _has_pidfd()):
        folder.cleanup()
        return sys.executable
    command = [sys.executable, __file__, address]
    # It ends when its standard input does: with this process.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    KEPT.extend([folder, process])
    return str(stand_in)


def write_script(path: Path) -> None:
    """Write the console script of the program, as an installer does; its folder is made too."""
    first = f"#!{python()}"
    if " " in first or len(first) > 127:  # the system reads a longer line in part, so a shell does it
        first = f'''#!/bin/sh\n\'\'\'exec' "{python()}" "$0" "$@"\n' \'\'\''''
    path.parent.mkdir(parents=True)
    path.write_text(f"{first}\nimport sys\nfrom eigencode.cli import main\nsys.exit(main())\n")
    path.chmod(0o755)


def _has_pidfd() -> bool:
    """Whether a process can wait for another one and for a stream at once, which some systems and containers lack."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def copied(address: str) -> dict:
    """Wait to be asked for copies, for ever; return in each copy, with what it was asked for."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that the system forgets processes that have ended
        while True:
            ready, _, _ = select.select([listener, 0], [], [])
            if listener not in ready:
                os._exit(0)
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                return _copied(connection)
            connection.close()


def _copied(connection: socket.socket) -> dict:
    """Copy this process once more, and in the first of the two wait for the other, whose exit code is told."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    asked = b""
    while len(asked) < int.from_bytes(head, "big"):
        asked += connection.recv(2**16)
    if (pid := os.fork()) == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return json.loads(asked)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(pid)
    if connection in select.select([connection, ended], [], [])[0]:  # who has asked is gone
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    try:
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    finally:
        os._exit(0)


def program_of(asked: dict) -> str:
    """The text of the program asked for, after all else is as where it was asked for."""
    import torch

    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    sys.executable, arguments = asked["executable"], asked["arguments"]
    while arguments[0] == "-W":
        warnings.simplefilter(arguments[1])
        arguments = arguments[2:]
    if arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], os.getcwd()
        return f"import runpy; runpy.run_module({arguments[1]!r}, run_name='__main__', alter_sys=True)"
    if arguments[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        return arguments[1]
    sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).absolute().parent)
    return Path(arguments[0]).read_text(encoding="utf-8")


def end(code: object) -> None:
    """End this process after its threads and what was registered for its end, but take nothing apart."""
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    for name in dir(eigencode):
        getattr(eigencode, name)
    asked = copied(sys.argv[1])
    code = None
    try:  # here, so that the program is what `__main__` is
        exec(compile(program_of(asked), "program", "exec", dont_inherit=True))
    except SystemExit as error:
        code = error.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if not os.environ.keys() & WHOLE_END:
        end(code)
    sys.exit(code)
