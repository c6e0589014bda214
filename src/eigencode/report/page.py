"""The page of a report: one HTML file with its style, its charts and the programs that draw them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eigencode._version import __version__
from eigencode.data.writing import atomic_write, check_output
from eigencode.descriptions import summary
from eigencode.report import model_sections, sections, vega
from eigencode.report.findings import Findings
from eigencode.report.live import NotLiveError, steps
from eigencode.report.pieces import data, paragraph, text
from eigencode.words import counted

SECTIONS: dict[str, tuple[str, Callable[[Findings], str]]] = {
    "finding": ("What it found", sections.finding),
    "predictions": ("Predictions", sections.predictions),
    "alarms": ("Alarms and their calibration", sections.alarms),
    "map": ("Map of the codes", sections.code_map),
    "reconstructions": ("Reconstructions", sections.reconstructions),
    "columns": ("Error by column", sections.by_column),
    "worst": ("Rows with the largest errors", sections.worst),
    "drivers": ("Columns and components", sections.drivers),
    "traversals": ("One component at a time", sections.traversals),
    "samples": ("New rows", sections.samples),
    "gaps": ("Gaps", model_sections.gaps),
    "sizes": ("Error and the size of the code", model_sections.sizes),
    "units": ("Components", model_sections.units),
    "reproduce": ("How to reproduce it", model_sections.reproduce),
    "training": ("For specialists: training", model_sections.training),
    "jacobian": ("For specialists: sensitivity of the code", model_sections.jacobian),
    "formula": ("For specialists: the formula", model_sections.formula),
}
"""The sections in their order, each with its title."""

DATA = re.compile('<script type="application/json".*?</script>', re.DOTALL)
"""Values that a program of the page reads."""

HERE = Path(__file__).parent

MOST_SLIDERS = 12
"""Components that have a slider."""

UNSCROLLED = 14
"""Columns of a decoded row that are seen without scrolling."""

RANGE = (0.005, 0.995)
"""A slider goes from one of these quantiles of the component to the other."""

LIVE = """<p>Move a component: the row is decoded here, in this page. The components that change the rows most
come first.{hint}</p>
<div id="sliders"></div><p><button type="button" id="reset">Back to the mean code</button></p>
<div id="decoded" tabindex="0" role="region" aria-label="decoded row"></div>
"""


def write(model: Any, X: Any, path: str | os.PathLike[str], y: Any = None) -> None:
    """Write what a model is and what it does with some rows as one HTML file.

    Parameters
    ----------
    model : estimator
        A fitted model.
    X : array-like or frame of shape (n, d)
        Rows like those fitted, preferably others.
    path : path-like
        A file ending in ``.html`` or ``.htm``.
    y : array-like of shape (n,), optional
        The rows' labels, with which predictions are compared.
    """
    check_is_fitted(model)
    check_output(path, [".html", ".htm"])
    vega.require_library()
    content = page(model, X, y)
    with atomic_write(path) as file:
        file.write(content.encode())


def page(model: Any, X: Any, y: Any = None) -> str:
    """The page as text."""
    found = Findings(model, X, y)
    made = {name: (title, make(found)) for name, (title, make) in SECTIONS.items()}
    shown = {name: section for name, section in made.items() if section[1]}
    shown = {
        **{name: shown[name] for name in list(shown)[:2]},
        "live": ("Decode a code of your own", live(found)),
        **shown,
    }
    menu = "".join(f'<li><a href="#about-{name}">{text(title)}</a></li>' for name, (title, _) in shown.items())
    body = "".join(
        f'<section id="about-{name}" aria-labelledby="title-{name}"><h2 id="title-{name}">{text(title)}</h2>'
        f"{content}</section>"
        for name, (title, content) in shown.items()
    )
    values, body = DATA.findall(body), DATA.sub("", body)  # a browser shows the text before the values have arrived
    sizes = {"row": found.n_given, "column": len(found.given), "component": found.codes.shape[1]}
    kind = summary(model)["kind"]
    title = f"{kind} of {', '.join(counted(n, noun) for noun, n in sizes.items())}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_read('page.css')}</style></head><body>"
        '<a class="skip" href="#about-finding">To the report</a>'
        f'<header><h1>{text(kind)}</h1><p class="subtitle">{text(title)}. Made by eigencode {__version__}. This file '
        f'needs no network.</p><nav aria-label="sections"><ul>{menu}</ul></nav></header><main>{body}</main>'
        "<footer>Errors are squared differences in scaled units, summed over the columns of a row, unless another unit "
        "is named.</footer>"
        f"{''.join(values)}{data(vega.common(), 'chart-config')}<script>{_script(_read('live.js'))}</script>"
        f"<script>{_script(_read('page.js'))}</script>"
        f'<script type="text/plain" id="vega">{vega.program()}</script></body></html>\n'
    )


def live(found: Findings) -> str:
    """Sliders for the code, and the row that is decoded from it."""
    try:
        recorded = steps(found.model)
    except NotLiveError as error:
        return paragraph(text(f"This page cannot decode codes of this model: {error}."))
    ranked = found.ranked[:MOST_SLIDERS]
    if not len(ranked):
        return paragraph("The codes of these rows are all the same, so a slider would have no range.")
    ends = np.quantile(found.codes, RANGE, axis=0)
    order = np.argsort(-np.nan_to_num(found.effects).max(1), kind="stable")
    given = {
        **recorded,
        "center": found.codes.mean(0).tolist(),
        "sliders": [{"component": int(j), "low": float(ends[0, j]), "high": float(ends[1, j])} for j in ranked],
        "order": order.tolist(),
        "image": list(found.image_shape) or None,
        "range": list(found.pixel_range) if found.is_image else [],
    }
    scrolls = f" The table of all {len(order)} columns can be scrolled." if len(order) > UNSCROLLED else ""
    hint = "" if found.is_image else f" Bold values differ from those of the mean code.{scrolls}"
    return LIVE.format(hint=hint) + data(given, "live-data")


def _script(program: str) -> str:
    """JavaScript that can stand within HTML."""
    return program.replace("</script", "<\\/script")


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
