"""Folders of this project's own for what libraries keep: fonts, histories, connection files, compiled code.

Left alone they use the reader's home and the system's temporary folder. A home may be read-only or missing, and what
a library says about that would stand on the page; it may hold settings (a matplotlibrc, IPython's startup files) that
would change the page. Weights that the reader has downloaded are still found where they are.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from paper.tools.sources import ROOT

#: The variables by which the libraries are told.
VARIABLES = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR")

# Where the checkout cannot be written; removed when the process ends.
_spare: list[tempfile.TemporaryDirectory[str]] = []


def use_own() -> None:
    """Let the libraries of this process and of its children keep things in ``_build/caches``."""
    try:
        made = _made(ROOT / "_build" / "caches")
    except OSError:
        _spare[:] = _spare or [tempfile.TemporaryDirectory(prefix="caches-")]
        made = _made(Path(_spare[0].name))
    os.environ.update({name: str(folder) for name, folder in made.items()})
    if not list(made["MPLCONFIGDIR"].glob("fontlist-*.json")):
        # Listing the fonts takes so long on some machines that matplotlib says so, and would say it on a page.
        subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], stderr=subprocess.DEVNULL, check=False)


def _made(folder: Path) -> dict[str, Path]:
    made = {name: folder / name.lower() for name in VARIABLES}
    for path in made.values():
        path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return made  # it can be written: there may be the folders and no right to
