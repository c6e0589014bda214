"""The CPU's counterpart of a CUDA graph: the operators of a step with their results, to be run again in order.

One step is run as it is written, and each operator that reaches the processor is kept, with the tensors that it read
and wrote. A replay runs the same operators into the same tensors: without modules, vectorisation, views, and memory
from the system, which are most of the time of a small step. As on a GPU, the arguments of each step are copied into
inputs at fixed addresses, and weights, moments and states are changed in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, UntypedStorage
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from eigencode.training.cuda_graphs import Recorded
from eigencode.whole_operations import WholeOperations

VARYING = {torch.Tag.data_dependent_output, torch.Tag.nondeterministic_seeded}
"""Marks of operators that may have another result each time they are run on the same values, or none on the device."""

CONSTANTS = {torch.ops.aten.ones_like.default, torch.ops.aten.zeros_like.default, torch.ops.aten.full_like.default}
"""Operators whose results do not depend on values of tensors."""

COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.clone.default}
"""Copies, perhaps in another type or layout."""

OF_NUMBERS = {
    torch.ops.aten.add.Scalar: torch.ops.aten.add.Tensor,
    torch.ops.aten.sub.Scalar: torch.ops.aten.sub.Tensor,
    torch.ops.aten.mul.Scalar: torch.ops.aten.mul.Tensor,
    torch.ops.aten.div.Scalar: torch.ops.aten.div.Tensor,
}
"""Operators of a tensor and a number, and those of two tensors that they call."""

PYTHON_FUNCTIONS = frozenset((
    "_log_softmax.out", "abs.out", "add.out", "addcmul.out", "addmm.out", "baddbmm.out", "bmm.out", "cat.out",
    "clamp.out", "clamp.Tensor_out", "clamp_min.out", "div.out", "exp.out", "expm1.out", "gelu.out",
    "index_select.out", "lerp.Scalar_out", "lerp.Tensor_out", "log.out", "log1p.out", "logsumexp.out",
    "maximum.out", "mean.dtype_out", "mean.out", "minimum.out", "mm.out", "mse_loss.out", "mul.out", "neg.out",
    "pow.Tensor_Scalar_out", "reciprocal.out", "sgn.out", "sigmoid.out", "silu.out", "softplus.out", "sqrt.out",
    "sub.out", "sum.IntList_out", "tanh.out", "where.self_out",
))  # fmt: skip
"""Operators that torch has as functions too, which take half the time of a call of an operator from Python."""

RECORDED_WORK = 2e9
"""Most multiply-adds of a step that is recorded on the processor: larger ones gain nothing, and take memory."""

WARM_UP = 3
"""Steps of each shape before it is recorded on a processor: recording takes as long as four, a replay half of one."""

WARM_UP_OF_SEVERAL = 0
"""The same for several models: their recording takes as long as two of their steps, and most are replayed."""

ALIGNMENT = 64
"""Bytes of a line of the cache; all memory from torch begins with one."""


def recorded(
    step: Callable[..., Tensor], device: torch.device, work: float, is_foreign: bool, n_models: int = 1
) -> Callable[..., Tensor]:
    """A step, of one model or several, that is recorded and replayed where this pays, else the step itself.

    On a processor a step ``is_foreign`` is not recorded: modules of other packages may do something else each time. A
    GPU notices what it cannot record.
    """
    if device.type == "cuda":
        return Recorded(step)
    may_be = device.type == "cpu" and work <= RECORDED_WORK and not is_foreign
    warm_up = WARM_UP if n_models == 1 else WARM_UP_OF_SEVERAL
    return Recorded(step, record_on_cpu, warm_up) if may_be else step


def record_on_cpu(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Run a function, and return a function that runs its operators again, into the same tensors.

    The first call of the returned function gives the result of this run. If the function reads a value of a tensor, or
    draws random numbers, all others call it as it is written.

    Examples
    --------
    >>> x = torch.zeros(2)
    >>> replay = record_on_cpu(lambda: 2 * x + 1)
    >>> replay()
    tensor([1., 1.])
    >>> x.fill_(3.0), replay()
    (tensor([3., 3.]), tensor([7., 7.]))
    """
    with _Recording() as recording:
        output = work().detach()
    first = [output]
    calls, result = in_little_memory(joined_directly(without_constants(recording.operations)), output)

    @torch.no_grad()
    def replay() -> Tensor:
        if first:
            return first.pop()
        for call in calls:
            call()
        return result

    def again() -> Tensor:
        return first.pop() if first else work()

    return replay if recording.is_complete else again


@dataclass(frozen=True)
class Operation:
    """An operator with its arguments, and its results unless it changes its arguments."""

    function: Callable[..., Any]
    given: tuple[Any, ...]
    named: dict[str, Any]
    results: Any

    @cached_property
    def made_tensors(self) -> list[Tensor]:
        """Its results."""
        return tensors_in((self.results,))

    @cached_property
    def tensors(self) -> list[Tensor]:
        """All tensors that it reads or writes."""
        return [*tensors_in(self.given), *tensors_in(self.named.values()), *self.made_tensors]

    @cached_property
    def addresses(self) -> list[int]:
        """Where the memory of each of these begins."""
        return list(map(_address, self.tensors))

    @property
    def made(self) -> int | None:
        """Where its result begins, if it is the only one, fills its memory, and can be written elsewhere."""
        one = self.results
        is_whole = isinstance(one, Tensor) and one.is_contiguous() and one.nbytes == one.untyped_storage().nbytes()
        return _address(one) if is_whole and (self.is_copy or out_variant(self.function)) else None

    @property
    def is_copy(self) -> bool:
        """Whether it is a copy, whose form that writes elsewhere makes another copy first, or is none."""
        return self.function in COPIES

    def into(self, target: Tensor) -> Operation:
        """The operator that writes its result into given memory."""
        if self.is_copy:
            return Operation(torch.ops.aten.copy_.default, (target.view_as(self.results), *self.given), {}, ())
        function, names = out_variant(self.function)  # type: ignore[misc]
        return Operation(function, self.given, {**self.named, names[0]: target.view_as(self.results)}, ())

    def map(self, change: Callable[[Tensor], Tensor]) -> Operation:
        """The operator with each of its tensors changed."""
        named = {name: mapped(change, value) for name, value in self.named.items()}
        return Operation(self.function, mapped(change, self.given), named, mapped(change, self.results))

    def call(self) -> Callable[[], Any]:
        """The operator as a function without arguments, which writes its results where they were."""
        own = self.made_tensors
        if not own:
            return partial(python_function(self.function), *self.given, **self.named)
        if self.is_copy:
            return partial(own[0].copy_, self.given[0])
        variant = out_variant(self.function)
        if variant is not None and len(variant[1]) == len(own):
            function = python_function(variant[0])
            return partial(function, *self.given, **self.named, **dict(zip(variant[1], own, strict=True)))

        def copied() -> None:
            for old, new in zip(own, tensors_in((self.function(*self.given, **self.named),)), strict=True):
                old.copy_(new)

        return copied


class Operators(TorchDispatchMode):
    """A mode that sees each operator, without an import of torch's compiler."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: to skip torch's compiler, torch imports it first, for seconds."""
        return False


class _Recording(Operators, WholeOperations):
    """Keeps the operators that are run."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.is_complete = True
        self._is_paused = False

    def __torch_dispatch__(
        self, function: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator, and keep it."""
        found = function(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found._is_zerotensor():  # a derivative that is zero has no memory
            found = torch.zeros_like(found)
            self.operations.append(Operation(torch.ops.aten.zero_.default, (found,), {}, ()))
        elif self.is_complete and not self._is_paused:
            self._keep(function, args, kwargs or {}, found)
        return found

    def run(self, function: Callable[..., None], arguments: tuple[Tensor | float, ...]) -> None:
        """Run a function that changes tensors in place, and keep it as one operation."""
        self._is_paused = True
        function(*arguments)
        self._is_paused = False
        self.operations.append(Operation(function, arguments, {}, ()))

    def _keep(self, function: OpOverload, given: tuple[Any, ...], named: dict[str, Any], results: Any) -> None:
        """Keep an operator, unless it only looks at a part of its arguments, or concerns no tensor."""
        read, made = [*tensors_in(given), *tensors_in(named.values())], tensors_in((results,))
        if not read and not made:
            return  # such as the common type of two types
        traits, is_new = Traits.of(function), not {*map(_address, made)} <= {*map(_address, read)}
        self.is_complete = _is_fixed(function, traits, given, results) and not (traits.is_mutable and is_new)
        if traits.is_mutable:
            self.operations.append(Operation(function, given, named, ()))
        elif function is torch.ops.aten.lift_fresh.default:  # a constant, which operators may change
            self.operations.append(Operation(torch.ops.aten.copy_.default, (results, results.clone()), {}, ()))
        elif self.is_complete and is_new:
            self.operations.append(Operation(*writing_directly(function, given, named), results))


def writing_directly(function: OpOverload, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The operator that a composed one calls, and its arguments; the operator itself if it is none of these.

    The form of a composed operator that writes into a given tensor makes its result elsewhere first, and copies it.

    Examples
    --------
    >>> x = torch.ones(3)
    >>> writing_directly(torch.ops.aten.rsub.Scalar, (x, 2.0), {})[:2]
    (<OpOverload(op='aten.sub', overload='Tensor')>, (tensor(2., dtype=torch.float64), tensor([1., 1., 1.])))
    """
    aten = torch.ops.aten
    if named or not isinstance(given[0], Tensor):
        return function, given, named
    if function is aten.sum.default:
        return aten.sum.dim_IntList, (given[0], []), {}
    if function is aten.relu.default:
        return aten.clamp_min.default, (given[0], 0), {}
    is_difference = function is aten.rsub.Scalar
    if not (is_difference or function in OF_NUMBERS) or given[2:] not in ((), (1,)) or not given[0].is_floating_point():
        return function, given, named
    pair = given[0], torch.tensor(given[1], dtype=torch.float64)
    return (aten.sub.Tensor, pair[::-1], {}) if is_difference else (OF_NUMBERS[function], pair, {})


def without_constants(operations: Sequence[Operation]) -> list[Operation]:
    """The operations without those whose results are the same in each replay, unless another changes these."""
    changed = {address for operation in operations if not operation.made_tensors for address in operation.addresses}
    return [
        operation
        for operation in operations
        if operation.function not in CONSTANTS or not changed.isdisjoint(map(_address, operation.made_tensors))
    ]


def in_little_memory(operations: Sequence[Operation], output: Tensor) -> tuple[list[Callable[[], Any]], Tensor]:
    """The operations as functions, and the output, with results in the memory of earlier ones that nobody reads."""
    last = {address: number for number, operation in enumerate(operations) for address in operation.addresses}
    last[_address(output)] = len(operations)
    memory = _Memory()
    calls = []
    for number, operation in enumerate(operations):
        memory.give_to(operation.made_tensors)
        calls.append(operation.map(memory.within).call())
        memory.take_from(address for address in {*operation.addresses} if last[address] == number)
    return calls, memory.within(output)


class _Memory:
    """The memory of the results of a replay, which is given to others when nobody reads it any more."""

    def __init__(self) -> None:
        self._moved: dict[int, UntypedStorage] = {}
        self._free: list[UntypedStorage] = []
        self._placed: dict[int, tuple[Tensor, Tensor]] = {}  # with the tensor, so that no other has its identity

    def give_to(self, tensors: Iterable[Tensor]) -> None:
        """Give memory to tensors that have none yet."""
        for one in tensors:
            address = _address(one)
            if one.nbytes and address not in self._moved:
                self._moved[address] = self._taken(one.untyped_storage().nbytes())

    def take_from(self, addresses: Iterable[int]) -> None:
        """Let others have the memory of what began at these addresses."""
        self._free.extend(self._moved[address] for address in addresses if address in self._moved)

    def _taken(self, size: int) -> UntypedStorage:
        """Memory of a size: the last that became free, if it is not far larger, else new."""
        for number in reversed(range(len(self._free))):
            if size <= self._free[number].nbytes() <= 2 * size:
                return self._free.pop(number)
        return UntypedStorage(size)

    def within(self, tensor: Tensor) -> Tensor:
        """The same part of the memory that was given; of its own memory if none was, without its gradient."""
        placed = self._placed.get(id(tensor))
        if placed is None:
            placed = self._placed[id(tensor)] = tensor, self._made(tensor)
        return placed[1]

    def _made(self, tensor: Tensor) -> Tensor:
        memory = self._moved.get(_address(tensor))
        if memory is None:
            return tensor.detach()
        return tensor.new_empty(0).set_(memory, tensor.storage_offset(), tensor.size(), tensor.stride())


def joined_directly(operations: Sequence[Operation]) -> list[Operation]:
    """The operations without the first concatenation into a given vector: what it joins is made there.

    These are the gradients of all weights, which the optimiser reads as one vector. The concatenation stays if another
    operation reads or changes one of them, or the memory before it, and where one would begin within a line of the
    cache, since products have other last bits there.
    """
    joins = [n for n, one in enumerate(operations) if one.function is torch.ops.aten.cat.out]
    end = next((n for n in joins if operations[n].named["out"].dim() == 1), None)
    if end is None:
        return list(operations)
    parts, whole = operations[end].given[0], operations[end].named["out"]
    targets = dict(zip(map(_address, parts), whole.split([len(part) for part in parts]), strict=True))
    uses = Counter(_address(one) for operation in operations for one in operation.tensors)
    made = [operation.made for operation in operations[:end]]
    is_whole = all(one.nbytes == one.untyped_storage().nbytes() for one in parts)
    is_free = is_whole and all(uses[address] == 2 for address in targets) and targets.keys() <= {*made}
    is_aligned = all(one.data_ptr() % ALIGNMENT == 0 for one in targets.values())
    if (
        not is_free
        or not is_aligned
        or any(_address(whole) == _address(one) for each in operations[:end] for one in each.tensors)
    ):
        return list(operations)
    return [
        operation if address not in targets else operation.into(targets[address])
        for operation, address in zip(operations[:end], made, strict=True)
    ] + list(operations[end + 1 :])


def _address(tensor: Tensor) -> int:
    """Where the memory of a tensor begins."""
    return tensor.untyped_storage().data_ptr()


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among some values, and in lists of tensors among them.

    Examples
    --------
    >>> tensors_in([1.0, torch.tensor(2), [torch.tensor(3), None]])
    [tensor(2), tensor(3)]
    """
    found: list[Tensor] = []
    for one in values:
        if isinstance(one, Tensor):
            found.append(one)
        elif isinstance(one, list | tuple):
            found += tensors_in(one)
    return found


def mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A value with each of its tensors changed.

    Examples
    --------
    >>> mapped(torch.neg, (1.0, [torch.tensor(2), None]))
    (1.0, [tensor(-2), None])
    """
    if isinstance(value, Tensor):
        return change(value)
    return type(value)([mapped(change, one) for one in value]) if isinstance(value, list | tuple) else value


class Traits(NamedTuple):
    """What is known of an operator before it is run."""

    is_mutable: bool
    may_vary: bool
    is_selection: bool

    @staticmethod
    @cache
    def of(function: OpOverload) -> Traits:
        """The traits of an operator, looked up once."""
        tags = set(function.tags)
        return Traits(function._schema.is_mutable, bool(VARYING & tags), torch.Tag.dynamic_output_shape in tags)


def _is_fixed(function: OpOverload, traits: Traits, given: Any, results: Any) -> bool:
    """Whether an operator has tensors of the same shape as results whatever the values are."""
    every = results if isinstance(results, list | tuple) else (results,)
    if traits.may_vary or not all(one is None or isinstance(one, Tensor) for one in every):
        return False
    is_by_number = function is torch.ops.aten.index.Tensor and all(
        index is None or index.dtype not in (torch.bool, torch.uint8) for index in given[1]
    )
    return not traits.is_selection or is_by_number


def python_function(operator: Callable[..., Any]) -> Callable[..., Any]:
    """The function of torch that calls an operator, which reads arguments in less time; the operator if there is none.

    Examples
    --------
    >>> python_function(torch.ops.aten.mm.out) is torch.mm
    True
    """
    if not isinstance(operator, OpOverload) or str(operator).removeprefix("aten.") not in PYTHON_FUNCTIONS:
        return operator
    name = operator._schema.name.removeprefix("aten::")
    return getattr(torch._C._nn, name, None) or getattr(torch, name)


@cache
def out_variant(function: OpOverload) -> tuple[OpOverload, tuple[str, ...]] | None:
    """The form of an operator that writes its results into given tensors, and the names of these; None without one.

    Examples
    --------
    >>> out_variant(torch.ops.aten.sum.dim_IntList)
    (<OpOverload(op='aten.sum', overload='IntList_out')>, ('out',))
    """
    wanted = [(one.name, str(one.type)) for one in function._schema.arguments]
    for name in function.overloadpacket.overloads():
        other = getattr(function.overloadpacket, name)
        arguments = other._schema.arguments
        out = tuple(one.name for one in arguments if one.is_out)
        is_same = [(one.name, str(one.type)) for one in arguments if not one.is_out] == wanted
        if is_same and len(out) == len(function._schema.returns):
            return other, out
    return None
