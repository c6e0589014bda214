"""Sphinx configuration; every asset comes from an installed package, so a build needs no network."""

from sphinx.application import Sphinx

from eigencode._version import __version__

project = "eigencode"
author = "The eigencode authors"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
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

myst_enable_extensions = ["deflist", "dollarmath"]
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


def leave_to_scikit_learn(
    app: Sphinx, what: str, name: str, member: object, skip: bool, options: object
) -> bool | None:
    """Skip what comes from scikit-learn: its docstrings refer to pages that are not here."""
    return True if (getattr(member, "__module__", None) or "").startswith("sklearn.") else None


def setup(app: Sphinx) -> None:
    """Connect the above to Sphinx."""
    app.connect("autodoc-skip-member", leave_to_scikit_learn)
