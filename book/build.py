"""Build the book: `python book/build.py`. The pages come to book/_build/html and need no other host.

1. Fetch the scripts that the pages load into book/vendor/, and one that tests load into book/checks/ (once; versions
   are pinned in package-lock.json).
2. Let Jupyter Book make the pages. Notebooks are not run: they bring their outputs with them.
3. Say where the pages are.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
VENDOR = BOOK / "vendor"
CHECKS = BOOK / "checks"
MODULES = BOOK / "node_modules"
PAGES = BOOK / "_build" / "html"

ICONS = "1551f4f60c37af51121f.woff2"  # on the buttons of ipywidgets; two of its modules look for them, in two places
# name in book/vendor/ <- file in book/node_modules/
FROM_NPM = {
    "require.js": "requirejs/require.js",
    "mathjax-tex-svg.js": "mathjax/es5/tex-svg.js",
    "mathjax-LICENSE.txt": "mathjax/LICENSE",
    "embed-amd.js": "@jupyter-widgets/html-manager/dist/embed-amd.js",
    "embed-amd-LICENSE.txt": "@jupyter-widgets/html-manager/dist/embed.js.LICENSE.txt",
    f"@jupyter-widgets/{ICONS}": f"@jupyter-widgets/html-manager/dist/{ICONS}",
    f"@jupyter-widgets/html-manager/dist/{ICONS}": f"@jupyter-widgets/html-manager/dist/{ICONS}",
}

# The same for book/checks/: what only the tests load. The pages are published without it.
FOR_TESTS = {"axe.min.js": "axe-core/axe.min.js"}


def main() -> int:
    started = time.perf_counter()
    for module, package in (("jupyter_book", "jupyter-book"), ("anywidget", "anywidget")):
        if find_spec(module) is None:
            return say(
                f"{package} is not installed for {sys.executable}.",
                "Without it there is no book.",
                'Run: pip install -e ".[book]"',
            )
    fetch_scripts()
    if not build_pages():
        return 1
    print(f"Built in {time.perf_counter() - started:.0f} s. Open {(PAGES / 'index.html').relative_to(ROOT).as_posix()}")
    return 0


def fetch_scripts() -> None:
    """Fill book/vendor/. Where npm cannot give its files, the pages will load those from public CDNs."""
    VENDOR.mkdir(exist_ok=True)
    # From the installed package, so that it has the version that saved the widgets.
    anywidget = Path(find_spec("anywidget").submodule_search_locations[0]) / "nbextension" / "index.js"
    if not same(anywidget, VENDOR / "anywidget.js"):
        shutil.copyfile(anywidget, VENDOR / "anywidget.js")

    stamp = VENDOR / "package-lock.sha256"
    wanted = hashlib.sha256((BOOK / "package-lock.json").read_bytes()).hexdigest()
    targets = {VENDOR / name: source for name, source in FROM_NPM.items()}
    targets |= {CHECKS / name: source for name, source in FOR_TESTS.items()}
    if stamp.is_file() and stamp.read_text() == wanted and all(path.is_file() for path in targets):
        return
    for path in targets:
        path.unlink(missing_ok=True)

    npm = shutil.which("npm")
    if npm is None:
        say(
            "npm is not installed.",
            "The pages will load RequireJS, MathJax and the widget manager from public CDNs: "
            "without a connection, formulas and moving figures stay blank.",
            "For pages that need no connection, install Node.js (it brings npm) and build again.",
        )
        return
    print("Fetching the scripts of the pages with npm (once; about half a minute) ...", flush=True)
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=BOOK, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        say(
            f"npm ci failed:\n{done.stderr.strip() or done.stdout.strip()}",
            "The pages will load RequireJS, MathJax and the widget manager from public CDNs: "
            "without a connection, formulas and moving figures stay blank.",
            "Check the connection to npm's registry, then build again.",
        )
        return
    for path, source in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(MODULES / source, path)
    stamp.write_text(wanted)
    shutil.rmtree(MODULES)  # 150 MB, of which the book needs 6


def build_pages() -> bool:
    """Run Jupyter Book with warnings as errors.

    On all pages every time: reading only what changed would not repeat the warnings of a failed build, and pass.
    """
    print("Building the pages ...", flush=True)
    done = subprocess.run(
        [
            sys.executable, "-c", "from jupyter_book.cli.main import main; main()",
            "build", ".", "--all", "-W", "--keep-going", "--quiet",
            "--config", "book/_config.yml", "--toc", "book/_toc.yml", "--path-output", "book",
        ],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return True
    print(done.stdout)
    say(
        "Jupyter Book failed, or gave the warnings above.",
        "A warning is a link, a figure or a formula that readers will not see as it was meant.",
        "Mend what it names, then build again.",
    )
    return False


def same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def say(happened: str, means: str, do: str) -> int:
    print(f"{happened}\n  {means}\n  {do}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
