"""The recipes for clusters on the page on processes: run where this machine can, and else read as their readers do."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import eigencode
from eigencode.cli.entry import parsed

PAGE = (Path(__file__).parent.parent / "docs" / "processes.md").read_text()
BLOCKS = [block for _, block in re.findall(r"(?ms)^```(\S*)[^\n]*\n(.*?)^```$", PAGE)]
TORCHRUN_AT = str(Path(sys.executable).parent)


def the_block(contains):
    (found,) = [block for block in BLOCKS if contains in block]
    return found


def torchrun_commands(text):
    """The words of each command of torchrun; lines that end in a backslash go on."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line[line.index("torchrun") :]) for line in lines if "torchrun" in line]


def require_known_flags(words):
    """The flags of torchrun, and of our command behind them, exist."""
    from torch.distributed.run import get_args_parser

    given = get_args_parser().parse_args(words[1:])
    if given.module:
        assert given.training_script == "eigencode"
        parsed(given.training_script_args)
    return given


@pytest.mark.skipif(shutil.which("bash") is None, reason="this system has no bash")
def test_scripts_are_bash():
    scripts = [block for block in BLOCKS if "torchrun --" in block and "apiVersion" not in block]
    assert len(scripts) == 4
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        for words in torchrun_commands(script):
            require_known_flags([word.replace("$SLURM_NNODES", "2") for word in words])


def test_the_script_of_slurm():
    script = the_block("SBATCH")
    assert script.startswith("#!/bin/bash\n")
    (header,) = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    assert re.fullmatch(r"#SBATCH( --[a-z-]+=[A-Za-z0-9:@]+)+", header)
    flags = dict(flag.split("=") for flag in header.split()[1:])
    # One torchrun a node, which starts the processes there; torchrun passes SIGTERM on to them.
    assert flags["--ntasks-per-node"] == "1"
    assert re.fullmatch(r"B:TERM@\d+", flags["--signal"])
    (given,) = (
        require_known_flags([w.replace("$SLURM_NNODES", "2") for w in words]) for words in torchrun_commands(script)
    )
    assert given.rdzv_backend == "c10d"
    assert given.rdzv_endpoint == "$first:29500"


def test_the_manifest_of_kubernetes():
    yaml = pytest.importorskip("yaml")
    service, job = yaml.safe_load_all(the_block("apiVersion"))
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["completionMode"] == "Indexed"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert service["spec"]["clusterIP"] == "None"
    shell, flag, line = container["command"]
    assert (shell, flag) == ("sh", "-c")
    (words,) = torchrun_commands(line)
    given = require_known_flags([word.replace("$JOB_COMPLETION_INDEX", "0") for word in words])
    assert int(given.nnodes) == spec["completions"] == spec["parallelism"]
    assert given.master_addr == f"{name}-0.{pod['subdomain']}"  # the name of the first pod of the job
    mounted = {volume["name"]: volume["mountPath"] for volume in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    paths = [word for word in given.training_script_args if word.startswith("/")]
    assert len(paths) == 3
    assert all(path.startswith(mounted["shared"] + "/") for path in paths)


# -- two hosts


@pytest.fixture
def hosts():
    """Two network namespaces that a cable joins, with the addresses 10.9.0.1 and 10.9.0.2."""

    def ip(line):
        return subprocess.run(["ip", *line.split()], capture_output=True, text=True)

    names = [f"eigencode{os.getpid()}{end}" for end in "ab"]
    if shutil.which("ip") is None or ip(f"netns add {names[0]}").returncode:
        pytest.skip("this process may not make network namespaces")
    with ExitStack() as made:
        made.callback(ip, f"netns del {names[0]}")
        made.callback(ip, f"netns del {names[1]}")
        for line in (
            f"netns add {names[1]}",
            f"link add cable netns {names[0]} type veth peer name cable netns {names[1]}",
            *(f"-n {name} addr add 10.9.0.{number}/24 dev cable" for number, name in enumerate(names, 1)),
            *(f"-n {name} link set {device} up" for name in names for device in ("lo", "cable")),
        ):
            if (done := ip(line)).returncode:
                pytest.skip(f"ip {line}: {done.stderr}")
        yield names


@pytest.mark.slow
def test_two_hosts_train_one_model(hosts, tmp_path):
    commands = torchrun_commands(the_block("--master-addr 10.9.0.1"))
    assert len(commands) == 2
    script = the_block("# train.py")
    rng = np.random.default_rng(0)
    rows = np.sin(rng.uniform(0, 2, size=(400, 1)) * np.arange(1, 7)) + 0.1 * rng.normal(size=(400, 6))
    folders = [tmp_path / name for name in ("alone", "first", "second")]
    for folder in folders:
        folder.mkdir()
        (folder / "train.py").write_text(script)
        pd.DataFrame(rows, columns=list("abcdef")).to_parquet(folder / "rows.parquet")
    where = os.environ | {
        "PATH": f"{TORCHRUN_AT}{os.pathsep}{os.environ['PATH']}",
        "GLOO_SOCKET_IFNAME": "cable",
        "OMP_NUM_THREADS": "1",
    }
    of_hosts = [["ip", "netns", "exec", host, *words] for host, words in zip(hosts, commands, strict=True)]
    started = [
        subprocess.Popen(command, env=where, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command, folder in zip([[sys.executable, "train.py"], *of_hosts], folders, strict=True)
    ]
    try:
        told = [process.communicate(timeout=300)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0, 0], told
    alone, both = (eigencode.load(folder / "model.safetensors") for folder in folders[:2])
    assert not (folders[2] / "model.safetensors").exists()  # the first process saves
    np.testing.assert_allclose(both.best_objective_, alone.best_objective_, rtol=1e-6)
    assert [row["step"] for row in both.history_] == [row["step"] for row in alone.history_]
