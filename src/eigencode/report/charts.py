"""Charts: specifications for Vega-Lite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Chart = dict[str, Any]

DECIMALS = 5
"""Significant digits of a number in a page."""

PANEL_HEIGHT = 128
"""Height of one small chart in pixels; page.js has it too."""

LEGEND_HEIGHTS = {"nominal": 25, "quantitative": 57}
"""Height of a legend in pixels, by what it explains."""


NAMES = {
    "labelLimit": {"expr": "10 + 7 * letters"},
    "labelExpr": "length(datum.label) > letters ? slice(datum.label, 0, letters / 2 - 1) + '…' + "
    "slice(datum.label, -letters / 2) : datum.label",
}
"""An axis of names; those of more letters than there is room for lose their middle, since many differ at their ends."""

LETTERS = 30
"""Letters of a name in a chart as wide as the page."""


def number(value: Any) -> float | None:
    """A number as JSON has it, with few digits; None for NaN and infinity."""
    found = float(value)
    return float(f"{found:.{DECIMALS}g}") if math.isfinite(found) else None


def rows_of(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Columns of values as a list of rows."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def chart(data: list[dict[str, Any]], **parts: Any) -> Chart:
    """A chart of some rows as wide as the page."""
    size = {"width": "container", "height": parts.pop("height", 260)}
    return {"data": {"values": data}, "params": [{"name": "letters", "value": LETTERS}], **size, **parts}


def panels_of(spec: Chart) -> int:
    """The number of small charts in a chart; 0 for one that is whole."""
    return len(spec["facet"]["sort"]) if "facet" in spec else 0


def height_of(spec: Chart) -> int:
    """About the height of a chart with its axis and legend in pixels, which the page keeps free until it is drawn."""
    if n := panels_of(spec):
        return PANEL_HEIGHT * math.ceil(n / spec["columns"])
    colours = [part["encoding"]["color"] for part in spec.get("layer", [spec]) if "color" in part["encoding"]]
    with_legend = [colour["type"] for colour in colours if colour.get("legend", True) is not None]
    return int(spec["height"]) + 57 + (LEGEND_HEIGHTS[with_legend[0]] if with_legend else 0)


def axis(field: str, kind: str = "quantitative", title: str | None = None, **more: Any) -> Chart:
    """One encoding of a chart."""
    return {"field": field, "type": kind, "title": field if title is None else title, **more}


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


def history(model: Any) -> Chart:
    """The objective by rows seen, and the linear baseline's."""
    rows = []
    for seen in model.history_:
        for name, label in (("training_objective", "training rows"), ("validation_objective", "validation rows")):
            if (value := number(seen.get(name, math.nan))) is not None:
                label = label if model._has_validation or name.startswith("training") else "training rows, evaluated"
                rows.append({"rows": seen["rows"], "epoch": seen["epoch"], "objective": value, "of": label})
    encoding = {
        "x": axis("rows", title="rows seen", axis={"format": "~s"}),
        "y": axis("objective", title="nats a row", scale={"zero": False}),
        "color": axis("of", "nominal", ""),
        "tooltip": [axis("epoch"), axis("rows"), axis("objective"), axis("of", "nominal")],
    }
    layers: list[Chart] = [{"mark": {"type": "line", "point": True}, "encoding": encoding}]
    if model.baseline_ is not None:
        level = number(model.baseline_.history_[0].get("validation_objective", math.nan))
        layers.append({
            "data": {"values": [{"objective": level, "of": "linear baseline"}]},
            "mark": {"type": "rule", "strokeDash": [6, 4], "strokeWidth": 2},
            "encoding": {"y": axis("objective", title="nats a row"), "color": encoding["color"]},
        })  # fmt: skip
    return chart(rows, layer=layers)


def terms(model: Any, values: Mapping[str, np.ndarray]) -> Chart:
    """The terms of the objective by rows seen; their first values may be beyond the axis."""
    rows = [
        {"rows": seen["rows"], "epoch": seen["epoch"], "value": number(value), "term": name}
        for name, found in values.items()
        for seen, value in zip(model.history_, found, strict=True)
    ]
    encoding = {
        "x": axis("rows", title="rows seen", axis={"format": "~s"}),
        "y": axis("value", title="nats a row", scale={"domain": [*map(number, readable_limits(in_view(values)))]}),
        "color": axis("term", "nominal", "", sort=list(values)),
        "tooltip": [axis("term", "nominal"), axis("epoch"), axis("value", title="beside the weights kept")],
    }
    return chart(rows, mark={"type": "line", "point": True, "clip": True}, encoding=encoding)


def in_view(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The values that an axis shows whole: all but those of the first quarter, which may be far larger."""
    return np.concatenate([found[len(found) // 4 :] for found in values.values()])


def sizes(linear: np.ndarray, own: np.ndarray, n_components: int, error: float) -> Chart:
    """The error against the number of components."""
    most = min(len(linear) - 1, max(3 * n_components, 12))
    rows = [{"components": k, "error": number(linear[k]), "of": "PCA of these rows"} for k in range(most + 1)]
    rows += [{"components": k + 1, "error": number(own[k]), "of": "this model"} for k in range(len(own))]
    rows += [{"components": n_components, "error": number(error), "of": "this model"}] if not len(own) else []
    encoding = {
        "x": axis("components", title="components", axis={"tickMinStep": 1}),
        "y": axis("error", title="squared error a row"),
        "color": axis("of", "nominal", ""),
        "tooltip": [axis("components"), axis("error"), axis("of", "nominal")],
    }
    return chart(rows, mark={"type": "line", "point": {"size": 60}}, encoding=encoding)


def bars(names: Sequence[str], groups: Mapping[str, Sequence[float]], title: str) -> Chart:
    """Horizontal bars, one a name and group."""
    rows = [
        {"name": name, "value": value, "of": group}
        for group, values in groups.items()
        for name, value in zip(names, map(number, values), strict=True)
        if value is not None
    ]
    encoding = {
        "y": axis("name", "nominal", "", sort=list(names), axis=NAMES),
        "x": axis("value", title=title),
        "tooltip": [axis("name", "nominal"), axis("value"), axis("of", "nominal")],
    }
    if len(groups) > 1:
        encoding |= {"yOffset": {"field": "of", "sort": list(groups)}}
    encoding |= {"color": axis("of", "nominal", "", sort=list(groups), legend=None if len(groups) == 1 else {})}
    return chart(
        rows, mark="bar", height=len(names) * (22 if len(groups) == 1 else 14 * len(groups)), encoding=encoding
    )


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
    rows = rows_of({"from": list(map(number, edges[:-1])), "to": list(map(number, edges[1:])), "n": counts.tolist()})
    bar = {
        "mark": {"type": "bar", "binSpacing": 0},
        "encoding": {
            "x": axis("from", title=title, bin={"binned": True}),
            "x2": {"field": "to"},
            "y": axis("n", title="rows"),
            "tooltip": [axis("from"), axis("to"), axis("n", title="rows")],
        },
    }
    rule = {
        "data": {"values": [{"at": number(line)}]},
        "mark": {"type": "rule", "color": "var(--c6)", "strokeWidth": 2},
        "encoding": {"x": axis("at", title=title)},
    }
    return chart(rows, layer=[bar, rule], height=180)


def heatmap(names: Sequence[str], components: Sequence[int], values: np.ndarray, title: str, signed: bool) -> Chart:
    """Columns by components."""
    rows = [
        {"column": name, "component": int(j) + 1, "value": number(values[i, j])}
        for i, name in enumerate(names)
        for j in components
        if number(values[i, j]) is not None
    ]
    scheme = {"scheme": "blueorange", "domain": [-1, 1]} if signed else {"scheme": "blues"}
    encoding = {
        "y": axis("column", "nominal", "", sort=list(names), axis=NAMES),
        "x": axis("component", "ordinal", "component", axis={"labelAngle": 0, "labelOverlap": "greedy"}),
        "color": axis("value", title=title, scale=scheme),
        "tooltip": [axis("column", "nominal"), axis("component", "ordinal"), axis("value", title=title)],
    }
    return chart(rows, mark="rect", height=18 * len(names), encoding=encoding)


def scatter(points: list[dict[str, Any]], names: Sequence[str], height: int = 440) -> Chart:
    """Rows in a plane, coloured by their errors."""
    encoding = {
        "x": axis("x", title=names[0], scale={"zero": False}),
        "y": axis("y", title=names[1], scale={"zero": False}),
        "color": axis("error", scale={"type": "symlog"}),
    }
    return chart(points, mark={"type": "circle", "size": 34, "opacity": 0.8}, height=height, encoding=encoding)


def units(codes: np.ndarray, components: Sequence[int]) -> Chart:
    """A small histogram of each component."""
    rows = []
    for j in components:
        counts, edges = _counts(codes[:, j], 24)
        rows += [
            {"component": f"component {j + 1}", "from": number(low), "to": number(high), "n": int(n)}
            for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
        ]
    spec = {
        "width": 130,
        "height": 70,
        "mark": {"type": "bar", "binSpacing": 0},
        "encoding": {
            "x": axis("from", title="", bin={"binned": True}, axis={"tickCount": 3}),
            "x2": {"field": "to"},
            "y": axis("n", title="", axis=None),
            "tooltip": [axis("from"), axis("to"), axis("n", title="rows")],
        },
    }
    names = [f"component {j + 1}" for j in components]
    return {
        "data": {"values": rows},
        "facet": axis("component", "nominal", "", sort=names, header={"title": None}),
        "columns": 4,
        "spec": spec,
        "resolve": {"scale": {"x": "independent", "y": "independent"}},
    }


def predicted(observed: np.ndarray, guess: np.ndarray) -> Chart:
    """Predicted numbers against those observed, and the line on which they are equal."""
    rows = rows_of({"observed": list(map(number, observed)), "predicted": list(map(number, guess))})
    ends = [number(observed.min()), number(observed.max())]
    encoding = {
        name: axis(field, title=field, scale={"zero": False}) for name, field in zip("xy", rows[0], strict=True)
    }
    points = {"mark": {"type": "point", "filled": True, "opacity": 0.5}, "encoding": encoding}
    line = {
        "data": {"values": rows_of({"observed": ends, "predicted": ends})},
        "mark": {"type": "line", "strokeDash": [6, 4], "color": "var(--c7)"},
        "encoding": encoding,
    }
    return chart(rows, layer=[points, line], height=320)


def spectrum(values: np.ndarray) -> Chart:
    """The singular values of Jacobians, their median and middle half."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    columns = {"direction": range(1, len(middle) + 1), "low": low, "median": middle, "high": high}
    rows = rows_of({name: list(map(number, numbers)) for name, numbers in columns.items()})
    x = axis("direction", "ordinal", "direction", axis={"labelAngle": 0, "labelOverlap": "greedy"})
    size = axis("low", title="singular value")
    band = {"mark": {"type": "bar", "opacity": 0.35}, "encoding": {"x": x, "y": size, "y2": {"field": "high"}}}
    tips = [axis("direction", "ordinal"), axis("median"), axis("low"), axis("high")]
    middle_of = {"x": x, "y": axis("median", title="singular value"), "tooltip": tips}
    points = {"mark": {"type": "point", "filled": True, "size": 60}, "encoding": middle_of}
    return chart(rows, layer=[band, points], height=200)
