// Which language model would see what is asked, said before anything is sent, and the box that keeps it here.

import { h } from "./dom.js";
import { lang, t } from "./words.js";

export function privacy(about, name) {
  const models = about.language_models.map((one) => t("privacy.one", one));
  const inside = h("input", { type: "checkbox", id: `inside${name}` });
  const told = models.length
    ? [
        h("p", null, t("privacy.model", { models: new Intl.ListFormat(lang, { type: "disjunction" }).format(models) })),
        h("label", { class: "check" }, inside, h("span", null, t("privacy.inside"))),
      ]
    : h("p", null, t("privacy.nobody"));
  return { inside, element: h("div", { class: "notice calm", id: `privacy${name}` }, told) };
}
