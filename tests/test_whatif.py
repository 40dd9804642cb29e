"""What-ifs without a browser: the data, the pictures, what is refused, and the live form."""

from __future__ import annotations

import base64
import configparser
import io
import json
import re
import threading
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from lib import runtime
from lib.checks import ParameterError
from paper import whatif
from paper.figures import style


def draw(severity: float, rule: str = "autograd") -> plt.Figure:
    drawn, axes = style.figure(4.6, 2.9)
    axes.plot([0, 1], [severity, 0 if rule == "autograd" else 1], color=style.COLOURS["blue"])
    axes.set(xlabel="severity", ylabel="recovery", ylim=(0, 2))
    return drawn


def picture(setting: dict[str, str]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(setting["src"].removeprefix("data:image/webp;base64,"))))


def test_two_parameters_are_a_slider_and_a_list():
    shown = whatif.panels(
        {"severity": [0.0, 0.5, 1.0], "rule": ["autograd", "straight_through"]},
        draw,
        labels={"severity": "severity of drift"},
        units={"severity": "S"},
        start={"severity": 0.5, "rule": "straight_through"},
    )
    severity, rule = shown.model["axes"]
    assert severity == {"label": "severity of drift", "kind": "slider", "values": ["0 S", "0.5 S", "1 S"]}
    assert rule == {"label": "rule", "kind": "choice", "values": ["autograd", "straight through"]}
    assert shown.model["start"] == [1, 1] and len(shown.model["settings"]) == 6
    # The last axis runs fastest.
    assert shown.model["settings"][3]["alt"] == "Figure for severity of drift 0.5 S, rule straight through"


def test_each_panel_is_its_own_setting():
    shown = whatif.panels({"severity": [0.0, 1.5]}, draw)
    for severity, setting in zip([0.0, 1.5], shown.model["settings"], strict=True):
        expected = np.asarray(Image.open(io.BytesIO(style.webp(draw(severity)))).convert("RGB"))
        assert np.array_equal(np.asarray(picture(setting).convert("RGB")), expected)
    first, second = (np.asarray(picture(setting).convert("RGB")) for setting in shown.model["settings"])
    assert (first != second).any()
    plt.close("all")


def test_panels_are_small_and_described():
    shown = whatif.panels({"severity": [0.5]}, draw, alt=lambda severity: f'a "line" at {severity} <i>')
    (setting,) = shown.model["settings"]
    assert setting["alt"] == 'a "line" at 0.5 <i>'
    assert (shown.model["width"], shown.model["height"]) == (506, 319)
    # Twice as fine as the page, for fine screens.
    assert picture(setting).size == (1012, 638)
    # Where no script may run, the picture of the start stands there.
    assert 'alt="a &quot;line&quot; at 0.5 &lt;i&gt;"' in shown._repr_html_()
    assert len(style.webp(draw(0.5))) < 15_000
    plt.close("all")


def test_the_page_gets_the_data_whole_and_the_script_that_reads_it():
    shown = whatif.panels({"severity": [0.5]}, draw, alt=lambda severity: "</script><b>")
    page = shown._repr_html_()
    data = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(data) == shown.model
    assert "export function render({ model, el })" in page and "</script><b>" not in page
    plt.close("all")


def test_what_is_refused_says_why_instead_of_a_picture():
    def picky(severity: float, rule: str) -> plt.Figure:
        if rule == "unaware" and severity:
            raise ParameterError("rule must see the <chip>.")
        return draw(severity, rule)

    axes = {"severity": [0.0, 0.5], "rule": ["autograd", "unaware"]}
    shown = whatif.panels(axes, picky, start={"severity": 0.5, "rule": "unaware"})
    assert [setting.get("refused") for setting in shown.model["settings"]] == [*[None] * 3, "rule must see the <chip>."]
    assert "<p>rule must see the &lt;chip&gt;.</p>" in shown._repr_html_()


def test_a_picture_that_several_settings_share_is_drawn_and_carried_once():
    drawn = []

    def picture_of(severity: float) -> plt.Figure:
        drawn.append(severity)
        return draw(severity)

    def numbers(severity: float, rule: str) -> list[whatif.Reading]:
        if severity and rule == "unaware":
            raise ParameterError("this was not measured.")
        return [whatif.Reading("recovery", 100 * severity, 40, 60, "%")]

    axes = {"severity": [0.0, 0.5], "rule": ["autograd", "straight_through", "unaware"]}
    shown = whatif.panels(axes, picture_of, readings=numbers, pictured=["severity"])
    assert drawn == [0.0, 0.5] and plt.get_fignums() == []
    settings = shown.model["settings"]
    assert [sorted({"src", "like", "refused"} & set(one))[0] for one in settings] == [
        *("src", "like", "like"),
        *("src", "like", "refused"),
    ]
    assert settings[4]["like"] == 3 and settings[4]["readings"] == [["recovery", "50 [40, 60] %", [50.0, 40.0, 60.0]]]
    started = whatif.panels(axes, draw, readings=numbers, pictured=["severity"], start={"rule": "straight_through"})
    assert "<li>recovery: 0 [40, 60] %</li>" in started._repr_html_() and 'src="data:image' in started._repr_html_()


def test_nothing_stays_open_and_the_text_is_stable():
    plt.close("all")
    shown = whatif.panels({"severity": [0.0, 0.5], "rule": ["autograd", "unaware"]}, draw)
    assert plt.get_fignums() == []
    assert repr(shown) == "What-if over severity (2) and rule (2)"
    again = whatif.panels({"severity": [0.0, 0.5], "rule": ["autograd", "unaware"]}, draw)
    assert shown._repr_html_() == again._repr_html_()


def test_notebooks_are_compared_without_the_pictures():
    """What nbval compares of a what-if is what it says, not the pixels, which differ between machines."""
    rules = configparser.RawConfigParser()
    rules.read(Path(__file__).parent / "nbval.cfg")

    def compared(text: str) -> str:
        for name in rules.sections():
            text = re.sub(rules[name]["regex"], rules[name]["replace"], text)
        return text

    def words(severity: float) -> str:
        return "a line"

    first, second = (whatif.panels({"severity": [0.5]}, lambda severity, v=v: draw(v), alt=words) for v in (0.1, 0.9))
    assert first._repr_html_() != second._repr_html_()
    assert compared(first._repr_html_()) == compared(second._repr_html_())
    told = [
        whatif.panels({"a": [0.5]}, lambda a: draw(a), readings=lambda a, v=v: [whatif.Reading('a "b"', v)])
        for v in (1, 2)
    ]
    assert compared(told[0]._repr_html_()) == compared(told[1]._repr_html_()) != compared(first._repr_html_())
    other = whatif.panels({"severity": [0.5]}, draw)
    assert compared(other._repr_html_()) != compared(first._repr_html_())


@pytest.mark.parametrize(
    "axes, sentence",
    [
        ({}, "axes must be one to four parameters, but 0 were given."),
        ({name: [1] for name in "abcde"}, "axes must be one to four parameters, but 5 were given."),
        ({"a": []}, "axes must be values that differ for a, but () was given."),
        ({"a": [1, 1]}, "axes must be values that differ for a, but (1, 1) was given."),
        ({"a": range(40), "b": range(4)}, "axes must be at most 120 settings together, but 160 were given."),
    ],
)
def test_refused_axes_draw_nothing(axes, sentence):
    with pytest.raises(ParameterError) as refused:
        whatif.panels(axes, lambda **_: pytest.fail("drawn"))
    assert str(refused.value) == sentence


def finished(shown: whatif.Live) -> None:
    shown.running.join(timeout=20)
    assert not shown.running.is_alive()


def test_live_runs_on_the_button_and_says_what_it_refuses():
    asked = []

    def run(severity: float) -> plt.Figure:
        if severity > 1:
            raise ParameterError("severity must be at most 1, but 2.0 was given.")
        asked.append(severity)
        return draw(severity)

    control = ipywidgets.FloatText(0.5)
    shown = whatif.live(run, {"severity": control})
    assert asked == [] and repr(shown) == "Live what-if over severity" and control.description == "severity"
    shown.start.click()
    finished(shown)
    assert asked == [0.5] and re.fullmatch(r"\d+\.\d s", shown.status.value) and not shown.start.disabled
    assert [output["output_type"] for output in shown.output.outputs] == ["display_data"]
    control.value = 2.0
    shown.start.click()
    finished(shown)
    assert asked == [0.5] and shown.status.value == "severity must be at most 1, but 2.0 was given."
    assert not shown.start.disabled and plt.get_fignums() == []


def test_live_shows_the_evidence_beside_or_says_that_there_is_none():
    def known(severity: float) -> list[whatif.Reading] | str:
        return [whatif.Reading("height", 3.0, 2.0, 4.0)] if severity == 0.5 else "The evidence has none."

    control = ipywidgets.FloatText(0.5)
    shown = whatif.live(
        lambda severity: severity,
        {"severity": control},
        draw=lambda severity: draw(severity),
        reads=lambda severity: [whatif.Reading("height", severity)],
        known=known,
    )
    shown.start.click()
    finished(shown)
    table, picture = (output["data"]["text/html"] for output in shown.output.outputs)
    assert "<td>0.5</td><td>3 [2, 4]</td>" in table and picture.startswith("<img") and plt.get_fignums() == []
    control.value = 0.7
    shown.start.click()
    finished(shown)
    assert "<p>The evidence has none.</p>" in shown.output.outputs[0]["data"]["text/html"]


def test_live_is_grey_and_says_why_where_the_controls_contradict():
    def check(severity: float) -> None:
        if severity > 1:
            raise ParameterError("severity must be at most 1.")

    control = ipywidgets.FloatText(2.0)
    shown = whatif.live(draw, {"severity": control}, check=check)
    assert shown.start.disabled and shown.status.value == "severity must be at most 1."
    control.value = 0.5
    assert not shown.start.disabled and shown.status.value == ""


def test_live_shows_how_far_it_is_and_can_be_cancelled():
    """The loop is one that reports its progress like every training; a cancelled one ends at its next step."""
    steps, seen, halfway, go_on = [], [], threading.Event(), threading.Event()

    def run() -> plt.Figure:
        with runtime.progress(4, "training") as advance:
            for step in range(4):
                steps.append(step)
                advance(1)
                if step == 1:
                    halfway.set()
                    go_on.wait(20)
        return draw(1.0)

    shown = whatif.live(run, {})
    plain = runtime.progress
    shown.bar.observe(lambda change: seen.append(change["new"]), "value")
    shown.start.click()
    assert halfway.wait(20) and shown.start.disabled and not shown.cancel.disabled
    shown.cancel.click()
    go_on.set()
    finished(shown)
    assert shown.status.value == "cancelled" and steps == [0, 1, 2] and shown.output.outputs == ()
    assert runtime.progress is plain and not shown.start.disabled and shown.cancel.disabled
    shown.start.click()
    finished(shown)
    assert steps[3:] == [0, 1, 2, 3] and seen[-1] == 4 and shown.bar.max == 4 and len(shown.output.outputs) == 1


def test_live_shows_what_went_wrong():
    shown = whatif.live(lambda: 1 / 0, {})
    shown.start.click()
    finished(shown)
    assert shown.status.value == "an error" and "ZeroDivisionError" in shown.output.outputs[0]["text"]


def test_style_leaves_the_rest_of_matplotlib_alone():
    before = dict(plt.rcParams)
    drawn, axes = style.figure(5, 3, columns=2, sharey=True)
    assert dict(plt.rcParams) == before
    assert axes.shape == (2,) and drawn.get_facecolor() == (1, 1, 1, 1) and drawn.dpi == style.DPI
    assert not axes[0].spines["top"].get_visible()
    plt.close(drawn)


def test_a_figure_shows_its_caption_as_text_and_carries_it_in_its_file(monkeypatch):
    shown = []
    monkeypatch.setattr(style, "display", lambda data, **_: shown.append(data))
    drawn, axes = style.figure(4, 3)
    style.caption(drawn, "γ < 2:\nthe gap  closes.")
    drawn._ipython_display_()
    picture, text = shown
    raw = io.BytesIO(base64.b64decode(picture["image/png"]))
    # The smallest text, that of ticks, has 9 points: at 288 pixels its 4 inches make it 9 pixels high.
    assert style.described(raw) == ("γ < 2: the gap closes.", (4 * style.DPI, 3 * style.DPI), False, 288)
    assert Image.open(raw).width == style.DENSITY * 4 * style.DPI, "as many pixels as a fine screen has"
    assert text == {"text/html": '<p class="figure-caption">γ &lt; 2: the gap closes.</p>'}
    assert not drawn.findobj(lambda one: "gap" in getattr(one, "_text", ""))
    shown.clear()
    style.nothing("Not measured.")._ipython_display_()
    assert shown == [{"text/html": '<p class="figure-caption">Not measured.</p>'}]


def test_a_wide_figure_is_no_finer_than_it_is_shown():
    drawn, _ = style.figure(12, 3)
    raw = io.BytesIO(style.png(drawn))
    assert Image.open(raw).width == style.DENSITY * style.SHOWN
    assert style.described(raw).size == (12 * style.DPI, 3 * style.DPI)
    # Its text was made as large as it has to be there.
    assert style.described(raw).narrowest == style.SHOWN


def test_pictures_in_their_own_colours_are_told_from_values_as_colours():
    photograph, values = (style.figure(3, 3)[0] for _ in range(2))
    photograph.axes[0].imshow(np.random.default_rng(0).uniform(size=(8, 8, 3)))
    values.axes[0].imshow(np.eye(8))
    told = [style.described(io.BytesIO(style.png(one))).pictured for one in (photograph, values)]
    assert told == [True, False]


def test_a_thin_line_keeps_its_colour():
    drawn, axis = style.figure(6, 4)
    for place, colour in enumerate(style.COLOURS.values()):
        axis.plot([0, 1], [place, place], color=colour)
    colours = {colour for _, colour in Image.open(io.BytesIO(style.png(drawn))).convert("RGB").getcolors(1 << 24)}
    assert colours >= {tuple(bytes.fromhex(colour[1:])) for colour in style.COLOURS.values()}


def test_colours_can_be_told_apart():
    values = list(style.COLOURS.values())
    assert len(set(values)) == len(values) == 9
    assert set(style.COLOURS) == {
        *("blue", "orange", "green", "vermillion", "purple", "sky", "yellow", "grey", "black")
    }
