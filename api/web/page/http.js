// Talks to the API, and turns whatever goes wrong into a Problem that can be said in words.

import { h } from "./dom.js";
import { has, t } from "./words.js";

export class Problem extends Error {
  constructor(slug, body = {}, retryAfter = 5) {
    super(body.detail ?? slug);
    Object.assign(this, { slug, body, retryAfter });
  }

  get passing() {
    return ["offline", "service-unavailable", "too-many-requests", "service-error"].includes(this.slug);
  }
}

const offline = () => new Problem("offline");

export async function call(method, url, { json, headers, signal } = {}) {
  const body = json === undefined ? undefined : JSON.stringify(json);
  const type = body ? { "Content-Type": "application/json" } : {};
  let response;
  try {
    response = await fetch(url, { method, body, signal, headers: { ...type, ...headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw offline();
  }
  if (response.ok || response.status === 304) return response;
  throw refusal(await response.text().catch(() => ""), response.status, response.headers.get("Retry-After"));
}

export const get = async (url, more) => (await call("GET", url, more)).json();
export const post = async (url, json) => (await call("POST", url, { json })).json();

// fetch tells nothing of how far an upload is; this does.
export function upload(url, form, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(refusal(request.responseText, request.status, request.getResponseHeader("Retry-After")));
    };
    request.onerror = () => reject(offline());
    request.open("POST", url);
    request.send(form);
  });
}

function refusal(text, status, after) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = { status };
  }
  const slug = String(body.type ?? "").replace("/problems/", "");
  const problem = new Problem(slug || (status >= 500 ? "service-unavailable" : "request-error"), body, Number(after) || 5);
  if (slug === "unauthorized") window.dispatchEvent(new Event("signed-out"));
  return problem;
}

// What happened, and what to do about it; the server's own sentence stands below for whoever wants to know more.
export function said(problem, ...more) {
  const body = problem.body ?? {};
  const slug = String(problem.slug || body.type || "").replace("/problems/", "");
  const known = has(`problem.${slug}`);
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    h("strong", null, known ? t(`problem.${slug}`) : t("problem.other")),
    h("p", null, has(`remedy.${slug}`) ? t(`remedy.${slug}`) : t("remedy.other")),
    body.detail && slug !== "offline" && h("p", { class: "quiet" }, body.detail),
    (body.errors ?? []).map((error) => h("p", { class: "quiet" }, `${error.pointer.slice(1)}: ${error.detail}`)),
    more,
  );
}
