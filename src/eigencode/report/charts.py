"""Charts: what they show, in the coordinates of their axes; charts.js draws them in the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Chart = dict[str, Any]

DECIMALS = 5
"""Significant digits of a number in a page."""

N_COLOURS = 8
"""Colours of page.css for series."""

ROOM = 70
"""Height in pixels of the legend, the titles and the labels of a chart."""

STRONG = "var(--c6)"
"""The colour of a line that divides."""


def number(value: Any) -> float | None:
    """A number as JSON has it, with few digits; None for NaN and infinity."""
    found = float(value)
    return float(f"{found:.{DECIMALS}g}") if math.isfinite(found) else None


def numbers(values: Iterable[Any]) -> list[float | None]:
    """Numbers as JSON has them."""
    return [number(value) for value in values]


def pairs(x: Iterable[Any], y: Iterable[Any]) -> list[list[Any]]:
    """Points; those without a finite value are left out."""
    points = zip(numbers(x), numbers(y), strict=True)
    return [[left, right] for left, right in points if left is not None and right is not None]


def axis(title: str, values: Any = (), **more: Any) -> Chart:
    """An axis as long as some values."""
    finite = np.asarray(values, dtype=float).ravel()
    finite = finite[np.isfinite(finite)]
    ends = numbers([finite.min(), finite.max()]) if finite.size else [0.0, 1.0]
    return {"title": title, "low": ends[0], "high": ends[1], **more}


def series(kind: str, name: str = "", colour: int = 0, **more: Any) -> Chart:
    """Marks of one colour."""
    return {"kind": kind, "name": name, "colour": f"var(--c{colour % N_COLOURS})", **more}


def chart(x: Chart, y: Chart, *shown: Chart, height: int = 330, **more: Any) -> Chart:
    """Series on two axes."""
    return {"x": x, "y": y, "series": list(shown), "height": height, **more}


def terms_beside_kept(model: Any) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """How far each term of the objective is above its value at the weights kept, at each evaluation; and these values.

    Both are empty if there is one term only.
    """
    names = [name for name in model.history_[0] if name.startswith("validation_")]
    found = {name: np.array([row.get(name, np.nan) for row in model.history_], dtype=float) for name in names}
    from_best = np.abs(found.pop("validation_objective", np.zeros(1)) - model.best_objective_)
    best = int(np.argmin(np.nan_to_num(from_best, nan=np.inf)))
    terms = {name.removeprefix("validation_").replace("_", " "): values for name, values in found.items()}
    return {name: values - values[best] for name, values in terms.items()}, {
        name: float(values[best]) for name, values in terms.items()
    }


def readable_limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of an axis that shows these values, with a margin."""
    values = values[np.isfinite(values)]
    margin = 0.06 * (values.max() - values.min()) or 1.0
    return float(values.min() - margin), float(values.max() + 2 * margin)


def lines(x: Chart, y: Chart, values: Mapping[str, list[list[Any]]], rule: Chart | None = None) -> Chart:
    """Lines through points, one a name."""
    drawn = [
        series("line", name, i, points=points, size=4 if len(points) < 40 else 2)
        for i, (name, points) in enumerate(values.items())
    ]
    return chart(x, y, *drawn, *filter(None, [rule]))


def history(model: Any) -> Chart:
    """The objective by rows seen, and the linear baseline's."""
    evaluated = "validation rows" if model._has_validation else "training rows, evaluated"
    named = {"training_objective": "training rows", "validation_objective": evaluated}
    seen = [row["rows"] for row in model.history_]
    found = {label: [row.get(name, math.nan) for row in model.history_] for name, label in named.items()}
    values, rule = [*found.values()], None
    if model.baseline_ is not None:
        level = model.baseline_.history_[0].get("validation_objective", math.nan)
        if np.isfinite(level):
            rule = series("rule", "linear baseline", len(found), y=number(level), dashed=True)
            values = [*values, [level]]
    points = {name: pairs(seen, each) for name, each in found.items()}
    y = axis("nats a row", np.concatenate(values))
    return lines(axis("rows seen", [0, *seen], exact=True), y, {n: p for n, p in points.items() if p}, rule=rule)


def terms(model: Any, values: Mapping[str, np.ndarray]) -> Chart:
    """The terms of the objective by rows seen; their first values may be beyond the axis."""
    seen = [row["rows"] for row in model.history_]
    y = axis("nats a row beside the weights kept", readable_limits(shown_first(values)), exact=True)
    points = {name: pairs(seen, found) for name, found in values.items()}
    return lines(axis("rows seen", [0, *seen], exact=True), y, points)


def shown_first(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The values that an axis shows whole: all but those of the first quarter, which may be far larger."""
    return np.concatenate([found[len(found) // 4 :] for found in values.values()])


def sizes(linear: np.ndarray, own: np.ndarray, n_components: int, error: float) -> Chart:
    """The error against the number of components."""
    most = min(len(linear) - 1, max(3 * n_components, 12))
    mine = pairs(range(1, len(own) + 1), own) if len(own) else pairs([n_components], [error])
    points = {"PCA of these rows": pairs(range(most + 1), linear[: most + 1]), "this model": mine}
    drawn = np.array([value for each in points.values() for _, value in each])
    return lines(
        axis("components", [0, most], whole=True, exact=True), axis("squared error a row", [0, *drawn]), points
    )


def bars(names: Sequence[str], groups: Mapping[str, Sequence[float]], title: str) -> Chart:
    """Horizontal bars, one a name and group."""
    thickness = 0.84 / len(groups)
    drawn, ends = [], [0.0]
    for number_of, (group, values) in enumerate(groups.items()):
        shown = [(i, value) for i, value in enumerate(numbers(values)) if value is not None]
        first = -0.42 + number_of * thickness
        rects = [[0, value, i + first, i + first + thickness] for i, value in shown]
        tips = [f"{names[i]}\n{title}: {value:g}" + (f"\n{group}" if len(groups) > 1 else "") for i, value in shown]
        drawn.append(series("rects", group, number_of, rects=rects, tips=tips))
        ends += [value for _, value in shown]
    height = len(names) * (22 if len(groups) == 1 else 14 * len(groups)) + ROOM
    return chart(axis(title, ends), {"title": "", "names": list(names)}, *drawn, height=height)


def _counts(values: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of values in bins, and the ends of these; values that differ by rounding only are in one."""
    values = values.astype(np.float64)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    size = max(abs(low), abs(high))
    margin = 0.0 if high - low > 1e-6 * size else max(0.5, 1e-3 * size)
    return np.histogram(values, bins, (low - margin, high + margin))


def shares(values: np.ndarray, title: str, line: float, bins: int = 40) -> Chart:
    """The distribution of values from 0 to 1, and one value marked; a bar has the values up to its right end."""
    edges = np.round(np.linspace(0.0, 1.0, bins + 1), 9)
    counts = np.histogram(-values[np.isfinite(values)], bins=-edges[::-1])[0][::-1]
    rule = series("rule", x=number(line)) | {"colour": STRONG}
    return chart(axis(title, [0, 1]), axis("rows", [0, *counts]), histogram(counts, edges), rule, height=250)


def histogram(counts: np.ndarray, edges: np.ndarray) -> Chart:
    """Bars of numbers of values."""
    ends = list(zip(numbers(edges[:-1]), numbers(edges[1:]), counts.tolist(), strict=True))
    ends = [each for each in ends if each[2]]
    rects = [[low, high, 0, n] for low, high, n in ends]
    return series("rects", rects=rects, tips=[f"from {low:g} to {high:g}\nrows: {n:,}" for low, high, n in ends])


def heatmap(names: Sequence[str], components: Sequence[int], values: np.ndarray, title: str, signed: bool) -> Chart:
    """Columns by components."""
    known = [
        (place, i, value)
        for i in range(len(names))
        for place, j in enumerate(components)
        if (value := number(values[i, j])) is not None
    ]
    tips = [f"{names[i]}\ncomponent {components[place] + 1}\n{title}: {value:g}" for place, i, value in known]
    rects = [[place - 0.48, place + 0.48, i - 0.47, i + 0.47] for place, i, _ in known]
    painted = [value for *_, value in known]
    low, high = (-1.0, 1.0) if signed else (0.0, max(painted, default=1.0))
    return chart(
        {"title": "component", "names": [str(j + 1) for j in components]},
        {"title": "", "names": list(names)},
        series("rects", rects=rects, tips=tips, values=painted),
        height=18 * len(names) + ROOM,
        scale={"title": title, "kind": "signed" if signed else "amount", "low": low, "high": high},
    )


def units(codes: np.ndarray, components: Sequence[int]) -> list[Chart]:
    """A small histogram of each component."""
    panels = []
    for j in components:
        counts, edges = _counts(codes[:, j], 24)
        y = axis(f"component {j + 1}", [0, *counts], bare=True)
        panels.append(chart(axis("", edges, exact=True), y, histogram(counts, edges), height=124))
    return panels


def predicted(observed: np.ndarray, guess: np.ndarray) -> Chart:
    """Predicted numbers against those observed, and the line on which they are equal."""
    ends = numbers([observed.min(), observed.max()])
    equal = series("line", points=[[end, end] for end in ends], dashed=True) | {"colour": "var(--soft)"}
    points = series("points", points=pairs(observed, guess), opacity=0.5)
    return chart(axis("observed", observed), axis("predicted", [*guess, *observed]), points, equal, height=390)


def spectrum(values: np.ndarray) -> Chart:
    """The singular values of Jacobians, their median and middle half."""
    low, middle, high = (numbers(each) for each in np.quantile(values, [0.25, 0.5, 0.75], axis=0))
    names = [str(direction) for direction in range(1, len(middle) + 1)]
    ends = list(zip(low, middle, high, strict=True))
    tips = [
        f"direction {name}\nmedian: {each[1]:g}\nfrom {each[0]:g} to {each[2]:g}"
        for name, each in zip(names, ends, strict=True)
    ]
    rects = [[i - 0.3, i + 0.3, each[0], each[2]] for i, each in enumerate(ends)]
    medians = [[i - 0.3, i + 0.3, each[1], each[1]] for i, each in enumerate(ends)]
    band = series("rects", rects=rects, tips=tips, opacity=0.35)
    line = series("rects", rects=medians, tips=tips)
    x = {"title": "direction", "names": names}
    return chart(x, axis("singular value", [0, *np.asarray(high, float)]), band, line, height=270)
