// A clinician's word on the findings.

import { field, h, options } from "./dom.js";
import { get, post, Problem, said } from "./http.js";
import { moment, t } from "./words.js";

export class Review {
  // `onsaid` is called after each word that was recorded.
  constructor(job, labels, onsaid = () => {}) {
    this.job = job;
    this.onsaid = onsaid;
    this.names = Object.fromEntries(labels);
    this.before = h("ul", { class: "plain reviews" });
    this.trouble = h("div", null);
    this.label = options(h("select", null), [["", t("review.unsaid")], ...labels], "");
    this.note = h("textarea", { rows: "2", maxlength: "2000" });
    const radio = (value) => h("label", { class: "check" }, h("input", { type: "radio", name: "verdict", value, required: true, onchange: () => this.choose() }), h("span", null, t(`review.${value}`)));
    this.labelField = field("label", t("review.label"), this.label);
    this.labelField.hidden = true;
    this.form = h(
      "form",
      { onsubmit: (event) => this.send(event) },
      h("fieldset", null, h("legend", null, t("review.question")), h("div", { class: "row" }, radio("agree"), radio("disagree"))),
      this.labelField,
      field("note", t("review.note"), this.note),
      this.trouble,
      h("button", null, t("review.send")),
    );
    this.element = h("section", { class: "card review" }, h("h2", null, t("review.title")), this.before, this.form);
    this.load();
  }

  get verdict() {
    return this.form.elements.verdict.value;
  }

  choose() {
    this.labelField.hidden = this.verdict !== "disagree";
  }

  async load() {
    try {
      const { items } = await get(`${this.job.urls.self}/reviews`);
      this.before.replaceChildren(...items.map((one) => this.shown(one)));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.trouble.replaceChildren(said(error));
    }
  }

  shown(one) {
    const instead = one.label ? `: ${this.names[one.label] ?? one.label}` : "";
    return h("li", null, h("b", null, t(`review.said.${one.verdict}`), instead), h("span", { class: "quiet small" }, ` ${moment(one.created_at)}`), one.note && h("p", null, one.note));
  }

  async send(event) {
    event.preventDefault();
    const disagrees = this.verdict === "disagree";
    const body = { verdict: this.verdict, label: (disagrees && this.label.value) || null, note: this.note.value.trim() || null };
    try {
      await post(`${this.job.urls.self}/review`, body);
      this.form.reset();
      this.choose();
      this.trouble.replaceChildren(h("p", { class: "notice calm", role: "status" }, t("review.thanks")));
      await this.load();
      this.onsaid();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.trouble.replaceChildren(said(error));
    }
  }
}
