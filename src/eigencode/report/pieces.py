"""Pieces of HTML: texts, tables, charts and pictures."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from eigencode.data.pictures import PICTURES, encoded, grid
from eigencode.report import vega
from eigencode.report.charts import Chart, height_of, panels_of


def text(value: object) -> str:
    """A text within HTML."""
    return html.escape(str(value))


def with_code(sentence: str) -> str:
    """A sentence within HTML, in which flags of the shell are code."""
    return re.sub(r"(?<!\S)--[a-z][a-z-]*", lambda flag: f"<code>{flag[0]}</code>", text(sentence))


def paragraph(*sentences: str) -> str:
    """A paragraph."""
    return f"<p>{' '.join(sentence for sentence in sentences if sentence)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """A table of texts."""
    title = f"<caption>{text(caption)}</caption>" if caption else ""
    top = "".join(f'<th scope="col">{text(name)}</th>' if name else "<td></td>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return wide(
        caption or ", ".join(filter(None, head)) or "facts",
        f"{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody>",
    )


def wide(name: str, content: str) -> str:
    """A table that can be scrolled sideways, by the keyboard too."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{text(name)}"><table>{content}</table></div>'


def figure(spec: Chart, says: str) -> str:
    """A chart, with a sentence of what it shows."""
    panels = f' data-panels="{n}"' if (n := panels_of(spec)) else ""
    room = f'style="min-height:{height_of(spec)}px"'
    drawn = vega.compiled(spec)
    stills = [f'<div class="still {name}">{vega.picture(drawn, width)}</div>' for name, width in vega.WIDTHS.items()]
    drawing = f'<div class="chart" role="img" aria-label="{text(says)}" {room}{panels}>{"".join(stills)}</div>'
    return f"<figure>{drawing}{data(drawn)}<figcaption>{text(says)}</figcaption></figure>"


def data(values: object, name: str = "") -> str:
    """Values that a program of the page reads, as JSON; by the element's name, if it has one."""
    own = f' id="{name}"' if name else ""
    content = json.dumps(values, allow_nan=False, separators=(",", ":"))
    content = content.replace("<", "\\u003c")  # or <!-- keeps the script open
    return f'<script type="application/json"{own}>{content}</script>'


def picture(images: np.ndarray, says: str) -> str:
    """Images of shape (n, h, w) or (n, h, w, c) in 8 bits as one picture."""
    content = base64.b64encode(encoded(Path("images.png"), grid(images), PICTURES[".png"])).decode()
    image = f'<img src="data:image/png;base64,{content}" alt="{text(says)}">'
    return f"<figure>{image}<figcaption>{text(says)}</figcaption></figure>"


def strip(images: np.ndarray, n_across: int, says: str) -> str:
    """Images in lines of so many."""
    framed = [np.pad(image, [(1, 1), (1, 1), *[(0, 0)] * (image.ndim - 2)]) for image in images]
    lines = [np.concatenate(framed[i : i + n_across], axis=1) for i in range(0, len(images), n_across)]
    return picture(np.concatenate(lines, axis=0)[None], says)
