"""What-ifs: figures that follow the reader.

:func:`panels` draws every setting beforehand, so that the controls move in the static page, without a kernel and
without a network. :func:`live` runs a small experiment of the reader's choice and needs a kernel. Both say in numbers
what a setting comes to: :class:`Reading`.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import html
import itertools
import json
import math
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from lib import checks, runtime
from paper.figures import style
from paper.words import format as shown

#: Panels that one page carries without becoming slow to load (about 15 KB each).
LIMIT = 120

_HERE = Path(__file__).parent


def _words(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def _said(value: object, unit: str) -> str:
    """A value of an axis with its unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return shown.quantity(value, unit)
    return f"{_words(value)} {unit}".strip()


@functools.cache
def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Reading:
    """One number of a setting: its name and unit, its value with the ends of its interval where it has one, and the
    ends of the scale on which a bar shows it. A value that is none (nan) may say ``why``.
    """

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    unit: str = ""
    scale: tuple[float, float] = (0.0, 100.0)
    why: str = ""

    @classmethod
    def over_seeds(cls, name: str, values: Any, **more: Any) -> Reading:
        """The mean of the seeds' values with its 95 % interval, as figures have it."""
        return cls(name, *style.interval(values), **more)

    @property
    def text(self) -> str:
        """The number with its interval and unit, in words for a reader."""
        if math.isnan(self.value):
            return self.why or shown.NOTHING
        return f"{shown.interval(self.value, self.low, self.high)} {self.unit}".strip()

    def bar(self) -> list[float]:
        """Where on the scale value and ends lie, in per cent; nothing where there is no value."""
        if not math.isfinite(self.value):
            return []
        first, last = self.scale
        ends = (self.value if math.isnan(end) else end for end in (self.low, self.high))
        return [round(100 * min(max((one - first) / (last - first), 0.0), 1.0), 1) for one in (self.value, *ends)]


#: What one setting comes to in numbers.
Readings = Sequence[Reading]


def beside(fresh: Readings, known: Readings | str) -> str:
    """A table (HTML) of what was computed here and now with the evidence's numbers beside it; ``known`` says why where
    there are none.
    """
    stored = {} if isinstance(known, str) else {one.name: one.text for one in known}
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(one.name)}</th><td>{html.escape(one.text)}</td>"
        + (f"<td>{html.escape(stored.get(one.name, shown.NOTHING))}</td>" if stored else "")
        + "</tr>"
        for one in fresh
    )
    head = "<th scope='col'>here and now</th>" + ("<th scope='col'>evidence</th>" if stored else "")
    note = f"<p>{html.escape(known)}</p>" if isinstance(known, str) else ""
    return f"<table class='what-if-beside'><tr><td></td>{head}</tr>{rows}</table>{note}"


class Panels:
    """Pictures and the controls that choose among them: HTML with a few lines of script, printed as one stable line.

    ``model`` is what the script (``whatif.js``) reads: ``axes``, ``settings`` in the order of their product, ``start``,
    the size of a picture, and the width below which its text is too small. Where no script runs, the picture of the
    start stands alone.
    """

    def __init__(self, model: Mapping[str, Any], summary: str) -> None:
        self.model, self.summary = model, summary

    def __repr__(self) -> str:
        return self.summary

    def _first(self) -> str:
        """What stands there before the script has run, or if it may not."""
        place = 0
        for axis, chosen in zip(self.model["axes"], self.model["start"], strict=True):
            place = place * len(axis["values"]) + chosen
        setting = self.model["settings"][place]
        if "refused" in setting:
            return f"<p>{html.escape(setting['refused'])}</p>"
        size = f'width="{self.model["width"]}" height="{self.model["height"]}"'
        alt = html.escape(setting["alt"], quote=True)
        source = setting.get("src") or self.model["settings"][setting["like"]]["src"]
        read = "".join(f"<li>{html.escape(f'{name}: {text}')}</li>" for name, text, _ in setting.get("readings", ()))
        return (
            f'<img {size} style="max-width:100%;height:auto" alt="{alt}" src="{source}">'
            f'<p class="{style.CAPTION}">{html.escape(setting["caption"])}</p>'
            + (f'<ul class="what-if-first">{read}</ul>' if read else "")
        )

    def _repr_html_(self) -> str:
        # "<" would end the script that holds the data.
        model = json.dumps(self.model, ensure_ascii=False).replace("<", "\\u003c")
        # Every what-if that still has its data is rendered: an output does not know where it stands in its page.
        begin = (
            """for (const data of document.querySelectorAll('.what-if > script[type="application/json"]')) {\n"""
            "  const model = JSON.parse(data.textContent);\n"
            "  render({ model: { get: (name) => model[name] }, el: data.parentElement });\n"
            "}"
        )
        name = html.escape(self.summary, quote=True)
        return (
            f"<style>\n{_asset('whatif.css')}</style>\n"
            f'<div class="what-if" role="group" aria-label="{name}">\n{self._first()}\n'
            f'<script type="application/json">{model}</script>\n</div>\n'
            f'<script type="module">\n{_asset("whatif.js")}\n{begin}\n</script>'
        )


def panels(
    axes: Mapping[str, Sequence[Any]],
    draw: Callable[..., Figure],
    *,
    labels: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    alt: Callable[..., str] | None = None,
    start: Mapping[str, Any] | None = None,
    readings: Callable[..., Readings] | None = None,
    pictured: Sequence[str] | None = None,
) -> Panels:
    """Controls that choose among pictures drawn here and now, in a page without a kernel.

    ``axes`` names up to four parameters and the values of each: numbers make a slider, words a list. ``draw(**values)``
    gives the figure of one setting (all of the same size; each is closed), or refuses it with a
    :class:`~lib.checks.ParameterError`, whose sentence then stands in its place. ``labels`` are the words at the
    controls, ``units`` what follows their values, ``alt(**values)`` the text in place of a picture, ``start`` the
    values shown first (default: the first of each axis). ``readings(**values)`` are the numbers of a setting, which
    stand above its picture and may be refused likewise; ``pictured`` names the parameters that the picture depends on
    (default: all), which alone are given to ``draw``.
    """
    values = {name: tuple(axes[name]) for name in axes}
    if not 1 <= len(values) <= 4:
        raise checks.ParameterError(f"axes must be one to four parameters, but {len(values)} were given.")
    for name, options in values.items():
        if not options or len({_words(option) for option in options}) < len(options):
            raise checks.ParameterError(f"axes must be values that differ for {name}, but {options!r} was given.")
    if (count := math.prod(map(len, values.values()))) > LIMIT:
        raise checks.ParameterError(f"axes must be at most {LIMIT} settings together, but {count} were given.")
    titles = {name: (labels or {}).get(name, name.replace("_", " ")) for name in values}

    def describe(setting: Mapping[str, Any]) -> str:
        if alt is not None:
            return alt(**setting)
        said = {name: _said(value, (units or {}).get(name, "")) for name, value in setting.items()}
        return "Figure for " + ", ".join(f"{titles[name]} {value}" for name, value in said.items())

    settings: list[dict[str, Any]] = []
    # By what it depends on: where a picture stands first, and the picture.
    drawings: dict[tuple[Any, ...], tuple[int, Figure]] = {}
    width = height = narrowest = 0
    for combination in itertools.product(*values.values()):
        setting = dict(zip(values, combination, strict=True))
        seen = {name: setting[name] for name in (values if pictured is None else pictured)}
        try:
            numbers = list(readings(**setting)) if readings is not None else []
            if (key := tuple(seen.values())) not in drawings:
                drawings[key] = len(settings), draw(**seen)
            first, drawn = drawings[key]
        except checks.ParameterError as refused:
            settings.append({"refused": str(refused)})
            continue
        found: dict[str, Any] = {"alt": describe(setting), "caption": str(drawn.get_label())}
        if first == len(settings):
            width, height = (round(side * drawn.dpi) for side in drawn.get_size_inches())
            found["src"] = "data:image/webp;base64," + base64.b64encode(style.webp(drawn)).decode()
            narrowest = max(narrowest, style.least(drawn))
            if style.pictured(drawn):
                found["class"] = style.PICTURED
            plt.close(drawn)
        else:
            found["like"] = first
        if numbers:
            found["readings"] = [[one.name, one.text, one.bar()] for one in numbers]
        settings.append(found)

    def axis(name: str) -> dict[str, Any]:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values[name])
        return {
            "label": titles[name],
            "kind": "slider" if numbers else "choice",
            "values": [_said(value, (units or {}).get(name, "")) for value in values[name]],
        }

    model = {
        "axes": [axis(name) for name in values],
        "start": [options.index((start or {}).get(name, options[0])) for name, options in values.items()],
        "width": width,
        "height": height,
        "narrowest": narrowest,
        "settings": settings,
    }
    return Panels(model, "What-if over " + " and ".join(f"{titles[name]} ({len(values[name])})" for name in values))


class Cancelled(Exception):
    """The reader has cancelled a live experiment."""


@contextlib.contextmanager
def _followed(tell: Callable[[str, int, int], None]) -> Iterator[None]:
    """Whatever reports progress in this thread reports it to ``tell(label, done, total)`` too, which may raise."""
    plain, here = runtime.progress, threading.get_ident()

    @contextlib.contextmanager
    def followed(total: int, label: str) -> Iterator[Callable[[int], None]]:
        with plain(total, label) as advance:
            if threading.get_ident() != here:  # a training in another cell, at the same time
                yield advance
                return
            done = 0

            def both(count: int) -> None:
                nonlocal done
                done += count
                advance(count)
                tell(label, done, total)

            yield both

    runtime.progress = followed
    try:
        yield
    finally:
        runtime.progress = plain


class Live(widgets.VBox):
    """Controls, a button that runs, one that cancels, how far it is, and the outcome; prints as one stable line."""

    def __init__(
        self,
        run: Callable[..., Any],
        controls: Mapping[str, widgets.Widget],
        button: str,
        check: Callable[..., object] | None,
        draw: Callable[[Any], Figure],
        reads: Callable[[Any], Readings] | None,
        known: Callable[..., Readings | str] | None,
    ) -> None:
        self.run, self.controls, self.check = run, controls, check
        self.draw, self.reads, self.known = draw, reads, known
        for name, control in controls.items():
            control.description = control.description or name.replace("_", " ")
            control.style.description_width = "initial"
            control.observe(self._judge, "value")
        self.start = widgets.Button(description=button, button_style="primary")
        self.cancel = widgets.Button(description="Cancel", disabled=True)
        self.bar = widgets.IntProgress(0, min=0, max=1, layout={"width": "12em", "visibility": "hidden"})
        self.status = widgets.Label("")
        self.output = widgets.Output()
        #: The thread of the last experiment.
        self.running: threading.Thread | None = None
        self._stop = threading.Event()
        self.start.on_click(self._begin)
        self.cancel.on_click(lambda _: self._stop.set())
        row = widgets.HBox([self.start, self.cancel, self.bar, self.status])
        super().__init__([*controls.values(), row, self.output])
        self.add_class("what-if")
        self._judge()

    def __repr__(self) -> str:
        return "Live what-if over " + ", ".join(self.controls)

    def values(self) -> dict[str, Any]:
        """What the controls say."""
        return {name: control.value for name, control in self.controls.items()}

    def _judge(self, _: object = None) -> None:
        """The button is grey, and says why, where the controls ask for what cannot be."""
        if self.running is not None and self.running.is_alive():
            return
        try:
            if self.check is not None:
                self.check(**self.values())
        except checks.ParameterError as refused:
            self.start.disabled, self.status.value = True, str(refused)
        else:
            self.start.disabled, self.status.value = False, ""

    def _begin(self, _: widgets.Button) -> None:
        self._stop.clear()
        self.start.disabled, self.cancel.disabled = True, False
        self.bar.value, self.bar.layout.visibility, self.status.value = 0, "visible", "running"
        # In a thread: the kernel must hear the button that cancels.
        self.running = threading.Thread(target=self._work, args=(self.values(),), daemon=True)
        self.running.start()

    def _tell(self) -> Callable[[str, int, int], None]:
        shown, trainings = 0.0, 0

        def tell(label: str, done: int, total: int) -> None:
            nonlocal shown, trainings
            if self._stop.is_set():
                raise Cancelled
            trainings += done == 1
            # Ten times a second: every change is a message.
            if (now := time.perf_counter()) - shown > 0.1 or done == total:
                shown, self.bar.max, self.bar.value = now, total, done
                self.status.value = f"{label}, {done} of {total} steps (number {max(trainings, 1)})"

        return tell

    def _work(self, given: Mapping[str, Any]) -> None:
        began = time.perf_counter()
        try:
            with _followed(self._tell()):
                found = self.run(**given)
            if self._stop.is_set():
                raise Cancelled
            said = f"{time.perf_counter() - began:.1f} s"
            self._show(found, given)
        except checks.ParameterError as refused:
            said = str(refused)
        except Cancelled:
            said = "cancelled"
        except Exception:
            said = "an error"
            self.output.outputs = ()
            self.output.append_stderr(traceback.format_exc())
        self.bar.layout.visibility = "hidden"
        self.start.disabled, self.cancel.disabled, self.status.value = False, True, said

    def _show(self, found: Any, given: Mapping[str, Any]) -> None:
        """The numbers with those of the evidence beside them, the picture, and its caption."""
        drawn = self.draw(found)
        parts: list[dict[str, Any]] = []
        if self.reads is not None:
            known = "" if self.known is None else self.known(**given)
            parts.append({"text/html": beside(self.reads(found), known)})
        if drawn.axes:
            source = f"data:image/png;base64,{base64.b64encode(style.png(drawn)).decode()}"
            said = html.escape(str(drawn.get_label()), quote=True)
            picture = f'<img style="max-width:100%;height:auto" alt="{said}" src="{source}">'
            parts.append({"text/html": picture})
        if drawn.get_label():
            parts.append({"text/html": f'<p class="{style.CAPTION}">{html.escape(str(drawn.get_label()))}</p>'})
        plt.close(drawn)
        self.output.outputs = tuple({"output_type": "display_data", "data": one, "metadata": {}} for one in parts)


def _as_it_is(found: Any) -> Figure:
    """The picture of a run that gives nothing else."""
    return found


def live(
    run: Callable[..., Any],
    controls: Mapping[str, widgets.Widget],
    *,
    button: str = "Run",
    check: Callable[..., object] | None = None,
    draw: Callable[[Any], Figure] = _as_it_is,
    reads: Callable[[Any], Readings] | None = None,
    known: Callable[..., Readings | str] | None = None,
) -> Live:
    """Controls and a button that runs ``run(**values)`` in the kernel and shows what comes out, as ``draw`` draws it.

    ``reads`` are the numbers of what came out; ``known(**values)`` are those that the committed evidence has for this
    setting, by the same names, or a sentence that says that it has none. A :class:`~lib.checks.ParameterError` shows
    as its sentence; what ``check(**values)`` refuses so cannot be run at all. A page without a kernel cannot run
    anything: tag the cell ``remove-output`` and say in the text beside it that this part runs in Jupyter.
    """
    return Live(run, controls, button, check, draw, reads, known)
