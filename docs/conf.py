"""How Sphinx makes the book. It runs on what ``stage.py`` has put together, not on this folder."""

import importlib.metadata
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import docstrings

project = "Undiffuse"
author = "The Undiffuse authors"
copyright = "The Undiffuse authors. Texts CC BY 4.0, code MIT"
version = release = importlib.metadata.version("undiffuse")
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
exclude_patterns = ["_static"]
suppress_warnings = ["mystnb.unknown_mime_type"]
highlight_language = "default"

# What is shown was executed by `course build`; the book executes nothing.
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_merge_streams = True
nb_number_source_lines = False
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

# From the site itself: nothing in the book asks another host for anything.
mathjax_path = "mathjax/tex-chtml.js"
# MathML for screen readers stands beside each formula; no menu, so formulas are no tab stops.
mathjax3_config = {
    "loader": {"load": ["a11y/assistive-mml"]},
    "options": {"enableMenu": False},
}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # torch.nn.Module documents its own forward
autodoc_default_options = {"members": True, "show-inheritance": False}
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "Undiffuse"
html_css_files = ["book.css"]
html_js_files = [("book.js", {"defer": "defer"})]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_domain_indices = False
html_permalinks_icon = "#"
html_sidebars = {"index": []}
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_nav_level": 1,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "back_to_top_button": False,
}
html_context = {"default_mode": "auto"}
repository = os.environ.get("COURSE_REPOSITORY", "")
if repository:
    html_theme_options["icon_links"] = [
        {
            "name": "Source of the course",
            "url": f"https://github.com/{repository}",
            "icon": "fa-brands fa-github",
        }
    ]


def setup(app):
    app.connect("autodoc-process-docstring", docstrings.process)
