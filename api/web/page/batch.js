// Archives: how far they are, what was rejected, and their results.

import { fill, h, heading } from "./dom.js";
import { JobTable } from "./history.js";
import { call, get, post, Problem, said } from "./http.js";
import { moment, number, percent, seconds, t } from "./words.js";

const WAIT_S = 20;
const COUNTS = ["queued", "running", "succeeded", "failed", "canceled", "expired", "rejected"];
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function batches(box) {
  const { items } = await get("/v1/batches?limit=100");
  const rows = items.map((one) =>
    h(
      "tr",
      null,
      h("th", { scope: "row" }, h("a", { href: `#/batches/${one.id}` }, one.filename ?? t("batch.rerun"))),
      h("td", null, number(one.counts.total)),
      h("td", null, h("span", { class: `status ${one.status}` }, t(`batch.${one.status}`))),
      h("td", { class: "quiet" }, moment(one.created_at)),
    ),
  );
  const columns = ["batch.archive", "batch.pictures", "history.status", "history.time"].map((key) => h("th", { scope: "col" }, t(key)));
  const table = h("table", { class: "jobs" }, h("caption", { class: "offscreen" }, t("batch.title")), h("thead", null, h("tr", null, columns)), h("tbody", null, rows));
  box.append(heading(t("batch.title"), h("p", null, t("batch.lead"))), rows.length ? table : h("p", { class: "quiet" }, t("batch.none")));
}

export async function batch(box, id) {
  const view = new BatchView(await get(`/v1/batches/${id}`));
  box.append(...view.elements);
  view.follow();
  return () => (view.stopped = true);
}

class BatchView {
  constructor(first) {
    this.now = first;
    this.stopped = false;
    this.state = h("section", { class: "card", role: "status" });
    this.lost = h("div", { class: "notice warn", role: "status", hidden: true }, t("job.lost"));
    this.trouble = h("div", null);
    this.actions = h("div", { class: "actions" });
    this.rejected = h("section", null);
    this.jobs = new JobTable(false);
    this.elements = [
      heading(first.filename ?? t("batch.rerun"), h("p", null, moment(first.created_at))),
      this.lost, this.state, this.trouble, this.actions, this.rejected, h("h2", null, t("batch.jobs")), this.jobs.element,
    ];
    this.show();
  }

  get over() {
    return this.now.completed_at !== null;
  }

  show() {
    const { counts, status, progress, eta_s: eta, error } = this.now;
    fill(this.state, [counts, status, progress, eta], () => this.standing());
    fill(this.trouble, error, () => error && said({ slug: "", body: error }));
    fill(this.actions, [this.over, counts.failed], () => this.deeds());
    fill(this.rejected, [counts.rejected], () => this.refusals());
    const shown = `${counts.total} ${counts.succeeded} ${counts.failed} ${this.over}`;
    if (shown === this.listed) return;
    this.listed = shown;
    this.jobs.load({ batch_id: this.now.id });
  }

  standing() {
    const { counts, status, progress, eta_s: eta } = this.now;
    const left = eta === null ? "" : ` · ${t("job.eta", { time: seconds(eta) })}`;
    const numbers = COUNTS.filter((name) => counts[name]).map((name) => h("div", null, h("dt", null, t(name === "rejected" ? "batch.rejected" : `status.${name}`)), h("dd", null, number(counts[name]))));
    return [
      h("p", { class: `status ${status}` }, `${t(`batch.${status}`)} · ${percent(progress)}${left}`),
      h("progress", { max: "1", value: String(progress), "aria-label": t("job.progress") }),
      h("dl", { class: "counts" }, h("div", null, h("dt", null, t("batch.total")), h("dd", null, number(counts.total))), numbers),
    ];
  }

  deeds() {
    const { urls, counts } = this.now;
    const again = async () => location.assign(`#/batches/${(await post(urls.rerun, { only: "failed" })).id}`);
    const link = (key, href) => h("a", { class: "button", href, download: true }, t(key));
    return [
      link("batch.csv", urls.results_csv),
      link("batch.jsonl", urls.results_jsonl),
      link("batch.zip", urls.results_zip),
      this.over && counts.failed > 0 && this.button("batch.again", again),
      !this.over && this.button("job.cancel", () => call("POST", urls.cancel)),
    ].filter(Boolean);
  }

  refusals() {
    if (!this.now.counts.rejected) return null;
    const list = h("ul", { class: "plain" });
    const load = this.safely(async () => {
      const page = await get(`${this.now.urls.rejected}?limit=100`);
      list.replaceChildren(...page.items.map((one) => h("li", null, h("b", null, one.name), ` ${one.problem.title}: ${one.problem.detail}`)));
    });
    const box = h("details", { class: "card" }, h("summary", null, t("batch.rejected.title", { n: number(this.now.counts.rejected) })), list);
    box.addEventListener("toggle", () => box.open && load());
    return box;
  }

  button(key, act) {
    return h("button", { type: "button", onclick: this.safely(act) }, t(key));
  }

  safely(act) {
    return async () => {
      try {
        await act();
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        this.trouble.replaceChildren(said(error));
      }
    };
  }

  async follow() {
    let tag = "";
    while (!this.stopped && !this.over) {
      try {
        const headers = tag ? { "If-None-Match": tag } : {};
        const response = await call("GET", `${this.now.urls.self}?wait=${WAIT_S}`, { headers });
        tag = response.headers.get("ETag") ?? "";
        if (response.status === 200) this.now = await response.json();
        else await pause(250);
        this.lost.hidden = true;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (!error.passing) return this.trouble.replaceChildren(said(error));
        this.lost.hidden = false;
        await pause(error.slug === "offline" ? 1500 : error.retryAfter * 1000);
      }
      if (!this.stopped) this.show();
    }
  }
}
