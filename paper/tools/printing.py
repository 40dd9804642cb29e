"""The built book as one PDF: its pages in one document, one behind the other, printed by Chromium.

Nothing but the browser is needed that the tests open pages with; links within the book stay links, headings become
the outline. What moves on a page shows where it starts; what is folded is open, but code is left out, which nobody can
unfold on paper.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.checks import ParameterError
from paper.tools import profiles

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

#: What a page has that paper has no use for.
_UNPRINTED = "script, style, a.headerlink, button, .ways ul, .what-if-controls, .prev-next-area, noscript, details.hide"
_STYLE = """
@page { size: A4; margin: 16mm 14mm; }
html, body { background: white; font-size: 10.5pt; }
body { margin: 0; padding: 0; }
main { max-width: none; }
main > article { break-before: page; }
main > article:first-child { break-before: auto; }
figure, img, pre, .what-if { break-inside: avoid; max-width: 100%; }
tr { break-inside: avoid; }
table { font-size: 7.5pt; line-height: 1.35; }
table :is(th, td) { padding: 0.6mm 1.2mm; }
.cell_output, .pst-scrollable-table-container { overflow: visible; }
figure img, .what-if img { max-height: 240mm; height: auto; width: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
details > summary { list-style: none; font-weight: 600; }
figcaption, figcaption *, .figure-caption { color: #333 !important; }
h1, h2, h3 { break-after: avoid; }
"""
#: Longest that formulas and pictures may take to be drawn, and printing itself, in milliseconds.
_PATIENCE = 900_000
#: The width of a page between its margins, in CSS's pixels: 182 mm.
_WIDTH = 688
#: Nobody can scroll on paper: a table that is wider than its place is made smaller until it fits.
FITTED = """() => document.querySelectorAll("table").forEach(table => {
  const room = table.parentElement.clientWidth, wide = table.scrollWidth;
  if (room > 0 && wide > room) table.style.zoom = Math.floor(100 * room / wide) / 100;
})"""
#: The one document, in the folder of the book while it is printed.
DOCUMENT = "_print.html"
_DRAWN = "[...document.querySelectorAll('span.math, div.math')].every(one => one.querySelector('mjx-container'))"


def chapters(toc: Path) -> list[str]:
    """The pages that a table of contents names, the first page included."""

    def files(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        for entry in entries:
            yield entry["file"]
            yield from files(entry.get("sections", []))

    table = profiles.read_yaml(toc)
    parts = table.get("parts") or [{"chapters": table.get("chapters", [])}]
    return [table["root"], *(name for part in parts for name in files(part["chapters"]))]


def merged(html: Path, pages: Sequence[str]) -> str:
    """One document of these pages of a built book, to stand in its folder; links between them stay within it."""
    from bs4 import BeautifulSoup

    found = [name for name in pages if (html / f"{name}.html").is_file()]
    if not found:
        raise ParameterError("The book must have pages to print, but its folder has none: make book.")
    head, articles = "", []
    for name in found:
        soup = BeautifulSoup((html / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
        head = head or _head(soup, name)
        article = soup.select_one("article")
        if article is not None:
            articles.append(_article(article, name, set(found)))
    body = "\n".join(articles)
    return (
        f'<!DOCTYPE html>\n<html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8">{head}'
        f"<style>{_STYLE}</style></head><body><main>\n{body}\n</main></body></html>\n"
    )


def _head(soup: BeautifulSoup, name: str) -> str:
    """Title, styles and what draws formulas, from the head of a page."""
    kept = []
    for tag in soup.select("head > title, link[rel=stylesheet], head script, body > script"):
        source = tag.get("src")
        if tag.name == "script" and "mathjax" not in str(source or tag.string or "").lower():
            continue
        for key in ("href", "src"):
            if tag.get(key):
                tag[key] = _from_root(str(tag[key]), name)
        kept.append(str(tag))
    return "".join(kept)


def _from_root(target: str, page: str) -> str:
    """A relative address on a page, from the folder of the book."""
    if not target or re.match(r"[a-z][a-z0-9+.-]*:|//|#", target, re.IGNORECASE):
        return target
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def _place(page: str, name: str = "") -> str:
    """The name of a page, or of a place on it, in the one document."""
    return re.sub(r"\W+", "-", page) + (f"--{name}" if name else "")


def _article(article: Tag, page: str, pages: set[str]) -> str:
    """The article of a page with addresses and names as the one document has them."""
    for tag in article.select(_UNPRINTED):
        tag.decompose()
    for tag in article.find_all(True):
        if tag.get("id"):
            tag["id"] = _place(page, str(tag["id"]))
        if tag.get("src"):
            tag["src"] = _from_root(str(tag["src"]), page)
        if tag.get("href"):
            tag["href"] = _link(str(tag["href"]), page, pages)
        if tag.get("loading") == "lazy":
            del tag["loading"]
        if tag.name == "details":
            tag["open"] = ""
    article["id"] = _place(page)
    return str(article)


def _link(target: str, page: str, pages: set[str]) -> str:
    if target.startswith("#"):
        return f"#{_place(page, target[1:])}" if len(target) > 1 else f"#{_place(page)}"
    path, _, name = _from_root(target, page).partition("#")
    known = path.removesuffix(".html")
    return f"#{_place(known, name)}" if path.endswith(".html") and known in pages else _from_root(target, page)


def dated(content: bytes, when: datetime) -> bytes:
    """A PDF with another time of making; the places of its parts, which a PDF counts in bytes, stay."""
    stamp = when.strftime("D:%Y%m%d%H%M%S+00'00'").encode()
    return re.sub(rb"(/(?:CreationDate|ModDate) ?\()D:\d{14}\+00'00'(?=\))", rb"\g<1>" + stamp, content)


def pdf(html: Path, toc: Path, out: Path, when: datetime) -> None:
    """Print a built book into a file, as if made at ``when``: the same book gives the same bytes."""
    from paper.tools import looks

    browser = looks.chromium()
    if browser is None:
        raise ParameterError("A PDF must be printed by Chromium, but none was found; CHROMIUM may name one.")
    document = html / DOCUMENT
    try:
        document.write_text(merged(html, chapters(toc)), encoding="utf-8")
        with looks.opened(browser) as opened:
            page = opened.new_page(viewport={"width": _WIDTH, "height": 1000})
            page.emulate_media(media="print")
            page.route("**/*", lambda route: route.continue_() if _here(route.request.url) else route.abort())
            page.goto(document.as_uri(), wait_until="load", timeout=_PATIENCE)
            if page.locator("span.math, div.math").count():
                page.wait_for_function(_DRAWN, timeout=_PATIENCE)
            page.evaluate("document.fonts.ready.then(() => 0)")
            page.evaluate(FITTED)
            page.set_default_timeout(_PATIENCE)
            content = page.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
        out.write_bytes(dated(content, when))
    finally:
        document.unlink(missing_ok=True)


def _here(address: str) -> bool:
    return re.match(r"file:|data:|blob:", address) is not None
