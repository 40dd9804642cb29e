"""What the book says of hardware: the law of every perturbation, its physics, and what to look for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """A perturbation on its page: ``formula`` (LaTeX), ``physics`` and the ``lesson`` to look for (Markdown)."""

    formula: str = ""
    physics: str = ""
    lesson: str = ""


_WORDS = {
    "read_noise": Words(
        formula=r"\tilde y_i = y_i + \frac{\sigma G_{\max}}{s}\sqrt{2\textstyle\sum_j x_j^2}\;\xi_i",
        physics=(
            "Every time current flows through a device it fluctuates: charges are trapped and released near its "
            "filament or in its amorphous volume. The fluctuations of the devices on one bit line add up, and because "
            "they are independent the sum is Gaussian with the variances added. Nothing about it lasts: the next read "
            "draws again."
        ),
        lesson=(
            "The noise is a share of a full-scale device, and full scale is set by the largest weight of the layer. A "
            "network without outstanding weights suffers less from the same hardware. Vanilla training differentiates "
            "through the scale, and therefore through the largest weight; straight-through training, noise injection "
            "and a vanilla gradient with the scale *detached* take it for a constant. That is a choice of whoever "
            "writes the backward pass, not a property of the noise, and the arms below tell what it is worth."
        ),
    ),
    "variability": Words(
        formula=(
            r"\tilde G^\pm_{ij} = \mathrm{clip}\bigl(G^\pm_{ij} + \sigma G_{\max}\,\xi^\pm_{ij},\; 0,\; G_{\max}\bigr)"
        ),
        physics=(
            "Programming pulses never leave a device exactly where it was aimed. Each chip comes out with its own "
            "error on every device and keeps it. A conductance cannot be negative or exceed the window, so a large "
            "error is clipped, which also pulls every weight towards zero."
        ),
        lesson=(
            "As with read noise, the error is a share of the full scale, which the largest weight sets: watch that "
            "weight. Unlike read noise it does not average out over the images of a batch, so the gradients of two "
            "chips differ more."
        ),
    ),
    "drift": Words(
        formula=(
            r"\begin{gathered}\tilde G = G\,(t/t_0)^{-\nu},\quad \nu = |\mu(g) + \sigma(g)\,\xi|,\\ "
            r"\mu = [-0.0155\ln g + 0.0244]_{0.049}^{0.1},\\ "
            r"\sigma = [-0.0125\ln g - 0.0059]_{0.008}^{0.045}\end{gathered}"
        ),
        physics=(
            "A phase-change device relaxes: its conductance decays as a power of time, for decades. The exponent "
            "differs from device to device and is larger for low conductances, so the weights shrink together and "
            "apart. The law and its constants are the published ones for phase-change memory, with g = G/Gmax and 20 "
            "s after programming as the start."
        ),
        lesson=(
            "The weights shrink, and with every layer the signal that is left; the Jacobian gain shrinks with them. A "
            "common factor could be undone by one number per layer behind the array, with no training at all."
        ),
    ),
    "stuck_at": Words(
        formula=(
            r"\tilde G_{ij} = G_{\min}\ \text{if}\ u_{ij} < p/2,\quad G_{\max}\ \text{if}\ p/2 \le u_{ij} < p,\quad "
            r"G_{ij}\ \text{otherwise}"
        ),
        physics=(
            "Some devices do not answer to programming at all: a filament that never formed, or a short that never "
            "opens. A device stuck at Gmin loses at most its own weight; one stuck at Gmax adds a full-scale weight "
            "of either sign wherever it sits. Which devices they are is known only after manufacture."
        ),
        lesson=(
            "A device stuck at Gmax is as large as the largest weight, wherever it sits. All other weights keep their "
            "gradient, but two chips have their faults in different places, and their gradients differ. What "
            "training can find is a network that bears faults anywhere; a network for the faults of one chip would "
            "need the map of that chip."
        ),
    ),
    "ir_drop": Words(
        formula=(
            r"\begin{gathered}"
            r"(D_{1/G} + r_w\,I_m\otimes A_n + r_b\,B_m\otimes I_n)\,\mathrm{vec}(I) = V\otimes 1_n,\quad "
            r"y_j = \textstyle\sum_i I_{ij},\\ A_{kl} = \min(k,l),\quad B_{ik} = m + 1 - \max(i,k)\end{gathered}"
        ),
        physics=(
            "The wires of the array have resistance. Current that flows along a word or bit line lowers the voltage "
            "that reaches the devices further on, more so the more the other devices on the line conduct. There is "
            "nothing random in it: it follows from the weights by Kirchhoff's laws, and two chips with the same "
            "weights lose the same currents."
        ),
        lesson=(
            "The relative loss grows as resistance times the square of the array's side: 100 Ω on 64 × 64 weigh as "
            "much as 1.6 Ω on 512 × 512, and a real segment has a few tenths to a few ohm. Nothing varies, so the "
            "variance of the gradient is zero; what counts is whether the gradient knows the circuit: compare its "
            "truth under the two rules. And watch the largest weight: what loads the wires is current, so it helps "
            "to keep all other conductances small, the opposite of what noise asks for."
        ),
    ),
    "adc": Words(
        formula=(
            r"\tilde y = \Delta\,\mathrm{clip}\bigl(\mathrm{round}(y/\Delta),\,-L,\,L\bigr),\quad "
            r"L = 2^{b-1}-1,\quad \Delta = q_{0.99}(|y|)/L"
        ),
        physics=(
            "The currents are analog, what follows is digital. A converter of $b$ bits knows $2^b-1$ values, equally "
            "spaced over its range, and everything beyond the range is cut off. The range is calibrated per layer on "
            "training data. Rounding is a staircase: its derivative is zero wherever it exists."
        ),
        lesson=(
            "Under autograd the gradient is exactly zero at any resolution, also where nothing is damaged: cosine, "
            "truth, signal and live weights are all 0, and training stays where it was at the fork (only the last "
            "bias, behind the last converter, moves). Straight-through training gets a gradient; what it adds to "
            "a range that is well calibrated is another question."
        ),
    ),
    "programming_noise": Words(
        formula=r"\tilde G = \max\bigl(0,\; G + k\,\sigma(G)\,\xi\bigr)",
        physics=(
            "Programming noise measured on real devices: the standard deviation depends on the target. The phase-"
            "change law is largest at intermediate conductances, the resistive one nearly flat."
        ),
        lesson="Its published sizes stand in a table below.",
    ),
    "flicker_noise": Words(
        formula=(
            r"\tilde y_i = y_i + \tfrac1s"
            r"\sqrt{\textstyle\sum_j x_j^2\,(\sigma^2(G^+_{ij}) + \sigma^2(G^-_{ij}))}\;\xi_i"
        ),
        physics="Fluctuations with a spectrum of 1/f: relative to its conductance, a device at rest fluctuates most.",
        lesson="Its published sizes stand in a table below.",
    ),
    "dac": Words(
        formula=r"\tilde x = \Delta\,\mathrm{clip}\bigl(\mathrm{round}(x/\Delta),\,-L,\,L\bigr)",
        physics="Inputs are numbers, word lines carry voltages: a converter of $b$ bits knows $2^b-1$ of them.",
        lesson="What is rounded here is multiplied by every weight of its row.",
    ),
    "input_noise": Words(
        formula=r"\tilde x_j = x_j + \sigma X\,\xi_j,\quad X = \max|x|\ \text{in training}",
        physics=(
            "Drivers of word lines and the supply behind them fluctuate. One disturbed input enters every output of "
            "the layer, through a weight of its own each time."
        ),
        lesson="Outputs err together, and all weights of a column count, not the largest one.",
    ),
    "output_noise": Words(
        formula=r"\tilde y_i = y_i + \sigma\,\max|W|\,X\;\xi_i,\quad X = \max|x|\ \text{in training}",
        physics=(
            "Amplifiers and integrators at the end of a bit line add noise of their own, whatever flows through it."
        ),
        lesson=(
            "The noise is fixed and the signal is not: a layer whose inputs and weights use their ranges suffers less."
        ),
    ),
    "tile_adc": Words(
        formula=(
            r"\tilde y_i = \textstyle\sum_t \mathrm{ADC}\bigl((1 + a\,\xi_{ti})\,y_{ti} + b R\,\eta_{ti}\bigr),\quad "
            r"y_i = \sum_t y_{ti}"
        ),
        physics=(
            "A layer larger than an array is cut into tiles, and every column of every tile has a converter with a "
            "gain and an offset of its own. What the converters report is added digitally."
        ),
        lesson=(
            "Gains and offsets belong to a chip and do not average out over images; rounding errors of tiles add up, "
            "and the range has only to hold a part of the sum."
        ),
    ),
    "composite": Words(
        formula=(
            r"\tilde f = \mathrm{ADC} \circ \mathrm{noise} \circ \mathrm{wires} \circ \mathrm{devices} \circ "
            r"\mathrm{DAC}"
        ),
        physics="Real chips have all of it at once.",
        lesson="Which part decides?",
    ),
    "pcm": Words(
        formula=r"\tilde G = \bigl(G + \sigma(G)\,\xi\bigr)\,(t/t_0)^{-\nu},\quad \text{read with } 1/f \text{ noise}",
        physics=(
            "All that is published of a phase-change device at once: it is programmed with an error, drifts from "
            "there, and fluctuates in every read."
        ),
        lesson=(
            "Severity is time. The textbook classes have a knob for each of the three; a real chip turns all of them."
        ),
    ),
    "rram": Words(
        formula=r"\tilde G = \max\bigl(0,\; G + k\,\sigma(G)\,\xi\bigr)",
        physics="Programming noise as measured on a resistive chip: one to two microsiemens at every target.",
        lesson="Its published sizes stand in a table below.",
    ),
    "ideal": Words(
        formula=r"\tilde y = y",
        physics="Devices that are exactly where they were aimed, wires without resistance, converters without steps.",
        lesson="The null: whatever is measured here is no effect of hardware.",
    ),
}


def wording(name: str) -> Words:
    """The words for the perturbation of that name; empty ones for a class of the reader's own."""
    return _WORDS.get(name, Words())
