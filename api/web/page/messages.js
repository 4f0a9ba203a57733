// What is asked again about a job: the thread so far, and a field for the next question.

import { answer, draft } from "./answer.js";
import { field, fill, h } from "./dom.js";
import { ended, follow } from "./follow.js";
import { get, post, Problem, said } from "./http.js";
import { privacy } from "./privacy.js";
import { lang, t } from "./words.js";

export class Messages {
  constructor(job) {
    this.job = job;
    this.stops = [];
    this.thread = h("ol", { class: "plain thread", "aria-live": "polite" });
    this.trouble = h("div", null);
    this.text = h("textarea", { rows: "2", maxlength: "4000", required: true });
    this.button = h("button", null, t("message.send"));
    this.told = h("div", null);
    this.form = h("form", { onsubmit: (event) => this.send(event) }, field("message", t("message.text"), this.text), this.told, this.trouble, this.button);
    this.element = h("section", { class: "card messages" }, h("h2", null, t("message.title")), this.thread, this.form);
    this.load();
  }

  stop() {
    this.stopped = true;
    for (const stop of this.stops) stop();
  }

  async load() {
    try {
      const [about, { items }] = await Promise.all([get("/v1/about"), get(this.job.urls.messages)]);
      const { element, inside } = privacy(about, "-message");
      this.inside = inside;
      this.told.replaceChildren(element);
      for (const one of items) this.show(one);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.trouble.replaceChildren(said(error));
    }
  }

  show(first) {
    const item = h("li", { class: "message" });
    this.thread.append(item);
    const draw = (now, text) => fill(item, [now.status, now.answer, text], () => h("div", null, shown(now, text)));
    draw(first, "");
    if (ended(first) || this.stopped) return;
    this.button.disabled = true; // one at a time
    const stop = follow(first, (now, text) => {
      draw(now, text);
      if (ended(now)) this.button.disabled = false;
    });
    this.stops.push(stop);
  }

  async send(event) {
    event.preventDefault();
    const text = this.text.value.trim();
    if (!text) return;
    this.button.disabled = true;
    try {
      const made = await post(this.job.urls.messages, { text, lang, external: !this.inside?.checked });
      this.form.reset();
      this.trouble.replaceChildren();
      this.button.disabled = false;
      this.show(made);
    } catch (error) {
      this.button.disabled = false;
      if (!(error instanceof Problem)) throw error;
      this.trouble.replaceChildren(said(error));
    }
  }
}

function shown(now, text) {
  const asked = now.question && h("p", { class: "asked" }, now.question);
  if (now.answer) return [asked, answer(now.answer)];
  if (now.error) return [asked, said({ slug: "", body: now.error })];
  if (text) return [asked, draft(text)];
  return [asked, h("p", { class: "small quiet", role: "status" }, t(ended(now) ? `status.${now.status}` : "message.waiting"))];
}
