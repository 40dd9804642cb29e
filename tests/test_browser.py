# ruff: noqa: E501  (scripts for the browser)
"""Pages as a reader meets them: in a browser, without a network, over http and from the file system."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from paper.tools import looks

ROOT = Path(__file__).resolve().parents[1]
BUILT = ROOT / "_build" / "html"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with looks.opened(chromium) as opened:
        yield opened


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
        page.on("console", lambda said: seen.broken.append(said.text) if said.type == "error" else None)
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


def controls_can_be_used(page: Page) -> None:
    """Every control of a what-if is wide and high enough to be hit, is within the page, and has a name and a value."""
    for control in page.locator(".what-if :is(input, select)").all():
        box = control.bounding_box()
        assert box is not None and box["width"] >= 120 and box["height"] >= 14, box
        assert box["x"] >= 0 and box["x"] + box["width"] <= page.viewport_size["width"]
        assert control.get_attribute("aria-label")
        assert control.evaluate("control => control.matches('select') || control.getAttribute('aria-valuetext')")


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
    controls = page.locator(".what-if :is(input, select)")
    assert controls.count() == 3

    def press(control: int, key: str) -> list[str]:
        controls.nth(control).press(key)
        return visible_pictures(page)

    assert press(0, "ArrowRight")[0] == "line of slope 0.5 under autograd"
    controls.nth(1).select_option("straight through")
    assert visible_pictures(page)[0] == "line of slope 0.5 under straight_through"
    assert press(0, "End")[0] == "line of slope 1.0 under straight_through"
    assert press(2, "ArrowRight") == ["line of slope 1.0 under straight_through", "one line of slope 1.0"]
    assert press(2, "ArrowLeft")[1] == "one line of slope 0.5"
    assert not seen.outside and not seen.broken


def test_what_if_refuses_in_its_place(tiny_book, visit, serve):
    """What cannot be had together is grey in the list, and the reason stands where the picture would."""
    page = visit(f"{serve(tiny_book)}/book/runs/whatif.html").page
    slider, choice = page.locator(".what-if input").first, page.locator(".what-if select")
    page.set_default_timeout(5_000)
    slider.press("End")
    choice.select_option("straight through")
    grey = choice.locator("option").last
    assert grey.get_attribute("title") == "" and not grey.is_disabled()
    slider.press("Home")  # to 0, which this rule refuses
    reason = page.locator(".what-if-reason:visible")
    assert reason.text_content() == grey.get_attribute("title") == "severity must be above 0 for straight_through."
    assert grey.is_disabled() and len(visible_pictures(page)) == 1
    slider.press("ArrowRight")
    assert reason.count() == 0 and len(visible_pictures(page)) == 2


def test_the_numbers_of_a_setting_follow_its_controls(tiny_book, visit, serve):
    page = visit(f"{serve(tiny_book)}/book/runs/whatif.html").page
    rows = page.locator(".what-if-readings:visible tr")
    assert rows.count() == 1 and rows.first.locator("th").text_content() == "slope"

    def number() -> str:
        # An interval is kept on one line.
        return rows.first.locator("td").last.text_content().replace("\u00a0", " ")

    assert number() == "0.5 [0.25, 0.5]"
    page.locator(".what-if input").last.press("ArrowRight")
    assert number() == "1 [0.5, 1]"
    bar = rows.first.locator(".what-if-bar")
    assert bar.locator("b").evaluate("mark => mark.style.left") == "50%"
    assert bar.locator("i").evaluate("ends => ends.style.width") == "25%"


@pytest.mark.parametrize("width", [1280, 390])
def test_controls_have_a_width_and_say_what_they_are(tiny_book, visit, serve, width):
    page = visit(f"{serve(tiny_book)}/book/runs/whatif.html").page
    page.set_viewport_size({"width": width, "height": 800})
    controls_can_be_used(page)
    slider = page.locator(".what-if input").first
    assert slider.get_attribute("aria-label") == "severity of the fault"
    assert slider.get_attribute("aria-valuetext") == "0 S"
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "0.5 S"
    assert page.locator(".what-if output").first.text_content() == "0.5 S"


def test_slider_by_mouse_changes_the_pixels(tiny_book, visit, serve):
    page = visit(f"{serve(tiny_book)}/book/runs/whatif.html").page
    wait_pictures(page, 2)
    picture = page.locator(".what-if img:visible").first
    before = picture.screenshot()
    track = page.locator(".what-if input").first.bounding_box()
    page.mouse.click(track["x"] + track["width"] - 2, track["y"] + track["height"] / 2)
    assert visible_pictures(page)[0] == "line of slope 1.0 under autograd"
    page.wait_for_timeout(100)
    assert picture.screenshot() != before


def test_icons_show_without_their_script(tiny_book, visit):
    seen = visit((tiny_book / "book" / "index.html").as_uri())
    icons = seen.page.locator("i.fa-solid:visible")
    assert icons.count() >= 3
    drawn = icons.evaluate_all(
        "all => all.map(icon => [getComputedStyle(icon, '::before').content, getComputedStyle(icon).fontFamily])"
    )
    assert all(len(content.strip('"')) == 1 and "Font Awesome" in family for content, family in drawn), drawn
    fonts = seen.page.evaluate(
        "document.fonts.ready.then(() => [...document.fonts].filter(f => f.status == 'loaded').map(f => f.family))"
    )
    assert any("Font Awesome" in family for family in fonts)
    assert seen.page.locator("script[src*=fontawesome]").count() == 0 and not seen.broken


def test_live_what_if_leaves_no_dead_controls(tiny_book, visit, serve):
    page = visit(f"{serve(tiny_book)}/book/runs/whatif.html").page
    wait_pictures(page, 2)
    assert page.locator("button.widget-button, button.jupyter-button").count() == 0


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


#: What a page weighs with everything that it loads, at most, in bytes.
HEAVIEST = 4_000_000

built = pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="no book is built here: `make book`")


@built
def test_page_of_the_built_book(chapter, browser):
    """One visit: both themes, both widths, axe, links and anchors, what it weighs; then its what-ifs, by keyboard."""
    context = browser.new_context()
    page = context.new_page()
    seen = looks.look(page, chapter)
    assert not seen.wrong, "\n".join(seen.wrong)
    assert 100_000 < seen.bytes <= HEAVIEST
    views = page.locator("script[type='application/vnd.jupyter.widget-view+json']")
    assert views.count() == 0, "a widget that nothing draws without a kernel"
    what_ifs = page.locator(".what-if")
    assert page.locator(".what-if:not(:has(input, select))").count() == 0, "a what-if that does not move"
    if what_ifs.count():
        wait_pictures(page, what_ifs.count())
        controls_can_be_used(page)
        controls_move_their_picture(page)
    context.close()


def controls_move_their_picture(page: Page) -> None:
    """Every control of every what-if, by the keyboard alone."""
    state = "all => all.map(part => part.hidden ? '' : part.textContent + (part.alt || '')).join()"
    for what_if in page.locator(".what-if").all():
        for control in what_if.locator("input, select").all():
            before = what_if.locator("img, .what-if-reason").evaluate_all(state)
            count = control.evaluate("one => one.matches('select') ? one.options.length : Number(one.max) + 1")
            control.press("ArrowUp" if control.evaluate("one => Number(one.value) == one.max") else "ArrowRight")
            if count > 1 and what_if.locator("img, .what-if-reason").evaluate_all(state) == before:
                # At the upper end of its values: the other way.
                control.press("ArrowLeft")
                assert what_if.locator("img, .what-if-reason").evaluate_all(state) != before


@built
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_word_of_the_glossary_is_found(visit, serve, scheme):
    """The search finds its pages, which are there; from the file system without a word on the console."""
    base = serve(BUILT) if scheme == "http" else BUILT.as_uri()
    seen = visit(f"{base}/search.html?q=co-adapted")
    found = seen.page.locator("#search-results li a")
    found.first.wait_for(timeout=30_000)
    aims = found.evaluate_all("all => all.map(one => one.getAttribute('href').split(/[?#]/)[0])")
    assert "book/glossary.html" in aims and all((BUILT / aim).is_file() for aim in aims)
    assert not seen.outside and not seen.broken
