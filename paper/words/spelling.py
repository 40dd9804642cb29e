"""Learners, gates, tasks, recipes and networks by the names that readers know: for both wings, so it imports none."""

import re

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

#: Perturbations by their titles (:data:`lib.hardware.devices.HARDWARE`), of which a page on gates knows no more.
TITLES = {
    "read_noise": "Read noise",
    "variability": "Programming variability",
    "drift": "Conductance drift",
    "stuck_at": "Stuck-at faults",
    "ir_drop": "IR-drop",
    "adc": "ADC discretization",
    "programming_noise": "Programming noise as measured",
    "flicker_noise": "Read noise as measured",
    "dac": "DAC discretization",
    "pcm": "Phase-change chip",
    "rram": "Resistive chip",
    "ideal": "Ideal chip",
    "input_noise": "Input noise",
    "output_noise": "Output noise",
    "tile_adc": "Converters of tiles",
}

#: Backward rules, as they are called in sentences.
RULES = {
    "autograd": "vanilla training",
    "noise_injection": "noise-injection training",
    "straight_through": "straight-through training",
    "unaware": "no training",
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


def times(name: str) -> str:
    """A name with the sign of multiplication: "gate rate x 10" -> "gate rate × 10"."""
    return re.sub(r" x (?=\d)", " × ", name)


def in_sentence(title: str) -> str:
    """A title within a sentence: small, unless it is an abbreviation."""
    return title if title[:2].isupper() else f"{title[:1].lower()}{title[1:]}"
