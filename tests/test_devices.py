"""What a GPU is asked to do, checked where there is none: by stand-ins that do on the processor what it would."""

import contextlib
import gc
import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from eigencode import (
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    VariationalAutoencoder,
)
from eigencode.batch import Batch
from eigencode.parts import GaussianLikelihood, GaussianNoise
from eigencode.training import loop, prefetch, runner
from eigencode.training.batched_runner import BatchedRunner
from eigencode.training.cuda_graphs import WARM_UP, Recorded, record_on_gpu
from eigencode.training.grouping import share_tensors
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.padding import NotBatchable
from eigencode.training.runner import SingleRunner
from eigencode.training.schedule import Schedule

X = np.random.default_rng(0).normal(size=(230, 6))
OPTIONS = {"hidden": (8,), "optimizer": "adam", "batch_size": 64, "max_epochs": 4, "precision": "float64"}


class Recorder:
    """Stands in for a CUDA graph: what is recorded is not done, and each replay reads the same inputs again."""

    def __init__(self):
        self.n_replays = 0

    def __call__(self, work):
        def replay():
            self.n_replays += 1
            return work()

        return replay


class Unable:
    """Stands in for a recording that a part made impossible."""

    def __init__(self):
        self.n_tries = 0

    def __call__(self, work):
        self.n_tries += 1
        raise RuntimeError("operation not permitted when stream is capturing")


HOST_DATA = {torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.new_tensor}
"""Functions that make a tensor from data on the host."""


def is_host_data(argument):
    return isinstance(argument, int | float | list | np.ndarray) and not isinstance(argument, bool)


class OnlyRecordable(TorchFunctionMode):
    """Refuses what cannot be recorded on a GPU: data copied from the host."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        is_where = name == "where" and any(map(is_host_data, args))
        is_index = name in ("__getitem__", "__setitem__") and isinstance(args[1], list | np.ndarray)
        if function in HOST_DATA or is_where or is_index:
            raise AssertionError(f"copies from the host: {name}")
        return function(*args, **(kwargs or {}))


class NothingRead(TorchDispatchMode):
    """Refuses what reads values back, or depends on them for its shape, and solvers that cannot be recorded."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "cholesky_solve")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        chosen = args[1] if ".index" in name and len(args) > 1 and isinstance(args[1], list | tuple) else ()
        is_mask = any(isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in chosen)
        if is_mask or any(f".{forbidden}" in name for forbidden in self.FORBIDDEN):
            raise AssertionError(f"waits for the device: {name}")
        return function(*args, **(kwargs or {}))


def strictly(update):
    """The step, under both."""

    def step(*arguments):
        with OnlyRecordable(), NothingRead():
            return update(*arguments)

    return step


def is_near(a, b):
    return torch.allclose(a, b, rtol=1e-10, atol=1e-12)


KINDS = {
    "plain": lambda: Autoencoder(3, random_state=0, **OPTIONS),
    "noisy, learned spread": lambda: Autoencoder(
        3, corruption=GaussianNoise(0.3), likelihood=GaussianLikelihood("learned"), random_state=0, **OPTIONS
    ),
    "variational, warm-up": lambda: VariationalAutoencoder(3, warmup=2, random_state=0, **OPTIONS),
    "sparse, with states": lambda: SparseAutoencoder(9, sparsity="top_k", active=3, random_state=0, **OPTIONS),
}


GAPS = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
MIXED = pd.DataFrame(
    {"real": X[:, 0], "count": np.arange(len(X)) % 7, "skewed": np.exp(2 * X[:, 1]), "yes": X[:, 2] > 0,
     "kind": np.array(["a", "b", "c"])[np.arange(len(X)) % 3]}
)  # fmt: skip
FEW = {**OPTIONS, "max_epochs": 2}

RECORDED = {
    **{name: (make, X) for name, make in KINDS.items()},
    "linear": (lambda: LinearAutoencoder(3, solver="gradient", **{k: v for k, v in FEW.items() if k != "hidden"}), X),
    "ordered": (lambda: Autoencoder(3, ordered=True, **FEW), X),
    "tied": (lambda: Autoencoder(3, tied=True, **FEW), X),
    "activity": (lambda: SparseAutoencoder(9, **FEW), X),
    "optimal codes": (lambda: SparseAutoencoder(9, code="optimal", **{**FEW, "hidden": ()}), X),
    "denoising": (lambda: DenoisingAutoencoder(3, **FEW), X),
    "contractive": (lambda: ContractiveAutoencoder(3, **FEW), X),
    **{
        likelihood: (lambda likelihood=likelihood: Autoencoder(3, likelihood=likelihood, **FEW), data)
        for likelihood, data in {
            "negative_binomial": np.abs(X // 0.1), "bernoulli": (X > 0) * 1.0,
        }.items()
    },
    "gaps": (lambda: Autoencoder(3, **FEW), GAPS),
    "gaps, variational": (lambda: VariationalAutoencoder(3, **FEW), GAPS),
    "columns": (lambda: Autoencoder(3, **FEW), MIXED),
    "columns with gaps": (lambda: Autoencoder(3, **FEW), MIXED.mask(np.isnan(GAPS[:, :5]))),
}  # fmt: skip


def trained(model, weights=None):
    run = model._begin(X, weights)
    list(loop.train_all(SingleRunner(run)))
    return run.state


# -- recordings


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_weighted", [False, True], ids=["", "weights"])
def test_a_recorded_step_is_the_step(kind, is_weighted, monkeypatch):
    """Weights, moments and states, whatever the sizes of the batches: 207 rows make batches of 51 and 52."""
    rate = Schedule.rate
    # A recording has its step size in float32, as the kernel on a GPU wants it.
    monkeypatch.setattr(Schedule, "rate", lambda schedule, step: float(np.float32(rate(schedule, step))))
    weights = np.random.default_rng(1).uniform(0.5, 2.0, len(X)) if is_weighted else None
    plainly = trained(KINDS[kind](), weights)
    recorder = Recorder()
    model = KINDS[kind]()
    monkeypatch.setattr(runner, "recorded", lambda update, *_: Recorded(update, recorder))
    state = trained(model, weights)
    assert recorder.n_replays == state.step - 2 * WARM_UP  # of each size a few are not
    assert is_near(state.parameters.vector, plainly.parameters.vector)
    assert is_near(state.optimizer.square, plainly.optimizer.square)
    for (name, value), (_, expected) in zip(
        state.composition.named_buffers(), plainly.composition.named_buffers(), strict=True
    ):
        assert is_near(value.double(), expected.double()), name


def test_what_changes_from_step_to_step_is_read_anew():
    """A number and a tensor that a recording had swallowed would be those of the first replay forever."""
    recorder = Recorder()
    function = Recorded(lambda x, number, nothing: x * number, recorder)
    for count in range(WARM_UP + 3):
        x = torch.full((2,), float(count))
        assert function(x, 10.0 + count, None).tolist() == [count * (10.0 + count)] * 2
    assert recorder.n_replays == 3


def test_an_output_is_the_callers_own():
    function = Recorded(lambda x: x.add_(0), lambda work: work)
    outputs = [function(torch.tensor([float(count)])) for count in range(WARM_UP + 3)]
    assert [float(output) for output in outputs] == [*range(WARM_UP + 3)]


def test_what_cannot_be_recorded_is_called_as_it_is_with_one_warning():
    unable = Unable()
    function = Recorded(lambda x: 2 * x, unable)
    for _ in range(WARM_UP):
        assert function(torch.ones(1)) == 2
    with pytest.warns(RuntimeWarning, match="operation by operation: operation not permitted"):
        assert function(torch.ones(1)) == 2
    assert function(torch.ones(1)) == 2
    assert function(torch.ones(2)).tolist() == [2, 2]
    assert unable.n_tries == 1


def test_no_garbage_is_collected_during_a_recording(monkeypatch):
    """Graphs of earlier models may be in reference cycles."""

    class Graph:
        def __init__(self, *_):
            pass

        def __enter__(self):
            assert not gc.isenabled()

        def __exit__(self, *_):
            pass

        replay = __enter__

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Graph)
    record_on_gpu(lambda: torch.ones(1))
    assert gc.isenabled()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_recording_is_for_steps_that_can_be(device):

    def is_recorded(run):
        return isinstance(SingleRunner(replace(run, execution=replace(run.execution, device=device)))._update, Recorded)

    run = KINDS["plain"]()._begin(X)
    assert is_recorded(run)
    assert is_recorded(replace(run, step_work=1e12)) == (device == "cuda")
    run.state.__dict__["may_draw_globally"] = True
    assert not is_recorded(run)
    assert not is_recorded(Autoencoder(3, **{**OPTIONS, "optimizer": "lbfgs"})._begin(X))


def test_a_step_size_may_be_a_tensor():
    """A recording takes it from a tensor of its own."""
    found = []
    for rate in (0.01, torch.tensor(0.01)):
        vector = torch.nn.Parameter(torch.ones(3))
        vector.grad = torch.tensor([1.0, -2.0, 0.5])
        optimizer = ClippedAdam(vector)
        optimizer.step(rate)
        found.append(vector.detach())
    torch.testing.assert_close(*found)


def test_a_recorded_program_is_the_program(monkeypatch):
    def end(record):
        models = [Autoencoder(k, random_state=seed, **OPTIONS) for k, seed in ((2, 0), (3, 1), (3, 2))]
        runs = share_tensors([model._begin(X) for model in models])
        program = BatchedRunner(runs)
        if record is not None:
            program._update = Recorded(program._move, record)
        list(loop.train_all(program))
        return torch.cat([run.state.parameters.vector for run in runs])

    recorder = Recorder()
    assert is_near(end(recorder), end(None))
    assert recorder.n_replays > 0


@pytest.mark.parametrize("kind", RECORDED)
def test_a_step_can_be_recorded(kind, monkeypatch):
    """Neither alone nor with others it copies from the host or waits for values, with the optimiser's step of a GPU."""
    monkeypatch.setattr(ClippedAdam, "_step_each", ClippedAdam._step_all)
    make, data = RECORDED[kind]
    alone = SingleRunner(make()._begin(data))
    runners = [alone]
    with contextlib.suppress(NotBatchable):
        runners.append(BatchedRunner(share_tensors([make().set_params(random_state=s)._begin(data) for s in (0, 1)])))
    for one in runners:
        one._update = strictly(one._update)
        for batch in itertools.islice(one.batches, 2):
            one.step(batch, [True] * len(one.runs))


def test_the_stand_ins_refuse():
    x = torch.arange(4.0)
    for work in (
        lambda: torch.where(x > 1, x, 0.0), lambda: x.where(x > 1, 0.0), lambda: x.new_tensor([1.0]), lambda: x[[1, 2]],
        lambda: x[x > 1], lambda: float(x[0]), lambda: bool((x > 1).all()), lambda: torch.tensor(1.0),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="copies from the host|waits for the device"):
            strictly(work)()


# -- rows that stay on the host


class Line:
    """Stands in for a pinned buffer and its stream, and notes what happens on it."""

    def __init__(self, events):
        self.events, self.sent = events, None

    def send(self, batch):
        assert self.sent is None, "a buffer was written to before its rows were received"
        self.events.append(("send", first_of(batch)))
        self.sent = batch

    def receive(self):
        batch, self.sent = self.sent, None
        self.events.append(("receive", first_of(batch)))
        return batch


def first_of(batch):
    """The cell that a batch is told by."""
    return float(batch.x[0, 0])


@pytest.mark.parametrize("n_batches", [0, 1, 2, 3, 6])
def test_rows_are_sent_one_batch_ahead(n_batches):
    rows = torch.arange(40.0).view(20, 2)
    batches = [Batch(rows[numbers], weight=rows[numbers, 1]) for numbers in torch.arange(3 * n_batches).view(-1, 3)]
    events = []
    source = SimpleNamespace(batches=lambda generator, batch_size: iter(batches))
    fed = prefetch.Prefetched(source, torch.device("meta"), lane=lambda device: Line(events)).batches(None, 3)
    for found, batch in zip(fed, batches, strict=True):
        assert found is batch
        events.append(("work", first_of(batch)))
    firsts = list(map(first_of, batches))
    for first, following in itertools.pairwise(firsts):
        assert events.index(("send", following)) < events.index(("work", first))
    for first, after_next in zip(firsts, firsts[2:], strict=False):
        assert events.index(("work", first)) < events.index(("send", after_next))  # two are under way at most


def test_rows_on_the_device_are_not_sent():
    run = Autoencoder(1, max_epochs=1)._begin(np.random.default_rng(0).normal(size=(20, 3)))
    assert runner.SingleRunner(run).rows is run.rows


def test_rows_stay_on_the_host_where_they_do_not_fit(monkeypatch):
    device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert prefetch.fit_on(device, 1000 * prefetch.RESIDENT_SHARE)
    assert not prefetch.fit_on(device, 1000 * prefetch.RESIDENT_SHARE + 1)
    assert prefetch.fit_on(torch.device("cpu"), 1e18)
