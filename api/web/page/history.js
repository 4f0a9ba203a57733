// Every job, newest first, with filters; two of them can be put side by side.

import { field, h, heading, options } from "./dom.js";
import { get, Problem, said } from "./http.js";
import { nameOf } from "./job.js";
import { lang, moment, percent, t } from "./words.js";

const STATUSES = ["queued", "running", "succeeded", "failed", "canceled", "expired"];
const PAGE = 30;

export async function history(box) {
  const list = new JobTable(true);
  const { items } = await get("/v1/pipelines");
  const q = h("input", { type: "search", maxlength: "200" });
  const status = options(h("select", null), [["", t("history.any")], ...STATUSES.map((one) => [one, t(`status.${one}`)])], "");
  const pipeline = options(h("select", null), [["", t("history.any")], ...items.map((one) => [one.name, one.title[lang]])], "");
  const reviewed = options(h("select", null), [["", t("history.any")], ["false", t("history.unreviewed")], ["true", t("history.reviewed")]], "");
  const from = h("input", { type: "date" });
  const to = h("input", { type: "date" });
  const filter = async (event) => {
    event?.preventDefault();
    const day = (value, plus) => value && new Date(new Date(`${value}T00:00`).getTime() + plus).toISOString();
    await list.load({
      q: q.value, status: status.value, pipeline: pipeline.value, reviewed: reviewed.value,
      created_after: day(from.value, -1), created_before: day(to.value, 24 * 3600 * 1000),
    });
  };
  const form = h(
    "form",
    { class: "row filters", role: "search", onsubmit: filter, onchange: filter },
    field("q", t("history.words"), q),
    field("status", t("history.status"), status),
    field("pipeline", t("ask.pipeline"), pipeline),
    field("reviewed", t("history.review"), reviewed),
    field("from", t("history.from"), from),
    field("to", t("history.to"), to),
  );
  box.append(heading(t("history.title"), h("p", null, t("history.lead"))), form, list.element);
  await filter();
}

export class JobTable {
  constructor(comparable) {
    this.comparable = comparable;
    this.body = h("tbody", null);
    this.chosen = [];
    this.note = h("p", { role: "status", class: "quiet" });
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.next() }, t("history.more"));
    this.compare = h("a", { class: "button", hidden: true }, t("history.compare"));
    const columns = [comparable && "history.choose", "history.picture", "history.found", "history.status", "history.time"].filter(Boolean);
    const head = h("thead", null, h("tr", null, columns.map((key) => h("th", { scope: "col" }, key === "history.choose" ? h("span", { class: "offscreen" }, t(key)) : t(key)))));
    this.table = h("table", { class: "jobs" }, h("caption", { class: "offscreen" }, t("history.title")), head, this.body);
    this.element = h("div", null, this.note, this.table, h("div", { class: "actions sticky" }, this.compare, this.more));
  }

  async load(filter) {
    this.filter = Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
    this.body.replaceChildren();
    this.chosen = [];
    this.mark();
    await this.next("");
  }

  async next(cursor = this.cursor) {
    const asked = this.filter;
    const query = new URLSearchParams({ ...asked, limit: String(PAGE), ...(cursor ? { cursor } : {}) });
    let page;
    try {
      page = await get(`/v1/jobs?${query}`);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.note.replaceChildren(said(error));
      return;
    }
    if (asked !== this.filter) return; // another filter was chosen meanwhile
    this.body.append(...page.items.map((one) => this.row(one)));
    this.cursor = page.next;
    this.more.hidden = !page.next;
    this.table.hidden = !this.body.children.length;
    this.note.textContent = this.body.children.length ? "" : t("history.none");
  }

  row(one) {
    const best = one.findings?.[0];
    const graded = one.grades?.filter((grade) => grade.grade > 0).map((grade) => `${grade.name} ${grade.grade}`).join(", ");
    const found = best ? `${best.name} ${percent(best.probability)}` : graded || "";
    const name = nameOf(one);
    const tick = h("input", { type: "checkbox", "aria-label": t("history.choose.one", { name }), onchange: (event) => this.choose(one.id, event.target) });
    const title = h("a", { href: `#/jobs/${one.id}` }, name);
    return h(
      "tr",
      null,
      this.comparable && h("td", { class: "tick" }, tick),
      h("th", { scope: "row" }, title, one.question && h("span", { class: "quiet small line" }, one.question)),
      h("td", null, found),
      h("td", null, h("span", { class: `status ${one.status}` }, t(`status.${one.status}`))),
      h("td", { class: "quiet" }, moment(one.created_at)),
    );
  }

  choose(id, tick) {
    if (tick.checked) this.chosen.push([id, tick]);
    else this.chosen = this.chosen.filter(([other]) => other !== id);
    if (this.chosen.length > 2) this.chosen.shift()[1].checked = false;
    this.mark();
  }

  mark() {
    this.compare.hidden = this.chosen.length !== 2;
    if (this.chosen.length === 2) this.compare.href = `#/compare/${this.chosen[0][0]}/${this.chosen[1][0]}`;
  }
}
