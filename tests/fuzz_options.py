"""Options drawn at random: a fit of any rows with any allowed options gives finite answers, or an error of ours.

    python tests/fuzz_options.py 3000 [--first 0] [--only exported]

Options are drawn from their own declarations, so that a new one is tried too. Checked besides: the same seed gives the
same bits, a loaded model and a clone answer as the model does, one row by itself as among others, and the objective on
validation rows is not worse than at a linear start. Each failure is printed with the call that shows it.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning

import eigencode as ec
from eigencode import parts
from eigencode.errors import EigencodeError
from eigencode.options import Option, options_of

LIMIT = 120
"""Seconds for one case."""

KINDS = (
    ec.Autoencoder,
    ec.VariationalAutoencoder,
    ec.SparseAutoencoder,
    ec.ContractiveAutoencoder,
    ec.DenoisingAutoencoder,
    ec.StackedAutoencoder,
    ec.LinearAutoencoder,
)

PARTS: dict[str, list[Callable[[], Any]]] = {
    "activation": [torch.nn.Mish, torch.nn.Softsign],
    "code": [parts.Point, parts.GaussianCode, parts.Sigmoid, parts.ThresholdedReLU, lambda: parts.TopK(1)],
    "corruption": [parts.GaussianNoise, parts.Masking, parts.SaltAndPepper],
    "prior": [parts.StandardNormalPrior, parts.MixturePrior, parts.LaplacePrior],
    "likelihood": [
        lambda: parts.GaussianLikelihood("learned"),
        lambda: parts.GaussianLikelihood("per_feature"),
        lambda: parts.LaplaceLikelihood("per_feature"),
        lambda: parts.StudentTLikelihood(3.0),
    ],
    "penalties": [
        lambda: (parts.Contractive(0.1),),
        lambda: (parts.KLSparsity(activity=0.2, weight=0.1),),
        lambda: (parts.KLSparsity(), parts.Contractive(0.01)),
    ],
    "weight_prior": [parts.GaussianWeights],
}
"""Parts for the options that take Python objects."""

NUMBERS = [0.0, 1e-3, 0.1, 0.3, 0.5, 0.9, 1.0, 1.5, 2.0, 3.0, 8.0, 40.0]


def values_for(option: Option, rng: np.random.Generator) -> Any:
    """One value of an option's domain; its default if it has none that can be drawn."""
    if option.name in PARTS and rng.random() < 0.6:
        return PARTS[option.name][rng.integers(len(PARTS[option.name]))]()
    candidates: list[Any] = []
    for kind in option.alternatives:
        if kind is bool:
            candidates += [True, False]
        elif kind is int:
            candidates += [int(number) for number in NUMBERS if number == int(number)]
        elif kind is float:
            candidates += NUMBERS
        elif getattr(kind, "__args__", None) and kind.__origin__ is tuple:
            candidates += [(), (3,), (1,), (7, 2), (4, 4, 4)]
        else:
            candidates += [value for value in getattr(kind, "__args__", ()) if isinstance(value, str)]
    candidates = [value for value in candidates if is_allowed(option, value)]
    return candidates[rng.integers(len(candidates))] if candidates else option.default


def is_allowed(option: Option, value: Any) -> bool:
    """Whether the option itself takes a value."""
    try:
        option.check(value, "This estimator")
    except EigencodeError:
        return False
    return True


FIXED = {"image_shape", "columns", "missing_values", "encoder", "decoder", "device", "random_state", "verbose"}
FIXED |= {"max_epochs", "max_seconds", "autoencoder"}
"""Options whose values are not drawn from their declarations."""


def free_options(kind: type) -> list[Option]:
    """The options of an estimator that are drawn."""
    return [option for option in options_of(kind) if option.name not in FIXED]


def drawn_options(kind: type, rng: np.random.Generator) -> dict[str, Any]:
    """A few options of an estimator, and few epochs."""
    free = free_options(kind)
    chosen = rng.choice(len(free), size=rng.integers(0, 6), replace=False)
    found = {free[number].name: values_for(free[number], rng) for number in chosen}
    if found.get("solver", "gradient" if kind is not ec.LinearAutoencoder else "exact") == "gradient":
        found["max_epochs"] = int(rng.choice([0, 1, 2, 5]))
    return found | {"random_state": int(rng.integers(100))}


def drawn_rows(rng: np.random.Generator) -> tuple[str, Any]:
    """A name and rows of some kind."""
    n, d = int(rng.choice([2, 3, 5, 12, 60, 200, 700])), int(rng.choice([1, 2, 3, 6, 20, 40]))
    codes = rng.normal(size=(n, 2))
    smooth = np.tanh(codes @ rng.normal(size=(2, d))) + 0.1 * rng.normal(size=(n, d))
    made = {
        "smooth": lambda: smooth,
        "float32": lambda: smooth.astype(np.float32),
        "binary": lambda: (smooth > 0).astype(float),
        "bool": lambda: smooth > 0,
        "shares": lambda: rng.random((n, d)),
        "counts": lambda: rng.poisson(np.exp(smooth)),
        "zeros": lambda: np.zeros((n, d)),
        "constant columns": lambda: np.where(rng.random(d) < 0.5, smooth, 3.7),
        "gaps": lambda: np.where(rng.random((n, d)) < 0.2, np.nan, smooth),
        "mostly gaps": lambda: np.where(rng.random((n, d)) < 0.8, np.nan, smooth),
        "large": lambda: smooth * 10.0 ** rng.integers(-140, 140, size=d),
        "offset": lambda: smooth + 1e8,
        "heavy tails": lambda: rng.standard_cauchy((n, d)),
        "one outlier": lambda: np.where(np.arange(n * d).reshape(n, d) == n * d // 2, 1e9, smooth),
        "copies": lambda: smooth[rng.integers(min(n, 3), size=n)],
        "duplicate columns": lambda: smooth[:, rng.integers(min(d, 2), size=d)],
        "discrete": lambda: rng.integers(0, 3, size=(n, d)),
        "large whole numbers": lambda: rng.integers(-(2**62), 2**62, size=(n, d)),
        "small differences": lambda: 1 + 1e-9 * smooth,
        "one row repeated": lambda: np.repeat(smooth[:1], n, axis=0) + (np.arange(n) == 0)[:, None],
        "Fortran order": lambda: np.asfortranarray(smooth),
        "frame": lambda: frame_of(smooth, rng),
        "frame of objects": lambda: frame_of(smooth, rng).astype(object),
    }
    name = str(rng.choice(list(made)))
    return f"{name} {n} x {d}", made[name]()


def frame_of(smooth: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """A table with a number, a label, a count, a date, a truth value and a positive number, some cells missing."""
    n = len(smooth)
    found = pd.DataFrame(
        {
            "number": smooth[:, 0],
            "label": rng.choice(["red", "green", "blue"], size=n),
            "count": rng.poisson(3, size=n),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(500, size=n), unit="D"),
            "truth": rng.random(n) < 0.3,
            "amount": np.exp(2 * smooth[:, -1]),
        }
    )
    found = found[list(rng.permutation(found.columns)[: rng.integers(1, 7)])]
    return found.mask(rng.random(found.shape) < 0.1) if rng.random() < 0.5 else found


def numbers(answer: Any) -> np.ndarray:
    """The numbers of an answer as an array."""
    frame = pd.DataFrame(answer) if not isinstance(answer, pd.DataFrame) else answer
    return frame.select_dtypes(["number"]).to_numpy(float)


Checks = Iterator[tuple[str, Callable[[], Any]]]
"""Checks by their names, which raise an error for a wrong answer."""


def has_gaps(rows: Any) -> bool:
    """Whether a cell is missing."""
    return bool(pd.DataFrame(rows).isna().to_numpy().any())


def finite(model: Any, name: str, rows: Any) -> Callable[[], None]:
    """A check that a method has a finite answer for each row; reconstructions may have gaps where rows have them."""

    def check() -> None:
        answer = numbers(getattr(model, name)(rows))
        known = answer[~np.isnan(answer)] if name == "reconstruct" and has_gaps(rows) else answer
        assert np.isfinite(known).all(), f"{name} is not finite"
        assert len(answer) == len(rows), f"{name} has {len(answer)} rows for {len(rows)}"

    return check


def loaded(model: Any, names: Sequence[str], rows: Any) -> Callable[[], None]:
    """A check that a saved model answers with the same bits."""

    def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            model.save(path := Path(folder) / "m.safetensors")
            other = ec.load(path)
        for name in names:
            one, another = (pd.DataFrame(getattr(each, name)(rows)) for each in (model, other))
            pd.testing.assert_frame_equal(one, another, check_exact=True)

    return check


def checks(model: Any, rows: Any) -> Checks:
    """The checks of a fitted autoencoder."""
    few = rows[:40]
    for name in ("transform", "reconstruct", "reconstruction_error", "score_samples"):
        yield name, finite(model, name, few)

    def sampled() -> None:
        one, other = (model.sample(4, random_state=3) for _ in range(2))
        assert np.array_equal(numbers(one), numbers(other)), "two samples with one seed differ"
        assert np.isfinite(numbers(one)).all(), "a sample is not finite"

    yield "sample", sampled

    def alone() -> None:
        together, single = numbers(model.transform(few)), numbers(model.transform(few[-1:]))
        size = np.abs(together).max(initial=1e-3)
        assert np.allclose(together[-1:], single, rtol=1e-3, atol=1e-3 * size), "a row alone has another code"

    yield "a row alone", alone

    def again() -> None:
        other = clone(model).fit(rows)
        assert np.array_equal(numbers(other.transform(few)), numbers(model.transform(few))), "a clone has other bits"

    yield "a clone", again
    yield "load", loaded(model, ("transform", "score_samples"), few)

    def filled() -> None:
        assert not has_gaps(model.impute(few)), "a gap is left"

    if has_gaps(rows):
        yield "impute", filled

    def no_worse() -> None:
        first = model.history_[0]["validation_objective"]
        assert model.best_objective_ <= first + 1e-6 * max(abs(first), 1), "worse than the start"

    if getattr(model, "init_", "") == "linear" and len(model.history_) > 1:
        yield "history", no_worse


def plain(kind: type, rows: Any, options: dict[str, Any], _: np.random.Generator) -> Checks:
    """The checks of an autoencoder that is fitted to rows."""
    yield from checks(kind(**options).fit(rows), rows)


def streamed(kind: type, rows: Any, options: dict[str, Any], _: np.random.Generator) -> Checks:
    """Those of one that is given the rows in two blocks."""
    model = kind(**options)
    if not hasattr(model, "partial_fit"):
        return
    half = max(len(rows) // 2, 1)
    for block in (rows[:half], rows[half:]):
        model.partial_fit(block)
    for name in ("transform", "reconstruct", "score_samples"):
        yield name, finite(model, name, rows[:40])
    yield "load", loaded(model, ("transform", "score_samples"), rows[:40])


def predicted(kind: type, rows: Any, options: dict[str, Any], rng: np.random.Generator) -> Checks:
    """Those of a classifier or a regressor of codes."""
    inner, n = kind(**options), len(rows)
    own = drawn_options(ec.AutoencoderClassifier, rng)
    if rng.random() < 0.5:
        labels = np.arange(n) % int(rng.integers(2, 4))
        model: Any = ec.AutoencoderClassifier(inner, **own).fit(rows, rng.permutation(labels))
        shares = model.predict_proba(rows[:40])
        yield "shares", lambda: np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    else:
        model = ec.AutoencoderRegressor(inner, **own).fit(rows, rng.normal(size=n) * 10.0 ** rng.integers(-9, 9))
    yield "predict", finite(model, "predict", rows[:40])
    yield "load", loaded(model, ("predict",), rows[:40])


def detected(kind: type, rows: Any, options: dict[str, Any], rng: np.random.Generator) -> Checks:
    """Those of a detector of anomalies."""
    own = {"trim": bool(rng.random() < 0.7), "neighbors": bool(rng.random() < 0.7), "random_state": 0}
    inner = kind(**options) if rng.random() < 0.7 else None
    model = ec.AnomalyDetector(autoencoder=inner, false_alarms=float(rng.choice([0.01, 0.1, 0.5])), **own).fit(rows)
    yield "score_samples", finite(model, "score_samples", rows[:40])

    def p_values() -> None:
        found = np.asarray(model.p_values(rows[:40]), float)
        assert ((found > 0) & (found <= 1)).all(), "a p-value is not in (0, 1]"

    yield "p_values", p_values
    yield "explain", lambda: model.explain(rows[:5])
    yield "load", loaded(model, ("score_samples", "predict"), rows[:40])


def searched(kind: type, rows: Any, options: dict[str, Any], rng: np.random.Generator) -> Checks:
    """Those of a search over two options."""
    free = free_options(kind)
    chosen = rng.choice(len(free), size=2, replace=False)
    grid = {free[number].name: [values_for(free[number], rng) for _ in range(2)] for number in chosen}
    kept = {name: value for name, value in options.items() if name not in grid}
    model = ec.AutoencoderSearch(kind(**kept), grid, cv=2).fit(rows)
    yield "transform", finite(model, "transform", rows[:40])


def weighted(kind: type, rows: Any, options: dict[str, Any], rng: np.random.Generator) -> Checks:
    """Those of a fit with weights, some of them 0, some large."""
    weights = rng.exponential(size=len(rows)) * (rng.random(len(rows)) < 0.8) * 10.0 ** rng.integers(-3, 3)
    model = kind(**options).fit(rows, sample_weight=weights)
    for name in ("transform", "reconstruct", "score_samples"):
        yield name, finite(model, name, rows[:40])
    yield "sample", lambda: model.sample(3, random_state=0)
    yield "load", loaded(model, ("transform", "score_samples"), rows[:40])


def windowed(kind: type, rows: Any, options: dict[str, Any], rng: np.random.Generator) -> Checks:
    """Those of a detector of windows of a series."""
    window = int(rng.choice([1, 2, 5]))
    model = ec.AnomalyDetector(0.1, autoencoder=kind(**options), window=window, random_state=0).fit(rows)
    yield "predict", finite(model, "predict", rows)
    yield "explain", lambda: model.explain(rows)
    yield "load", loaded(model, ("score_samples", "predict"), rows)


def conditional(kind: type, rows: Any, options: dict[str, Any], rng: np.random.Generator) -> Checks:
    """Those of draws given some cells, of derivatives, and of the other answers."""
    model, few = kind(**options).fit(rows), rows[:5]
    hidden = pd.DataFrame(few).mask(rng.random(few.shape) < 0.4)
    given = hidden if isinstance(rows, pd.DataFrame) else hidden.to_numpy(float)

    def drawn() -> None:
        found = pd.DataFrame(model.sample(5, given=given, random_state=1))
        assert not has_gaps(found), "a drawn cell is missing"
        known = hidden.notna().to_numpy()
        same = [one == other for one, other in zip(found.to_numpy()[known], hidden.to_numpy()[known], strict=True)]
        assert np.all(same), "a given cell was changed"

    yield "sample given cells", drawn
    yield "impute", lambda: model.impute(given)
    yield "jacobian", finite(model, "jacobian_spectrum", few)
    yield "scores of left-out cells", finite(model, "leave_one_out_score", few)
    yield "fit_density", lambda: model.fit_density(rows).sample(3, random_state=0)


def reported(kind: type, rows: Any, options: dict[str, Any], rng: np.random.Generator) -> Checks:
    """Those of a page."""
    model = kind(**options).fit(rows)
    with tempfile.TemporaryDirectory() as folder:
        yield "report", lambda: model.report(rows, Path(folder) / "page.html")


def exported(kind: type, rows: Any, options: dict[str, Any], rng: np.random.Generator) -> Checks:
    """Those of a graph, whose answers are compared with the model's before it is written."""
    model = kind(**options).fit(rows)
    with tempfile.TemporaryDirectory() as folder:
        yield "export", lambda: model.export(Path(folder) / "model.onnx")


JOURNEYS = (plain, plain, plain, streamed, predicted, detected, detected, searched, conditional, weighted, windowed)
"""What is done with rows and options; the first one most often."""

OTHERS = {journey.__name__: journey for journey in (*JOURNEYS, reported, exported)}
"""All of them by their names, with those that take several seconds each."""


ANSWERED = {"transform", "reconstruct", "reconstruction_error", "predict", "load", "a clone", "a row alone"}
"""What a model that was fitted never refuses, for rows that it was fitted to."""


def faults(number: int, only: str | None = None) -> tuple[str, list[str], list[str]]:
    """The call of one case, what is wrong with its answers, and what was refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for category in (UserWarning, FitFailedWarning):
            warnings.simplefilter("ignore", category)
        call, problems = case(number, only)
    refused = [problem for problem in problems if problem.startswith("refused")]
    return call, [problem for problem in problems if problem not in refused], refused


def case(number: int, only: str | None) -> tuple[str, list[str]]:
    """The call of one case, and what is wrong with its answers or refused."""
    rng = np.random.default_rng(number)
    journey = JOURNEYS[rng.integers(len(JOURNEYS))] if only is None else OTHERS[only]
    kind = KINDS[rng.integers(len(KINDS))]
    rows_name, rows = drawn_rows(rng)
    options = drawn_options(kind, rng)
    written = ", ".join(f"{name}={value!r}" for name, value in options.items())
    call = f"{number}: {journey.__name__} {kind.__name__}({written}) of {rows_name}"
    problems: list[str] = []
    doing, found = "fit", journey(kind, rows, options, rng)
    while True:
        try:
            doing, check = "fit", None
            doing, check = next(found)
            check()
        except StopIteration:
            return call, problems
        except EigencodeError as error:
            problems.append(f"{'wrongly ' if doing in ANSWERED else ''}refused in {doing}: {error}")
        except Exception:
            problems.append(f"{doing}: {traceback.format_exc(limit=-4)}")
        if problems and check is None:
            return call, problems


def too_long(*_: object) -> None:
    raise TimeoutError(f"longer than {LIMIT} s")


def run(n_cases: int, first: int = 0, only: str | None = None) -> Counter[str]:
    """Try so many cases; print those that fail, and return how many ended how."""
    found: Counter[str] = Counter()
    signal.signal(signal.SIGALRM, too_long)
    for number in range(first, first + n_cases):
        began = time.perf_counter()
        signal.alarm(LIMIT)
        call, wrong, refused = faults(number, only)
        signal.alarm(0)
        found["wrong" if wrong else "refused" if refused else "answered"] += 1
        seconds = time.perf_counter() - began
        for problem in (*wrong, *refused):
            print(f"{'WRONG' if problem in wrong else 'refused'} {call} [{seconds:.1f} s]\n    {problem}", flush=True)
        if seconds > 20:
            print(f"SLOW {call} [{seconds:.1f} s]", flush=True)
    return found


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n_cases", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", choices=OTHERS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = run(chosen.n_cases, chosen.first, chosen.only)
    print(dict(found))
    raise SystemExit(found["wrong"] > 0)


if __name__ == "__main__":
    main()
