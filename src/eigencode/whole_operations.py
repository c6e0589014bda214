"""Functions that change tensors in place and are kept as one operation where the operators of a step are recorded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack


class WholeOperations(ABC):
    """A mode of torch that records operators, and such functions as one."""

    @abstractmethod
    def run(self, function: Callable[..., None], arguments: tuple[Tensor | float, ...]) -> None:
        """Run a function, and keep it as one operation."""


def as_one_operation(function: Callable[..., None], *arguments: Tensor | float) -> None:
    """Run a function that changes tensors in place, as one operation of a recording if one is made.

    It is called anew in each replay, so it may read values. The tensors among its arguments are those of a recording;
    others that it reads or changes must not be results of the step.

    Examples
    --------
    >>> def halve(x):
    ...     if float(x) > 1:
    ...         x.div_(2)
    >>> import torch
    >>> from eigencode.training.cpu_graphs import record_on_cpu
    >>> x = torch.tensor(4.0)
    >>> replay = record_on_cpu(lambda: as_one_operation(halve, x) or x + 0)
    >>> replay(), replay(), replay()
    (tensor(2.), tensor(1.), tensor(1.))
    """
    for mode in _get_current_dispatch_mode_stack():  # within others, as that of products of many models
        if isinstance(mode, WholeOperations):
            mode.run(function, arguments)
            return
    function(*arguments)
