"""The site: `python -m sphinx -W docs build/site`, and then `build/site/index.html` in a browser.

Sphinx and MyST, of which the pages' Markdown is, are kept by many; Furo is one line here and no page depends on it. It
came in place of MkDocs, whose next version drops plugins, and of mkdocs-material, which ends in 2027. Furo needs no
other servers, and has light and dark, the next page, and a menu on phones.
"""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = "hubkeras"
author = "The hubkeras maintainers"
copyright = "The hubkeras maintainers, licensed under the Apache License 2.0"
html_title = "hubkeras"
html_theme = "furo"
html_static_path = ["pictures/site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
autodoc_mock_imports = ["apache_beam"]  # which the reference needs no more of than names
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "hooks"]
exclude_patterns = ["*.py", "data"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # the contributors' page and the changelog lie in the repository's top folder

default_role = "literal"  # `name` in docstrings, as in Markdown
add_module_names = False
python_maximum_signature_line_length = 80
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = False  # values, not the names of constants
autodoc_class_signature = "mixed"
napoleon_use_rtype = False
napoleon_use_ivar = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
