// Two jobs side by side: a rerun, or the same place later.

import { h, heading } from "./dom.js";
import { get } from "./http.js";
import { nameOf } from "./job.js";
import { Picture } from "./picture.js";
import { lang, moment, percent, t } from "./words.js";

export async function compare(box, one, other) {
  const pair = await Promise.all([one, other].map((id) => get(`/v1/jobs/${id}`)));
  pair.sort((a, b) => a.created_at.localeCompare(b.created_at));
  box.append(
    heading(t("compare.title"), h("p", null, t("compare.lead"))),
    h("div", { class: "pair" }, pair.map(side)),
    changes(pair),
    h("div", { class: "pair" }, pair.map((job) => h("section", { class: "card text" }, h("h2", null, t("answer.title")), h("p", null, job.answer?.text ?? t("compare.unanswered"))))),
  );
}

function side(job) {
  const picture = new Picture(nameOf(job));
  picture.show(job.artifacts);
  const model = job.model ? `${job.model.name} ${job.model.version}` : t(`status.${job.status}`);
  return h("section", { class: "card" }, h("h2", null, h("a", { href: `#/jobs/${job.id}` }, nameOf(job))), h("p", { class: "quiet small" }, `${moment(job.created_at)} · ${model}`), picture.element);
}

// In percentage points; a label that one of them does not have has no difference.
function changes([before, after]) {
  const found = [before, after].map((job) => Object.fromEntries((job.findings ?? []).map((one) => [one.label, one])));
  const labels = [...new Set([...(after.findings ?? []), ...(before.findings ?? [])].map((one) => one.label))];
  if (!labels.length) return h("p", { class: "quiet" }, t("compare.nothing"));
  const sign = new Intl.NumberFormat(lang, { signDisplay: "exceptZero", maximumFractionDigits: 1 });
  const rows = labels.map((label) => {
    const [old, now] = found.map((one) => one[label]?.probability);
    const difference = old === undefined || now === undefined ? "" : t("compare.points", { n: sign.format((now - old) * 100) });
    const name = (found[1][label] ?? found[0][label]).name;
    const cell = (value) => h("td", { class: "value" }, value === undefined ? "\u2013" : percent(value));
    return h("tr", null, h("th", { scope: "row" }, name), cell(old), cell(now), h("td", { class: "value" }, difference));
  });
  const columns = ["found.label", "compare.before", "compare.after", "compare.difference"].map((key) => h("th", { scope: "col" }, t(key)));
  return h("div", { class: "card" }, h("table", { class: "found" }, h("caption", { class: "offscreen" }, t("compare.title")), h("thead", null, h("tr", null, columns)), h("tbody", null, rows)));
}
