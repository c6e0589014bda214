"""Charts compiled by Vega-Lite, their pictures, and the program that draws them again in a browser."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import sys
import zlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from eigencode.data.memory import require_reserve
from eigencode.errors import OptionError
from eigencode.report.charts import LETTERS

Spec = dict[str, Any]

RESERVED = {"RLIMIT_AS": 2.0**36, "RLIMIT_DATA": 1e9}
"""Bytes that the library of charts reserves, by the limits of a process, most of which it gives back at once."""

WIDTHS = {"broad": 832, "narrow": 358}
"""Widths of pictures in pixels: that of the page's text in page.css, and that of the text on a phone."""

NARROW = 500
"""Below this width, names have fewer letters, and legends two columns; page.js has the same rules."""

PANEL_WIDTH = 160
"""Width of one small chart in pixels with what is around it; page.js has it too."""

INK, GRID = "var(--ink)", "var(--line)"
TEXT = {"labelColor": INK, "titleColor": INK, "titleFontWeight": "normal", "labelFontSize": 12, "titleFontSize": 12}

CONFIG: Spec = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "aria": False,  # the element around a chart says what it shows
    "mark": {"aria": False},
    "view": {"stroke": None},
    "axis": {**TEXT, "gridColor": GRID, "domainColor": GRID, "tickColor": GRID},
    "axisX": {"labelFlush": False, "labelSeparation": 8},
    "axisQuantitative": {"tickCount": 7, "labelSeparation": 8},
    "legend": {**TEXT, "orient": "top", "columnPadding": 20},  # a browser's letters may be wider than those measured
    "header": {"labelColor": INK, "titleColor": INK},
    "range": {"category": [f"var(--c{i})" for i in range(8)], "ramp": ["#3d6fd6", "#35a78c", "#dba514"]},
    "bar": {"color": "var(--c0)"},
    "point": {"color": "var(--c0)"},
}
"""What all charts have in common; the variables are colours of page.css, light or dark."""

STYLE = Path(__file__).parent / "page.css"

SCHEMES = "light", "dark"
"""Schemes of colours, in the order in which page.css has them."""

NOT_IN_XML = re.compile(r"\\u[0-9a-f]{4}|\\[bf]|(\\.)|[\ud800-\udfff\ufffe\uffff]")
"""Characters of JSON that a picture cannot have, written as escapes or not; a group holds the other escapes."""

MOST_COLOURS = 128
"""Colours of a picture in pixels: a tenth of the bytes, and no difference that can be seen."""

NEEDLESS = re.compile(
    r' (?:role|aria-[a-z]+|class|pointer-events|font-family|version|xmlns:\w+)="[^"]*"'
    r'| (?:opacity|stroke-width)="1"| font-size="12px"'
)
"""Attributes that a picture does not need: a screen reader reads the element around it, and page.css has the font."""

UNSEEN = re.compile(r'<path(?: transform="[^"]*")? d="[^"]*"(?: display="none")?/>|<g(?: transform="[^"]*")?></g>')
"""Elements that draw nothing."""

OF_ONE_FILL = re.compile(r'<path d="[^"]*" fill="([^"]*)"/>(?:<path d="[^"]*" fill="\1"/>)+')
"""Areas of one colour after each other, as the bars of a histogram, which can be one element."""

DECIMALS = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")


def compiled(spec: Spec) -> Spec:
    """A chart of Vega-Lite as one of Vega, as wide as the page, without what all charts have in common."""
    return {name: part for name, part in _compiled(spec, CONFIG).items() if name != "config"}


@cache
def common() -> Spec:
    """What all compiled charts have in common."""
    found: Spec = _compiled({"mark": "point", "data": {"values": []}, "encoding": {}}, CONFIG)["config"]
    return found


def at_width(spec: Spec, width: int) -> Spec:
    """A compiled chart for a page of this width."""
    found, config = dict(spec), common()
    if "layout" in spec:  # small charts, as many in a line as there is room for
        found["layout"] = {**spec["layout"], "columns": max(1, min(4, width // PANEL_WIDTH))}
    else:
        found["width"] = width
    if width < NARROW:
        signals = [{**each, "value": LETTERS // 2} if each["name"] == "letters" else each for each in spec["signals"]]
        found["signals"], config = signals, {**config, "legend": {**config["legend"], "columns": 2}}
    return {**found, "config": config}


def picture(spec: Spec, width: int) -> str:
    """A compiled chart as SVG of a width, with the page's colours."""
    found: str = _library().vega_to_svg(at_width(spec, width))
    found = re.sub("<[^>]+>", lambda tag: _short(tag[0]), found)
    while (less := UNSEEN.sub("", found)) != found:
        found = less
    found = OF_ONE_FILL.sub(lambda areas: _joined(areas[0], areas[1]), found)
    own = f"picture{zlib.crc32(found.encode())}"  # a browser's Vega gives its names to others
    for number, name in enumerate(re.findall(r' id="(\w+)"', found)):
        for begin, end in ((' id="', '"'), ("url(#", ")")):
            found = found.replace(f"{begin}{name}{end}", f"{begin}{own}-{number}{end}")
    return found


@cache
def colours(scheme: str) -> dict[str, str]:
    """The colours of page.css in a scheme, by their names."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE.read_text(encoding="utf-8"), re.DOTALL)
    return dict(re.findall(r"(--\w+): (#\w+)", blocks[SCHEMES.index(scheme)]))


def picture_in_pixels(spec: Spec, width: int, scale: float, scheme: str) -> str:
    """A chart of Vega-Lite with many points as the text of a WebP picture, which is smaller than SVG."""
    named = colours(scheme)
    config = json.loads(re.sub(r"var\((--\w+)\)", lambda found: named[found[1]], json.dumps(CONFIG)))
    content = _library().vega_to_png({**_compiled(spec, config), "width": width}, scale=scale)
    small = io.BytesIO()
    Image.open(io.BytesIO(content)).quantize(MOST_COLOURS).convert("RGBA").save(small, "WEBP", lossless=True)
    return base64.b64encode(small.getvalue()).decode()


@cache
def program() -> str:
    """Vega as JavaScript, packed by gzip as text; it takes half the time of a page."""
    library = _library()
    # The name by which the library has this module; it does not ask the network.
    module = f"https://cdn.jsdelivr.net/npm/vega@{library.get_vega_version()}/+esm"
    content: str = library.javascript_bundle(f'import * as whole from "{module}"; window.vega = whole;')
    return base64.b64encode(gzip.compress(content.encode(), mtime=0)).decode()


def require_library() -> None:
    """Raise an error where charts cannot be made."""
    _library()


def _compiled(spec: Spec, config: Spec) -> Spec:
    whole = {"width": WIDTHS["broad"], "autosize": {"type": "fit-x", "contains": "padding"}}
    whole = spec | whole if spec.get("width") == "container" else spec
    content = json.dumps(whole, ensure_ascii=False)
    drawn = json.loads(NOT_IN_XML.sub(lambda found: found[1] or "\N{REPLACEMENT CHARACTER}", content))
    found: Spec = _library().vegalite_to_vega(drawn, config=config)
    found.pop("$schema", None)
    return found


def _short(tag: str) -> str:
    """A tag without what is not needed, with numbers of two decimals."""
    tag = re.sub(r"rgb\((\d+), (\d+), (\d+)\)", lambda rgb: "#{:02x}{:02x}{:02x}".format(*map(int, rgb.groups())), tag)
    return DECIMALS.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), NEEDLESS.sub("", tag))


def _joined(areas: str, fill: str) -> str:
    """Areas of one colour as one element."""
    joined = "".join(re.findall(r' d="([^"]*)"', areas))
    return f'<path d="{joined}" fill="{fill}"/>'


def _library() -> ModuleType:
    if "vl_convert" not in sys.modules:  # without this it would end the process
        require_reserve(RESERVED, "Drawing charts", "Make the page in a shell without this limit")
    try:
        import vl_convert
    except ImportError as error:
        what = "A report needs vl-convert-python, which has Vega-Lite"
        raise OptionError(what, got=error.msg, hint="Install it with: pip install 'eigencode[report]'") from None
    return vl_convert
