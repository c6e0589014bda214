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
        yield f"class {name}"
        yield from _arguments(name, value)
        yield from _members(name, value)
    elif callable(value):
        yield f"function {name}"
        yield from _arguments(name, value)
    else:
        yield f"value {name}"


def _members(name: str, cls: type) -> Iterator[str]:
    """Public methods and properties of ours; those of torch and scikit-learn are promised by them."""
    for public in sorted(dir(cls)):
        found = inspect.getattr_static(cls, public)
        if public.startswith("_"):
            continue
        function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        if not (getattr(function, "__module__", None) or "").startswith("eigencode"):
            continue
        if isinstance(found, property):
            yield f"{name}.{public}"
        elif inspect.isroutine(function):
            yield f"{name}.{public}()"
            yield from _arguments(f"{name}.{public}", function)


def _arguments(name: str, function: Any) -> Iterator[str]:
    """Names, kinds and defaults; types are checked by others."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except ValueError:
        return
    for argument in arguments:
        if argument.name == "self":
            continue
        kind = {argument.KEYWORD_ONLY: ", by name only", argument.POSITIONAL_ONLY: ", by place only"}
        stars = {argument.VAR_POSITIONAL: "*", argument.VAR_KEYWORD: "**"}.get(argument.kind, "")
        default = "" if argument.default is argument.empty else f" = {argument.default!r}"
        yield f"    {name}({stars}{argument.name}{default}){kind.get(argument.kind, '')}"


def _commands() -> Iterator[str]:
    """Commands with their arguments and flags."""
    for command in sorted(name for name in app if not name.startswith("-")):
        yield f"command eigencode {command}"
        arguments = app[command].assemble_argument_collection(parse_docstring=False)
        for names in sorted(tuple(argument.names) for argument in arguments if argument.names and argument.show):
            yield f"    eigencode {command} {' '.join(names)}"


# -- model files


def rows() -> np.ndarray:
    """Thirty rows of five columns in different units, from sines, which no release of anything will change."""
    places = np.arange(150.0).reshape(30, 5)
    return np.sin(places**1.5) * [1.0, 10.0, 0.1, 3.0, 1.0] + [0.0, 5.0, 0.0, -1.0, 100.0]


def models() -> dict[str, Any]:
    """One unfitted model for each thing that a file may hold."""
    import eigencode.parts as parts

    plain = {"n_components": 2, "hidden": (4,), "max_epochs": 2, "random_state": 0, "device": "cpu"}
    return {
        "plain": eigencode.Autoencoder(**plain),
        "float64-linear": eigencode.Autoencoder(**{**plain, "hidden": (), "precision": "float64"}),
        "corruption": eigencode.Autoencoder(
            **plain, corruption=parts.GaussianNoise(0.3), prior=parts.Laplace(), beta=0.1, activation="tanh"
        ),
        "names": eigencode.Autoencoder(**plain, scale="none", start="plain"),
    }


def columns(name: str) -> Any:
    """The rows as a model is given them: one of them with names."""
    import pandas as pd

    return pd.DataFrame(rows(), columns=list("abcde")) if name == "names" else rows()


def answers(model: Any, name: str) -> dict[str, np.ndarray]:
    """What a model says of the rows."""
    X = columns(name)
    found = {f"{name}.{method}": getattr(model, method)(X) for method in ANSWERS}
    return {**found, f"{name}.inverse_transform": model.inverse_transform(found[f"{name}.transform"])}


def write_models() -> None:
    """Fit, save, and keep the answers; a version's files are written once."""
    kept = GOLDEN / f"v{MINOR}-answers.npz"
    if kept.exists():
        sys.exit(f"{kept.name} is there. Files of a released version never change; delete those of an unreleased one.")
    found = {}
    for name, model in models().items():
        model.fit(columns(name)).save(GOLDEN / f"v{MINOR}-{name}.safetensors")
        found |= answers(model, name)
    np.savez_compressed(kept, **found)


if __name__ == "__main__":
    if sys.argv[1:] == ["api"]:
        (GOLDEN / "api.txt").write_text(public_api())
    elif sys.argv[1:] == ["models"]:
        write_models()
    else:
        sys.exit(__doc__)
