// The first view: a picture, or several, and what is asked of them.

import { field, h, heading, options } from "./dom.js";
import { get, Problem, said, upload } from "./http.js";
import { Chosen } from "./chosen.js";
import { privacy } from "./privacy.js";
import { has, lang, t } from "./words.js";

const EXPLANATIONS = ["none", "low", "medium", "high"]; // the more samples, the finer and the slower

export async function ask(box) {
  const [about, pipelines] = await Promise.all([get("/v1/about"), get("/v1/pipelines")]);
  const form = new AskForm(about, pipelines.items);
  box.append(...form.elements);
  return () => form.leave();
}

class AskForm {
  constructor(about, pipelines) {
    this.about = about;
    this.pipelines = pipelines;
    this.chosen = new Chosen(about.limits, () => this.changed());
    this.trouble = h("div", null);
    this.progress = h("progress", { max: "1", value: "0", hidden: true, "aria-label": t("ask.sending") });
    this.button = h("button", { class: "main", disabled: true }, t("ask.submit"));
    this.form = h("form", { class: "card", novalidate: true, onsubmit: (event) => this.submit(event) }, this.fields());
    this.elements = [heading(t("ask.title"), h("p", null, t("ask.lead"))), h("div", { class: "two" }, this.chosen.element, this.form)];
    this.changed();
  }

  fields() {
    const pipelines = this.pipelines.map((one) => [one.name, one.available ? one.title[lang] : `${one.title[lang]} (${t("ask.unavailable")})`, !one.available]);
    const first = this.pipelines.find((one) => one.available);
    this.pipeline = options(h("select", { onchange: () => this.changed() }), pipelines, first?.name);
    this.question = h("textarea", { rows: "3", maxlength: String(this.about.limits.question_characters), placeholder: t("ask.question.example") });
    this.age = h("input", { inputmode: "numeric", maxlength: "3", autocomplete: "off" });
    this.sex = options(h("select", null), ["", "female", "male", "unknown"].map((one) => [one, one ? t(`sex.${one}`) : t("ask.unsaid")]), "");
    this.site = h("select", null);
    this.answerIn = options(h("select", null), this.about.languages.map((one) => [one, t(`lang.${one}`)]), lang);
    this.explain = options(h("select", null), EXPLANATIONS.map((one) => [one, t(`explain.${one}`)]), "none");
    this.explainField = field("explain", t("ask.explain"), this.explain);
    return [
      field("pipeline", t("ask.pipeline"), this.pipeline),
      this.missing(),
      field("question", t("ask.question"), this.question, t("ask.question.hint")),
      h("div", { class: "row" }, field("age", t("ask.age"), this.age), field("sex", t("ask.sex"), this.sex), field("site", t("ask.site"), this.site)),
      h("div", { class: "row" }, field("lang", t("ask.lang"), this.answerIn), this.explainField),
      this.privacy(),
      this.trouble,
      this.progress,
      this.button,
    ];
  }

  // Why a pipeline of the menu cannot be chosen: without weights there is no answer, and none is made up.
  missing() {
    const away = this.pipelines.filter((one) => !one.available);
    if (!away.length) return null;
    const list = away.map((one) => h("li", null, h("b", null, one.title[lang]), ` ${one.reason} `, one.train_command && h("code", null, one.train_command)));
    return h("details", { class: "small" }, h("summary", null, t("ask.missing", { n: away.length })), h("ul", null, list));
  }

  // Who will see what is written, before it is sent.
  privacy() {
    const { element, inside } = privacy(this.about, "");
    this.inside = inside;
    return element;
  }

  changed() {
    const pipeline = this.pipelines.find((one) => one.name === this.pipeline.value);
    const sites = pipeline?.sites ?? [];
    const words = sites.map((site) => [site, has(`site.${site}`) ? t(`site.${site}`) : site]);
    options(this.site, [["", t("ask.unsaid")], ...words], this.site.value);
    this.site.disabled = !sites.length;
    this.explainField.hidden = !pipeline?.heads.some((head) => head.kind === "classify");
    const files = this.chosen.files.length;
    this.button.disabled = !files || !pipeline;
    this.button.textContent = files > 1 || this.chosen.archive ? t("ask.submit.batch") : t("ask.submit");
  }

  async submit(event) {
    event.preventDefault();
    if (this.button.disabled) return;
    this.trouble.replaceChildren();
    this.button.disabled = true;
    this.progress.hidden = false;
    try {
      const [url, body] = this.chosen.request();
      for (const [name, value] of Object.entries(this.values())) if (value) body.append(name, value);
      const made = await upload(url, body, (share) => (this.progress.value = share));
      location.assign(url === "/v1/jobs" ? `#/jobs/${made.id}` : `#/batches/${made.id}`);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.refused(error);
    }
  }

  values() {
    return {
      pipeline: this.pipeline.value, question: this.question.value, age: this.age.value.trim(), sex: this.sex.value,
      site: this.site.value, lang: this.answerIn.value, external: this.inside.checked ? "false" : "",
      explain: this.explainField.hidden ? "" : this.explain.value,
    };
  }

  refused(problem) {
    this.progress.hidden = true;
    this.changed();
    const wrong = (problem.body.errors ?? []).map((error) => error.pointer.slice(1));
    for (const control of this.form.querySelectorAll("[name]")) {
      if (wrong.includes(control.name)) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    }
    this.trouble.replaceChildren(said(problem));
    (this.form.querySelector("[aria-invalid]") ?? this.button).focus();
  }

  leave() {
    this.chosen.leave();
  }
}
