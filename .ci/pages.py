"""Check the built documentation: every page is complete without a network, and every link inside of it leads somewhere.

.ci/pages.py docs/_build/html
"""

from __future__ import annotations

import builtins
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Page:
    """One page of HTML, read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.soup = BeautifulSoup(path.read_text(), "html.parser")
        self.anchors = {str(tag["id"]) for tag in self.soup.find_all(id=True)}

    def addresses(self, attributes: dict[str, str]) -> Iterator[str]:
        """Yield the addresses in an attribute of each kind of tag."""
        for name, attribute in attributes.items():
            yield from (str(tag[attribute]) for tag in self.soup.find_all(name, attrs={attribute: True}))


def faults(folder: Path) -> Iterator[str]:
    """Yield what is wrong, a line for each fault."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    for page in pages.values():
        name = page.path.relative_to(folder)
        yield from (f"{name}: loads {address}" for address in page.addresses(LOADED) if urlsplit(address).netloc)
        yield from (f"{name}: formula not understood: {m.text}" for m in page.soup.find_all("math") if "\\" in m.text)
        yield from (f"{name}: nothing is described as {reference}" for reference in unresolved(page))
        yield from (f"{name}: {fault}" for fault in broken_links(page, pages))


def unresolved(page: Page) -> Iterator[str]:
    """Yield the references that Sphinx left as text, but for names of Python and torch."""
    for reference in page.soup.select("code.xref.py"):
        known = hasattr(builtins, reference.text) or reference.text in ("Callable", "Tensor")
        if not known and not reference.find_parent("a"):
            yield reference.text


def broken_links(page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield the links of a page to files or anchors that do not exist."""
    for address in page.addresses({"a": "href", **LOADED}):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path.resolve()
        if not target.exists():
            yield f"no file for {address}"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
            yield f"no anchor for {address}"


def search_faults(folder: Path) -> Iterator[str]:
    """Search from the disk in Chromium, where there is one, for a class that has a page."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return
    address = f"{(folder / 'search.html').resolve().as_uri()}?q=TopK"
    options = "--headless=new --no-sandbox --disable-gpu --virtual-time-budget=8000 --enable-logging=stderr --dump-dom"
    run = subprocess.run(
        [chromium, *options.split(), address], capture_output=True, text=True, check=False, timeout=300
    )
    results = [link["href"] for link in BeautifulSoup(run.stdout, "html.parser").select("ul.search a")]
    if not any("eigencode.parts.TopK.html" in str(result) for result in results):
        yield f"search.html: TopK is not found, but {results}"
    yield from (f"search.html: {line}" for line in run.stderr.splitlines() if "CONSOLE" in line)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = [*faults(folder), *search_faults(folder)]
    print("\n".join(found) or "the pages need no network, and all their links lead somewhere")
    sys.exit(bool(found))
