// How often reviews agree with what was found: by network, and in each by label.

import { h, heading } from "./dom.js";
import { labelsOf } from "./found.js";
import { get } from "./http.js";
import { lang, number, percent, t } from "./words.js";

export async function agreement(box) {
  const [{ items, networks }, pipelines] = await Promise.all([get("/v1/agreement"), get("/v1/pipelines")]);
  const known = Object.fromEntries(pipelines.items.map((one) => [one.name, one]));
  const cards = networks.map((one) => network(one, items.filter((row) => same(row, one)), known[one.pipeline]));
  box.append(
    heading(t("agreement.title"), h("p", null, t("agreement.lead"))),
    ...(cards.length ? cards : [h("p", { class: "quiet" }, t("agreement.none"))]),
    h("div", { class: "actions" }, h("a", { class: "button", href: "#/review" }, t("queue.title"))),
  );
}

// Two networks may bear one version: the hash of their weights tells them apart.
const same = (a, b) => ["pipeline", "model", "version", "sha256"].every((key) => a[key] === b[key]);

function network(one, rows, pipeline) {
  const names = Object.fromEntries(labelsOf(pipeline));
  const title = `${pipeline.title[lang]} · ${one.model ?? ""} ${one.version ?? ""} ${one.sha256?.slice(0, 8) ?? ""}`;
  const columns = ["found.label", "agreement.reviewed", "agreement.share", "agreement.instead"].map((key) => h("th", { scope: "col" }, t(key)));
  const named = (label) => (label === null ? t("agreement.nothing") : names[label] ?? label);
  const instead = (row) => Object.entries(row.instead).map(([label, n]) => `${named(label)} ${number(n)}`).join(", ");
  const body = rows.map((row) => line(named(row.label), row, instead(row)));
  const total = line(t("batch.total"), one, "", "above");
  return h("section", { class: "card" }, h("h2", null, title), h("table", { class: "found agreement" }, h("caption", { class: "offscreen" }, title), h("thead", null, h("tr", null, columns)), h("tbody", null, body, total)));
}

function line(name, row, instead, kind = "") {
  const [low, high] = row.interval;
  const range = t("agreement.interval", { low: percent(low), high: percent(high) });
  return h(
    "tr",
    { class: kind },
    h("th", { scope: "row" }, name),
    h("td", { class: "value" }, number(row.reviewed)),
    h("td", { class: "value" }, percent(row.share), h("small", { class: "quiet" }, range)),
    h("td", { class: "instead" }, instead),
  );
}
