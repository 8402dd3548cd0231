"""A Sphinx extension: pages that load nothing from other hosts, no scripts that nothing uses, figures described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.core.config import ipywidgets_js_factory
from myst_nb.core.render import MimeData, NbElementRenderer
from sphinx.application import Sphinx
from sphinx.config import Config

VENDOR = Path(__file__).parent.parent / "vendor"
# build.py fetches these from npm. Where one is missing, all three come from public CDNs.
SCRIPTS = ("require.js", "embed-amd.js", "mathjax-tex-svg.js")


def use_local_scripts(app: Sphinx, config: Config) -> None:
    """Take RequireJS, the widget manager and MathJax from book/vendor/, if they are there."""
    if not all((VENDOR / name).is_file() for name in SCRIPTS):
        require_js, *widget_manager = ipywidgets_js_factory().items()
        config.nb_ipywidgets_js = dict([require_js, ("widgets-local.js", {}), *widget_manager])
        return
    config.mathjax_path = "mathjax-tex-svg.js"
    config.nb_ipywidgets_js = {
        "require.js": {},
        "widgets-local.js": {},
        "embed-amd.js": {"data-jupyter-widgets-cdn": "/no-cdn/"},
    }


def drop_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Remove the scripts of thebe (code cells that run on Binder), which the book does not use.

    Jupyter Book 1 loads them on every page, and twice on some: an error, because they declare constants.
    """
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in str(script.filename) and "THEBE_JS_URL" not in script.attributes.get("body", "")
    ]


def describe_images() -> None:
    """Take the alt text of a figure from its output: display(fig, metadata={"image/png": {"alt": "..."}}).

    MyST-NB knows only that of the cell's metadata, and puts the file's name where there is none.
    """
    render_image = NbElementRenderer.render_image

    def render_described_image(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
        rendered = render_image(self, data)
        alt = data.output_metadata.get(data.mime_type, {}).get("alt")
        if alt:
            rendered[0]["alt"] = alt
        return rendered

    NbElementRenderer.render_image = render_described_image


def setup(app: Sphinx) -> dict[str, bool]:
    describe_images()
    app.connect("config-inited", use_local_scripts)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
