"""Learners, gates, tasks, recipes and networks by the names that readers know: for both wings, so it imports none."""

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

#: Networks on hardware.
NETWORKS = {
    "mlp": "perceptron",
    "cnn": "CNN",
    "cnn_norm": "CNN, normalised",
    "vit": "vision transformer",
    "resnet": "ResNet",
}


def spelt(name: str) -> str:
    """A name as the reader sees it: "mis_specified" -> "mis-specified"."""
    return SPELT.get(name) or NETWORKS.get(name) or name.replace("_", " ")
