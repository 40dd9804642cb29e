"""Learners, gates, tasks and recipes by the names that readers know: for both wings of the book, so it imports none."""

#: Names that are not spelt as the code spells them.
SPELT = {
    "zero_shot": "zero-shot",
    "coop": "CoOp",
    "cocoop": "CoCoOp",
    "vpt_shallow": "VPT, shallow",
    "vpt": "VPT, deep",
    "ivlp": "IVLP",
    "maple": "MaPLe",
    "bimaple": "MaPLe, both ways",
    "pool": "pool of contexts",
    "maple_5": "5 epochs",
    "maple_50": "50 epochs",
    "mis_specified": "mis-specified",
    "conflict_size": "conflict of sizes",
    "conflict_blur": "conflict of blur",
    "top_k": "top-k",
    "l2p": "L2P",
    "random": "random entries",
}


def spelt(name: str) -> str:
    """A name as the reader sees it: "mis_specified" -> "mis-specified"."""
    return SPELT.get(name, name.replace("_", " "))
