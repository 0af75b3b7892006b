"""The built book in a browser: looks in light and dark, on a phone and a desk; axe; other hosts.

Builds the book (minutes on a busy machine) unless COURSE_BOOK names a built one. Pictures of what
was seen lie in ``build/screenshots`` (COURSE_SCREENSHOTS names another folder).
"""

from __future__ import annotations

import http.server
import importlib.util
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import browser
import inspect_site
import pytest

ROOT = Path(__file__).parents[2]
PAGES = (
    "index.html",
    "lessons/00_what_is_diffusion.html",
    "lessons/01_noise_schedules.html",
    "verdicts.html",
    "glossary.html",
    "symbols.html",
    "api/undiffuse.schedules.html",
    "teachers-guide.html",
    "doors.html",
)
VIEWS = [(w, d) for w in (browser.PHONE, browser.DESK) for d in (False, True)]

pytestmark = pytest.mark.slow


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if built := os.environ.get("COURSE_BOOK"):
        return Path(built)
    for package in ("sphinx", "myst_nb", "pydata_sphinx_theme"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'{package} is not installed (pip install -e ".[book]")')
    from filelock import FileLock

    # Workers that share a run share one book.
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "book"
    with FileLock(f"{out}.lock"):
        if not (out / "html" / ".nojekyll").is_file():
            command = [sys.executable, str(ROOT / "docs" / "build.py"), "--out", str(out)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


@pytest.fixture(scope="module")
def host(site):
    """The address that serves the book."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def window():
    browser.need()
    with browser.Browser() as made:
        yield made


@pytest.fixture(scope="module")
def pictures():
    folder = Path(os.environ.get("COURSE_SCREENSHOTS") or ROOT / "build" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_nothing_is_wrong_with_the_files(site):
    assert inspect_site.problems(site) == []
    assert len(list((site / "lessons").glob("*.html"))) == len(
        list((ROOT / "solutions").glob("*.ipynb"))
    )


def ready(window, host, page, width=browser.DESK, dark=False):
    window.open(f"{host}/{page}", width, dark)
    # Colours that are still on their way to the dark are nobody's colours.
    window.run(
        "document.head.insertAdjacentHTML('beforeend', "
        "'<style>*, ::before, ::after { transition: none !important; }</style>'), 1"
    )
    # Formulas are set after the page has loaded.
    window.wait("!window.MathJax || !MathJax.startup || !!MathJax.startup.promise", "MathJax")
    window.run("window.MathJax?.startup?.promise?.then(() => 1) ?? 1")
    # Pictures wait until they come into view; here all of them are wanted.
    window.run("document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; }), 1")
    pictures = "[...document.querySelectorAll('img')]"
    window.wait(f"{pictures}.every(i => i.complete)", "the pictures")
    assert window.run(f"{pictures}.filter(i => !i.naturalWidth && i.checkVisibility()).length") == 0


@pytest.mark.parametrize("page", PAGES)
def test_pages_read_well_everywhere(window, host, page, pictures):
    for width, dark in VIEWS:
        ready(window, host, page, width, dark)
        wrong = window.violations()
        assert wrong == [], f"{page} at {width}, {'dark' if dark else 'light'}"
        assert window.overflow() <= 0
        assert window.requests(host) == []
        name = page.removesuffix(".html").replace("/", "-")
        window.picture(pictures / f"book-{name}-{width}-{'dark' if dark else 'light'}.png")


def test_a_solution_opens_with_a_key(window, host):
    ready(window, host, "lessons/01_noise_schedules.html")
    details = "document.querySelector('details.hide')"
    assert window.run(f"{details}.open") is False
    window.run(f"{details}.querySelector('summary').focus()")
    window.press("Enter", 13)
    window.wait(f"{details}.open", "the solution to open", 20)
    assert "torch.linspace" in window.run(f"{details}.textContent")
    assert window.violations() == []


def test_formulas_are_set_here_and_kept_as_mathml(window, host):
    ready(window, host, "lessons/01_noise_schedules.html")
    assert window.run("document.querySelectorAll('mjx-container').length") > 20
    assert window.run("document.querySelectorAll('mjx-container mjx-assistive-mml').length") > 20
    assert window.run("document.querySelectorAll('mjx-merror').length") == 0
    assert window.requests(host) == []


def test_search_finds_a_word_of_a_lesson(window, host):
    window.open(f"{host}/search.html?q=memorisation")
    # Results come one by one.
    links = "[...document.querySelectorAll('#search-results li a')]"
    of_08 = f"{links}.some(a => a.getAttribute('href').includes('08_measuring'))"
    window.wait(of_08, "lesson 08 among the results", 60)
    assert window.requests(host) == []
    assert window.violations() == []
