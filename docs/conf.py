"""Sphinx configuration; every asset comes from an installed package, so neither a build nor a page needs a network."""

import importlib
import inspect
import re
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

import eigencode.parts
from eigencode._version import __version__

SHARED = eigencode.Autoencoder.__mro__

project = "eigencode"
author = "The eigencode authors"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]

# Every page of the gallery is run, and an error in one fails the build.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
    "capture_repr": ("_repr_html_",),  # not the text of a legend that ends a block
}
suppress_warnings = ["config.cache"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = (
    3  # lets one page link to a heading of another, and checks that it is there
)

# Docstrings state the types already, for readers and with shapes; signatures with both would be unreadable.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
maximum_signature_line_length = 88

napoleon_google_docstring = False
# A list with the names as they are: napoleon's own form takes the underscore at their end for markup.
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False

# Copy what is typed, without the prompts and the output.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_theme_options = {"top_of_page_buttons": []}
html_title = f"eigencode {release}"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["pages.css"]
html_show_search_summary = (
    False  # results are fetched for it, which browsers refuse for pages on disk
)


def home(base: type, cls: type) -> str | None:
    """Return the public name of a base of a class; what estimators share is on the page of Autoencoder."""
    for module in (eigencode, eigencode.parts):
        if getattr(module, base.__name__, None) is base:
            return f"{module.__name__}.{base.__name__}"
    return (
        "eigencode.Autoencoder"
        if cls is not eigencode.Autoencoder and base in SHARED
        else None
    )


def is_described(value: object) -> bool:
    """Return whether a member has documentation of its own: a method or a property, not from scikit-learn."""
    return (
        inspect.isroutine(value) and not type(value).__module__.startswith("sklearn")
    ) or isinstance(value, property)


def described(name: str) -> tuple[list[str], dict[str, list[str]]]:
    """Return the members that the page of a class describes, and by class those that other pages describe."""
    module, _, own_name = name.rpartition(".")
    cls = getattr(importlib.import_module(module), own_name)
    found: dict[str | None, list[str]] = {
        None: [n for n in inspect.get_annotations(cls) if n[0] != "_"]
    }
    seen: set[str] = set()
    for base in [
        base for base in cls.__mro__ if base.__module__.startswith("eigencode")
    ]:
        names = [
            n
            for n, value in vars(base).items()
            if n[0] != "_" and n not in seen and is_described(value)
        ]
        found.setdefault(None if base is cls else home(base, cls), []).extend(names)
        seen.update(names)
    own = found.pop(None)
    return own, {str(base): names for base, names in found.items() if names}


autosummary_generate = True
autosummary_context = {"described": described}
templates_path = ["_templates"]


def in_mathml(formula: str, display: str) -> str:
    """Return a formula in MathML, with the thin space that TeX sets after a name like log."""
    return re.sub(
        r"(<mi>(?:log|exp)</mi>)(?!<mo)",
        r'\1<mspace width="0.17em"/>',
        convert(formula, display=display),
    )


def write_formula(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line as MathML, which browsers draw without any script."""
    translator.body.append(in_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def write_displayed_formula(
    translator: HTML5Translator, node: nodes.math_block
) -> None:
    """Write a formula on lines of its own."""
    translator.body.append(
        f'<div class="formula">{in_mathml(node.astext(), "block")}</div>\n'
    )
    raise nodes.SkipNode


ACCESSIBLE = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Pages">',
    '<aside class="toc-drawer': '<aside aria-label="On this page" class="toc-drawer',
    # What is wider than its page is scrolled with the keys.
    "<pre>": '<pre tabindex="0">',
    '<div class="formula">': '<div tabindex="0" class="formula">',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
}
"""What the theme and Sphinx write, and what readers of a screen or users of a keyboard need."""


def without_list(signature: re.Match[str]) -> str:
    """Return the parameters of a signature as blocks, since a list of definitions needs terms."""
    blocks = signature[1].replace("<dd>", "<div>").replace("</dd>", "</div>")
    return f'<div class="parameters">{blocks}</div>'


def make_accessible(app: Sphinx, exception: Exception | None) -> None:
    """Mend the pages that were written."""
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text()
        for written, needed in ACCESSIBLE.items():
            text = text.replace(written, needed)
        pattern = r'<dl>(\s*<dd><em class="sig-param">.*?)</dl>'
        path.write_text(re.sub(pattern, without_list, text, flags=re.DOTALL))


def setup(app: Sphinx) -> None:
    """Connect the above to Sphinx."""
    app.connect("build-finished", make_accessible)
    app.add_html_math_renderer(
        "mathml", (write_formula, None), (write_displayed_formula, None)
    )
