"""Part: one word of the formula, which knows nothing but its constructor's arguments."""

from __future__ import annotations

import inspect
from typing import Any, Self

from sklearn.base import clone
from torch import Tensor, nn


class Part(nn.Module):
    """A word of the formula: a network, a code, a likelihood, a corruption, a prior, a penalty.

    A subclass stores each argument of its constructor under the argument's own name and does nothing else there;
    tensors appear in ``setup``, when the sizes are known. From that alone come ``clone``, ``repr``, nested
    parameters for grid searches, and saving as JSON.

    Examples
    --------
    >>> from eigencode.parts import MLP
    >>> MLP(hidden=(32, 16)).get_params()
    {'hidden': (32, 16), 'activation': 'gelu'}
    """

    reweights: bool = False
    """Whether this word, though it shrinks nothing itself, changes what the others' shrinkage would have to be."""

    @classmethod
    def _parameter_names(cls) -> list[str]:
        if cls.__init__ is nn.Module.__init__:
            return []
        return list(inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments, with those of nested parts as ``outer__inner``."""
        params = {name: getattr(self, name) for name in self._parameter_names()}
        if deep:
            for name, value in list(params.items()):
                if isinstance(value, Part):
                    params |= {f"{name}__{inner}": item for inner, item in value.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set constructor's arguments, nested ones as ``outer__inner``; returns the part itself."""
        known = self._parameter_names()
        for name, value in params.items():
            outer, _, inner = name.partition("__")
            if outer not in known:
                raise ValueError(f"Invalid parameter {outer!r} for {type(self).__name__}. Valid parameters: {known}.")
            if inner:
                getattr(self, outer).set_params(**{inner: value})
            else:
                setattr(self, outer, value)
        return self

    def shrinkage(self, eigenvalues: Tensor) -> Tensor | None:
        """Share kept of each principal direction at the linear optimum of the objective with this word in it.

        ``eigenvalues`` are those of the scaled rows' covariance, shape (k,). None where no closed form is known.
        """
        return None

    def __sklearn_clone__(self) -> Self:
        """A part with the same arguments and no tensors of its own."""
        return type(self)(**{name: clone(value, safe=False) for name, value in self.get_params(deep=False).items()})

    def __repr__(self) -> str:
        signature = inspect.signature(type(self)).parameters
        said = [
            f"{name}={value!r}"
            for name, value in self.get_params(deep=False).items()
            if isinstance(value, nn.Module) or value != signature[name].default
        ]
        return f"{type(self).__name__}({', '.join(said)})"
