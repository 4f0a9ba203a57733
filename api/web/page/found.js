// What the network found: labels with bars and thresholds, grades, areas.

import { h } from "./dom.js";
import { lang, percent, t } from "./words.js";

const everyLabel = (pipeline) => pipeline.heads.flatMap((head) => head.labels);
export const labelsOf = (pipeline) => everyLabel(pipeline).map((one) => [one.code, one[lang]]);
export const coloursOf = (pipeline) => Object.fromEntries(everyLabel(pipeline).map((one) => [one.code, one.colour]));

// A card with all of it, or nothing.
export function found(job, pipeline) {
  const parts = [];
  const { card } = pipeline;
  const same = card && job.model && card.sha256 === job.model.sha256; // else its thresholds are not these findings'
  if (job.findings?.length) parts.push(h("h2", null, t("found.title")), findings(job.findings, same ? card.thresholds : {}));
  if (job.grades?.length) parts.push(h("h2", null, t("found.grades")), grades(job.grades));
  if (job.segments?.length) parts.push(h("h2", null, t("found.areas")), segments(job.segments));
  return parts.length ? h("div", { class: "card" }, parts) : [];
}

// `thresholds` are those of the very weights that made the findings, or empty.
function findings(found, thresholds) {
  const rows = found.map((one) => {
    const threshold = thresholds[one.label];
    const mark = threshold !== undefined && h("i", { class: "mark", style: { insetInlineStart: `${threshold * 100}%` } });
    const bar = h("div", { class: "bar", "aria-hidden": "true" }, h("b", { style: { width: `${one.probability * 100}%` } }), mark);
    const above = one.above_threshold && h("span", { class: "tag" }, t("found.above"));
    const limit = threshold === undefined ? null : h("small", { class: "quiet" }, t("found.threshold", { share: percent(threshold) }));
    return h("tr", { class: one.above_threshold ? "above" : "" }, h("th", { scope: "row" }, one.name, " ", above), h("td", { class: "wide" }, bar, limit), h("td", { class: "value" }, percent(one.probability)));
  });
  const names = ["found.label", "found.bar", "found.probability"].map((key) => h("th", { scope: "col" }, t(key)));
  return h("table", { class: "found" }, h("caption", { class: "offscreen" }, t("found.title")), h("thead", { class: "offscreen" }, h("tr", null, names)), h("tbody", null, rows));
}

function grades(found) {
  const rows = found.map((one) => {
    const steps = one.probabilities.map((share, step) => h("i", { class: step <= one.grade && one.grade > 0 ? "on" : "", title: percent(share) }));
    return h("tr", null, h("th", { scope: "row" }, one.name), h("td", { class: "wide" }, h("div", { class: "steps", "aria-hidden": "true" }, steps)), h("td", { class: "value" }, one.grade_name));
  });
  return h("table", { class: "found" }, h("caption", { class: "offscreen" }, t("found.grades")), h("tbody", null, rows));
}

function segments(found) {
  const rows = found.map((one) =>
    h("tr", null, h("th", { scope: "row" }, one.name), h("td", { class: "value" }, percent(one.area_fraction)), h("td", { class: "value" }, percent(one.mean_probability))),
  );
  const names = ["found.label", "found.area", "found.mean"].map((key) => h("th", { scope: "col" }, t(key)));
  return h("table", { class: "found" }, h("caption", { class: "offscreen" }, t("found.areas")), h("thead", { class: "small" }, h("tr", null, names)), h("tbody", null, rows));
}
