"""What-ifs without a browser: the widget tree, the links, the pictures, and the live form."""

from __future__ import annotations

import base64
import io
import re

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from ipywidgets.widgets.widget_link import Link
from PIL import Image

from lib.checks import ParameterError
from paper import whatif
from paper.figures import style


def draw(severity: float, rule: str = "autograd") -> plt.Figure:
    drawn, axes = style.figure(4.6, 2.9)
    axes.plot([0, 1], [severity, 0 if rule == "autograd" else 1], color=style.COLOURS["blue"])
    axes.set(xlabel="severity", ylabel="recovery", ylim=(0, 2))
    return drawn


def links() -> list[tuple[ipywidgets.Widget, ipywidgets.Widget]]:
    from ipywidgets.widgets.widget import _instances

    found = [widget for widget in _instances.values() if isinstance(widget, Link)]
    return [
        (link.source[0], link.target[0])
        for link in found
        if (link.source[1], link.target[1]) == ("index", "selected_index")
    ]


def picture(panel: ipywidgets.HTML) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", panel.value)[1])))


def test_two_parameters_are_nested_stacks_linked_in_the_page():
    shown = whatif.panels(
        {"severity": [0.0, 0.5, 1.0], "rule": ["autograd", "straight_through"]},
        draw,
        labels={"severity": "severity of drift"},
        start={"severity": 0.5, "rule": "straight_through"},
    )
    outer_slider, inner_slider, outer = shown.children
    assert outer_slider.options == ("0", "0.5", "1") and outer_slider.description == "severity of drift"
    assert inner_slider.options == ("autograd", "straight through")
    assert outer_slider.index == 1 and inner_slider.index == 1 and outer.selected_index == 1
    assert len(outer.children) == 3 and all(len(inner.children) == 2 for inner in outer.children)
    assert all(inner.selected_index == 1 for inner in outer.children)
    linked = [target for source, target in links() if source is inner_slider]
    assert set(map(id, linked)) == set(map(id, outer.children))
    assert [target for source, target in links() if source is outer_slider] == [outer]


def test_each_panel_is_its_own_setting():
    shown = whatif.panels({"severity": [0.0, 1.5]}, draw)
    for severity, panel in zip([0.0, 1.5], shown.children[-1].children, strict=True):
        expected = np.asarray(Image.open(io.BytesIO(whatif.png(draw(severity)))).convert("RGB"))
        assert np.array_equal(np.asarray(picture(panel).convert("RGB")), expected)
    first, second = (np.asarray(picture(panel).convert("RGB")) for panel in shown.children[-1].children)
    assert (first != second).any()
    plt.close("all")


def test_panels_are_small_and_described():
    shown = whatif.panels({"severity": [0.5]}, draw, alt=lambda severity: f'a "line" at {severity}')
    (panel,) = shown.children[-1].children
    assert 'alt="a &quot;line&quot; at 0.5"' in panel.value
    assert picture(panel).size == (506, 319) and 'width="506" height="319"' in panel.value
    assert len(whatif.png(draw(0.5))) < 15_000
    plain = whatif.panels({"severity": [0.5]}, draw)
    assert 'alt="Figure for severity 0.5"' in plain.children[-1].children[0].value
    plt.close("all")


def test_nothing_stays_open_and_the_text_is_stable():
    plt.close("all")
    shown = whatif.panels({"severity": [0.0, 0.5], "rule": ["autograd", "unaware"]}, draw)
    assert plt.get_fignums() == []
    assert repr(shown) == "What-if over severity (2) and rule (2)"
    text = shown._repr_mimebundle_()
    assert text["text/plain"] == repr(shown)
    assert "application/vnd.jupyter.widget-view+json" in text


@pytest.mark.parametrize(
    "axes, sentence",
    [
        ({}, "axes must be one or two parameters, but 0 were given."),
        ({"a": [1], "b": [1], "c": [1]}, "axes must be one or two parameters, but 3 were given."),
        ({"a": []}, "axes must be values that differ for a, but () was given."),
        ({"a": [1, 1]}, "axes must be values that differ for a, but (1, 1) was given."),
        ({"a": range(40), "b": range(4)}, "axes must be at most 120 settings together, but 160 were given."),
    ],
)
def test_refused_axes_draw_nothing(axes, sentence):
    with pytest.raises(ParameterError) as refused:
        whatif.panels(axes, lambda **_: pytest.fail("drawn"))
    assert str(refused.value) == sentence


def test_live_runs_on_the_button_and_says_what_it_refuses():
    asked = []

    def run(severity: float) -> plt.Figure:
        if severity > 1:
            raise ParameterError("severity must be at most 1, but 2.0 was given.")
        asked.append(severity)
        return draw(severity)

    control = ipywidgets.FloatText(0.5)
    shown = whatif.live(run, {"severity": control})
    button, status = shown.children[-2].children
    assert asked == [] and repr(shown) == "Live what-if over severity"
    button.click()
    assert asked == [0.5] and re.fullmatch(r"\d+\.\d s", status.value) and not button.disabled
    control.value = 2.0
    button.click()
    assert asked == [0.5] and status.value == "severity must be at most 1, but 2.0 was given." and not button.disabled
    assert plt.get_fignums() == []


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
    assert style.described(raw) == (
        "γ < 2: the gap closes.",
        (4 * style.DPI * style.SHARP, 3 * style.DPI * style.SHARP),
    )
    assert text == {"text/html": '<p class="figure-caption">γ &lt; 2: the gap closes.</p>'}
    assert not drawn.findobj(lambda one: "gap" in getattr(one, "_text", ""))
    shown.clear()
    style.nothing("Not measured.")._ipython_display_()
    assert shown == [{"text/html": '<p class="figure-caption">Not measured.</p>'}]


def test_colours_can_be_told_apart():
    values = list(style.COLOURS.values())
    assert len(set(values)) == len(values) == 9
    assert set(style.COLOURS) == {
        *("blue", "orange", "green", "vermillion", "purple", "sky", "yellow", "grey", "black")
    }
