"""Sections about rows: one function for each gives HTML, or nothing where there is nothing to show."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, r2_score

from eigencode.data.pictures import as_pixels
from eigencode.descriptions import MAY_BE_ANOMALIES, is_detector, is_supervised, summary
from eigencode.report import charts, vega
from eigencode.report.columns import MISSING, Column, columns
from eigencode.report.findings import MOST_POINTS, Findings
from eigencode.report.pieces import data, figure, paragraph, strip, table, text, with_code
from eigencode.words import counted, form, percent

MOST_SHOWN = 30
"""Columns of a chart."""

MOST_COMPONENTS = 16
"""Components of a chart."""

MOST_COLOURS = 12
"""Columns by which the map of codes can be coloured."""

MOST_TARGETS = 6
"""Targets whose predictions are drawn."""

N_WORST = 10
"""Rows of a table of rows."""

FEWEST_PIXELS = 5
"""Height and width of the smallest images that numbers without names may be."""

DEVIATIONS = (-2, -1, 0, 1, 2)
"""Values of a component on a traversal, in standard deviations."""

LINEAR = "the best linear model of its kind with a code of this size (the linear baseline)"

FITTED = {
    True: "These are the rows that it was fitted to",
    False: "These are not the rows that it was fitted to, or not all of them",
    None: "Whether these are the rows that it was fitted to is not known",
}
"""What is said of the rows."""


def pixels(found: Findings, rows: Any) -> np.ndarray:
    """Rows of a model of images as pixels of 8 bits, on the scale of the rows measured."""
    return as_pixels(found.images(rows), found.pixel_range)


def finding(found: Findings) -> str:
    """In one paragraph: what the model is, what it found, and whether it was worth it."""
    model, facts = found.model, summary(found.fitted)
    k, kind = found.codes.shape[1], facts["kind"]
    numbers = [column.explained for column in found.by_column if column.is_number and np.isfinite(column.explained)]
    labels = [column.explained for column in found.by_column if not column.is_number and np.isfinite(column.explained)]
    kept = percent(max(float(np.median(numbers)), 0.0)) if numbers else ""
    of_numbers = f"From the code alone, it rebuilds {kept} of the variance of the numbers" if numbers else ""
    of_labels = f"it gets {percent(float(np.median(labels)))} of the labels right" if labels else ""
    of_labels = f"From the code alone, {of_labels}" if labels and not numbers else of_labels
    rebuilt = " and ".join(part for part in (of_numbers, of_labels) if part)
    sentences = [
        f"<strong>{_n_alarms(found)}</strong>: rows unlike those that the detector was fitted to, listed below with "
        "what is odd in them."
        if is_detector(found.fitted)
        else "",
        f"This is {_article(kind)} <strong>{text(kind)}</strong>: it describes each {_row_of(found)} by a code of "
        f"{counted(k, 'number')}, from which it is rebuilt.",
        f"This page shows {counted(found.n_given, 'row')}"
        + (
            f", of which {len(found.numbers):,} {'at the beginning' if found.are_windows else 'drawn at random'} were "
            "measured."
            if len(found.numbers) < found.n_given
            else "."
        ),
        "The first row is row 0." if found.labels == [str(number) for number in found.numbers] else "",
        FITTED[found.are_those_fitted] + (": errors of other rows are larger." if found.are_those_fitted else "."),
        f"{rebuilt} (medians over the columns)." if rebuilt else "",
        _beside_linear(found),
        f"{int(found.dead.sum())} of the {k} components never change: a smaller code would do."
        if found.dead.any() and len(found.codes) > 1
        else "",
        _may_be_images(found),
    ]
    notes = "".join(f"<li>{with_code(note)}</li>" for note in getattr(found.fitted, "notes_", model.notes_))
    return paragraph(*sentences) + (f'<h3>Notes of the fit</h3><ul class="notes">{notes}</ul>' if notes else "")


def _row_of(found: Findings) -> str:
    """What a row is."""
    if not found.is_image:
        return f"row of {counted(len(found.given), 'column')}"
    _, height, width = found.image_shape
    return f"image of {width} x {height} pixels"


def _may_be_images(found: Findings) -> str:
    """How rows are shown as images, if they may be images: as many numbers as a square has pixels, without names."""
    side = math.isqrt(d := len(found.given))
    is_named = hasattr(found.model, "feature_names_in_")
    if found.is_image or is_named or side < FEWEST_PIXELS or side**2 != d:
        return ""
    return (
        f"If the rows are images of {side} x {side} pixels, fit the model with <code>image_shape=(1, {side}, {side})"
        "</code>, and this page shows them as images."
    )


def _article(name: str) -> str:
    return "an" if name[0] in "AEIOU" else "a"


def _beside_linear(found: Findings) -> str:
    """Whether the model was worth it beside the linear one."""
    if found.linear_errors is None:
        return "It has no linear baseline: it is linear itself, or of a kind that has none."
    if found.model is not found.fitted and hasattr(found.fitted, "model_"):
        return "Its encoder may have been trained further for the labels, and then rebuilds rows less well than before."
    own, linear = float(found.errors.mean()), float(found.linear_errors.mean())
    gain = 1 - own / linear if linear > 0 else 0.0
    if gain > 0.02:
        is_worth_it = not _is_objective_no_better(found.model)
        no_smaller = "; its objective, which was trained, is no smaller"
        worth = ", so the nonlinear part was worth it" if is_worth_it else no_smaller
        return f"Its squared error is {percent(gain)} smaller than that of {LINEAR}{worth}."
    if gain > -0.02:
        return (
            f"Its squared error is about that of {LINEAR}: a linear model would do as well, unless you need what else "
            "this kind gives."
        )
    more = percent(-gain) if gain > -1 else f"{own / linear - 1:.1f} times"
    return (
        f"Its squared error is {more} <em>larger</em> than that of {LINEAR}. Kinds with a prior, noise or "
        "a penalty give up some error for what these bring; otherwise prefer the linear model."
    )


def _is_objective_no_better(model: Any) -> bool:
    """Whether the linear baseline's objective is as small on the validation rows; False if there are none."""
    level = model.baseline_.history_[0].get("validation_objective", np.nan)
    return bool(model.best_objective_ >= level)


def reconstructions(found: Findings) -> str:
    """Rows and what they are rebuilt as: typical ones."""
    order = found.worst[::-1]
    some = order[np.linspace(len(order) // 4, 3 * len(order) // 4, min(10, len(order))).astype(int)]
    if found.is_image:
        originals = pixels(found, np.asarray(found.rows)[some])
        rebuilt = pixels(found, np.asarray(found.rebuilt)[some])
        both = np.concatenate([originals, rebuilt])
        return strip(both, len(some), "Images (first line) and their reconstructions (second line), with usual errors.")
    shown = _first(found)
    rows = []
    for row in some[:5]:
        rows.append([f"row {found.labels[row]}", *(found.given[number].text(row) for number in shown)])
        rows.append(["rebuilt", *(found.expected[number].text(row) for number in shown)])
    names = [found.given[number].name for number in shown]
    return table(["row", *names], rows, f"Rows with usual errors, each above its reconstruction{_of_all(found, shown)}")


def _shown(found: Findings, most: int) -> list[int]:
    """Numbers of the columns for a chart: those whose reconstruction says most about the model."""
    spread = [column.explained if np.isfinite(column.explained) else -np.inf for column in found.by_column]
    return sorted(np.argsort(spread)[::-1][:most].tolist())


def _first(found: Findings) -> range:
    """Numbers of the columns for a table of rows: as many as there is room for."""
    return range(len(found.given))[:8]


def _of_all(found: Findings, shown: range) -> str:
    """What a caption says of the columns that a table leaves out."""
    n = len(found.given)
    return f"; the first {len(shown)} of {n} columns" if len(shown) < n else ""


def by_column(found: Findings) -> str:
    """How well each column is rebuilt."""
    if found.is_image:
        return ""
    parts = []
    for is_number, title, usual in (
        (True, "share of the variance that is explained", "mean"),
        (False, "share of the labels that are right", "most frequent label"),
    ):
        some = [c for c in found.by_column if c.is_number == is_number and np.isfinite(c.explained)]
        some = sorted(some, key=lambda column: -column.explained)[:MOST_SHOWN]
        if not some:
            continue
        groups = {"this model": [c.explained for c in some]}
        if found.linear_errors is not None:
            groups["linear baseline"] = [c.linear for c in some]
        if not is_number:
            groups[usual] = [c.usual for c in some]
        best, least = some[0], some[-1]
        most, fewest = percent(best.explained), percent(least.explained)
        of_columns = f"best {best.name} ({most}), least {least.name} ({fewest})"
        says = f"{title.capitalize()}: {of_columns if most != fewest else f'{most} in each column shown'}."
        clipped = {name: [max(value, -1.0) for value in values] for name, values in groups.items()}
        parts.append(figure(charts.bars([c.name for c in some], clipped, title), says))
    return "".join(parts)


def worst(found: Findings) -> str:
    """The rows with the largest errors, and why."""
    rows = found.worst[:N_WORST]
    if found.is_image:
        both = np.concatenate([pixels(found, np.asarray(part)[rows]) for part in (found.rows, found.rebuilt)])
        return strip(both, len(rows), "The images with the largest errors, and their reconstructions.")
    lines = []
    for row in rows:
        for rank, number in enumerate(found.suspects(row)):
            first = [f"row {found.labels[row]}", f"{found.errors[row]:.4g}"] if rank == 0 else ["", ""]
            own = percent(found.errors_by_column[row, number] / found.errors[row])
            chance = found.chance(number, row)
            likely = "" if chance is None else f" (probability {chance:.2g})"
            observed, expected = found.given[number].text(row), found.expected[number].text(row)
            lines.append([*first, found.given[number].name, own, observed + likely, expected])
    caption = "The rows with the largest errors, each with the columns that add most to its error"
    if not lines:  # rows that are rebuilt exactly
        return ""
    return table(["row", "squared error", "column", "share of the error", "observed", "expected"], lines, caption)


def alarms(found: Findings) -> str:
    """For a detector: its p-values, its promise, and the rows with reasons."""
    detector = found.fitted
    if not is_detector(detector):
        return ""
    (scores, p), rate = found.p_values, detector.false_alarms_
    says = (
        f"{_n_alarms(found)} at a rate of false alarms of {rate:g}. If all rows were normal, p-values would be spread "
        f"evenly, and {rate * len(scores):,.0f} alarms expected."
    )
    if found.are_those_fitted:
        says += " The detector was fitted to these rows: of new normal rows, more may be alarms than of these."
    order = np.argsort(scores, kind="stable")[:N_WORST]
    lines = []
    for row, reason in zip(order, _reasons(found, order), strict=True):
        for rank, because in enumerate(reason["reasons"]):
            first = [f"row {found.labels[row]}", f"{p[row]:.3g}"] if rank == 0 else ["", ""]
            told = [because[name] for name in ("column", "observed", "expected", "direction")]
            lines.append([*first, *map(_cell, told)])
    caption = "The most unusual rows, with the columns that add most"
    head = ["row", "p-value", "column", "observed", "expected", "direction"]
    drift = found.drift(MAY_BE_ANOMALIES)
    promise = paragraph(text(f"What is promised: {detector.guarantee_}."), drift and f"<strong>{text(drift)}</strong>")
    return figure(charts.shares(p, "p-value", rate), says) + promise + table(head, lines, caption)


def _n_alarms(found: Findings) -> str:
    """How many rows are alarms."""
    scores, _ = found.p_values
    n, n_rows = int((scores < found.fitted.offset_).sum()), len(scores)
    return f"{n:,} of {counted(n_rows, 'row')} ({percent(n / n_rows)}) {form(n, 'is an alarm', 'are alarms')}"


def _cell(value: Any) -> str:
    """A value of a detector's reason for a reader, as `Column.text` has those of the rows."""
    if value is None or value != value:
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def predictions(found: Findings) -> str:
    """For a model that predicts labels: how good it is where they are given."""
    if not is_supervised(found.fitted) or is_detector(found.fitted):
        return ""
    if found.y is None:
        return paragraph("No labels of these rows were given, so predictions were not compared with them.")
    says = "The model was fitted to these rows: expect worse predictions for new ones."
    return (paragraph(says) if found.are_those_fitted else "") + _compared(found, found.y)


def _compared(found: Findings, y: np.ndarray) -> str:
    """Predictions beside the labels given."""
    guess, true = np.asarray(found.fitted.predict(found.asked)), y
    if hasattr(found.fitted, "classes_"):
        return _predicted_classes(true.ravel(), guess)
    true = true.reshape(guess.shape)
    says = f"Predictions explain {percent(float(r2_score(true, guess)))} of the variance of the labels."
    some = np.random.default_rng(1).permutation(len(true))[:MOST_POINTS]
    observed, predicted = (each.reshape(len(each), -1)[some].astype(float) for each in (true, guess))
    n = min(observed.shape[1], MOST_TARGETS)
    says_of = [says] if n == 1 else [f"Target {j + 1} of {observed.shape[1]}: {_r2(true, guess, j)}" for j in range(n)]
    drawn = [figure(charts.predicted(observed[:, j], predicted[:, j]), says_of[j]) for j in range(n)]
    return "".join(drawn if n == 1 else [paragraph(text(says)), *drawn])


def _r2(true: np.ndarray, guess: np.ndarray, j: int) -> str:
    """How much of one target is predicted."""
    return f"{percent(float(r2_score(true[:, j], guess[:, j])))} of its variance is predicted."


def _predicted_classes(true: np.ndarray, guess: np.ndarray) -> str:
    """The share of rows whose class is predicted, and how often the most frequent classes are taken for each other."""
    classes, counts = np.unique(true, return_counts=True)
    shown = classes[np.sort(np.argsort(-counts, kind="stable")[:MOST_COLOURS])]
    right, usual = percent(accuracy_score(true, guess)), percent(float(counts.max() / counts.sum()))
    says = f"{right} of the predicted classes are right; the most frequent class has {usual}."
    lines = np.column_stack([shown.astype(object), confusion_matrix(true, guess, labels=shown)])
    caption = "Rows of each class, by the class predicted"
    return paragraph(text(says)) + table(["class", *map(str, shown)], lines.tolist(), caption)


def _reasons(found: Findings, some: np.ndarray) -> list[dict[str, Any]]:
    """The reasons of some rows, in the order of these."""
    records = found.fitted.explain(found.asked, rows=some, n_columns=3, output="records")
    return [records[place] for place in some.argsort().argsort()]


def code_map(found: Findings) -> str:
    """The codes in a plane; the page draws it, so that colours and selections can change."""
    some = np.sort(np.random.default_rng(1).permutation(len(found.codes))[:MOST_POINTS])
    plane, names = found.plane
    shown = [] if found.is_image else _shown(found, MOST_COLOURS)
    x, y, errors = (list(map(charts.number, values)) for values in (*plane[some, :2].T, found.errors[some]))
    shown_points = {
        "x": x,
        "y": y,
        "rows": [found.labels[row] for row in some],
        "axes": names,
        "columns": [{"name": "error", "values": errors}, *(_painted(found.given[j], some) for j in shown)],
    }
    for column in shown_points["columns"][1:]:  # the page says a point's row and error beside these
        column["name"] += " (column)" * (column["name"] in ("row", "error"))
    points = charts.rows_of({"x": x, "y": y, "error": errors})
    count = f"{len(some):,} of the rows" if len(some) < found.n_given else "all rows"
    return (
        '<p><label>Colour by <select id="map-colour"></select></label> Draw a line around points with the mouse or a '
        "finger to list their rows; click once to end the selection.</p>"
        '<div id="map" class="chart" role="img" aria-label="Codes of the rows in a plane">'
        f"{_still(points, names)}</div>"
        f"{data(shown_points, 'map-data')}"
        '<p><label for="map-rows">Selected rows: <output id="map-count">none</output></label>'
        '<textarea id="map-rows" rows="3" readonly></textarea></p>'
        f"<p class='caption'>The codes of {count}. Rows that are near to each other have similar codes.</p>"
    )


def _still(points: list[dict[str, Any]], names: list[str]) -> str:
    """The map before the page draws it: for a phone and a broad page, light and dark; the last one is printed."""
    kinds = (
        ("narrow", 290, 2, "dark", "screen and (max-width: 600px) and (prefers-color-scheme: dark)"),
        ("narrow", 290, 2, "light", "screen and (max-width: 600px)"),
        ("broad", 440, 1.5, "dark", "screen and (prefers-color-scheme: dark)"),
        ("broad", 440, 1.5, "light", ""),
    )
    sources = []
    for width, height, scale, scheme, media in kinds:
        content = vega.picture_in_pixels(charts.scatter(points, names, height), vega.WIDTHS[width], scale, scheme)
        address = f"data:image/webp;base64,{content}"
        sources.append(f'<source media="{media}" srcset="{address}">' if media else f'<img alt="" src="{address}">')
    return f'<picture class="still">{"".join(sources)}</picture>'


def _painted(column: Column, some: np.ndarray) -> dict[str, Any]:
    """The values of some rows in one column as a map has them: numbers, or labels and which of them each row has."""
    if column.is_number and not column.is_time and column.is_known[some].any():
        known = zip(column.is_known[some], column.values[some], strict=True)
        return {
            "name": column.name,
            "values": [charts.number(value) if is_known else None for is_known, value in known],
        }
    labels, values = np.unique([column.text(row) for row in some], return_inverse=True)
    return {"name": column.name, "values": values.tolist(), "labels": labels.tolist()}


def drivers(found: Findings) -> str:
    """Which columns drive each component, and which it drives."""
    if found.is_image:
        return ""
    components = found.ranked[:MOST_COMPONENTS].tolist()
    strongest = np.nan_to_num(found.effects).max(1)
    rows = sorted(np.argsort(-strongest, kind="stable")[:MOST_SHOWN].tolist())
    if not components:
        return ""
    names = [found.given[number].name for number in rows]
    top = found.given[int(np.argmax(np.nan_to_num(found.effects)[:, components[0]]))].name
    says = (
        "What the decoder does: how far each column moves, in its standard deviations, when a component "
        f"goes from one deviation below its mean to one above. Component {components[0] + 1} moves {top} "
        "most."
    )
    both = figure(charts.heatmap(names, components, found.effects[rows], "movement", False), says)
    numbers = [number for number in rows if np.isfinite(found.correlations[number]).any()]
    if numbers:
        names = [found.given[number].name for number in numbers]
        says = "What the encoder sees: the correlation of each column with each component over the rows."
        both += figure(charts.heatmap(names, components, found.correlations[numbers], "correlation", True), says)
    return both


def traversals(found: Findings) -> str:
    """What rows become when one component changes and the others stay at their means."""
    components = found.ranked[: 8 if found.is_image else 4]
    if not len(components):
        return ""
    center = found.codes.mean(0)
    codes = np.repeat(center[None], len(components) * len(DEVIATIONS), axis=0)
    for line, j in enumerate(components):
        first = line * len(DEVIATIONS)
        codes[first : first + len(DEVIATIONS), j] += np.array(DEVIATIONS) * found.spreads[j]
    decoded = found.possible(codes)
    if found.is_image:
        listed = ", ".join(str(j + 1) for j in components)
        says = (
            f"Each line changes one component (from above: {listed}) from two deviations below its mean to two above."
        )
        return strip(pixels(found, decoded), len(DEVIATIONS), says)
    rebuilt, lines = columns(decoded, found.model), []
    for line, j in enumerate(components):
        moved = np.argsort(-np.nan_to_num(found.effects)[:, j], kind="stable")[:3]
        for rank, number in enumerate(moved):
            first = line * len(DEVIATIONS)
            values = [rebuilt[number].text(first + step) for step in range(len(DEVIATIONS))]
            lines.append([f"component {j + 1}" if rank == 0 else "", found.given[number].name, *values])
    steps = (f"{step:+d} {form(abs(step), 'deviation', 'deviations')}" if step else "mean" for step in DEVIATIONS)
    head = ["component", "column", *steps]
    return table(head, lines, "Rows decoded when one component changes; the three columns that move most")


def samples(found: Findings) -> str:
    """New rows drawn from the model."""
    drawn, why = found.drawn
    if drawn is None:
        return paragraph(text(f"This model draws no rows: {why}"))
    if found.is_image:
        return strip(pixels(found, drawn), 8, "New images drawn from the model.")
    rows, shown = columns(drawn, found.model), _first(found)
    names = [found.given[number].name for number in shown]
    lines = [[rows[number].text(row) for number in shown] for row in range(6)]
    return table(names, lines, f"New rows drawn from the model{_of_all(found, shown)}")
