"""How the page on models of one's own begins: its answer is what a report of the library says."""

from __future__ import annotations

from lib import Report
from paper.words.opening import boxed


def opening(report: Report) -> str:
    """Question and answer (Markdown), the answer with the verdict of ``report``."""
    return boxed(
        "You have a model, a loss and a few batches, and are about to pay for a training. What can be said of it "
        "beforehand?",
        "Whether the gate or the hardware does anything to it at all, what that costs where the model stands, whether "
        "a gradient is left, and which layer or part is to blame: two function calls and a few gradients. How the "
        f"training will end they do not say. Of the network below they say: *{report.verdict}*",
    )
