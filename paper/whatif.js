// Controls that choose among pictures drawn beforehand: the whole what-if of a page without a kernel.
// The form is that of an anywidget module, so that the same lines serve a widget with a kernel behind it.
export function render({ model, el }) {
  const axes = model.get("axes");
  const settings = model.get("settings");
  const chosen = [...model.get("start")];
  const make = (tag, given = {}) => Object.assign(document.createElement(tag), given);
  const controls = make("div", { className: "what-if-controls" });
  const picture = make("img", { width: model.get("width"), height: model.get("height") });
  // Where the page is narrower than its text allows the picture scrolls, by keyboard too.
  picture.style.setProperty("--narrowest", `${model.get("narrowest")}px`);
  const frame = make("div", { className: "what-if-picture" });
  frame.append(picture);
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", "The picture of this setting");
  new ResizeObserver(() => {
    const over = frame.scrollWidth > frame.clientWidth;
    frame.classList.toggle("scrolls", over);
    frame.tabIndex = over ? 0 : -1;
  }).observe(frame);
  const caption = make("p", { className: "figure-caption" });
  const numbers = make("table", { className: "what-if-readings" });
  const reason = make("p", { className: "what-if-reason" });
  reason.setAttribute("role", "status");

  const at = (places) => settings[places.reduce((sum, place, i) => sum * axes[i].values.length + place, 0)];
  const drawers = [];
  // A number of the setting: its name, where it lies on its scale with its interval, and what it is.
  const read = ([name, text, [value, low, high]]) => {
    const row = make("tr");
    const cell = make("td", { className: "what-if-bar" });
    const track = make("span");
    track.setAttribute("aria-hidden", "true");
    if (value !== undefined) {
      const ends = make("i");
      Object.assign(ends.style, { left: `${low}%`, width: `${high - low}%` });
      const mark = make("b");
      mark.style.left = `${value}%`;
      track.append(ends, mark);
    }
    cell.append(track);
    row.append(make("th", { textContent: name, scope: "row" }), cell, make("td", { textContent: text }));
    return row;
  };
  const show = () => {
    const { like, alt, caption: said, readings = [], refused } = at(chosen);
    const { src, class: kind } = like === undefined ? at(chosen) : settings[like];
    picture.hidden = Boolean(refused);
    caption.hidden = Boolean(refused);
    caption.textContent = said || "";
    reason.hidden = !refused;
    reason.textContent = refused || "";
    if (!refused) Object.assign(picture, { src, alt, className: kind || "" });
    numbers.hidden = !readings.length;
    numbers.replaceChildren(...readings.map(read));
    drawers.forEach((draw) => draw());
  };

  axes.forEach((axis, i) => {
    const row = make("label");
    row.append(make("span", { textContent: axis.label }));
    let control;
    if (axis.kind === "choice") {
      control = make("select");
      axis.values.forEach((text, place) => control.append(make("option", { textContent: text, value: place })));
      drawers.push(() => {
        // What cannot be had together with the other choices is grey, and says why.
        [...control.options].forEach((option, place) => {
          const { refused } = at(chosen.map((old, other) => (other === i ? place : old)));
          option.disabled = Boolean(refused);
          option.title = refused || "";
        });
      });
      row.append(control);
    } else {
      control = make("input", { type: "range", min: 0, max: axis.values.length - 1, step: 1 });
      const value = make("output");
      drawers.push(() => {
        value.textContent = axis.values[chosen[i]];
        control.setAttribute("aria-valuetext", axis.values[chosen[i]]);
      });
      row.append(control, value);
    }
    control.setAttribute("aria-label", axis.label);
    control.value = chosen[i];
    control.addEventListener("input", () => {
      chosen[i] = Number(control.value);
      show();
    });
    controls.append(row);
  });
  el.replaceChildren(controls, numbers, frame, caption, reason);
  show();
}

export default { render };
