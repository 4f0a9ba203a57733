// Which view stands at which address, and what all of them share.

import { ask } from "./ask.js";
import { heading } from "./dom.js";
import { Problem, said } from "./http.js";
import { greet, signIn } from "./session.js";
import { t } from "./words.js";

const ID = "([0-9a-f-]{36})";
// All but the first view are fetched when somebody goes there.
const VIEWS = [
  [/^#?\/?$/, ask],
  [/^#\/history$/, later("history.js", "history")],
  [new RegExp(`^#/jobs/${ID}$`), later("job.js", "job")],
  [new RegExp(`^#/compare/${ID}/${ID}$`), later("compare.js", "compare")],
  [/^#\/batches$/, later("batch.js", "batches")],
  [new RegExp(`^#/batches/${ID}$`), later("batch.js", "batch")],
  [/^#\/review$/, later("queue.js", "queue")],
  [/^#\/agreement$/, later("agreement.js", "agreement")],
  [/^#\/sign-in$/, signIn],
];

function later(file, name) {
  return async (...all) => {
    let views;
    try {
      views = await import(`./${file}`);
    } catch {
      throw new Problem("offline");
    }
    return views[name](...all);
  };
}

const main = document.querySelector("main");
let leave = () => {};
let turn = 0;

async function show(first) {
  const mine = ++turn;
  leave();
  leave = () => {};
  const found = VIEWS.map(([pattern, view]) => [location.hash.match(pattern), view]).find(([match]) => match);
  const box = document.createElement("div");
  box.className = "view";
  main.setAttribute("aria-busy", "true");
  let left = () => {};
  try {
    if (found) left = (await found[1](box, ...found[0].slice(1))) ?? left;
    else box.append(heading(t("page.nothing")));
  } catch (error) {
    if (!(error instanceof Problem)) console.error(error);
    box.replaceChildren(heading(t("page.trouble")), said(error instanceof Problem ? error : new Problem("")));
  }
  if (mine !== turn) return left(); // somebody went on meanwhile
  leave = left;
  main.replaceChildren(box);
  main.dataset.at = location.hash;
  main.removeAttribute("aria-busy");
  mark();
  const title = box.querySelector("h1");
  document.title = title && found?.[1] !== ask ? `${title.textContent} - MedQ` : "MedQ";
  if (!first) title?.focus({ preventScroll: true });
  if (!first) scrollTo(0, 0);
}

function mark() {
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === (location.hash || "#/");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

// The address says which view this is, so a link to a part of the page must not change it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById("lang").addEventListener("change", (event) => {
  location.assign(`/?lang=${event.target.value}${location.hash}`);
});
window.addEventListener("hashchange", () => show(false));
window.addEventListener("signed-out", () => location.assign("#/sign-in"));
greet();
show(true);
