"""Pages to look at, served on this machine, and what a visit to one notices."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ipywidgets.embed import dependency_state, embed_data, escape_script
from playwright.sync_api import Page, Route

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "book" / "vendor"
AXE = ROOT / "book" / "checks" / "axe.min.js"
SCREENSHOTS = ROOT / "tests" / "screenshots"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which a folder is served inside the block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def write_page(folder: Path, name: str, widgets: Sequence[Any], theme: str | None = None) -> None:
    """A static page with live widgets, which takes its scripts from where the book takes them."""
    if not (folder / "vendor").exists():
        shutil.copytree(VENDOR, folder / "vendor", ignore=shutil.ignore_patterns("mathjax*"))
        shutil.copyfile(ROOT / "book" / "widgets-local.js", folder / "vendor" / "widgets-local.js")
    data = embed_data(list(widgets), state=dependency_state(widgets, drop_defaults=False))

    def script(kind: str, content: Any) -> str:
        return f'<script type="application/vnd.jupyter.{kind}+json">{escape_script(json.dumps(content))}</script>'

    views = "".join(f"<section>{script('widget-view', view)}</section>" for view in data["view_specs"])
    attribute = f' data-theme="{theme}"' if theme else ""
    (folder / f"{name}.html").write_text(
        f'<!doctype html><html lang="en"{attribute}><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        '<script src="vendor/require.js"></script><script src="vendor/widgets-local.js"></script>'
        '<script src="vendor/embed-amd.js" data-jupyter-widgets-cdn="/no-cdn/"></script>'
        f"{script('widget-state', data['manager_state'])}<article><h1>Widgets</h1>{views}</article></html>",
        encoding="utf-8",
    )


@dataclass
class Visit:
    """A page, and what went wrong while it was open."""

    page: Page
    elsewhere: list[str] = field(default_factory=list)  # requests to other hosts, all refused
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.route("**/*", self._only_loopback)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)

    def _only_loopback(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        if url.hostname == "127.0.0.1" or url.scheme in ("data", "blob"):
            route.continue_()
        else:
            self.elsewhere.append(route.request.url)
            route.abort()

    def open(self, url: str) -> Page:
        self.page.goto(url)
        self.page.wait_for_selector("article h1")  # index.html leads to another page
        self.page.wait_for_load_state("networkidle")
        self.check()
        return self.page

    def check(self) -> None:
        assert not self.elsewhere, f"asks other hosts for {self.elsewhere}"
        assert not self.errors, self.errors


def screenshot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def settle(page: Page) -> None:
    """Until what was asked for is drawn."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


# Every text in an SVG with the colour that it stands on: the first thing behind its middle that is filled, or the page.
CONTRASTS = """() => {
    const numbers = colour => {
        const found = colour.match(/[\\d.]+/g)?.map(Number);
        if (!found) return null;
        const unit = colour.startsWith("color(") ? 1 : 255;
        return { rgb: found.slice(0, 3).map(each => each / unit), alpha: found[3] ?? 1 };
    };
    const luminance = ({ rgb }) => rgb.map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
        .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (text, x, y) => {
        for (const element of document.elementsFromPoint(x, y)) {
            if (element === text || element.tagName === "text") continue;
            const style = getComputedStyle(element);
            const drawn = element instanceof SVGGeometryElement;
            const colour = numbers(drawn ? style.fill : style.backgroundColor);
            if (colour?.alpha === 1) return colour;
        }
        return { rgb: [1, 1, 1] };
    };
    return [...document.querySelectorAll(".mdm-widget svg text")].filter(text => text.textContent).map(text => {
        const box = text.getBoundingClientRect();
        const ground = behind(text, box.x + box.width / 2, box.y + box.height / 2);
        const [one, two] = [numbers(getComputedStyle(text).fill), ground].map(luminance).sort((a, b) => b - a);
        return { text: text.textContent, contrast: (one + 0.05) / (two + 0.05) };
    });
}"""


def contrasts(page: Page) -> list[dict[str, Any]]:
    """The contrast of every text in an SVG with what it stands on. axe does not look into SVG."""
    return page.evaluate(CONTRASTS)
