"""What must be so for gradients to have told beforehand, over both parts. The thresholds are those of the pages that
each part has of its own (:mod:`paper.criteria.prompts`, :mod:`paper.criteria.hardware`).
"""

from __future__ import annotations

from paper.criteria.hardware import BEYOND_TRIVIAL, TELLS

__all__ = ["BEYOND_TRIVIAL", "TELLS"]
