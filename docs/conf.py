"""Sphinx configuration; every asset comes from an installed package, so neither a build nor a page needs a network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from eigencode._version import __version__

project = "eigencode"
author = "The eigencode authors"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
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
}
suppress_warnings = ["config.cache"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3  # lets one page link to a heading of another, and checks that it is there

# Docstrings state the types already, for readers and with shapes; signatures with both would be unreadable.
autodoc_typehints = "none"
autodoc_member_order = "bysource"

napoleon_google_docstring = False
napoleon_use_ivar = True  # attributes as a list: as directives they would be indexed twice
napoleon_use_rtype = False

# Copy what is typed, without the prompts and the output.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"eigencode {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]


def leave_to_scikit_learn(
    app: Sphinx, what: str, name: str, member: object, skip: bool, options: object
) -> bool | None:
    """Skip what comes from scikit-learn: its docstrings refer to pages that are not here."""
    return True if (getattr(member, "__module__", None) or "").startswith("sklearn.") else None


def in_mathml(formula: str, display: str) -> str:
    """Return a formula in MathML, with the thin space that TeX sets after a name like log."""
    return re.sub(r"(<mi>(?:log|exp)</mi>)(?!<mo)", r'\1<mspace width="0.17em"/>', convert(formula, display=display))


def write_formula(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line as MathML, which browsers draw without any script."""
    translator.body.append(in_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def write_displayed_formula(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    translator.body.append(f'<div class="formula">{in_mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connect the above to Sphinx."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_displayed_formula, None))
    app.connect("autodoc-skip-member", leave_to_scikit_learn)
