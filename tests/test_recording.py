"""Steps of many small models are recorded on the processor, and replayed with the same bits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from eigencode import Autoencoder, DenoisingAutoencoder, VariationalAutoencoder
from eigencode.training.batched_runner import BatchedRunner
from eigencode.training.cpu_graphs import out_variant, record_on_cpu
from eigencode.training.grouping import share_tensors
from eigencode.training.schedule import Schedule, rates

X = load_digits().data[:200]


def runner(cls, **options):
    options = {"hidden": (6,), "batch_size": 32, "optimizer": "adam", "max_epochs": 3, **options}
    return BatchedRunner(share_tensors([cls(4, random_state=seed, **options)._begin(X) for seed in range(3)]))


def test_a_replay_has_the_values_of_its_inputs_and_changes_the_same_tensors():
    x, total = torch.arange(6.0).view(2, 3), torch.zeros(3)

    def work():
        total.add_(x.sum(0))
        a, b = (x.T @ x).softmax(-1).split([1, 2], dim=1)
        return (a * 2 + b.amax(1, keepdim=True)).cumsum(0) + total[:1]

    replay = record_on_cpu(work)
    first = replay().clone()
    assert total.tolist() == [3.0, 5.0, 7.0]
    total.zero_()
    assert torch.equal(work(), first)
    for seed in range(3):
        x.copy_(torch.rand(2, 3, generator=torch.Generator().manual_seed(seed)))
        found, after = replay().clone(), total.clone()
        total.sub_(x.sum(0))
        assert torch.equal(work(), found)
        assert torch.equal(total, after)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x / float(x.sum()),
        lambda x: x[x > 0.5].sum() + x,
        lambda x: x + torch.rand(4, generator=torch.Generator().manual_seed(int(1000 * x[0]))),
        lambda x: x.nonzero().sum() + x,
    ],
)
def test_what_depends_on_values_is_called_as_it_is_written(function):
    x = torch.tensor([0.1, 0.6, 0.7, 0.9])
    replay = record_on_cpu(lambda: function(x))
    for value in ([0.1, 0.6, 0.7, 0.9], [0.7, 0.1, 0.2, 0.3], [0.9, 0.9, 0.0, 0.8]):
        x.copy_(torch.tensor(value))
        assert torch.equal(replay(), function(x))


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (Autoencoder, {}),
        (DenoisingAutoencoder, {"noise": "masking"}),
        (VariationalAutoencoder, {}),
        (Autoencoder, {"tied": True, "activation": "tanh"}),
        (Autoencoder, {"image_shape": (1, 8, 8), "hidden": (2,)}),
    ],
)
def test_recorded_steps_have_the_bits_of_others(cls, options):
    recorded, plain = runner(cls, **options), runner(cls, **options)
    plain._update = plain._move
    for _ in range(10):
        batches = [next(one.batches) for one in (recorded, plain)]
        losses = [one.step(batch, [True] * 3) for one, batch in zip((recorded, plain), batches, strict=True)]
        assert torch.equal(*losses)
        for run in (*recorded.runs, *plain.runs):
            run.state.step += 1
    assert torch.equal(recorded._matrix, plain._matrix)
    assert recorded._update.n_recordings == 1


class Doubled(nn.Module):
    def forward(self, x):
        return torch.tanh(2 * x)


def test_modules_of_others_are_not_recorded():
    """Nobody knows whether they do the same in each step."""
    found = runner(Autoencoder, activation=Doubled())
    assert found._update == found._move


def test_every_operator_of_a_small_step_writes_into_given_memory():
    for function in (torch.ops.aten.bmm.default, torch.ops.aten.gelu_backward.default, torch.ops.aten.add.Tensor):
        assert out_variant(function)[1]
    assert out_variant(torch.ops.aten.view.default) is None


def test_step_sizes_of_many_schedules_are_those_of_each():
    schedules = [Schedule.over(40, 0.1, 6, 0.3), Schedule.endless(0.03, 9, begins=2), Schedule.over(25, 1e-3, 5, 0.0)]
    schedules.append(Schedule.over(30, 0.7, 0, 0.9))
    schedules[-1].begin_decay(7)
    found = rates(schedules, 3, 40)
    for step, row in enumerate(found, 3):
        own = [one.rate(step) if step < one.end else 0.0 for one in schedules]
        np.testing.assert_array_equal(row, own)
