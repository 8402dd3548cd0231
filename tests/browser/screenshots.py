"""Pictures of every widget, light, dark and narrow, in tests/screenshots/: `python tests/browser/screenshots.py`.

NAME ...: only those. --readme: those in README.md too, into book/images/. Needs a Chromium, and the scripts of the
book's pages (`make book`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.gallery import collect, gallery
from tests.browser.pages import FLAGS, SCREENSHOTS, Visit, served, settle, write_page

README = {"unmasking": "unmasking.png", "circuits-100": "circuits.png"}
LOOKS = {"light": ("light", 1000), "dark": ("dark", 1000), "narrow": ("light", 390)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help="widgets; default: all")
    parser.add_argument("--readme", action="store_true", help="renew the pictures of README.md")
    options = parser.parse_args()
    names = [*options.name, *(README if options.readme else [])]
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    widgets = gallery(collect())
    SCREENSHOTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        with served(Path(folder)) as address:
            for name, widget in widgets.items():
                if names and name not in names:
                    continue
                write_page(Path(folder), name, [widget])
                for look, (scheme, width) in LOOKS.items():
                    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
                    visit = Visit(context.new_page())
                    page = visit.open(f"{address}/{name}.html")
                    page.wait_for_selector(".mdm-widget")
                    if name == "unmasking":
                        for _ in range(3):
                            page.locator("input[type=range]").press("ArrowRight")
                        page.locator("button.mdm-token").last.focus()
                    if name == "circuits-100":
                        page.get_by_role("tab", name="countdown").click()
                        page.mouse.move(0, 0)
                    settle(page)
                    visit.check()
                    path = SCREENSHOTS / f"widget-{name}-{look}.png"
                    page.locator(".mdm-widget").screenshot(path=path)
                    print(path.relative_to(SCREENSHOTS.parents[1]), flush=True)
                    if options.readme and look == "light" and name in README:
                        shutil.copy(path, SCREENSHOTS.parents[1] / "book" / "images" / README[name])
                    context.close()
        browser.close()


if __name__ == "__main__":
    main()
