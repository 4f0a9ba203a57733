// One job while it runs and after it: the picture at one side, what was found and said at the other.

import { answer, draft } from "./answer.js";
import { fill, h, heading } from "./dom.js";
import { ended, follow } from "./follow.js";
import { coloursOf, found, labelsOf } from "./found.js";
import { call, get, post, Problem, said } from "./http.js";
import { Messages } from "./messages.js";
import { Picture } from "./picture.js";
import { Review } from "./review.js";
import { bytes, has, lang, moment, number, seconds, t } from "./words.js";

export async function job(box, id) {
  const first = await get(`/v1/jobs/${id}`);
  const pipeline = await get(`/v1/pipelines/${first.pipeline}`);
  const view = new JobView(first, pipeline);
  box.append(...view.elements);
  view.show(first, "", "");
  const stop = follow(first, (now, text, state, written) => view.show(now, text, state, written));
  return () => {
    stop();
    view.thread?.stop();
  };
}

export const nameOf = (one) => one.input?.filename ?? one.entry_name ?? t("job.unnamed");

class JobView {
  constructor(first, pipeline) {
    this.pipeline = pipeline;
    this.picture = new Picture(nameOf(first));
    const section = (name, props) => (this[name] = h("section", { class: `part ${name}`, ...props }));
    for (const name of ["state", "count", "trouble", "warnings", "found", "words", "messages", "review", "actions", "facts"]) section(name, {});
    this.state.setAttribute("role", "status");
    this.lost = h("div", { class: "notice warn", role: "status", hidden: true }, t("job.lost"));
    this.elements = [
      heading(nameOf(first), h("p", null, `${pipeline.title[lang]} · ${moment(first.created_at)}`)),
      this.lost,
      this.state,
      this.count, // apart from the state, which is read aloud whenever it changes
      this.trouble,
      this.warnings,
      h("div", { class: "job" }, h("div", { class: "card seen" }, this.picture.element), this.words, this.found),
      this.messages,
      this.review,
      this.actions,
      this.facts,
      h("p", { class: "notice calm small print-only" }, t("page.notice")),
    ];
  }

  show(now, text, state, written = 0) {
    const unchecked = !ended(now) && !now.answer && !text && written;
    this.lost.hidden = state === "";
    this.lost.textContent = t(state === "gone" ? "job.gone" : "job.lost");
    fill(this.state, [now.status, now.stage, now.position, now.eta_s, now.progress, now.metrics.total_s], () => progress(now));
    fill(this.count, [unchecked], () => unchecked && h("p", { class: "calm small" }, t("job.writing", { n: number(written) })));
    fill(this.trouble, now.error, () => now.error && said({ slug: "", body: now.error }));
    fill(this.warnings, now.warnings, () => now.warnings.map(warning));
    fill(this.found, [now.findings, now.grades, now.segments], () => found(now, this.pipeline));
    fill(this.words, [now.answer, now.answer ? "" : text, now.question], () => this.answer(now, text));
    this.picture.show(now.artifacts);
    this.picture.explain(now.segments, coloursOf(this.pipeline));
    if (!ended(now)) fill(this.actions, [now.id], () => [h("div", { class: "actions" }, this.button("job.cancel", () => call("POST", now.urls.cancel)))]);
    else this.close(now);
  }

  // What can be done, and known, only of a job that has ended.
  close(now) {
    const something = now.findings || now.grades || now.segments;
    const asks = something && now.status === "succeeded" && !now.message_of;
    fill(this.messages, [Boolean(asks)], () => asks && (this.thread = new Messages(now)).element);
    fill(this.review, [Boolean(something)], () => something && new Review(now, labelsOf(this.pipeline)).element);
    // The stream may tell of the end before it tells of what was found.
    fill(this.actions, [now.id, Boolean(now.erased_at), Boolean(something)], () => this.deeds(now, something));
    fill(this.facts, [now.id, Boolean(now.erased_at), now.model, now.attempts], () => facts(now));
  }

  answer(now, text) {
    const asked = now.question ? h("p", { class: "asked" }, now.question) : null;
    if (now.answer) return h("div", { class: "card" }, asked, answer(now.answer));
    if (text) return h("div", { class: "card", "aria-busy": "true" }, asked, draft(text));
    return asked ? h("div", { class: "card" }, asked) : [];
  }

  deeds(now, something) {
    const again = async () => {
      const made = await post(now.urls.rerun);
      location.assign(`#/jobs/${made.id}`);
    };
    const erase = async () => {
      if (!confirm(t("job.erase.sure"))) return;
      await call("DELETE", now.urls.self);
      location.assign("#/history");
    };
    return h(
      "div",
      { class: "actions" },
      !now.erased_at && this.button("job.again", again),
      now.retry_of && h("a", { class: "button", href: `#/compare/${now.retry_of}/${now.id}` }, t("job.compare")),
      something && this.button("job.print", () => print()),
      now.artifacts.dicom_seg && h("a", { class: "button", href: now.artifacts.dicom_seg, download: true }, t("job.dicom_seg")),
      something && h("a", { class: "button", href: `${now.urls.self}/report.fhir.json`, download: true }, t("job.fhir")),
      !now.erased_at && this.button("job.erase", erase, "danger"),
    );
  }

  button(key, act, kind = "") {
    const run = async () => {
      try {
        await act();
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        this.trouble.dataset.shown = "";
        this.trouble.replaceChildren(said(error));
      }
    };
    return h("button", { type: "button", class: kind, onclick: run }, t(key));
  }
}

function progress(now) {
  const bar = h("progress", { max: "1", value: String(now.progress), "aria-label": t("job.progress") });
  const took = now.metrics.total_s;
  if (ended(now)) {
    const text = t(`status.${now.status}`) + (now.status === "succeeded" && took ? ` · ${seconds(took)}` : "");
    return h("p", { class: `status ${now.status}` }, text);
  }
  const eta = now.eta_s === null ? "" : ` · ${t("job.eta", { time: seconds(now.eta_s) })}`;
  const doing = now.position === null ? t(`stage.${now.stage}`) : t("job.position", { n: now.position, stage: t(`stage.${now.stage}.noun`) });
  return [h("p", { class: "status" }, doing, eta), bar];
}

function warning(one) {
  const known = has(`warning.${one.code}`);
  return h("div", { class: "notice warn" }, h("strong", null, known ? t(`warning.${one.code}`) : one.code), h("p", null, one.detail));
}

function facts(now) {
  const pairs = [
    ["fact.id", now.id],
    ["fact.age", now.age],
    ["fact.sex", now.sex && t(`sex.${now.sex}`)],
    ["fact.site", now.site && (has(`site.${now.site}`) ? t(`site.${now.site}`) : now.site)],
    ["fact.picture", now.input && `${number(now.input.width)} × ${number(now.input.height)} px, ${bytes(now.input.size_bytes)}, ${now.input.media_type}`],
    ["fact.model", now.model && `${now.model.name} ${now.model.version}`],
    ["fact.metadata", now.metadata && Object.keys(now.metadata).length ? JSON.stringify(now.metadata) : null],
    ["fact.batch", now.batch_id && h("a", { href: `#/batches/${now.batch_id}` }, now.batch_id)],
  ];
  const list = pairs.filter(([, value]) => value !== null && value !== undefined).map(([key, value]) => [h("dt", null, t(key)), h("dd", null, value)]);
  const tries = now.attempts.map((one) => h("li", null, `${t(`stage.${one.stage}.noun`)} ${one.number}: ${one.outcome ?? ""} · ${one.worker}`));
  return h("details", { class: "card" }, h("summary", null, t("job.facts")), h("dl", null, list), tries.length > 0 && h("ul", { class: "small quiet plain" }, tries));
}
