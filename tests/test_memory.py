"""What fits and answers take beside their rows, and networks that take rows in parts."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from eigencode import Autoencoder, training
from eigencode.batch import Batch
from eigencode.cli import main
from eigencode.data import mapped_rows, memory, named_files, streamed_rows
from eigencode.data import rows as resident_rows
from eigencode.data.rows import ResidentRows
from eigencode.errors import NotEnoughMemoryError
from eigencode.estimators import generation
from eigencode.parts import MLP, ConvolutionalDecoder, ConvolutionalEncoder, Tied
from eigencode.parts.likelihoods.continuous import GaussianLikelihood
from eigencode.parts.networks import base
from eigencode.training import generator

PROGRAM = """
    import sys, threading
    import numpy as np
    sys.path.insert(0, sys.argv[1])
    from memory import most_of
    from eigencode import Autoencoder
    random = np.random.default_rng(0)
    rows = random.normal(size=(800_000, 50)).astype(np.float32)
    options = {"hidden": (32,), "max_epochs": 1, "batch_size": 8192, "random_state": 0}
    Autoencoder(4, **options).fit(rows[:20_000]).score_samples(rows[:20_000])  # imports what is needed
    model = Autoencoder(4, **options)
    for question in ("fit", "transform", "reconstruct", "score_samples"):
        taken, _, answer = most_of(lambda: getattr(model, question)(rows))
        print((taken - getattr(answer, "nbytes", 0)) / rows.nbytes)
        del answer
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's account of a process")
def test_a_fit_copies_the_rows_once_and_an_answer_does_not():
    """Of 160 MB. A further copy takes 1 times them more; what the C library keeps of small blocks is up to .2."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(Path(__file__).parents[1] / "benchmarks")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    fit, *answers = map(float, found.stdout.split())
    assert 1 < fit < 1.7
    assert max(answers) < 0.7


WIDE = """
    import sys
    import torch
    sys.path.insert(0, sys.argv[1])
    from memory import most_of
    from eigencode.batch import Batch
    from eigencode.model.pca import spectrum

    def taken(n, d, size, share):
        rows = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
        rows += 3 * rows[:, :1]
        return most_of(lambda: spectrum(Batch(rows), size, 0, share))[0] / rows.nbytes

    taken(2060, 2060, 4, None)  # imports what is needed
    print(taken(2100, 8000, 4, None), taken(400, 20_000, 4, None), taken(3000, 2000, None, 0.5))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's account of a process")
def test_the_principal_directions_of_wide_rows_take_little_memory():
    """Less than half of what a copy in float64 takes: 67 MB of rows, 32, and 24 with a second moment of 32 MB."""
    command = [sys.executable, "-c", textwrap.dedent(WIDE), str(Path(__file__).parents[1] / "benchmarks")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (np.array(found.stdout.split(), float) < [0.8, 0.8, 2.7]).all(), found.stdout


def network(name):
    """A network whose widest layer has 1,024 numbers or more a row, and some rows."""
    source = torch.Generator().manual_seed(0)
    encoder = MLP((1024, 16))
    encoder.setup(6, 3, source)
    made, n_inputs, n_outputs = {
        "dense": (encoder, 6, 3),
        "tied": (Tied(), 3, 6),
        "convolutional": (ConvolutionalEncoder((1, 8, 8), (128, 8)), 64, 5),
        "transposed": (ConvolutionalDecoder((1, 8, 8), (8, 128)), 5, 64),
    }[name]
    made.mirror(encoder)
    made.setup(n_inputs, n_outputs, source)
    return made, torch.randn(1500, n_inputs, generator=source)


@pytest.mark.parametrize("name", ["dense", "tied", "convolutional", "transposed"])
def test_rows_in_parts_give_what_all_of_them_give(name, monkeypatch):
    made, rows = network(name)
    sizes, gelu = [], torch.nn.GELU.forward
    monkeypatch.setattr(torch.nn.GELU, "forward", lambda self, x: sizes.append(x.numel()) or gelu(self, x))
    with torch.no_grad():
        found = made(rows)
    assert max(sizes) <= max(base.PART_CELLS, base.PART_ROWS * 2048)
    whole = made(rows)  # with gradients, which need all results
    assert max(sizes) >= 1500 * 1024
    torch.testing.assert_close(found, whole.detach(), rtol=1e-5, atol=1e-6)


def test_layers_that_mix_rows_get_all_of_them():
    class Centred(torch.nn.Module):
        def forward(self, x):
            return x - x.mean(0)

    network = MLP((1024,), Centred())
    network.setup(3, 2, torch.Generator().manual_seed(0))
    rows = torch.linspace(-1, 3, 9000).view(3000, 3)
    with torch.no_grad():
        found = network(rows)
    torch.testing.assert_close(found, network(rows).detach())
    assert not torch.allclose(found, network(torch.cat([rows, rows + 1]))[:3000].detach(), atol=0.01)


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_an_order_is_the_same_for_numbers_of_both_sizes(kind):
    x = torch.arange(5000.0)[:, None]
    rows = ResidentRows(Batch(x), torch.arange(100, 5000, dtype=kind), torch.arange(100))
    batches = [batch.x.flatten() for batch in rows.batches(generator(3, "shuffle", 1), 700)]
    expected = 100 + torch.randperm(4900, generator=generator(3, "shuffle", 1))
    assert torch.equal(torch.cat(batches), expected.float())


def test_training_rows_that_come_first_are_not_copied():
    every = Batch(torch.arange(150.0).view(50, 3))
    first = ResidentRows(every, torch.arange(40), torch.arange(40, 50), is_separate=True).representative()
    assert torch.equal(first.x, every.x[:40])
    assert first.x.data_ptr() == every.x.data_ptr()
    later = ResidentRows(every, torch.arange(10, 50), torch.arange(10), is_separate=True).representative()
    assert torch.equal(later.x, every.x[10:])


def test_gaps_are_hidden_wherever_they_are():
    """Gaps in one of several chunks, and in none."""
    rows = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    rows[12_345, 1] = np.nan
    run = Autoencoder(1, hidden=(), max_epochs=0, random_state=0)._begin(rows)
    observed = run.rows.all_rows.observed
    assert observed.sum() == rows.size - 1
    assert not observed[12_345, 1]
    assert run.rows.all_rows.x[12_345, 1] == 0
    assert Autoencoder(1, hidden=(), max_epochs=0)._begin(np.nan_to_num(rows)).rows.all_rows.observed is None


@pytest.mark.parametrize("apart", [True, False])
def test_spreads_of_residuals_are_learned_a_block_of_rows_at_a_time(apart, monkeypatch):
    """They are those of all rows together, with gaps, and so are the covariances."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(900, 6)) @ rng.normal(size=(6, 6))
    rows[rng.random(rows.shape) < 0.2] = np.nan
    options, apart = {"max_epochs": 2, "random_state": 0}, {"validation_data": rows[:400]} if apart else {}
    fraction = {} if apart else {"validation_fraction": 0}
    whole = Autoencoder(2, **options, **fraction).fit(rows, **apart)
    sizes, spread = [], GaussianLikelihood.constant_spread
    monkeypatch.setattr(generation, "chunk_rows", lambda n_columns: 70)
    monkeypatch.setattr(
        GaussianLikelihood,
        "constant_spread",
        lambda self, batch, output: sizes.append(len(batch)) or spread(self, batch, output),
    )
    parted = Autoencoder(2, **options, **fraction).fit(rows, **apart)
    assert max(sizes) <= 70
    assert sum(sizes) == (400 if apart else 900)
    np.testing.assert_allclose(parted.noise_, whole.noise_, rtol=1e-5)
    np.testing.assert_allclose(
        parted.residual_loadings_ @ parted.residual_loadings_.T,
        whole.residual_loadings_ @ whole.residual_loadings_.T,
        rtol=1e-5, atol=1e-7,
    )  # fmt: skip


@pytest.mark.versions
@pytest.mark.parametrize("kind", ["array", "memory map", "Parquet"])
def test_blocks_of_wide_validation_rows_have_fewer_rows(kind, tmp_path, monkeypatch):
    """As many as a network is given at a time."""
    monkeypatch.setattr(mapped_rows, "MAPPED_FROM", 1000)
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1000)
    for module in (resident_rows, mapped_rows, streamed_rows):
        monkeypatch.setattr(module, "chunk_rows", lambda n_columns: 700 // n_columns)
    rows = np.random.default_rng(0).normal(size=(600, 7)).astype(np.float32)
    if kind == "array":
        given = rows
    elif kind == "memory map":
        given = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", rows.dtype, rows.shape)
        given[:] = rows
    else:
        given = str(tmp_path / "rows.parquet")
        pq.write_table(pa.table({f"x{j}": column for j, column in enumerate(rows.T)}), given, row_group_size=100)
    run = Autoencoder(2, max_epochs=0, validation_fraction=0.9, random_state=0)._begin(given)
    sizes = [len(block) for block in run.rows.validation(training.EVALUATION_ROWS)]
    assert sum(sizes) == 540
    assert max(sizes) <= 100


VERSIONS = {
    "second": ("0::{group}", "", "memory.max", "memory.current", "inactive_file 10\nactive_file 5"),
    "first": (
        "3:cpu,cpuacct:/other\n4:memory:{group}",
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "inactive_file 1\ntotal_inactive_file 10\ntotal_active_file 5",
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"": 1000}, 1000 - 400 + 15),
        ({"job/step": 1000, "job": 900, "": 2000}, 900 - 400 + 15),
        ({"job/step": "max", "job": 700}, 700 - 400 + 15),
        ({"other": 500}, math.inf),
        ({}, math.inf),
    ],
    ids=["container", "nested", "unlimited", "another's", "none"],
)
def test_the_limit_of_a_container_or_a_job_is_that_of_memory(version, limits, expected, tmp_path, monkeypatch):
    lines, kind, limit, used, statistics = VERSIONS[version]
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    (tmp_path / "own").write_text(lines.format(group="/job/step") + "\n")
    for name, value in limits.items():
        folder = tmp_path / kind / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in ((limit, value), (used, 400), ("memory.stat", statistics)):
            (folder / file).write_text(f"{text}\n")
    assert memory._left_in_container() == expected
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "lost")
    assert memory._left_in_container() == math.inf


def lack(*_, **__):
    """Ask torch for more than there is."""
    torch.empty(2**56, dtype=torch.float64)


@pytest.mark.parametrize("where", ["eigencode.fitting.describe", "eigencode.training.runner.SingleRunner.step"])
@pytest.mark.parametrize("ask", ["fit", "iter_fit"])
def test_a_fit_that_lacks_memory_says_so(where, ask, monkeypatch):
    """Before its training it leaves the model as it was."""
    rows = np.random.default_rng(0).normal(size=(60, 3))
    model = Autoencoder(2, hidden=(4,), max_epochs=1, random_state=0).fit(rows)
    before = vars(model).copy()
    monkeypatch.setattr(where, lack)
    with pytest.raises(NotEnoughMemoryError, match="more memory than there is. Use fewer rows or columns") as found:
        list(getattr(model, ask)(rows[:40]))
    assert isinstance(found.value, MemoryError)
    assert type(found.value.__cause__) is RuntimeError
    assert "runner" in where or vars(model) == before


def test_an_answer_that_lacks_memory_says_so():
    rows = np.random.default_rng(0).normal(size=(60, 3))
    model = Autoencoder(2, hidden=(4,), max_epochs=0).fit(rows)
    with pytest.raises(NotEnoughMemoryError):
        model._answer(rows, lack)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as found:
        model._answer(rows, lambda *_: torch.ones(2, 3) @ torch.ones(2, 3))
    assert type(found.value) is RuntimeError


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux counts")
@pytest.mark.parametrize(("name", "shell"), [("RLIMIT_DATA", "-d"), ("RLIMIT_AS", "-v")])
def test_a_limit_that_libraries_do_not_come_back_under(name, shell, monkeypatch, capsys):
    """Under it their import ends the process, or tries for ever; what says what a command does needs none of them."""
    monkeypatch.setattr(memory, "_limit", lambda kind: 1.2e9 if kind == name else math.inf)
    assert main(["describe", "rows.csv"]) == 1
    needed = "1.5" if shell == "-d" else "2.4"
    assert capsys.readouterr().err == (
        f"PyTorch and the other libraries need {needed} GB before any rows. Got a limit of 1.2 GB by ulimit {shell}. "
        "Raise the limit.\n"
    )
    assert main(["describe", "--help"]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux counts")
def test_a_limit_of_the_process_is_read():
    import resource

    before, data = resource.getrlimit(resource.RLIMIT_DATA), psutil.Process().memory_info().data
    limit = data + 2**29
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        assert memory._limit("RLIMIT_DATA") == limit
        assert 2**28 < memory.available_memory() < 2**29 + 2**26
        kept = np.ones(2**27, np.uint8)
        assert memory.available_memory() < 2**29 + 2**26 - len(kept)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
