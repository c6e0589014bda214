"""Constructors whose errors for wrong arguments say what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Integral
from typing import Any

from eigencode.errors import OptionError, did_you_mean, enumerated

KINDS: dict[str, type] = {}
"""The classes whose constructors are told, by name, in the order in which they were made."""

GENERAL = "Autoencoder"
"""The class that stands for any autoencoder in what to write."""


def told(cls: type[Any]) -> type[Any]:
    """Make the constructor of a class, and its ``set_params``, raise `OptionError` for arguments that it does not take.

    Examples
    --------
    >>> @told
    ... class Kind:
    ...     def __init__(self, size=2, *, width=3): ...
    >>> Kind(widht=4)
    Traceback (most recent call last):
        ...
    eigencode.errors.OptionError: Kind has no option 'widht'. Got widht=4. Did you mean 'width'?
    """
    KINDS[cls.__name__] = cls
    cls.__init__ = told_constructor(cls)
    if hasattr(cls, "set_params"):
        cls.set_params = _told_setter(cls.set_params)
    return cls


def told_constructor(cls: type[Any]) -> Callable[..., None]:
    """The constructor of a class, which raises `OptionError` for arguments that it does not take."""
    init = cls.__init__
    signature = inspect.signature(init)

    @wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            signature.bind(self, *args, **kwargs)
        except TypeError:
            # A subclass may have a constructor of its own, which calls this one.
            owner = type(self) if type(self).__init__ is __init__ else cls
            raise _error(owner.__name__, signature, args, kwargs) from None
        init(self, *args, **kwargs)

    return __init__


def check_settings(owner: Any, params: Mapping[str, Any]) -> None:
    """Raise `OptionError` for arguments of ``set_params`` that an object does not have, by its ``get_params``."""
    known, kind = owner.get_params(deep=False), type(owner)
    for name, value in params.items():
        outer, _, inner = name.partition("__")
        if outer not in known:
            raise _error(kind.__name__, inspect.signature(kind.__init__), (), {outer: value})
        part = params.get(outer, known[outer])
        if inner and not hasattr(part, "set_params"):
            raise _without_options(kind.__name__, name, outer, part)


def _told_setter(setter: Callable[..., Any]) -> Callable[..., Any]:
    """The ``set_params`` of a class, with the same errors."""

    @wraps(setter)
    def set_params(self: Any, **params: Any) -> Any:
        check_settings(self, params)
        return setter(self, **params)

    set_params.__doc__ = "Set options, those of an object among them as ``likelihood__variance``; return the model."
    return set_params


def _without_options(owner: str, name: str, outer: str, value: Any) -> OptionError:
    """The error for an option of something that has none."""
    if outer == "autoencoder" and value is None:
        hint = f"Write {owner}(autoencoder={GENERAL}()) first"
        return OptionError(f"{name!r} is an option of an autoencoder, and none is given", hint=hint)
    what = f"{name!r} is an option of {outer!r}, which has no options"
    return OptionError(what, got=f"{value!r:.60}", hint=f"Give {outer!r} an instance that has them first")


def _error(owner: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> OptionError:
    """The error for arguments that a constructor does not take."""
    named = [p for p in list(signature.parameters.values())[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    own = [p.name for p in named]
    for unknown in (name for name in kwargs if name not in own):
        what, hint = f"{owner} has no option {unknown!r}", _instead(owner, own, unknown, kwargs[unknown])
        return OptionError(what, got=f"{unknown}={kwargs[unknown]!r:.60}", hint=hint)
    first = [p.name for p in named if p.kind is not p.KEYWORD_ONLY]
    if len(args) > len(first) == len(own):
        takes = f"takes {' and '.join(map(repr, first))} and nothing else" if first else "takes nothing"
        return OptionError(f"{owner} {takes}", got=f"{args[len(first)]!r:.60} too")
    if len(args) > len(first):
        what = f"{owner} takes {' and '.join(map(repr, first))} without a name, and other options by theirs"
        hint = f"Write the name before it, as in {owner}({_example(own, args[len(first)])})"
        return OptionError(what, got=f"{args[len(first)]!r:.60}", hint=hint)
    for name, value in zip(first, args, strict=False):
        if name in kwargs:
            return OptionError(f"{owner} takes one {name!r}", got=f"{value!r:.60} and {name}={kwargs[name]!r:.60}")
    needed = [p.name for p in named if p.default is p.empty]
    given = {*first[: len(args)], *(p.name for p in named if p.name in kwargs and p.kind is not p.POSITIONAL_ONLY)}
    lacking = [name for name in needed if name not in given]
    return OptionError(f"{owner} needs {' and '.join(map(repr, lacking))}", hint=f"Write {owner}({', '.join(needed)})")


def _instead(owner: str, own: Sequence[str], name: str, value: Any) -> str | None:
    """What to write instead of an option that a class does not have."""
    others = [kind for kind, cls in KINDS.items() if kind != owner and name in inspect.signature(cls).parameters]
    autoencoders = [kind for kind in others if "autoencoder" not in inspect.signature(KINDS[kind]).parameters]
    kind = GENERAL if GENERAL in autoencoders else next(iter(autoencoders), "")
    if kind and "autoencoder" in own:
        return f"Its autoencoder has it: write {owner}(autoencoder={kind}({name}={value!r:.40}))"
    if kind and "param_grid" in own:
        return f"Its autoencoder has it: write {owner}({kind}(), {{{name!r}: {value!r:.40}}})"
    near = did_you_mean(name, own)
    return f"It is an option of {enumerated(others, 3)}" if others and not (near or "").startswith("Did") else near


def misplaced(owner: str, own: Sequence[str], name: str, value: Any) -> str | None:
    """What to write instead of an option's value that is meant as another one; None if it looks like none."""
    if "autoencoder" in own and name != "autoencoder" and hasattr(value, "fit"):
        return f"Write {owner}(autoencoder={value!r:.60})"
    if name == "autoencoder" and isinstance(value, Integral | list | tuple):
        return f"Write {owner}(autoencoder={GENERAL}({value!r:.40}))"
    if "layers" in own and isinstance(value, list | tuple) and any(hasattr(each, "fit") for each in value):
        return "Write layers=[...] if these are the layers"
    if name == "n_components" and isinstance(value, list | tuple) and "hidden" in own:
        return f"Write hidden={value!r:.40} if these are the widths of layers"
    return None


def _example(own: Sequence[str], value: Any) -> str:
    """An argument by its name."""
    if hasattr(value, "fit") and "autoencoder" in own:
        return f"autoencoder={value!r:.40}"
    return f"hidden={value!r:.40}" if isinstance(value, list | tuple) and "hidden" in own else f"{own[-1]}=..."
