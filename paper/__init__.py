"""The book's own code: studies, figures, what-ifs, words and tools; it stands on :mod:`lib`, never the other way."""
