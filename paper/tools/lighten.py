"""A Sphinx extension (see _config.yml) that takes out of the built pages what the theme brings and no page needs.

The theme draws its icons twice: by a font, of which a page loads 0.16 MB, and by a script that redraws them, of
1.5 MB. Without the script the font stands. Maps from minified scripts to their sources serve who debugs the theme.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_SCRIPT = re.compile(r"\s*<script[^>]*/scripts/fontawesome\.js[^>]*></script>")


def lighten(folder: Path) -> None:
    """Take the script of the icons, and the maps, out of the built book in ``folder``."""
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if (lighter := _SCRIPT.sub("", text)) != text:
            page.write_text(lighter, encoding="utf-8")
    for unused in [*folder.glob("_static/scripts/fontawesome.js"), *folder.glob("_static/**/*.map")]:
        unused.unlink()


def _finished(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        lighten(Path(app.outdir))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", _finished)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
