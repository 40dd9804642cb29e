// Controls that choose among pictures drawn beforehand: the whole what-if of a page without a kernel.
// The form is that of an anywidget module, so that the same lines serve a widget with a kernel behind it.
export function render({ model, el }) {
  const axes = model.get("axes");
  const settings = model.get("settings");
  const chosen = [...model.get("start")];
  const make = (tag, given = {}) => Object.assign(document.createElement(tag), given);
  const controls = make("div", { className: "what-if-controls" });
  const picture = make("img", { width: model.get("width"), height: model.get("height") });
  const caption = make("p", { className: "figure-caption" });
  const reason = make("p", { className: "what-if-reason" });
  reason.setAttribute("role", "status");

  const at = (places) => settings[places.reduce((sum, place, i) => sum * axes[i].values.length + place, 0)];
  const drawers = [];
  const show = () => {
    const { src, alt, caption: said, refused, class: kind } = at(chosen);
    picture.hidden = Boolean(refused);
    caption.hidden = Boolean(refused);
    caption.textContent = said || "";
    reason.hidden = !refused;
    reason.textContent = refused || "";
    if (!refused) Object.assign(picture, { src, alt, className: kind || "" });
    drawers.forEach((draw) => draw());
  };

  axes.forEach((axis, i) => {
    const said = axis.values.map((value) => (axis.unit ? `${value} ${axis.unit}` : value));
    const row = make("label");
    row.append(make("span", { textContent: axis.label }));
    let control;
    if (axis.kind === "choice") {
      control = make("select");
      said.forEach((text, place) => control.append(make("option", { textContent: text, value: place })));
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
      control = make("input", { type: "range", min: 0, max: said.length - 1, step: 1 });
      const value = make("output");
      drawers.push(() => {
        value.textContent = said[chosen[i]];
        control.setAttribute("aria-valuetext", said[chosen[i]]);
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
  el.replaceChildren(controls, picture, caption, reason);
  show();
}

export default { render };
