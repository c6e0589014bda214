"""Sections about a model itself: its components, training, formula, and how it was made."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn

from eigencode._version import __version__
from eigencode.descriptions import TERMS, description, own_options, summary
from eigencode.lazy import torch
from eigencode.report import charts
from eigencode.report.findings import Findings
from eigencode.report.pieces import figure, paragraph, table, text, wide
from eigencode.report.sections import MOST_COMPONENTS, MOST_SHOWN
from eigencode.words import counted, percent

FORMULA = {
    "reconstruction": ("&minus;log p(x | z)", "how badly the row is rebuilt from its code"),
    "corruption": ("x&#771; ~ C(x&#771; | x)", "the encoder sees a damaged copy of the row"),
    "prior": ("&beta; D(q(z | x), p(z))", "how far the code's distribution is from the prior"),
    "penalty": ("&Omega;", "a penalty on the code or its derivatives"),
    "weight_prior": ("&minus;(1/n) log p(w)", "a prior on the weights"),
}


def formula(found: Findings) -> str:
    """The formula with the model's own terms."""
    facts = summary(found.model)
    rows = [("code", "q(z | x)", facts["code"], "what the encoder's output means")]
    rows.append(("likelihood", FORMULA["reconstruction"][0], facts["likelihood"], FORMULA["reconstruction"][1]))
    for name in ("corruption", "prior", "weight_prior"):
        if facts[name] is not None:
            rows.append((name.replace("_", " "), FORMULA[name][0], facts[name], FORMULA[name][1]))
    rows += [("penalty", FORMULA["penalty"][0], penalty, FORMULA["penalty"][1]) for penalty in facts["penalties"]]
    terms = [FORMULA["reconstruction"][0]]
    terms += [FORMULA["prior"][0]] if facts["prior"] is not None else []
    terms += [FORMULA["penalty"][0]] * len(facts["penalties"])
    terms += [FORMULA["weight_prior"][0]] if facts["weight_prior"] is not None else []
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th><td class="math">{math}</td>'
        f'<td><code>{text(part)}</code></td><td class="meaning">{says}</td></tr>'
        for name, math, part, says in rows
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("term", "symbol", "here", "meaning"))
    line = f'<p class="math formula">minimise over w the mean of {" + ".join(terms)}</p>'
    return line + wide("terms of the formula", f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>")


def training(found: Findings) -> str:
    """The objective while it was trained."""
    model = found.model
    last = model.history_[-1]
    objective = "validation" if model._has_validation else "training"
    says = (
        f"The weights kept are of epoch {model.best_epoch_}: their objective on {objective} rows is "
        f"{model.best_objective_:.4g} nats a row. Training ended after epoch {last['epoch']}, with {last['rows']:,} "
        "rows seen."
    )
    curve = paragraph(text(says)) if len(model.history_) < 2 else figure(charts.history(model), says) + _by_term(model)
    if len(found.terms) < 2:
        return curve
    lines = [[name, f"{value:.4g}"] for name, value in found.terms.items()]
    return curve + table(["term", "nats a row"], lines, "The objective of these rows by term, at the mean code")


def _by_term(model: Any) -> str:
    """How each term of the objective changed, if there are several."""
    above, kept = charts.terms_beside_kept(model)
    if not above:
        return ""
    listed = ", ".join(f"{name} {value:.4g}" for name, value in kept.items())
    says = (
        "Each term of the objective beside its value at the weights kept: above 0 it was larger, below 0 smaller. "
        f"At the weights kept: {listed} nats a row."
    )
    low, high = charts.readable_limits(charts.in_view(above))
    beyond = [name for name, values in above.items() if np.nanmax(values) > high or np.nanmin(values) < low]
    if beyond:
        says += f" The first values of {', '.join(beyond)} are beyond the axis."
    return figure(charts.terms(model, above), says)


def sizes(found: Findings) -> str:
    """The error against the size of the code."""
    linear, own = found.by_size
    k, error = found.codes.shape[1], float(found.errors.mean())
    equal = next((size for size, value in enumerate(linear) if value <= error), None)
    says = f"The squared error a row, in scaled units, is {error:.4g} with {counted(k, 'component')}. "
    says += f"PCA of these rows needs {equal} for as small an error." if equal is not None else "PCA never gets as low."
    if (n := found.cells.shape[1]) != (d := len(found.given)):
        says += f" It sees {n} numbers and not {d}: a column of labels is one number for each of its labels."
    if found.are_those_fitted is False:
        says += " PCA is fitted to the rows of this page, and the model is not, or not to all of them."
    return figure(charts.sizes(linear, own, k, error), says)


def units(found: Findings) -> str:
    """The components: dead, saturated, and their distributions."""
    codes, k = found.codes, found.codes.shape[1]
    active = (codes != 0).mean(0)
    lines = []
    for j in [*found.ranked, *np.flatnonzero(found.dead)][: 2 * MOST_COMPONENTS]:
        column = codes[:, j]
        state = "dead" if found.dead[j] else "saturated" if _is_saturated(column) else "in use"
        state = "not known" if len(codes) == 1 else state
        moved = float(np.nan_to_num(found.effects[:, j]).sum())
        lines.append(
            [
                int(j) + 1,
                state,
                f"{column.mean():.3g}",
                f"{column.std():.3g}",
                percent(float(active[j])),
                f"{moved:.3g}",
            ]
        )
    head = ["component", "state", "mean", "deviation", "rows where it is not 0", "effect on all columns"]
    caption = "Components, those with the largest effect first"
    more = f"; the first {len(lines)} of {k}" if len(lines) < k else ""
    chart = ""
    if len(found.ranked):
        chart = figure(
            charts.units(codes, found.ranked[:12].tolist()), "The distribution of each component over the rows."
        )
    return table(head, lines, caption + more) + chart


def _is_saturated(column: np.ndarray) -> bool:
    """Whether most values are at the largest or the smallest one, and both occur."""
    low, high = column.min(), column.max()
    at_ends = (column <= low + 0.01 * (high - low)).mean(), (column >= high - 0.01 * (high - low)).mean()
    return bool(sum(at_ends) > 0.8 and min(at_ends) > 0.05)


def jacobian(found: Findings) -> str:
    """The singular values of the encoder's Jacobian."""
    values = found.singular_values
    if values is None or not values.size:
        return ""
    squares = np.sort(values**2, axis=1)[:, ::-1]
    needed = (np.cumsum(squares, axis=1) < 0.95 * squares.sum(1, keepdims=True)).sum(1) + 1
    n = round(float(np.median(needed)))
    says = (
        "How much the code changes for a small change of the row along each singular direction of the "
        f"encoder's Jacobian, at {counted(len(values), 'row')} (median and middle half). "
        f"{counted(n, 'direction has', 'directions have')} 95 % of the squared change."
    )
    return figure(charts.spectrum(values[:, :MOST_SHOWN]), says)


def gaps(found: Findings) -> str:
    """How many cells are missing, and how well they are filled."""
    missing = [column for column in found.by_column if column.missing > 0]
    parts = []
    if missing:
        missing = sorted(missing, key=lambda column: -column.missing)[:MOST_SHOWN]
        values = {"missing": [column.missing for column in missing]}
        n_missing = counted(len(missing), "column has", "columns have")
        says = f"{n_missing} gaps, {missing[0].name} most ({percent(missing[0].missing)} of its rows)."
        parts.append(figure(charts.bars([c.name for c in missing], values, "share of rows"), says))
    if filled := found.filling:
        some = sorted(filled, key=lambda line: line[1] - line[2])[:MOST_SHOWN]
        names = [line[0] for line in some]
        groups = {"this model": [line[1] for line in some], "mean or most frequent": [line[2] for line in some]}
        better = sum(own < usual for _, own, usual in filled)
        says = (
            "A tenth of the known cells were hidden and filled again: the model is better than the mean "
            f"or the most frequent label in {better} of {counted(len(filled), 'column')}. Errors are in standard "
            "deviations, or shares of labels that are wrong."
        )
        # Hundreds of pixels are not read one by one.
        parts.append(paragraph(says) if found.is_image else figure(charts.bars(names, groups, "error"), says))
    return "".join(parts)


def reproduce(found: Findings) -> str:
    """How the model was made: options, seed, versions, and what identifies the data."""
    model = found.fitted
    facts = description({**summary(model), "version": __version__})
    options = {name: getattr(model, name) for name in dict.fromkeys([*_changed(model), *own_options(model)])}
    call = ", ".join(f"{name}={value!r}" for name, value in options.items() if name != "random_state")
    seed = f"random_state={found.fitted.seed_}" if hasattr(found.fitted, "seed_") else ""
    code = f"{type(model).__name__}({', '.join(part for part in (call, seed) if part)}).fit(X)"
    versions = (
        f"eigencode {__version__}, torch {torch.__version__}, scikit-learn {sklearn.__version__}, NumPy "
        f"{np.__version__}"
    )
    elsewhere = {"columns", "note", "options", "penalties", *(name.replace("_", " ") for name in TERMS)}
    lines = [[name, fact] for name, fact in facts.items() if name not in elsewhere]
    lines += [
        ["versions", versions],
        ["rows fitted", f"fingerprint {getattr(model, 'fingerprint_', None) or 'not known'}"],
        ["rows of this report", f"{found.n_given:,}; fingerprint {found.fingerprint or 'not known'}"],
    ]
    meaning = (
        "The objective is what training makes small: minus the logarithm of how likely the model makes a row, and what "
        "a prior or a penalty adds. One nat less is a row 2.7 times as likely."
    )
    return f"<pre><code>{text(code)}</code></pre>" + table(["", ""], lines) + paragraph(meaning)


def _changed(model: Any) -> list[str]:
    """Names of the options that are not at their defaults."""
    defaults = type(model)().get_params(deep=False)
    return [name for name, value in model.get_params(deep=False).items() if repr(value) != repr(defaults[name])]
