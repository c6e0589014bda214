"""Charts as pictures, and the program that draws them again in a browser."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import zlib
from types import ModuleType
from typing import Any

from PIL import Image

from eigencode.errors import OptionError

WIDTH = 832
"""Width of a picture in pixels; that of the page's text in page.css."""

INK, GRID = "var(--ink)", "var(--line)"
TEXT = {"labelColor": INK, "titleColor": INK, "titleFontWeight": "normal", "labelFontSize": 12, "titleFontSize": 12}

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "aria": False,  # the element around a chart says what it shows
    "mark": {"aria": False},
    "view": {"stroke": None},
    "axis": {**TEXT, "gridColor": GRID, "domainColor": GRID, "tickColor": GRID},
    "axisX": {"labelFlush": False},
    "axisQuantitative": {"tickCount": 7},
    "legend": {**TEXT, "orient": "top", "columnPadding": 20},  # a browser's letters may be wider than those measured
    "header": {"labelColor": INK, "titleColor": INK},
    "range": {"category": [f"var(--c{i})" for i in range(8)], "ramp": ["#3d6fd6", "#35a78c", "#dba514"]},
    "bar": {"color": "var(--c0)"},
    "point": {"color": "var(--c0)"},
}
"""What all charts have in common; the variables are colours of page.css, light or dark."""

IN_PIXELS = {INK: "#78818f", GRID: "#78818f55"}
"""Colours of a picture in pixels, which can be read on white and on black."""


NOT_IN_XML = re.compile(r"\\u[0-9a-f]{4}|\\[bf]|(\\.)|[\ud800-\udfff\ufffe\uffff]")
"""Characters of JSON that a picture cannot have, written as escapes or not; a group holds the other escapes."""

MOST_COLOURS = 128
"""Colours of a picture in pixels: a tenth of the bytes, and no difference that can be seen."""


def picture(spec: dict[str, Any]) -> str:
    """A chart as SVG, as wide as the page, with the page's colours."""
    found: str = _library().vegalite_to_svg(_as_wide_as_the_page(spec), config=CONFIG)
    found = re.sub(r' (role|aria-[a-z]+)="[^"]*"', "", found)  # the element around it is what a screen reader reads
    own = f"picture{zlib.crc32(json.dumps(spec).encode())}"  # a browser's Vega gives its names to others
    for number, name in enumerate(re.findall(r' id="(\w+)"', found)):
        for begin, end in ((' id="', '"'), ("url(#", ")")):
            found = found.replace(f"{begin}{name}{end}", f"{begin}{own}-{number}{end}")
    return found


def picture_in_pixels(spec: dict[str, Any]) -> str:
    """A chart of many points as the text of a PNG, which is smaller than SVG."""
    config = json.loads(re.sub(r"var\(--\w+\)", lambda name: IN_PIXELS.get(name[0], name[0]), json.dumps(CONFIG)))
    content = _library().vegalite_to_png(_as_wide_as_the_page(spec), config=config, scale=1.5)
    small = io.BytesIO()
    Image.open(io.BytesIO(content)).quantize(MOST_COLOURS).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def program() -> str:
    """Vega-Lite and what it needs, as JavaScript, packed by gzip as text."""
    content: str = _library().javascript_bundle()
    return base64.b64encode(gzip.compress(content.encode(), mtime=0)).decode()


def _as_wide_as_the_page(spec: dict[str, Any]) -> dict[str, Any]:
    whole = {"width": WIDTH, "autosize": {"type": "fit-x", "contains": "padding"}}
    whole = spec | whole if spec.get("width") == "container" else spec
    content = json.dumps(whole, ensure_ascii=False)
    drawn: dict[str, Any] = json.loads(NOT_IN_XML.sub(lambda found: found[1] or "\N{REPLACEMENT CHARACTER}", content))
    return drawn


def _library() -> ModuleType:
    try:
        import vl_convert
    except ImportError as error:
        what = "A report needs vl-convert-python, which has Vega-Lite"
        raise OptionError(what, got=error.msg, hint="Install it with: pip install 'eigencode[report]'") from None
    return vl_convert
