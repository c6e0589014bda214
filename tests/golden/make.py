"""What later versions must keep: the public API as text, and model files with the answers they gave.

python tests/golden/make.py api       accept the present public API
python tests/golden/make.py models    write model files of this version, once; they are never written again
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import eigencode
from eigencode.cli import app

GOLDEN = Path(__file__).parent

MINOR = ".".join(eigencode.__version__.split(".")[:2])

ANSWERS = ("transform", "reconstruct", "reconstruction_error", "score_samples")


# -- the public API


def public_api() -> str:
    """All that is promised: one line for each name, argument and flag, sorted, so that a change is a line."""
    return "\n".join([*_module("eigencode"), *_module("eigencode.parts"), *_commands()]) + "\n"


def _module(name: str) -> Iterator[str]:
    """The names of a module, with the arguments of what can be called."""
    module = importlib.import_module(name)
    for public in sorted(module.__all__):
        yield from _described(f"{name}.{public}", getattr(module, public))


def _described(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        bases = [base for base in value.__mro__[1:] if _is_promised(base)]
        yield from _called(f"class {name}", value)
        yield from (f"    is a {_home(base)}.{base.__name__}" for base in bases)
        yield from _members(value, bases)
    elif callable(value):
        yield from _called(f"function {name}", value)
    else:
        yield f"value {name}"


def _is_promised(cls: type) -> bool:
    return cls.__module__.startswith("eigencode") and _home(cls) is not None


def _home(cls: type) -> str | None:
    """The public module that a class is found in."""
    modules = map(importlib.import_module, ("eigencode", "eigencode.parts"))
    return next((m.__name__ for m in modules if getattr(m, cls.__name__, None) is cls), None)


def _members(cls: type, bases: list[type]) -> Iterator[str]:
    """Public methods and properties of ours; torch and scikit-learn promise theirs, and public bases are listed."""
    for name in sorted(dir(cls)):
        found = inspect.getattr_static(cls, name)
        if name.startswith("_") or any(inspect.getattr_static(base, name, None) is found for base in bases):
            continue
        function = (
            found.fget if isinstance(found, property) else getattr(found, "__func__", getattr(found, "fn", found))
        )
        if not (getattr(function, "__module__", None) or "").startswith("eigencode"):
            continue
        if isinstance(found, property):
            yield f"    .{name}"
        elif inspect.isroutine(function):
            yield from _called(f"    .{name}", function)


def _called(name: str, function: Any) -> Iterator[str]:
    """A name with its arguments and defaults, on one line if it fits; types are checked by others."""
    try:
        arguments = list(inspect.signature(function).parameters.values())
    except ValueError:
        arguments = []
    bare = [
        argument.replace(annotation=inspect.Parameter.empty)
        for argument in arguments
        if argument.name not in ("self", "cls")
    ]
    line = name + str(inspect.Signature(bare))
    if len(line) <= 120:
        yield line
    else:
        yield f"{name}("
        yield from (f"        {parameter}," for parameter in str(inspect.Signature(bare))[1:-1].split(", "))
        yield "    )"


def _commands() -> Iterator[str]:
    """Commands with their arguments and flags."""
    for command in sorted(name for name in app if not name.startswith("-")):
        yield f"command eigencode {command}"
        arguments = app[command].assemble_argument_collection(parse_docstring=False)
        for names in sorted(tuple(argument.names) for argument in arguments if argument.names and argument.show):
            yield f"    eigencode {command} {' '.join(names)}"


# -- model files


def rows() -> np.ndarray:
    """Thirty rows of five columns in different units."""
    positions = np.arange(150.0).reshape(30, 5)
    return np.sin(positions**1.5) * [1.0, 10.0, 0.1, 3.0, 1.0] + [0.0, 5.0, 0.0, -1.0, 100.0]


def models() -> dict[str, Any]:
    """One unfitted model for each thing that a file may hold."""
    import eigencode.parts as parts

    plain = {"n_components": 2, "hidden": (4,), "max_epochs": 2, "random_state": 0, "device": "cpu"}
    return {
        "plain": eigencode.Autoencoder(**plain),
        "float64-linear": eigencode.Autoencoder(**{**plain, "hidden": (), "precision": "float64"}),
        "corruption": eigencode.Autoencoder(
            **plain, corruption=parts.GaussianNoise(0.3), prior=parts.LaplacePrior(), beta=0.1, activation="tanh"
        ),
        "names": eigencode.Autoencoder(**plain, scale="none", init="random"),
    }


def as_given(rows: np.ndarray, name: str) -> Any:
    """Rows as a model is given them: one of the models by column names."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list("abcde")) if name == "names" else rows


def answers(model: Any, name: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What a model says of rows."""
    found = {f"{name}.{method}": getattr(model, method)(as_given(rows, name)) for method in ANSWERS}
    return {**found, f"{name}.inverse_transform": model.inverse_transform(found[f"{name}.transform"])}


def write_models() -> None:
    """Fit, save, and keep the answers; a version's files are written once."""
    kept = GOLDEN / f"v{MINOR}-answers.npz"
    if kept.exists():
        sys.exit(f"{kept.name} is there. Files of a released version never change; delete those of an unreleased one.")
    found = {"rows": rows()[:12]}
    for name, model in models().items():
        model.fit(as_given(rows(), name)).save(GOLDEN / f"v{MINOR}-{name}.safetensors")
        found |= answers(model, name, found["rows"])
    np.savez_compressed(kept, **found)


if __name__ == "__main__":
    if sys.argv[1:] == ["api"]:
        (GOLDEN / "api.txt").write_text(public_api())
    elif sys.argv[1:] == ["models"]:
        write_models()
    else:
        sys.exit(__doc__)
