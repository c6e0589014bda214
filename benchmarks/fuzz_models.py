"""Randomly damaged model files: each must be refused by an error of this package, or give finite numbers.

    python benchmarks/fuzz_models.py 20000

Every file is one of a few small models of all kinds, changed in its bytes, in its description, in its table of tensors
or in the tensors' numbers. All are loaded in one process, which may use 1 GB more memory than at its start; the
slowest, the largest and all failures are printed, each with the seed that reproduces it.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import eigencode
from eigencode import (
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderRegressor,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)
from eigencode.errors import EigencodeError, ResultWarning
from eigencode.parts import GaussianLikelihood, GaussianWeights, Masking, SaltAndPepper

GIGABYTE = 2**30

N_ROWS, N_COLUMNS = 40, 6

SMALL = {"max_epochs": 1, "random_state": 0, "hidden": (4,)}


def rows(dtype: type = np.float64) -> np.ndarray:
    """Rows of counts, which every likelihood accepts."""
    return np.random.default_rng(0).poisson(3.0, (N_ROWS, N_COLUMNS)).astype(dtype)


def models() -> Iterator[tuple[Any, np.ndarray]]:
    """Small fitted models of all kinds, with rows for their methods."""
    X = rows()
    single, shares, images = rows(np.float32), X / X.max(), np.random.default_rng(1).random((N_ROWS, 64))
    labels = np.arange(N_ROWS) % 3
    yield Autoencoder(2, **SMALL).fit(X), X
    yield Autoencoder(2, **SMALL, precision="float64").fit(X).fit_density(X), X
    yield Autoencoder(2, **SMALL, tied=True, ordered=True, penalties=[]).fit(single), single
    yield Autoencoder(2, **SMALL, likelihood=GaussianLikelihood("learned")).partial_fit(X), X
    yield Autoencoder(2, **SMALL, optimizer="lbfgs", weight_prior=GaussianWeights(0.5)).partial_fit(X), X
    yield Autoencoder(2, **SMALL, likelihood="bernoulli").fit(shares), shares
    yield Autoencoder(2, **SMALL, likelihood="negative_binomial").fit(X), X
    yield Autoencoder(2, **SMALL, likelihood="student_t").fit(X), X
    yield Autoencoder(2, **{**SMALL, "hidden": 1}, image_shape=(1, 8, 8)).fit(images), images
    yield VariationalAutoencoder(2, **SMALL).fit(X), X
    yield VariationalAutoencoder(2, **SMALL, likelihood="poisson").fit(X), X
    yield SparseAutoencoder(8, max_epochs=1, random_state=0).fit(X), X
    yield SparseAutoencoder(8, max_epochs=1, random_state=0, sparsity="top_k", active=2).fit(X), X
    yield SparseAutoencoder(4, max_epochs=1, random_state=0, sparsity="kl").fit(single), single
    yield SparseAutoencoder(4, max_epochs=1, random_state=0, code="optimal").fit(X), X
    yield DenoisingAutoencoder(2, **SMALL, noise=Masking(0.2)).fit(X), X
    yield DenoisingAutoencoder(2, **SMALL, noise=SaltAndPepper(0.1)).fit(X), X
    yield ContractiveAutoencoder(2, **SMALL).fit(X), X
    yield StackedAutoencoder(2, **{**SMALL, "hidden": (4, 3)}).fit(X), X
    yield LinearAutoencoder(2, random_state=0).fit(X), X
    autoencoder = Autoencoder(2, **SMALL)
    yield AutoencoderClassifier(autoencoder=autoencoder, max_epochs=1, random_state=0).fit(X, labels), X
    yield AutoencoderRegressor(autoencoder=autoencoder, max_epochs=1, random_state=0, alpha=0.1).fit(X, X[:, 0]), X


# -- files as their parts


class ModelFile:
    """A safetensors file: a table of tensors, the description in it, and the tensors' bytes."""

    def __init__(self, content: bytes) -> None:
        length = int.from_bytes(content[:8], "little")
        self.table: dict[str, Any] = json.loads(content[8 : 8 + length])
        metadata = self.table.pop("__metadata__")
        self.description = json.loads(metadata["eigencode"])
        self.data = bytearray(content[8 + length :])

    def written(self) -> bytes:
        """The file's bytes again."""
        metadata = {"eigencode": json.dumps(self.description)}
        table = json.dumps({"__metadata__": metadata, **self.table}).encode()
        return len(table).to_bytes(8, "little") + table + bytes(self.data)

    def numbers(self, name: str) -> np.ndarray:
        """A tensor's numbers, which can be changed in place."""
        begin, end = self.table[name]["data_offsets"]
        kind = {"F32": np.float32, "F64": np.float64, "I64": np.int64}.get(self.table[name]["dtype"], np.uint8)
        return np.frombuffer(memoryview(self.data)[begin:end], kind)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value in nested JSON."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def nested(levels: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


STRANGE: list[Callable[[], Any]] = [
    *(lambda value=value: value for value in (None, True, False, 0, 1, -1, 2, 0.5, -0.5, 1e30, 1e308, 1e-300, "", "x")),
    *(lambda value=value: value for value in (10**6, 10**8, 10**12, 2**31, 2**63, 2**64, 10**30, 10**400, -(10**9))),
    *(lambda value=value: value for value in (float("nan"), float("inf"), -float("inf"))),
    *(lambda value=value: value for value in ([], {}, [[]], [0], [1, 2, 3], ["a"], {"a": 1}, {"part": "MLP"})),
    *(lambda text=text: {"float": text} for text in ("nan", "inf", "-inf", "1e999", "x", "3")),
    lambda: [10**8, 10**8],
    lambda: [3] * 20_000,
    lambda: [{}] * 5000,
    lambda: nested(90),
    lambda: nested(400),
    lambda: {"elements": ["a", "b"], "dtype": "<U500000000"},
    lambda: {"elements": ["a", 1], "dtype": "object"},
    lambda: {"array": "scaler.center"},
    lambda: {"tensor": "scaler.divisor"},
    lambda: {"part": "Sizes", "arguments": {"n_features": 10**9}},
    lambda: {"part": "TopK", "arguments": {"k": 10**9}},
    lambda: {"part": "MLP", "arguments": {"hidden": [10**5] * 3}},
    lambda: {"torch": "PReLU", "arguments": {"num_parameters": 10**9}},
    lambda: {"torch": "MultiheadAttention", "arguments": {"embed_dim": 10**5, "num_heads": 1}},
    lambda: {"module": "Linear"},
    lambda: {"estimator": "Autoencoder", "arguments": {}},
    lambda: {"items": [[[], 1]]},
    lambda: "a" * 100_000,
]
"""Values that are wrong at most paths."""


def holder_of(value: Any, path: tuple[Any, ...]) -> Any:
    """The list or dict that a path ends in."""
    for key in path[:-1]:
        value = value[key]
    return value


def change_description(file: ModelFile, generator: np.random.Generator) -> None:
    """Another value, no value, one from another path, or a number that differs a little or much."""
    found = list(paths(file.description))
    path = found[generator.integers(len(found))]
    holder, key = holder_of(file.description, path), path[-1]
    old = holder[key]
    match generator.integers(6):
        case 0:
            del holder[key]
        case 1:
            other = found[generator.integers(len(found))]
            holder[key] = copy.deepcopy(holder_of(file.description, other)[other[-1]])
        case 2 if isinstance(old, int | float):
            holder[key] = old * float(generator.choice([-1, 0, 2, 1e3, 1e10, 1e300]))
        case 3 if isinstance(old, list):
            holder[key] = old * int(generator.choice([0, 2, 100]))
        case 4 if isinstance(holder, dict):
            holder[f"{key}_"] = holder.pop(key)
        case _:
            holder[key] = copy.deepcopy(STRANGE[generator.integers(len(STRANGE))]())


def change_table(file: ModelFile, generator: np.random.Generator) -> None:
    """Other shapes, types, offsets and names of tensors."""
    names = list(file.table)
    name, other = generator.choice(names, 2)
    entry = file.table[name]
    match generator.integers(7):
        case 0:
            entry["shape"] = [int(generator.choice([0, 1, 2, 10**6, 2**40, 2**62])) for _ in entry["shape"]]
        case 1:
            entry["shape"] = [*entry["shape"][::-1]]
        case 2:
            entry["shape"] = [1, *entry["shape"]]
        case 3:
            entry["dtype"] = str(
                generator.choice(["F32", "F64", "I64", "I32", "U8", "BF16", "F16", "BOOL", "C64", "X"])
            )
        case 4:
            entry["data_offsets"] = [int(generator.integers(len(file.data) + 9)) for _ in range(2)]
        case 5:
            file.table[str(other)] = copy.deepcopy(entry)
        case _:
            file.table[f"{name}_"] = file.table.pop(str(name))


def change_numbers(file: ModelFile, generator: np.random.Generator) -> None:
    """Other numbers in a tensor, or those of another tensor."""
    name, other = (str(item) for item in generator.choice(list(file.table), 2))
    numbers, others = file.numbers(name), file.numbers(other)
    if not len(numbers):
        return
    with np.errstate(all="ignore"):
        value = generator.choice([np.nan, np.inf, -np.inf, 0, -1, 1e-40, 1e5, 1e20, -1e38, 1e300])
        match generator.integers(5):
            case 0:
                numbers[generator.integers(len(numbers))] = np.asarray(value).astype(numbers.dtype)
            case 1:
                numbers[:] = np.asarray(value).astype(numbers.dtype)
            case 2:
                numbers[:] = np.resize(others, len(numbers)).astype(numbers.dtype) if len(others) else 0
            case 3:
                numbers[:] = (numbers * generator.choice([-1, 0, 10, 1e4, 1e15])).astype(numbers.dtype)
            case _:
                numbers[:] = generator.permutation(numbers)


def change_bytes(content: bytes, generator: np.random.Generator) -> bytes:
    """Bytes changed, removed, inserted or cut off; more often in the table than in the numbers."""
    changed = bytearray(content)
    for _ in range(generator.integers(1, 5)):
        end = len(changed) if generator.random() < 0.3 else min(len(changed), 4000)
        start, size = int(generator.integers(max(end, 1))), int(generator.integers(1, 9))
        match generator.integers(5):
            case 0:
                changed[start : start + size] = generator.bytes(size)
            case 1:
                del changed[start : start + size]
            case 2:
                changed[start:start] = generator.bytes(size)
            case 3:
                changed[start : start + size] = bytes(size)
            case _ if generator.random() < 0.2:
                del changed[start:]
            case _ if start < len(changed):
                changed[start] ^= 1 << int(generator.integers(8))
    return bytes(changed)


def mutated(content: bytes, seed: int) -> bytes:
    """A model file changed at random, by a seed."""
    generator = np.random.default_rng(seed)
    kind = generator.random()
    if kind < 0.2:
        return change_bytes(content, generator)
    file = ModelFile(content)
    change = change_description if kind < 0.65 else change_table if kind < 0.75 else change_numbers
    for _ in range(generator.integers(1, 4)):
        if file.table:
            change(file, generator)
    return file.written()


# -- results


def answers(model: Any, X: np.ndarray, seed: int) -> Iterator[tuple[str, Any]]:
    """A model's results for rows, by the name of the method."""
    names = ("transform", "reconstruct", "score_samples", "reconstruction_error", "predict", "predict_proba")
    questions: dict[str, Callable[[], Any]] = {
        name: (lambda name=name: getattr(model, name)(X)) for name in names if hasattr(model, name)
    }
    if hasattr(model, "sample"):
        questions["sample"] = lambda: model.sample(5, random_state=0)
    questions["repr"] = lambda: len(repr(model))
    if hasattr(model, "partial_fit") and seed % 10 == 0:
        questions["partial_fit"] = lambda: model.partial_fit(X).transform(X)
    if seed % 50 == 0:
        questions["save"] = lambda: save_again(model)
    for name, question in questions.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", ResultWarning)  # the warning that a result is infinite
                yield name, question()
        except (EigencodeError, ResultWarning):
            yield name, 0.0


def save_again(model: Any) -> float:
    """Check that a loaded model can be saved and loaded again."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/m.safetensors")
        eigencode.load(f"{folder}/m.safetensors")
    return 0.0


def outcome(path: Path, X: np.ndarray, seed: int) -> str:
    """'refused' or 'answered', or what failed."""
    try:
        model = eigencode.load(path)
    except EigencodeError:
        return "refused"
    for name, answer in answers(model, X, seed):
        if not np.isfinite(np.asarray(answer, dtype=float)).all():
            return f"{name} is no finite number"
    return "answered"


def memory(name: str) -> int:
    """A number of the process's memory, in bytes; 0 on systems without such numbers."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def forget_peak() -> None:
    """Reset the peak of memory to the current value."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def saved_models(folder: Path) -> list[tuple[bytes, np.ndarray]]:
    """The files' bytes, with rows for the models."""
    found = []
    for model, X in models():
        model.save(folder / "m.safetensors")
        found.append(((folder / "m.safetensors").read_bytes(), X))
    return found


def run(n_files: int, first: int = 0, out: io.TextIOBase | Any = sys.stdout) -> Counter[str]:
    """Load and use this many files; return the number of each result."""
    found: Counter[str] = Counter()
    figures = []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        folder = Path(name)
        originals = saved_models(folder)
        for content, X in originals:
            (folder / "m.safetensors").write_bytes(content)
            assert outcome(folder / "m.safetensors", X, 0) == "answered"
        if hasattr(resource, "RLIMIT_AS") and out is not None and memory("VmSize"):
            resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + GIGABYTE, resource.RLIM_INFINITY))
        for seed in range(first, first + n_files):
            content, X = originals[seed % len(originals)]
            changed = mutated(content, seed)
            (folder / "m.safetensors").write_bytes(changed)
            forget_peak()
            before, began, work = memory("VmRSS"), time.perf_counter(), time.process_time()
            try:
                result = outcome(folder / "m.safetensors", X, seed)
            except Exception as error:
                result = f"{type(error).__name__}"
                print(f"seed {seed}:\n{traceback.format_exc(limit=-3)}", file=out)
            seconds, work = time.perf_counter() - began, time.process_time() - work
            figures.append((seconds, work, memory("VmHWM") - before, len(changed), seed))
            found[result] += 1
            if result not in ("refused", "answered"):
                print(f"seed {seed}: {result}", file=out, flush=True)
    if out is not None:
        report(figures, found, out)
    return found


def report(figures: list[tuple[float, float, int, int, int]], found: Counter[str], out: Any) -> None:
    """Print the slowest and the largest."""
    for column, label, unit in ((0, "seconds", 1.0), (1, "seconds of work", 1.0), (2, "MB beyond the start", 1e6)):
        worst = sorted(figures, key=lambda row: row[column], reverse=True)[:3]
        shown = ", ".join(f"{row[column] / unit:.3g} (seed {row[-1]}, a file of {row[3]} bytes)" for row in worst)
        print(f"most {label}: {shown}", file=out)
    print(", ".join(f"{count} {name}" for name, count in found.most_common()), file=out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n_files", type=int, nargs="?", default=1000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first file")
    arguments = parser.parse_args()
    outcomes = run(arguments.n_files, arguments.first)
    os._exit(0 if outcomes.keys() <= {"refused", "answered"} else 1)
