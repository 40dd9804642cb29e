# ruff: noqa: E501  (scripts for the browser)
"""Pages as a reader meets them: in a browser, without a network, over http and from the file system."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from paper.tools import looks

ROOT = Path(__file__).resolve().parents[1]
BUILT = ROOT / "_build" / "html"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@dataclass
class Visit:
    """A page after loading, with what it asked for and what went wrong."""

    page: Page
    outside: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[[str], Visit]]:
    contexts = []

    def load(address: str) -> Visit:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        contexts.append(context)
        seen = Visit(context.new_page())
        local = re.compile(r"^(http://127\.0\.0\.1|file:|data:|blob:)")

        def guard(route, request) -> None:
            if local.match(request.url):
                route.continue_()
            else:
                seen.outside.append(request.url)
                route.abort()

        context.route("**/*", guard)
        page = seen.page
        page.on("response", lambda answer: answer.status >= 400 and seen.broken.append(answer.url))
        page.on("requestfailed", lambda request: seen.broken.append(request.url))
        page.on("pageerror", lambda error: seen.broken.append(str(error)))
        page.goto(address, wait_until="load", timeout=90_000)
        page.wait_for_load_state("networkidle", timeout=90_000)
        return seen

    yield load
    for context in contexts:
        context.close()


def typeset(page: Page) -> None:
    """Every formula is drawn by MathJax, and none is left as raw TeX."""
    formulas = page.locator("span.math, div.math")
    page.wait_for_function(
        """() => [...document.querySelectorAll('span.math, div.math')]
             .every(formula => formula.querySelector('mjx-container'))""",
        timeout=60_000,
    )
    assert page.locator("mjx-container").count() >= formulas.count()
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    prose = page.locator("article").evaluate(
        """article => {
             const copy = article.cloneNode(true);
             copy.querySelectorAll('pre, code, script, style, mjx-container').forEach(part => part.remove());
             return copy.textContent;
           }"""
    )
    assert "$$" not in prose and not re.search(r"\\[a-z]+", prose), "a formula was left as text"


def visible_pictures(page: Page) -> list[str]:
    return page.locator(".what-if img:visible").evaluate_all("all => all.map(image => image.alt)")


def wait_pictures(page: Page, count: int) -> None:
    page.wait_for_function(
        """count => [...document.querySelectorAll('.what-if img')]
             .filter(image => image.offsetParent).length === count""",
        arg=count,
        timeout=60_000,
    )


def test_tiny_book_asks_nothing_outside(tiny_book, outside):
    assert outside(tiny_book) == []
    assert (tiny_book / "_static" / "jsvendor" / "mathjax" / "es5" / "tex-chtml-full.js").is_file()


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_formulas_without_a_network(tiny_book, visit, serve, scheme):
    base = serve(tiny_book) if scheme == "http" else tiny_book.as_uri()
    seen = visit(f"{base}/book/index.html")
    assert seen.page.locator("span.math, div.math").count() == 2
    typeset(seen.page)
    assert not seen.outside and not seen.broken
    fonts = seen.page.evaluate("document.fonts.ready.then(() => [...document.fonts].map(f => f.family))")
    assert any("MJX" in family for family in fonts)


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_what_if_moves_without_a_kernel(tiny_book, visit, serve, scheme):
    base = serve(tiny_book) if scheme == "http" else tiny_book.as_uri()
    seen = visit(f"{base}/book/runs/whatif.html")
    page = seen.page
    typeset(page)
    assert page.locator("mjx-container").count() == 2, "one formula of the prose, one that a cell made"
    wait_pictures(page, 2)
    assert visible_pictures(page) == ["line of slope 0.0 under autograd", "one line of slope 0.5"]
    handles = page.locator(".what-if .noUi-handle")
    assert handles.count() == 3

    def press(handle: int, key: str) -> list[str]:
        handles.nth(handle).focus()
        page.keyboard.press(key)
        page.wait_for_timeout(150)
        return visible_pictures(page)

    assert press(0, "ArrowRight")[0] == "line of slope 0.5 under autograd"
    # The second slider moves every inner stack, so it holds wherever the first one stands.
    assert press(1, "ArrowRight")[0] == "line of slope 0.5 under straight_through"
    assert press(0, "ArrowRight")[0] == "line of slope 1.0 under straight_through"
    assert press(2, "ArrowRight") == ["line of slope 1.0 under straight_through", "one line of slope 1.0"]
    assert press(2, "ArrowLeft")[1] == "one line of slope 0.5"
    assert not seen.outside and not seen.broken


def test_slider_by_mouse_changes_the_pixels(tiny_book, visit, serve):
    page = visit(f"{serve(tiny_book)}/book/runs/whatif.html").page
    wait_pictures(page, 2)
    picture = page.locator(".what-if img:visible").first
    before = picture.screenshot()
    track = page.locator(".what-if .noUi-base").first.bounding_box()
    page.mouse.click(track["x"] + track["width"] - 2, track["y"] + track["height"] / 2)
    page.wait_for_timeout(300)
    assert visible_pictures(page)[0] == "line of slope 1.0 under autograd"
    assert picture.screenshot() != before


def test_live_what_if_leaves_no_dead_controls(tiny_book, visit, serve):
    page = visit(f"{serve(tiny_book)}/book/runs/whatif.html").page
    wait_pictures(page, 2)
    assert page.locator("button.widget-button, button.jupyter-button").count() == 0


def test_nothing_is_cut_faint_or_nameless(browser):
    """Every page that is built, both themes and widths: see :mod:`paper.tools.looks`."""
    if not (BUILT / "index.html").is_file():
        pytest.skip("no book is built here: `make book`")
    wrong = []
    for name in looks.pages():
        page = browser.new_page()
        wrong += looks.look(page, name).wrong
        page.close()
    assert not wrong, "\n".join(wrong)


CUT = """<!doctype html><html lang="en"><head><title>t</title><style>article {{ width: 300px }} td {{ {style} }}</style></head>
<body><main><article><h1>t</h1><table><thead><tr><th>a</th><th>b</th></tr></thead>
<tbody><tr><td>{cell}</td><td style="color: #888">faint</td></tr></tbody></table><a href="#none">x</a></article></main>
{script}</body></html>"""


def test_the_look_sees_what_is_planted(browser, tmp_path):
    """A table that is cut, faint text and a dead link are each found; the page's script mends the table."""
    cell, style = "word " * 80, "white-space: nowrap"
    (tmp_path / "bad.html").write_text(CUT.format(cell=cell, style=style, script=""), encoding="utf-8")
    own = (ROOT / "book" / "static" / "js" / "page.js").as_uri()
    css = (ROOT / "book" / "static" / "css" / "book.css").as_uri()
    script = f'<link rel="stylesheet" href="{css}"><script src="{own}"></script>'
    mended = CUT.format(cell=cell, style="", script=script).replace("<main", '<main class="bd-article"')
    (tmp_path / "good.html").write_text(mended, encoding="utf-8")
    bad, good = (looks.look(browser.new_page(), name, tmp_path) for name in ("bad", "good"))
    assert any(one.startswith("table") for one in bad.cut) and bad.links == ["#none"]
    assert any("faint" in one for one in bad.faint)
    assert not good.cut


@pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="no book is built here: `make book`")
def test_page_of_the_built_book(chapter, visit):
    seen = visit((BUILT / f"{chapter}.html").as_uri())
    typeset(seen.page)
    views = seen.page.locator("script[type='application/vnd.jupyter.widget-view+json']").count()
    assert seen.page.locator(".widget-subarea").count() == views, "a widget was left undrawn"
    what_ifs = seen.page.locator(".what-if").count()
    if what_ifs:
        wait_pictures(seen.page, what_ifs)
    assert not seen.outside and not seen.broken
    # No scrolling sideways: what does not fit scrolls inside its own cell.
    assert seen.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 1
