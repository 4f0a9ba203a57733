// Builds elements. Text is only ever set as text, so nothing that a person typed can become markup.

export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Keeps what has not changed, and with it the focus and whatever is open inside.
export function fill(box, facts, make) {
  const key = JSON.stringify(facts);
  if (box.dataset.shown === key) return;
  box.dataset.shown = key;
  box.replaceChildren(...[make()].flat().filter(Boolean));
}

export function heading(text, ...beside) {
  return h("header", { class: "title" }, h("h1", { tabindex: "-1" }, text), ...beside);
}

export function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text, off]) => h("option", { value, disabled: off, selected: value === chosen }, text)));
  return select;
}

export function field(name, label, control, hint) {
  control.id = `field-${name}`;
  control.name = name;
  const note = hint && h("small", { id: `hint-${name}` }, hint);
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, note);
}
