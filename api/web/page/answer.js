// The answer in words: how soon somebody should look, the text with its citations, and where it came from.

import { h } from "./dom.js";
import { has, t } from "./words.js";

const PRESSING = ["emergency", "within_24h", "within_days"];

// While it is written: the pieces so far.
export function draft(text) {
  return [h("h2", null, t("answer.title")), h("p", { class: "small quiet" }, t("answer.writing")), paragraphs(text, []), h("span", { class: "caret", "aria-hidden": "true" })];
}

export function answer(found) {
  const quotes = found.citations.map((one, index) => citation(one, index + 1));
  return [
    urgency(found),
    h("h2", null, t("answer.title")),
    paragraphs(found.text, quotes),
    found.cannot_tell.length > 0 && [h("h3", null, t("answer.cannot_tell")), h("ul", null, found.cannot_tell.map((one) => h("li", null, one)))],
    quotes.length > 0 && h("section", { class: "citations", "aria-label": t("answer.sources") }, h("h3", null, t("answer.sources")), quotes),
    source(found),
  ];
}

function urgency(found) {
  const pressing = PRESSING.includes(found.urgency);
  return h(
    "div",
    { class: `notice ${pressing ? "warn" : "calm"} urgency` },
    h("strong", null, t(`urgency.${found.urgency}`)),
    found.department && h("span", { class: "quiet" }, ` · ${found.department}`),
    found.next_step && h("p", null, found.next_step),
  );
}

// [1] in the text leads to the first citation and opens it.
function paragraphs(text, quotes) {
  const parts = text.split(/\n{2,}/).filter((part) => part.trim());
  return h("div", { class: "text" }, parts.map((part) => h("p", null, part.split(/(\[\d{1,2}\])/).map((piece) => linked(piece, quotes)))));
}

function linked(piece, quotes) {
  const quote = /^\[\d+\]$/.test(piece) && quotes[Number(piece.slice(1, -1)) - 1];
  if (!quote) return piece;
  const open = () => {
    quote.open = true;
    quote.querySelector("summary").focus();
  };
  return h("button", { type: "button", class: "cite", "aria-label": t("answer.open", { n: piece.slice(1, -1) }), onclick: open }, piece);
}

function citation(one, index) {
  const link = /^https?:\/\//.test(one.url ?? "") && h("a", { href: one.url, rel: "noopener noreferrer", target: "_blank" }, t("answer.link"));
  const review = one.reviewed_by ? t("answer.reviewed", { name: one.reviewed_by }) : t("answer.unreviewed");
  return h("details", { class: "citation" }, h("summary", null, `[${index}] ${one.title}`), h("blockquote", null, one.quote), h("p", { class: "small quiet" }, review, " ", link));
}

function source(found) {
  const text = found.source === "language_model" ? t("answer.by_model", { name: found.model ?? "" }) : t("answer.by_reference");
  const checks = found.checks.map((one) => h("li", null, `${one.passed ? "\u2713" : "\u2717"} ${has(`check.${one.name}`) ? t(`check.${one.name}`) : one.name}`));
  return h(
    "footer",
    { class: "small quiet" },
    h("p", null, text),
    found.refused_reason && h("p", null, found.refused_reason),
    checks.length > 0 && h("details", null, h("summary", null, t("answer.checks")), h("ul", { class: "plain" }, checks)),
  );
}
