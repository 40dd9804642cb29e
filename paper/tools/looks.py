# ruff: noqa: E501  (scripts for the browser)
"""Every page of the built book as a reader meets it: both themes, a wide and a narrow window, no network.

::

    python -m paper.tools.looks [--contrast] [PAGE ...]      # a table: page, MB, axe, what is cut, the smallest text; 1 if anything is wrong

A page is opened once, from the file system. The window is then made narrow and the other theme put on, as a reader
would. What is wrong is a list of sentences (:attr:`Look.wrong`); the tests ask that it be empty.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from paper.tools.sources import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request, Route

BUILT = ROOT / "_build" / "html"
#: Widths of the window, in CSS pixels: a laptop and a telephone.
WIDTHS = (1280, 390)
THEMES = ("light", "dark")
#: No text of the article is smaller, in CSS pixels; formulas have their own small print.
SMALLEST = 9.0

_SERIOUS = ("serious", "critical")

# What is cut: a table or formula that is wider than one of the boxes around it, or that leaves the window, as an arrow
# to the next page may.
_CUT = """() => {
  const cut = [];
  for (const part of document.querySelectorAll('article table, article mjx-container[display=true]')) {
    if (part.closest('details:not([open])') || !part.getClientRects().length) continue;
    // A formula that is as small as can be read scrolls, by keyboard too, and says so.
    if (part.matches('mjx-container') && part.tabIndex === 0 && part.getAttribute('aria-label')) continue;
    let box = part, over = 0;
    while (box && box.tagName !== 'ARTICLE') {
      if (box.clientWidth) over = Math.max(over, box.scrollWidth - box.clientWidth);
      box = box.parentElement;
    }
    over = Math.max(over, part.getBoundingClientRect().right - document.documentElement.clientWidth);
    if (over > 1) cut.push(`${part.tagName.toLowerCase()} ${part.innerText.trim().slice(0, 40).replace(/\\s+/g, ' ')}` +
      ` (by ${Math.round(over)} px)`);
  }
  for (const arrow of document.querySelectorAll('.prev-next-area i')) {
    const { left, right } = arrow.getBoundingClientRect();
    if (left < 0 || right > document.documentElement.clientWidth) cut.push('the arrow to the next page');
  }
  const sideways = document.documentElement.scrollWidth - window.innerWidth;
  if (sideways > 1) cut.push(`the page (by ${sideways} px)`);
  return cut;
}"""

# The smallest text of the article that is seen, and an example of it. A picture says at which width its own has 9 px.
_SMALLEST = """() => {
  let least = [Infinity, ''];
  const walker = document.createTreeWalker(document.querySelector('article') || document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const box = text.parentElement;
    if (!text.data.trim() || box.closest('mjx-container, script, style, sup, sub') || !box.checkVisibility()) continue;
    const size = parseFloat(getComputedStyle(box).fontSize);
    if (size && size < least[0]) least = [size, text.data.trim().slice(0, 40)];
  }
  for (const picture of document.querySelectorAll('article img')) {
    const size = 9 * picture.getBoundingClientRect().width / parseFloat(picture.style.getPropertyValue('--narrowest'));
    if (size && size < least[0] - 0.05) least = [size, `in a picture: ${picture.alt.slice(0, 40)}`];
  }
  return least;
}"""

# Text whose colour is too close to the ground on which it stands, the ground being what the boxes around it have
# painted: axe asks the same of every letter, which takes it seconds a page.
_FAINT = """() => {
  const read = text => { const n = (text.match(/[\\d.]+/g) || []).map(Number);
    return text.startsWith('color(') ? [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1] : [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const light = colour => colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const grounds = new Map();
  const ground = box => {
    if (!box) return [255, 255, 255];
    if (!grounds.has(box)) {
      const style = getComputedStyle(box), under = ground(box.parentElement);
      grounds.set(box, style.backgroundImage !== 'none' && !style.backgroundImage.includes('gradient')
        ? null : under && over(read(style.backgroundColor), under));
    }
    return grounds.get(box);
  };
  const faint = new Map(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const box = text.parentElement;
    if (!text.data.trim() || box.closest('script, style, noscript, [disabled], svg')) continue;
    if (!box.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    const style = getComputedStyle(box), under = ground(box);
    if (!under) continue;
    const colour = over(read(style.color), under), [dim, bright] = [light(colour), light(under)].sort((a, b) => a - b);
    const ratio = (bright + 0.05) / (dim + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    const key = `${style.color} on rgb(${under.map(Math.round)}), ${ratio.toFixed(2)}`;
    if (ratio < (large ? 3 : 4.5) && !faint.has(key)) faint.set(key, text.data.trim().slice(0, 40));
  }
  return [...faint].map(([key, text]) => `${key}: ${text}`);
}"""

_DRAWN = (
    """() => [...document.querySelectorAll('span.math, div.math')].every(one => one.querySelector('mjx-container'))"""
)

# Formulas that were not understood, and TeX in the prose (code is left out).
_RAW = """() => {
  const copy = document.querySelector('article').cloneNode(true);
  copy.querySelectorAll('pre, code, script, style, mjx-container').forEach(part => part.remove());
  const raw = (copy.textContent.match(/\\$\\$|\\\\[a-z]{2,}/g) || []).map(found => `raw TeX ${found}`);
  return raw.concat([...document.querySelectorAll('mjx-merror, [data-mjx-error]')].map(() => 'a formula with an error'));
}"""

_LINKS = """() => [...document.querySelectorAll('a[href]')].map(one => one.getAttribute('href'))"""

# What follows the width of the window, tables and formulas, has followed.
_SETTLED = """() => new Promise(done => {
  let left = 4;
  const next = () => { left -= 1; if (left) requestAnimationFrame(next); else setTimeout(done, 30); };
  requestAnimationFrame(next);
})"""

_THEME = (
    """theme => { document.documentElement.dataset.theme = theme; document.documentElement.dataset.mode = theme; }"""
)

# Nothing glides from one theme to the other while it is looked at, and no picture waits until it is scrolled to.
_STILL = """() => {
  const style = document.createElement('style');
  style.textContent = '*, *::before, *::after { transition: none !important; animation: none !important; }';
  document.head.append(style);
  document.querySelectorAll('img[loading=lazy]').forEach(image => { image.loading = 'eager'; });
}"""

_AXE = """contrast => axe.run(document, {preload: false, resultTypes: ['violations'],
  rules: {'color-contrast': {enabled: contrast}}}).then(found => found.violations.map(({id, impact, nodes}) => ({id, impact,
    nodes: nodes.map(node => [node.target.join(' '), node.any.concat(node.all, node.none).map(one => one.message)[0]])})))"""


@dataclass
class Look:
    """A page after it was looked at."""

    page: str
    bytes: int = 0
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    axe: list[str] = field(default_factory=list)
    faint: list[str] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    smallest: tuple[float, str] = (float("inf"), "")

    @property
    def wrong(self) -> list[str]:
        """What a reader would stumble over, one sentence each."""
        kinds = {
            "asks another host for": self.outside,
            "says": self.errors,
            "is cut:": self.cut,
            "axe:": self.axe,
            "is faint:": self.faint,
            "shows": self.raw,
            "links to nothing:": self.links,
        }
        found = [f"{self.page} {kind} {one}" for kind, every in kinds.items() for one in dict.fromkeys(every)]
        if self.smallest[0] < SMALLEST:
            found.append(f"{self.page} has text of {self.smallest[0]:.1f} px: {self.smallest[1]!r}")
        return found


def pages(folder: Path = BUILT) -> list[str]:
    """The pages of a built book by their path without ``.html``, the search included; what only leads on is none."""
    return sorted(
        str(path.relative_to(folder).with_suffix(""))
        for path in folder.rglob("*.html")
        if _own(path, folder) and 'http-equiv="Refresh"' not in path.read_text(encoding="utf-8")
    )


def _own(path: Path, folder: Path) -> bool:
    return not any(part.startswith("_") for part in path.relative_to(folder).parts)


def chromium() -> str | None:
    """The path of a Chromium on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextmanager
def opened(path: str) -> Iterator[Browser]:
    """The browser at ``path``, closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@cache
def _axe_source() -> str:
    spec = find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("axe-playwright-python, which bundles axe, is not installed")
    return Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8")


@cache
def _anchors(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"""\b(?:id|name)=["']([^"']+)["']""", path.read_text(encoding="utf-8")))


def _broken_links(path: Path, targets: Sequence[str], folder: Path) -> Iterator[str]:
    for target in dict.fromkeys(targets):
        parts = urlsplit(target)
        if parts.scheme or target.startswith("//") or target in {"", "#"}:
            continue
        aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not aim.is_relative_to(folder.resolve()) or not aim.is_file():
            yield target
        elif parts.fragment and aim.suffix == ".html" and unquote(parts.fragment) not in _anchors(aim):
            yield target


def watch(page: Page, seen: Look) -> None:
    """Note into ``seen`` what the page asks for and what goes wrong; nothing leaves this machine."""
    local = re.compile(r"^(http://127\.0\.0\.1|file:|data:|blob:)")

    def guard(route: Route, request: Request) -> None:
        if local.match(request.url):
            route.continue_()
        else:
            seen.outside.append(request.url)
            route.abort()

    def count(request: Request) -> None:
        path = Path(unquote(urlsplit(request.url).path))
        if request.url.startswith("file:") and path.is_file():
            seen.bytes += path.stat().st_size

    page.route("**/*", guard)
    page.on("requestfinished", count)
    page.on("requestfailed", lambda request: seen.errors.append(f"nothing at {request.url}"))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("console", lambda said: seen.errors.append(said.text) if said.type == "error" else None)


def look(page: Page, name: str, folder: Path = BUILT, axe: bool = True, contrast: bool = False) -> Look:
    """Open a page of the book in ``folder`` and look at it in both themes and at both widths.

    With ``contrast`` axe judges colours, too, in both themes and at the first width; that takes seconds a page.
    """
    seen, path = Look(name), folder / f"{name}.html"
    watch(page, seen)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.goto(path.as_uri(), wait_until="load", timeout=120_000)
    if page.locator("script[src*=mathjax]").count():
        page.wait_for_function(_DRAWN, timeout=60_000)
    page.evaluate(_STILL)
    page.evaluate("document.fonts.ready.then(() => 0)")
    # Folded parts count: a reader opens them.
    page.evaluate("document.querySelectorAll('article details').forEach(one => { one.open = true; })")
    if page.locator("article").count():
        seen.raw = page.evaluate(_RAW)
    seen.links = list(_broken_links(path, page.evaluate(_LINKS), folder))
    if axe:
        page.evaluate(_axe_source())
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate(_SETTLED)
        seen.cut += [f"{one} at {width} px" for one in page.evaluate(_CUT)]
        size, text = page.evaluate(_SMALLEST)
        seen.smallest = min(seen.smallest, (size, text))
        for theme in THEMES:
            page.evaluate(_THEME, theme)
            seen.faint += [f"{one} ({theme}, {width} px)" for one in page.evaluate(_FAINT)]
            judged = contrast and width == WIDTHS[0]
            # The roles of what is there do not depend on the theme.
            if axe and (judged or theme == THEMES[-1]):
                seen.axe += [
                    f"{one['id']} at {where} ({theme}, {width} px): {why}"
                    for one in page.evaluate(_AXE, judged)
                    if one["impact"] in _SERIOUS
                    for where, why in one["nodes"]
                ]
    page.unroute_all(behavior="ignoreErrors")
    return seen


def table(looks: Sequence[Look]) -> str:
    """One line per page: what it weighs, how often axe and the ruler complain, the smallest text."""
    lines = [f"{'page':<34}{'MB':>6}{'axe':>6}{'faint':>7}{'cut':>6}{'other':>7}{'text':>8}"]
    for one in looks:
        other = len(one.outside) + len(one.errors) + len(one.raw) + len(one.links)
        size = f"{one.smallest[0]:.1f} px" if one.smallest[0] < 99 else ""
        lines.append(
            f"{one.page.removeprefix('book/'):<34}{one.bytes / 1e6:6.1f}{len(one.axe):6}{len(one.faint):7}{len(one.cut):6}{other:7}{size:>8}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m paper.tools.looks", description="Look at every page of the book.")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="book/runs/escape; all if none is named")
    parser.add_argument("--book", type=Path, default=BUILT, help="the folder of the built book")
    parser.add_argument("--contrast", action="store_true", help="let axe judge every colour, too: minutes")
    options = parser.parse_args(arguments)
    path = chromium()
    if path is None:
        print("neither chromium nor google-chrome is installed", file=sys.stderr)
        return 2
    began, looks = time.perf_counter(), []
    with opened(path) as browser:
        for name in options.pages or pages(options.book):
            page: Any = browser.new_page()
            looks.append(look(page, name, options.book, contrast=options.contrast))
            print(*looks[-1].wrong, sep="\n", flush=True)
            page.close()
    print(table(looks), f"{len(looks)} pages in {time.perf_counter() - began:.0f} s", sep="\n")
    return 1 if any(one.wrong for one in looks) else 0


if __name__ == "__main__":
    sys.exit(main())
