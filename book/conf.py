"""Sphinx configuration of the book. Notebooks are rendered as papermill executed them; nothing is fetched at view time."""

from bcebook.runs.provenance import code_version, now

project = "BCE vs. CE in Deep Feature Learning: a reproduction"
html_title = "BCE vs. CE, reproduced"
author = "the maintainers of this reproduction"
language = "en"

extensions = ["myst_nb", "sphinxcontrib.bibtex", "sphinx-mathjax-offline"]
exclude_patterns = ["_build", "downloads"]
nb_execution_mode = "off"  # papermill has run them
nb_ipywidgets_js = {}  # would be loaded from the network
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_render_markdown_format = "myst"  # computed tables and mathematics, as in the text
nb_mime_priority_overrides = [("html", "image/svg+xml", 5)]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 2
numfig = True
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
# pydata-sphinx-theme and myst-nb hand Sphinx callables and mappings that it cannot pickle; that is no fault of the book.
suppress_warnings = ["config.cache"]

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_context = {"default_mode": "auto"}  # light or dark as the reader's system has it
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "navbar_persistent": [],  # the sidebar has the search
    "extra_footer": f"<p>Code {code_version()}, rendered {now().date().isoformat()}. Code and text may be used "
    "under the MIT licence; the published values are the paper's. <a href='bibliography.html'>To cite</a>.</p>",
}
