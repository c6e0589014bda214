"""Rows whose number is not known before they are read: trained through the same stages and the same loop."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from conftest import run_on, untimed

from eigencode import Autoencoder, VariationalAutoencoder
from eigencode.batch import Batch
from eigencode.data.rows import ResidentRows
from eigencode.errors import DataError
from eigencode.fitting.data import Data
from eigencode.fitting.diagnostics import notes
from eigencode.parts import AuxiliaryLoss, GaussianWeights, StandardNormalPrior, TopK, Units
from eigencode.training import loop
from eigencode.training.progress import WITH_TOTAL, WITHOUT_TOTAL, Look
from eigencode.training.runner import SingleRunner
from eigencode.training.schedule import ENDLESS

D = 6


def resident(n_training=200, n_validation=40):
    """Points near a curve, the last of them for validation."""
    n = n_training + n_validation
    t = np.random.default_rng(0).uniform(0, 2 * np.pi, size=n)
    curve = np.column_stack([np.cos(t), np.sin(t), np.cos(2 * t), np.sin(2 * t), np.cos(3 * t), t / 4])
    x = torch.from_numpy(curve - curve.mean(0)).float()
    return ResidentRows(Batch(x), torch.arange(n_training), torch.arange(n_training, n), is_separate=True)


@dataclass
class StreamedRows:
    """Rows that come from a generator, one batch after the other; the rows for validation are in memory."""

    known: ResidentRows
    n_reads: float = 1
    n_training: None = None
    n_bytes: int = 0
    has_more: bool = False
    has_gaps: bool = False
    n_begun: int = field(default=0, init=False)

    n_features, dtype, device = D, torch.float32, torch.device("cpu")

    @property
    def n_validation(self):
        return self.known.n_validation

    @property
    def n_usable(self):
        return len(self.representative())

    def to(self, device):
        return self

    def batches(self, generator, batch_size):
        self.n_begun += 1
        if self.n_begun <= self.n_reads:
            yield from self.known.batches(generator, batch_size)

    def validation(self, n_rows):
        return self.known.validation(n_rows)

    def blocks(self):
        raise NotImplementedError

    def sample(self, n_rows):
        return self.representative().thinned(n_rows)

    def representative(self):
        return self.known.representative()


def ready(rows, model=Autoencoder, **options):
    """A run on scaled rows that is ready to begin."""
    given = {"hidden": (8,), "batch_size": 32, "random_state": 0, "optimizer": "adam", **options}
    return run_on(model(2, **given), Data(rows, Units(torch.zeros(D), torch.ones(D))))


def trained(run):
    """The run after training, and the rows of history that training gave."""
    loop.begin(run)
    return [row for (row,) in loop.train_all(SingleRunner(run))]


def test_one_epoch_of_a_stream_is_that_of_resident_rows_bit_for_bit():
    streamed, whole = ready(StreamedRows(resident())), ready(resident())
    assert (streamed.n_batches, streamed.n_epochs, streamed.state.schedule.end) == (None, None, ENDLESS)
    # Rows of a known number have a schedule that ends, and are evaluated after each epoch.
    whole.state.schedule = replace(streamed.state.schedule)
    streamed = replace(streamed, period=4)
    whole = replace(whole, period=4, max_epochs=1)
    rows = trained(streamed)
    assert untimed(rows) == untimed(trained(whole))
    assert [(row["epoch"], row["step"], row["rows"]) for row in rows] == [(1, 4, 116), (1, 7, 200)]
    for name in ("parameters", "best"):
        found, expected = (getattr(run.state, name).vector for run in (streamed, whole))
        assert torch.equal(found, expected)
    assert streamed.state.finished
    assert streamed.state.epoch == 1
    assert rows[-1]["validation_objective"] < streamed.state.history[0]["validation_objective"]


def test_a_stream_that_ends_with_an_evaluation_gives_no_row_of_history_twice():
    run = replace(ready(StreamedRows(resident())), period=7)
    assert [row["step"] for row in trained(run)] == [7]
    assert len(run.state.history) == 2


def test_rows_that_can_be_read_again_are_read_for_as_many_epochs_as_allowed():
    run = ready(StreamedRows(resident(), n_reads=9), max_epochs=3)
    trained(run)
    assert (run.state.epoch, run.state.step, run.state.rows, run.n_epochs) == (3, 21, 600, 3)
    none = ready(StreamedRows(resident()), max_epochs=0)
    assert trained(none) == []
    assert (none.state.epoch, none.state.step) == (0, 0)


def test_a_plateau_ends_it_with_a_whole_decay():
    run = replace(ready(StreamedRows(resident(), n_reads=np.inf), patience=2), period=20)
    trained(run)
    schedule = run.state.schedule
    assert run.state.ended_by == "plateau"
    assert run.state.step == schedule.end == round(schedule.decay_from / (1 - schedule.decay_share))


def test_the_time_limit_ends_it():
    run = ready(StreamedRows(resident(), n_reads=np.inf), max_seconds=0.3, patience=10**6)
    trained(replace(run, period=5))
    assert run.state.ended_by == "time"
    assert run.state.finished


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "lbfgs"}, "optimizer='lbfgs', which takes all rows in each step, needs the number"),
        ({"weight_prior": GaussianWeights(1.0)}, "A prior on the weights needs the number of training rows"),
        ({"penalties": (AuxiliaryLoss(),), "code": TopK(1)}, "AuxiliaryLoss needs the number of training rows"),
        ({"model": VariationalAutoencoder, "prior": StandardNormalPrior(warmup=1.0)}, "A warm-up in epochs needs"),
    ],
    ids=["optimizer", "weight prior", "auxiliary loss", "warm-up"],
)
def test_what_needs_the_number_of_rows_says_so(options, message):
    with pytest.raises(DataError, match=message):
        ready(StreamedRows(resident()), **options)


def test_rows_for_validation_are_needed():
    with pytest.raises(DataError, match="without rows for validation needs the number of training rows"):
        ready(StreamedRows(resident(n_validation=0)))


class Bar:
    """A bar as a look sees it."""

    format_dict: dict = {"elapsed": 2.0}  # noqa: RUF012 (as tqdm's)

    def set_postfix_str(self, text, refresh):
        self.postfix = text


def test_progress_has_no_total_before_the_decay():
    run, bar = ready(StreamedRows(resident())), Bar()
    run.state.step = run.state.epoch = 1
    look = Look([run])
    look(bar)
    assert bar.bar_format == WITHOUT_TOTAL
    assert bar.postfix.startswith("epoch 1, ") or bar.postfix == "epoch 1"
    run.state.decay("plateau")
    look(bar)
    assert (bar.bar_format, bar.total) == (WITH_TOTAL, run.state.schedule.end)


def test_what_is_not_known_is_not_reported():
    run = ready(StreamedRows(resident()), init="random")
    assert repr(Data(run.rows, None)).startswith("Data(an unknown number of rows for training, 40 for validation")
    trained(replace(run, period=2))
    (note,) = (note for note in notes(run, None, None) if "converged" in note)
    assert note.endswith("try more rows")
    run.state.interrupted = True
    assert any("in epoch 1" in note and "at most" not in note for note in notes(run, None, None))
