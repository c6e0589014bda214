"""A fitted model in a notebook: key figures, notes, and the curve of its training, as HTML."""

from __future__ import annotations

from typing import Any

import numpy as np

from eigencode.descriptions import columns_of, outcome, summary
from eigencode.report.pieces import text
from eigencode.words import counted

WIDTH, HEIGHT = 360, 90
"""Pixels of the curve."""


def card(model: Any) -> str:
    """Key figures, notes and curve of a fitted estimator; nothing of one that is not fitted."""
    inner = getattr(model, "model_", getattr(model, "autoencoder_", model))
    if not hasattr(inner, "history_"):
        return ""
    facts = summary(model)
    code = f"{counted(facts['n_components'], 'component')} of {columns_of(facts)}"
    figures = {"code": code, **outcome(facts)}
    notes = figures.pop("note", "").splitlines()
    rows = "".join(
        f'<tr><th style="text-align:left;font-weight:normal;opacity:.7">{text(name)}</th>'
        f'<td style="text-align:left">{text(value)}</td></tr>'
        for name, value in figures.items()
    )
    listed = f"<ul>{''.join(f'<li>{text(note)}</li>' for note in notes)}</ul>" if notes else ""
    return f'<div class="eigencode-card"><table>{rows}</table>{curve(inner)}{listed}</div>'


def curve(model: Any) -> str:
    """The objective by rows seen as a small picture, and the linear baseline's as a dashed line."""
    rows = [row for row in model.history_ if np.isfinite(row.get("validation_objective", np.nan))]
    if len(rows) < 3:
        return ""
    x, y = (np.array([row[name] for row in rows], dtype=float) for name in ("rows", "validation_objective"))
    level = None if model.baseline_ is None else float(model.baseline_.history_[0]["validation_objective"])
    # The first ones are far higher after a random start, and would flatten the rest.
    shown = np.append(y[len(y) // 4 :], [] if level is None else level)
    low, high = float(shown.min()), float(max(shown.max(), shown.min() + 1e-9))

    def down(values: Any) -> Any:
        return (HEIGHT - 8) - (np.minimum(values, high) - low) / (high - low) * (HEIGHT - 16)

    across = 4 + (x - x[0]) / (x[-1] - x[0] or 1) * (WIDTH - 8)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down(y), strict=True))
    line = "" if level is None else (
        f'<line x1="4" x2="{WIDTH - 4}" y1="{down(level):.1f}" y2="{down(level):.1f}" stroke="currentColor" '
        'stroke-dasharray="5 4" opacity=".6"/>'
    )  # fmt: skip
    caption = "objective by rows seen" + ("; dashed: the linear baseline" if line else "")
    says = f"objective from {y[0]:.5g} to {y.min():.5g}" + ("" if level is None else f", linear baseline {level:.5g}")
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{says}"><title>{says}</title>{line}'
        f'<polyline points="{points}" fill="none" stroke="#3f90da" stroke-width="2"/></svg>'
        f'<div style="font-size:85%;opacity:.7">{caption}</div>'
    )
