"""When gradients cannot help: the engine behind the book, for projects of your own.

The ground floor is ``checks``, ``code``, ``runtime``, ``gradients``, ``verdicts``, ``replicas``, ``results`` and
``pictures``; two wings, ``prompts`` and ``hardware``, stand on it and never on each other; ``diagnose`` is the front
door, for models that the book knows nothing about. The names below are the public face: ``from lib import on_chip``.
Importing ``lib`` alone loads nothing heavy.
"""

from importlib import import_module
from typing import Any

from lib.checks import ParameterError

#: Where each name of the public face comes from.
_FACE = {
    "diagnose": "Report diagnose_gate diagnose_perturbation learner_parts",
    "gradients": "cosine dead_fraction effective_rank expected_cosine magnitude_gap "
    "relative_bias statistics truth variance_interval",
    "hardware.crossbars": "on_chip",
    "hardware.devices": "HARDWARE Composite make",
    "hardware.perturbations": "Perturbation",
    "prompts.backbone": "load",
    "prompts.diagnosis": "chain gate_statistics",
    "prompts.gates": "GATES Gate",
    "prompts.learners": "LEARNERS Learner",
    "replicas": "Optimiser stack train unstack",
    "results": "Cell Store",
    "verdicts": "Claim Finding Findings Outcome Threshold Verdict bootstrap judge",
}
_HOME = {name: module for module, names in _FACE.items() for name in names.split()}

__all__ = ["ParameterError", *_HOME]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: whoever needs only the statistics of gradients does not wait for open_clip.
    if name not in _HOME:
        raise AttributeError(f"module 'lib' has no attribute {name!r}")
    return getattr(import_module(f"lib.{_HOME[name]}"), name)
