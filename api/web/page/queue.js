// What nobody has reviewed yet, one after the other. Oldest first: whatever is asked for gets its turn, and agreement is
// that of all jobs, where the doubtful first would make it that of the doubtful ones.

import { answer } from "./answer.js";
import { field, h, heading, options } from "./dom.js";
import { coloursOf, found, labelsOf } from "./found.js";
import { get, Problem, said } from "./http.js";
import { nameOf } from "./job.js";
import { Picture } from "./picture.js";
import { Review } from "./review.js";
import { lang, moment, t } from "./words.js";

const PAGE = 20;

export async function queue(box) {
  const { items } = await get("/v1/pipelines");
  const view = new Queue(items);
  box.append(...view.elements);
  await view.start();
}

class Queue {
  constructor(pipelines) {
    this.pipeline = options(h("select", { onchange: () => this.safely(() => this.start()) }), [["", t("history.any")], ...pipelines.map((one) => [one.name, one.title[lang]])], "");
    this.place = h("p", { role: "status", class: "status" });
    this.back = h("button", { type: "button", onclick: () => this.go(-1) }, t("queue.previous"));
    this.on = h("button", { type: "button", onclick: () => this.go(1) }, t("queue.next"));
    this.trouble = h("div", null);
    this.shown = h("div", { class: "view" });
    this.elements = [
      heading(t("queue.title"), h("p", null, t("queue.lead"))),
      h("form", { class: "row filters" }, field("pipeline", t("ask.pipeline"), this.pipeline), h("a", { class: "button", href: "#/agreement" }, t("agreement.title"))),
      h("div", { class: "actions" }, this.back, this.on, this.place),
      this.trouble,
      this.shown,
    ];
  }

  async safely(act) {
    try {
      await act();
      this.trouble.replaceChildren();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.trouble.replaceChildren(said(error));
    }
  }

  async start() {
    const mine = (this.jobs = []);
    Object.assign(this, { at: 0, more: true, cursor: "" });
    await this.fetch();
    if (mine === this.jobs) await this.show(); // else another pipeline was chosen meanwhile
  }

  // The server looks for a while and may come back without any: its cursor goes on.
  async fetch() {
    const asked = this.jobs;
    const before = asked.length;
    while (this.more && asked === this.jobs && asked.length === before) {
      const wanted = { reviewed: "false", status: "succeeded", order: "oldest", limit: String(PAGE), pipeline: this.pipeline.value, cursor: this.cursor };
      const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
      const page = await get(`/v1/jobs?${query}`);
      if (asked !== this.jobs) return;
      asked.push(...page.items);
      this.cursor = page.next ?? "";
      this.more = Boolean(page.next);
    }
  }

  async go(step, word = "") {
    if (this.going) return;
    this.going = true;
    const mine = this.jobs;
    await this.safely(async () => {
      if (this.at + step >= mine.length) await this.fetch();
      if (mine !== this.jobs) return;
      this.at += step;
      await this.show(word);
      (this.shown.querySelector("h2") ?? this.back).focus();
    });
    this.going = false;
  }

  async show(word = "") {
    const job = this.jobs[this.at];
    const detail = job && (await get(`/v1/pipelines/${job.pipeline}`));
    if (job !== this.jobs[this.at]) return;
    this.back.disabled = this.at === 0;
    this.on.disabled = !job;
    const values = { n: this.at + 1, of: `${this.jobs.length}${this.more ? "+" : ""}` };
    const place = job ? t("queue.place", values) : t(this.jobs.length ? "queue.end" : "queue.none");
    this.place.textContent = `${word} ${place}`.trim();
    this.shown.replaceChildren(...(job ? this.one(job, detail) : []));
  }

  one(job, pipeline) {
    const picture = new Picture(nameOf(job));
    picture.show(job.artifacts);
    picture.explain(job.segments, coloursOf(pipeline));
    const review = new Review(job, labelsOf(pipeline), () => this.go(1, t("review.thanks")));
    return [
      h("div", null, h("h2", { tabindex: "-1" }, h("a", { href: `#/jobs/${job.id}` }, nameOf(job))), h("p", { class: "quiet" }, `${pipeline.title[lang]} · ${moment(job.created_at)}`)),
      h("div", { class: "job" }, h("div", { class: "card seen" }, picture.element), h("div", { class: "words view" }, found(job, pipeline), review.element), h("div", { class: "found" }, words(job))),
    ];
  }
}

function words(job) {
  if (!job.answer) return null;
  return h("details", { class: "card" }, h("summary", null, t("answer.title")), job.question && h("p", { class: "asked" }, job.question), answer(job.answer));
}
