"""For all tests, the notebooks among them: libraries keep what they keep in folders of the project's own."""

from paper.tools import caches

caches.use_own()
