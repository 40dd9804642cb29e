"""When gradients cannot help: a small library behind the book.

The ground floor is ``checks``, ``runtime``, ``gradients``, ``verdicts``, ``replicas`` and ``results``;
two wings, ``prompts`` and ``hardware``, stand on it and never on each other; ``studies`` stands on the wings.
Importing ``lib`` alone loads nothing heavy.
"""

from lib.checks import ParameterError

__all__ = ["ParameterError"]
