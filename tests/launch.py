"""Python programs in several processes at a time, as torchrun starts them."""

import os
import socket
import subprocess
from pathlib import Path

import copies


def environment(rank, size, port):
    """The variables that torchrun sets."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in own.items()}}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(size, arguments, port=None, env=None, **options):
    """Start Python with the same arguments in several processes."""
    port = port or free_port()
    options = {
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "cwd": Path(__file__).parent,
    } | options
    command = [copies.python(), "-W", "error", *map(str, arguments)]
    envs = [environment(rank, size, port) | (env or {}) for rank in range(size)]
    return [subprocess.Popen(command, env=own, **options) for own in envs]


def run(size, arguments, timeout=300, **options):
    """Their exit codes, standard outputs and standard errors."""
    started = start(size, arguments, **options)
    try:
        outputs = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(started, outputs, strict=True)]
