"""The book's own code: studies, figures, what-ifs, words and tools; it stands on :mod:`lib`, never the other way."""

from pathlib import Path

_HOME = Path(__file__).resolve().parents[1]

#: The folder that holds ``results/`` and ``profiles/``: the checkout of this project, or else the working folder.
ROOT = _HOME if (_HOME / "pyproject.toml").is_file() else Path.cwd()
