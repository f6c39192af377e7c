"""Settings of the manual: `make docs` builds it into site/, from these pages and the docstrings, without a network."""

import shutil
from pathlib import Path

import scanwise

project = "Scanwise"
author = "the Scanwise contributors"
copyright = "the Scanwise contributors; Apache-2.0"  # noqa: A001
version = release = scanwise.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
suppress_warnings = ["toc.not_included"]  # a page may be reached by links alone; tests/test_docs.py finds orphans
default_role = "code"  # docstrings write `name` as Markdown does

shutil.copytree(Path(__file__).parents[1] / "notebooks", Path(__file__).parent / "notebooks", dirs_exist_ok=True)
nb_execution_mode = "off"  # a test runs them; here their committed outputs are shown

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give shapes and units, the signature the types
python_use_unqualified_type_names = True
add_module_names = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False

html_theme = "furo"
html_title = "Scanwise"
html_copy_source = False
html_show_sourcelink = False
html_use_opensearch = ""
html_theme_options = {"footer_icons": [], "top_of_page_buttons": []}
html_static_path = ["_static"]
html_css_files = ["print.css"]
