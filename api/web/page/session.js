// Signing in with a key, where the server asks for one; the key becomes a cookie that no script can read.

import { field, h, heading } from "./dom.js";
import { call, post, Problem, said } from "./http.js";
import { t } from "./words.js";

// Shows that somebody is signed in, or asks for a key; an open server asks nobody.
export async function greet() {
  const place = document.getElementById("session");
  let response = null;
  try {
    response = await fetch("/v1/session");
  } catch {
    return; // the views say that the server is away
  }
  if (response.status === 401) location.replace("#/sign-in");
  if (!response.ok) return;
  const session = await response.json();
  if (!session.owner || session.auth === "open") return;
  const leave = async () => {
    try {
      await call("DELETE", "/v1/session");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return; // still signed in, and the button still there
    }
    location.assign("/");
  };
  place.replaceChildren(h("button", { class: "plain", onclick: leave }, t("session.leave")));
}

export function signIn(box) {
  const key = h("input", { type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const trouble = h("div", null);
  const enter = async (event) => {
    event.preventDefault();
    try {
      await post("/v1/session", { key: key.value.trim() });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      trouble.replaceChildren(said(error.slug === "unauthorized" ? new Problem("wrong-key") : error));
      key.focus();
      return;
    }
    await greet();
    location.assign("#/");
  };
  box.append(
    heading(t("session.title")),
    h("form", { class: "card narrow", onsubmit: enter }, field("key", t("session.key"), key, t("session.hint")), trouble, h("button", { class: "main" }, t("session.enter"))),
  );
}
