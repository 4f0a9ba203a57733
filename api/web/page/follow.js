// Follows one job: by its event stream, and where that does not work, by requests that wait.

import { call, Problem } from "./http.js";

const WAIT_S = 20;
const ENDED = ["succeeded", "failed", "canceled", "expired"];
export const ended = (job) => ENDED.includes(job.status);

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// `on(job, draft, state, written)` is called after every change; state is "" or "lost", `written` how many characters a
// language model has written that are not checked yet. Returns what stops it.
export function follow(first, on) {
  const following = { job: first, draft: "", written: 0, stopped: false, on };
  if (ended(first)) return () => {};
  const source = new EventSource(first.urls.events);
  const stop = () => {
    following.stopped = true;
    source.close();
  };
  source.onopen = () => tell(following, "");
  source.onerror = () => {
    tell(following, "lost");
    // Refused, and not merely interrupted: an EventSource does not try again after that.
    if (source.readyState === EventSource.CLOSED) poll(following);
  };
  for (const name of ["status", "stage", "findings", "answer", "answer.written", "answer.delta", "completed"]) {
    source.addEventListener(name, (event) => {
      take(following, name, JSON.parse(event.data));
      if (name === "completed") source.close();
    });
  }
  return stop;
}

function take(following, name, data) {
  if (name === "answer.delta") following.draft = (data.offset ? following.draft : "") + data.text;
  else if (name === "answer.written") following.written = data.characters;
  else following.job = { ...following.job, ...data };
  tell(following, "");
}

function tell(following, state) {
  if (!following.stopped) following.on(following.job, following.draft, state, following.written);
}

async function poll(following) {
  let tag = "";
  while (!following.stopped && !ended(following.job)) {
    try {
      const headers = tag ? { "If-None-Match": tag } : {};
      const response = await call("GET", `${following.job.urls.self}${tag ? `?wait=${WAIT_S}` : ""}`, { headers });
      tag = response.headers.get("ETag") ?? "";
      if (response.status === 200) following.job = await response.json();
      else await pause(250); // a server that stops sends everybody home at once
      tell(following, "");
    } catch (error) {
      if (!(error instanceof Problem) || !error.passing) return tell(following, "gone");
      tell(following, "lost");
      tag = "";
      await pause(error.slug === "offline" ? 1500 : error.retryAfter * 1000);
    }
  }
}
