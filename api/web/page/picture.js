// The picture with its layers: drag or scroll to move and zoom, a slider for how much of a layer is seen.

import { h } from "./dom.js";
import { number, percent, t } from "./words.js";

const LAYERS = ["overlay", "explanation", "activation"];
const MEANINGS = { explanation: "layer.explanation.means", activation: "layer.activation.means" };
const MOST_ZOOM = 8;
const STEP_PX = 40;
let made = 0; // two of them may stand side by side, and ids must differ

export class Picture {
  constructor(name) {
    this.name = name;
    this.id = `picture-${++made}`;
    this.scale = 1;
    this.x = this.y = 0;
    this.stage = h("div", { class: "stage" });
    this.frame = h("div", {
      class: "frame", tabindex: "0", role: "group", "aria-label": t("picture.label"), "aria-describedby": `${this.id}-keys`,
      onkeydown: (event) => this.key(event), onpointerdown: (event) => this.grab(event), onwheel: (event) => this.wheel(event),
    }, this.stage);
    this.layers = h("div", { class: "layers" });
    this.legend = h("div", null);
    this.element = h("figure", { class: "picture" }, this.frame, this.tools(), this.layers, this.legend);
  }

  tools() {
    const button = (sign, name, act) => h("button", { type: "button", class: "tool", "aria-label": t(name), title: t(name), onclick: act }, sign);
    return h(
      "div",
      { class: "tools" },
      button("+", "picture.closer", () => this.zoom(1.5)),
      button("\u2212", "picture.farther", () => this.zoom(1 / 1.5)),
      button("\u21ba", "picture.whole", () => this.reset()),
      h("span", { id: `${this.id}-keys`, class: "small quiet" }, t("picture.keys")),
    );
  }

  // `artifacts` name what there is to see so far.
  show(artifacts) {
    const names = Object.keys(artifacts).sort().join();
    if (names === this.shown) return;
    this.shown = names;
    if (!artifacts.image) {
      this.stage.replaceChildren(h("p", { class: "quiet" }, t("picture.gone")));
      return;
    }
    const image = h("img", { src: artifacts.image, alt: t("picture.alt", { name: this.name }), draggable: "false" });
    image.addEventListener("error", () => {
      const link = h("a", { href: artifacts.image, download: true }, t("picture.download"));
      this.stage.replaceChildren(h("p", null, t("picture.unseen"), " ", link));
    });
    this.stage.replaceChildren(image);
    const present = LAYERS.filter((name) => artifacts[name]);
    this.layers.replaceChildren(...(present.length ? [this.choice(present, artifacts)] : []));
  }

  choice(present, artifacts) {
    const layer = h("img", { class: "layer", alt: "", draggable: "false" });
    const slider = h("input", { type: "range", min: "0", max: "100", value: "60", id: `${this.id}-opacity` });
    const told = h("output", { for: slider.id });
    const means = h("p", { class: "small quiet" });
    const name = `${this.id}-layer`;
    const choose = (chosen) => {
      if (chosen) layer.src = artifacts[chosen];
      layer.alt = chosen ? t(`layer.${chosen}`) : "";
      layer.hidden = slider.disabled = !chosen;
      this.legend.hidden = chosen !== "overlay";
      means.textContent = chosen in MEANINGS ? t(MEANINGS[chosen]) : ""; // the overlay has its legend
    };
    const fade = () => {
      layer.style.opacity = slider.value / 100;
      told.textContent = percent(slider.value / 100);
    };
    slider.addEventListener("input", fade);
    this.stage.append(layer);
    choose(present[0]);
    fade();
    const radios = [...present, ""].map((one) =>
      h("label", { class: "check" }, h("input", { type: "radio", name, value: one, checked: one === present[0], onchange: () => choose(one) }), h("span", null, t(`layer.${one || "none"}`))),
    );
    return h("fieldset", null, h("legend", null, t("layer.title")), h("div", { class: "row" }, radios), h("div", { class: "slide" }, h("label", { for: slider.id }, t("layer.opacity")), slider, told), means);
  }

  // What the colours of the overlay mean.
  explain(segments, colours) {
    const entries = (segments ?? []).map((one) => {
      const colour = colours[one.label];
      const swatch = colour && h("span", { class: "swatch", "aria-hidden": "true", style: { background: colour } });
      return h("li", null, swatch, `${one.name}: ${percent(one.area_fraction)}`, h("span", { class: "quiet" }, ` (${number(one.area_px)} px)`));
    });
    this.legend.replaceChildren(...(entries.length ? [h("ul", { class: "legend", "aria-label": t("layer.legend") }, entries)] : []));
  }

  zoom(factor) {
    this.scale = Math.min(MOST_ZOOM, Math.max(1, this.scale * factor));
    this.move(0, 0);
  }

  move(dx, dy) {
    const most = (size) => (size * (this.scale - 1)) / 2;
    this.x = Math.min(most(this.frame.clientWidth), Math.max(-most(this.frame.clientWidth), this.x + dx));
    this.y = Math.min(most(this.frame.clientHeight), Math.max(-most(this.frame.clientHeight), this.y + dy));
    this.stage.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.frame.classList.toggle("near", this.scale > 1);
  }

  reset() {
    this.scale = 1;
    this.move(0, 0);
  }

  key(event) {
    const acts = {
      "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5), 0: () => this.reset(),
      ArrowLeft: () => this.move(STEP_PX, 0), ArrowRight: () => this.move(-STEP_PX, 0),
      ArrowUp: () => this.move(0, STEP_PX), ArrowDown: () => this.move(0, -STEP_PX),
    };
    const act = acts[event.key];
    if (!act || event.ctrlKey || event.metaKey || (event.key.startsWith("Arrow") && this.scale === 1)) return;
    event.preventDefault();
    act();
  }

  // Only with Ctrl, or when it is near already: who scrolls past the picture wants to scroll the page.
  wheel(event) {
    if (!event.ctrlKey && this.scale === 1) return;
    event.preventDefault();
    this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2);
  }

  grab(event) {
    if (this.scale === 1) return;
    let [x, y] = [event.clientX, event.clientY];
    const drag = (moved) => {
      this.move(moved.clientX - x, moved.clientY - y);
      [x, y] = [moved.clientX, moved.clientY];
    };
    const drop = () => this.frame.removeEventListener("pointermove", drag);
    this.frame.setPointerCapture(event.pointerId);
    this.frame.addEventListener("pointermove", drag);
    this.frame.addEventListener("pointerup", drop, { once: true });
    this.frame.addEventListener("pointercancel", drop, { once: true });
  }
}
