"""Steps are recorded on the processor, and replayed with the same bits."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import Seen
from sklearn.datasets import load_digits
from torch import nn

from eigencode import (
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    SparseAutoencoder,
    VariationalAutoencoder,
)
from eigencode.parts import CallableCorruption, KLSparsity
from eigencode.training.batched_runner import BatchedRunner
from eigencode.training.cpu_graphs import (
    PYTHON_FUNCTIONS,
    WARM_UP,
    _Recording,
    joined_directly,
    out_variant,
    python_function,
    record_on_cpu,
    without_constants,
)
from eigencode.training.cuda_graphs import Recorded
from eigencode.training.grouping import share_tensors
from eigencode.training.runner import SingleRunner
from eigencode.training.schedule import Schedule, rates

X = load_digits().data[:200]
OPTIONS = {"batch_size": 50, "optimizer": "adam", "max_epochs": 99}


def runner(cls, **options):
    options = {"hidden": (6,), "batch_size": 32, "optimizer": "adam", "max_epochs": 99, **options}
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


def test_what_is_the_same_in_each_replay_is_made_once_unless_it_is_changed():
    x = torch.arange(3.0)

    def work():
        ones, counts = torch.ones_like(x), torch.zeros_like(x)
        counts.add_(x)
        return ones * 2 + counts

    replay = record_on_cpu(work)
    for value in (1.0, 2.0, 3.0):
        replay()
        x.fill_(value)
        assert torch.equal(replay(), torch.full((3,), 2 + value))
    with _Recording() as recording:
        work()
    kept = [operation.function for operation in without_constants(recording.operations)]
    assert torch.ops.aten.ones_like.default not in kept
    assert torch.ops.aten.zeros_like.default in kept


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


def test_a_replay_reads_results_through_views_and_lists_and_keeps_no_gradients():
    x, weights = torch.arange(6.0), torch.ones(2, 3, requires_grad=True)

    def work():
        y = 2 * x
        total = torch.cat([weights * y.view(2, 3)[:, 1:].sum(), y.view(3, 2).mT * weights]).sum()
        return torch.autograd.grad(total, weights)[0] + y[3] + torch.stack(torch.unbind(x + 1)).max()

    replay = record_on_cpu(work)
    replay()
    for value in (1.0, -2.0):
        x.mul_(value)
        found = replay()
        assert torch.equal(found, work())
        assert not found.requires_grad


def normalised(x, mean, variance):
    return torch.ops.aten._native_batch_norm_legit(2 * x, None, None, mean, variance, True, 0.1, 1e-5)[0] + 1


def accumulated(x, mean, variance):
    total = torch.tensor(0.0)
    total += x.sum()
    return total + 0


def partly_joined(x, mean, variance):
    whole, longer = torch.zeros(32), torch.cat([x.reshape(-1)] * 2) * 2
    torch.cat([longer[:16], x.sum() * torch.ones(16)], out=whole)
    return whole + 0


@pytest.mark.parametrize("function", [normalised, accumulated, partly_joined])
def test_results_beside_changes_and_constants_that_are_changed_are_new_in_each_replay(function):
    x, state = torch.arange(12.0).view(4, 3) ** 2, [torch.zeros(3), torch.ones(3)]
    own = [one.clone() for one in state]
    replay = record_on_cpu(lambda: function(x, *state))
    for _ in range(3):
        found, expected = replay().clone(), function(x, *own)
        assert torch.equal(found, expected)
        assert all(map(torch.equal, state, own))
        x.mul_(1.5)
        x[0].add_(1.0)


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (Autoencoder, {}),
        (DenoisingAutoencoder, {"noise": "masking"}),
        (VariationalAutoencoder, {}),
        (Autoencoder, {"tied": True, "activation": "tanh"}),
        (Autoencoder, {"image_shape": (1, 8, 8), "hidden": (2,)}),
        (SparseAutoencoder, {"code": "optimal", "sparsity": "top_k", "active": 2, "hidden": ()}),
    ],
)
def test_recorded_steps_have_the_bits_of_others(cls, options):
    recorded, plain = runner(cls, **options), runner(cls, **options)
    plain._update = plain._move
    for _ in range(WARM_UP + 5):
        batches = [next(one.batches) for one in (recorded, plain)]
        losses = [one.step(batch, [True] * 3) for one, batch in zip((recorded, plain), batches, strict=True)]
        assert torch.equal(*losses)
        for run in (*recorded.runs, *plain.runs):
            run.state.step += 1
    assert torch.equal(recorded._matrix, plain._matrix)
    assert recorded._update.n_recordings == 1


@pytest.mark.parametrize(
    ("cls", "options"), [(Autoencoder, {}), (DenoisingAutoencoder, {"noise": "masking"}), (VariationalAutoencoder, {})]
)
def test_evaluations_of_a_program_are_recorded_with_the_bits_of_others(cls, options):
    recorded, plain = runner(cls, **options), runner(cls, **options)
    plain._evaluation = plain._terms_of_rows
    for number in range(4):
        assert recorded.evaluate() == plain.evaluate()
        assert recorded._evaluation.n_recordings == 1
        for one in (recorded, plain):
            if number == 1:
                one._keep([0, 2])
            one._matrix.mul_(1.1)
    assert len({row["objective"] for row in recorded.evaluate()}) == 2


class Doubled(nn.Module):
    def forward(self, x):
        return torch.tanh(2 * x)


def test_modules_of_others_are_not_recorded():
    """Nobody knows whether they do the same in each step."""
    found = runner(Autoencoder, activation=Doubled())
    assert found._update == found._move


def counting(wrap):
    """A network of torch's layers that computes something else each time it is called, and where it does so."""
    network, calls = nn.Sequential(nn.Linear(64, 4)), []

    def changed(*given):
        calls.append(1)
        return (given[-1] if isinstance(given[-1], torch.Tensor) else given[-1][0]) * (1 + 0.01 * len(calls))

    wrap(network, changed)
    return network


@pytest.mark.parametrize(
    "options",
    [
        {"encoder": counting(lambda network, own: network[0].register_forward_hook(own))},
        {"encoder": counting(lambda network, own: network[0].register_forward_pre_hook(own))},
        {"encoder": counting(lambda network, own: setattr(network, "forward", lambda x: own(network[0](x))))},
        {"corruption": CallableCorruption(lambda x, noise: x + noise)},
    ],
    ids=["hook", "hook before", "another forward", "corruption"],
)
def test_code_of_others_in_modules_of_torch_is_not_recorded(options):
    found = SingleRunner(Autoencoder(4, random_state=0, **OPTIONS, **options)._begin(X))
    assert found._update == found._move


def test_a_part_that_is_changed_between_evaluations_is_heard(monkeypatch):
    """As a loop around ``iter_fit`` sets the weight of a penalty by the epoch."""

    def last_objective():
        model = Autoencoder(2, penalties=[KLSparsity(0.1)], random_state=0, **{**OPTIONS, "max_epochs": 20})
        for row in model.iter_fit(X):
            if row["epoch"] >= 12:
                model.composition_.penalties[0].weight = 1.0 * row["epoch"]
        return model.history_[-1]["training_objective"]

    found = last_objective()
    monkeypatch.setattr("eigencode.training.runner.recorded", lambda step, *_: step)
    assert last_objective() == found


def test_every_operator_of_a_small_step_writes_into_given_memory():
    for function in (torch.ops.aten.bmm.default, torch.ops.aten.gelu_backward.default, torch.ops.aten.add.Tensor):
        assert out_variant(function)[1]
    assert out_variant(torch.ops.aten.view.default) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("work", "is_direct"),
    [
        (lambda x: x.mT.clone(memory_format=torch.contiguous_format), True),
        (lambda x: x[:1].expand(5, 7).contiguous(), True),
        (lambda x: x + 0.1, True),
        (lambda x: x - 3, True),
        (lambda x: x * 0.1, True),
        (lambda x: x / 7, True),
        (lambda x: 0.1 - x, True),
        (lambda x: torch.rsub(x, 0.1, alpha=2), False),
        (lambda x: torch.add(x, 0.1, alpha=2), False),
        (lambda x: (x > 0) * 3, False),
        (lambda x: x.sum(), True),
        (lambda x: x.sum(dtype=torch.float64), False),
        (lambda x: x.relu(), True),
    ],
)
def test_frequent_operators_write_their_results_directly_with_the_same_bits(work, is_direct, dtype):
    """The forms of these operators that write into given tensors make their results elsewhere, and copy them."""
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    replay = record_on_cpu(lambda: work(x))
    for _ in range(3):
        found, expected = replay(), work(x)
        assert found.dtype == expected.dtype
        assert found.stride() == expected.stride()
        assert torch.equal(found, expected)
        x.mul_(-1.7)
    with _Recording() as recording:
        work(x)
    assert not (is_direct and any(is_composed(one) for one in recording.operations))


def arguments_of(name, x, y):
    """Arguments of an operator, positional and named, by those that it has beside a tensor."""
    square, number = torch.stack([x.T @ x, x.T @ y]), torch.tensor(0.5)
    return {
        "_log_softmax.out": ((x, 1, False), {}),
        "addmm.out": ((y[0], x, square[0]), {"beta": 0.5, "alpha": 2.0}),
        "baddbmm.out": ((square, square, square), {}),
        "bmm.out": ((square, square), {}),
        "cat.out": (([x, y], 1), {}),
        "clamp.out": ((x, None, 1.0), {}),
        "clamp.Tensor_out": ((x, number), {}),
        "clamp_min.out": ((x, 0), {}),
        "gelu.out": ((x,), {"approximate": "none"}),
        "index_select.out": ((x, 0, torch.tensor([2, 0])), {}),
        "lerp.Scalar_out": ((x, y, 0.1), {}),
        "lerp.Tensor_out": ((x, y, number), {}),
        "logsumexp.out": ((x, [1], True), {}),
        "mean.dtype_out": ((x,), {}),
        "mean.out": ((x, [0], True), {}),
        "mm.out": ((x, y.T), {}),
        "mse_loss.out": ((x, y, 0), {}),
        "pow.Tensor_Scalar_out": ((x, 2), {}),
        "sum.IntList_out": ((x, []), {}),
        "where.self_out": ((x > y, x, y), {}),
        **{f"{one}.out": ((x, y), {}) for one in ("add", "addcmul", "div", "maximum", "minimum", "mul", "sub")},
        "addcmul.out": ((x, x, y), {"value": 0.3}),
    }.get(name, ((x,), {}))


@pytest.mark.parametrize("name", sorted(PYTHON_FUNCTIONS))
def test_a_function_of_torch_calls_the_operator_that_was_recorded(name):
    packet, overload = name.split(".")
    operator = getattr(getattr(torch.ops.aten, packet), overload)
    x, y = torch.rand(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    given, named = arguments_of(name, x, y)
    results = [operator(*given, **named, out=x.new_empty(0))]
    function, seen = python_function(operator), Seen()
    assert function is not operator
    with seen:
        results.append(function(*given, **named, out=torch.empty_like(results[0])))
    assert seen.calls[-1][0] is operator
    assert torch.equal(*results)
    assert results[0].any()


def is_composed(operation):
    """Whether an operator's form that writes into given tensors was generated from the one that makes new ones."""
    name = out_variant(operation.function)[0].name()
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    is_generated = has_kernel(name, "CompositeExplicitAutograd") and not has_kernel(name, "CPU")
    return is_generated and not operation.is_copy


def test_step_sizes_of_many_schedules_are_those_of_each():
    schedules = [Schedule.over(40, 0.1, 6, 0.3), Schedule.endless(0.03, 9, begins=2), Schedule.over(25, 1e-3, 5, 0.0)]
    schedules.append(Schedule.over(30, 0.7, 0, 0.9))
    schedules[-1].begin_decay(7)
    found = rates(schedules, 3, 40)
    for step, row in enumerate(found, 3):
        own = [one.rate(step) if step < one.end else 0.0 for one in schedules]
        np.testing.assert_array_equal(row, own)


@pytest.mark.parametrize("is_read_again", [False, True])
def test_gradients_are_made_in_the_vector_that_the_optimiser_reads(is_read_again):
    """Unless something else needs them too, as they were before the optimiser changed the vector."""
    x, whole = torch.arange(8.0).view(2, 4), torch.zeros(20)

    def work():
        products, total = x.T @ x, x.sum(0)
        torch.cat([products.reshape(-1), total], out=whole)
        whole.mul_(2.0)
        return whole + (total[0] if is_read_again else 1.0)

    with _Recording() as recording:
        work()
    n_left_out = len(recording.operations) - len(joined_directly(recording.operations))
    assert n_left_out == (not is_read_again)
    replay = record_on_cpu(work)
    for _ in range(3):
        found, after = replay().clone(), whole.clone()
        assert torch.equal(work(), found)
        assert torch.equal(whole, after)
        x.add_(1.0)


def test_the_vector_is_not_written_before_an_earlier_operation_has_read_it():
    x, whole = torch.arange(16.0), torch.ones(32)

    def work():
        a = x * 2
        b = x + whole[:16]
        torch.cat([a, b], out=whole)
        return whole + 0

    replay = record_on_cpu(work)
    replay()
    for _ in range(3):
        before = whole.clone()
        found = replay().clone()
        whole.copy_(before)
        assert torch.equal(work(), found)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("hidden", [(6,), (32,)], ids=["", "gradients aligned"])
@pytest.mark.parametrize(
    "cls",
    [
        *[Autoencoder, VariationalAutoencoder, SparseAutoencoder, DenoisingAutoencoder, ContractiveAutoencoder],
        partial(ContractiveAutoencoder, activation=nn.Softsign()),  # some of its second derivatives have no memory
    ],
    ids=lambda cls: getattr(cls, "__name__", "contractive with a kink"),
)
def test_one_model_is_recorded_with_the_bits_of_a_plain_step(cls, hidden, precision):
    """Its weights, moments and states."""
    options = {"hidden": hidden, "precision": precision, "random_state": 0, **OPTIONS}
    alone, plain = (SingleRunner(cls(16, **options)._begin(X)) for _ in range(2))
    record, are_replayed = alone._update._record, []

    def noted(work):
        replay = record(work)
        are_replayed.append(replay.__name__ == "replay")
        return replay

    alone._update._record = noted
    plain._update = plain._move
    for _ in range(WARM_UP + 5):
        batches = [next(one.batches) for one in (alone, plain)]
        losses = [one.step(batch) for one, batch in zip((alone, plain), batches, strict=True)]
        assert torch.equal(*losses)
        for one in (alone, plain):
            one.runs[0].state.step += 1
    states = [one.runs[0].state for one in (alone, plain)]
    assert torch.equal(*(state.parameters.vector for state in states))
    assert torch.equal(*(state.optimizer.square for state in states))
    for pair in zip(*(state.composition.buffers() for state in states), strict=True):
        assert torch.equal(*pair)
    assert are_replayed == [True]


def test_a_run_is_not_recorded_by_a_line_search_or_with_random_layers():
    def update(**options):
        one = SingleRunner(Autoencoder(4, random_state=0, **{**OPTIONS, **options})._begin(X))
        return one._update, one._move

    assert isinstance(update()[0], Recorded)
    for options in ({"optimizer": "lbfgs"}, {"activation": nn.Sequential(nn.Tanh(), nn.Dropout(0.1))}):
        found, plain = update(**options)
        assert found == plain
