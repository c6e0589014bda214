"""What a GPU is asked to do, checked where there is none: by stand-ins that do on the processor what it would."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from eigencode import Autoencoder, SparseAutoencoder, VariationalAutoencoder
from eigencode.batch import Batch
from eigencode.data.rows import ResidentRows
from eigencode.parts import GaussianLikelihood, GaussianNoise
from eigencode.training import loop, prefetch, runner
from eigencode.training.batched import BatchedTraining
from eigencode.training.cuda_graphs import WARM_UP, Recorded
from eigencode.training.grouping import share_tensors
from eigencode.training.optimizers import ClippedAdam
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
    monkeypatch.setattr(SingleRunner, "_may_be_recorded", True)
    monkeypatch.setattr(runner, "Recorded", lambda update: Recorded(update, recorder))
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


def test_what_cannot_be_recorded_is_called_as_it_is_and_said_once():
    unable = Unable()
    function = Recorded(lambda x: 2 * x, unable)
    for _ in range(WARM_UP):
        assert function(torch.ones(1)) == 2
    with pytest.warns(RuntimeWarning, match="operation by operation: operation not permitted"):
        assert function(torch.ones(1)) == 2
    assert function(torch.ones(1)) == 2
    assert function(torch.ones(2)).tolist() == [2, 2]
    assert unable.n_tries == 1


def test_recording_is_for_gpus_and_for_steps_that_can_be():

    def is_recorded(run, device="cuda"):
        return isinstance(SingleRunner(replace(run, execution=replace(run.execution, device=device)))._update, Recorded)

    run = KINDS["plain"]()._begin(X)
    assert is_recorded(run)
    assert not is_recorded(run, "cpu")
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
        program = BatchedTraining(runs)
        if record is not None:
            program._update = Recorded(program._move, record)
        list(loop.train_all(program))
        return torch.cat([run.state.parameters.vector for run in runs])

    recorder = Recorder()
    assert is_near(end(recorder), end(None))
    assert recorder.n_replays > 0


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
    # A device of another name, so that the rows are not where they are wanted.
    fed = prefetch.feed(iter(batches), torch.device("meta"), lane=lambda device: Line(events))
    for found, batch in zip(fed, batches, strict=True):
        assert found is batch
        events.append(("work", first_of(batch)))
    firsts = list(map(first_of, batches))
    for first, following in itertools.pairwise(firsts):
        assert events.index(("send", following)) < events.index(("work", first))
    for first, after_next in zip(firsts, firsts[2:], strict=False):
        assert events.index(("work", first)) < events.index(("send", after_next))  # two are under way at most


def test_rows_that_are_there_are_gathered_and_nothing_else():
    rows, numbers = ResidentRows.of(Batch(torch.arange(8.0).view(4, 2))), (torch.tensor([3, 1]), torch.tensor([0]))
    found = [*prefetch.feed(map(rows.gather, numbers), rows.device, lane=None)]
    assert [batch.x.tolist() for batch in found] == [[[6, 7], [2, 3]], [[0, 1]]]


def test_rows_stay_on_the_host_where_they_do_not_fit(monkeypatch):
    device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert prefetch.fit_on(device, 1000 * prefetch.RESIDENT_SHARE)
    assert not prefetch.fit_on(device, 1000 * prefetch.RESIDENT_SHARE + 1)
    assert prefetch.fit_on(torch.device("cpu"), 1e18)
