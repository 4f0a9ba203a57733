// The pictures that a person chose, dropped, pasted or took, and what becomes of them when they are sent.

import { h } from "./dom.js";
import { tar } from "./tar.js";
import { bytes, number, t } from "./words.js";

const ARCHIVE = /\.(zip|tar|tgz|tar\.gz|tar\.zst)$/i;
const PICTURES = "image/*,.dcm,.dicom,.tif,.tiff,.bmp";
const ARCHIVES = ".zip,.tar,.tgz,.gz,.zst";
const MOST_SHOWN = 12;

export class Chosen {
  constructor(limits, changed) {
    this.limits = limits;
    this.changed = changed;
    this.files = [];
    this.urls = [];
    this.shown = h("div", { class: "previews" });
    this.trouble = h("div", { role: "alert" });
    this.element = this.zone();
    this.onpaste = (event) => event.clipboardData?.files.length && this.take(event.clipboardData.files);
    this.onstray = (event) => event.preventDefault(); // a picture that misses must not replace the page
    document.addEventListener("paste", this.onpaste);
    document.addEventListener("dragover", this.onstray);
    document.addEventListener("drop", this.onstray);
  }

  get archive() {
    return this.files.length === 1 && ARCHIVE.test(this.files[0].name);
  }

  zone() {
    const choose = this.input({ multiple: true, accept: `${PICTURES},${ARCHIVES}`, id: "files" });
    const camera = this.input({ accept: "image/*", capture: "environment", id: "camera" });
    this.invitation = h(
      "div",
      { class: "invitation" },
      h("p", { class: "large" }, t("ask.drop")),
      h("p", { class: "quiet" }, t("ask.paste")),
    );
    const buttons = h(
      "div",
      { class: "actions" },
      choose,
      h("label", { class: "button", for: "files" }, t("ask.choose")),
      navigator.maxTouchPoints > 0 && [camera, h("label", { class: "button", for: "camera" }, t("ask.camera"))],
    );
    const note = h("p", { class: "small quiet" }, t("ask.formats", { size: bytes(this.limits.image_bytes), entries: number(this.limits.archive_entries) }));
    const zone = h("section", { class: "card drop", "aria-label": t("ask.picture") }, this.invitation, this.shown, this.trouble, buttons, note);
    zone.addEventListener("dragover", () => zone.classList.add("over"));
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      zone.classList.remove("over");
      this.take(event.dataTransfer.files);
    });
    return zone;
  }

  input(props) {
    const input = h("input", { type: "file", class: "offscreen", ...props });
    input.addEventListener("change", () => {
      this.take(input.files);
      input.value = ""; // so that the same file can be chosen again
    });
    return input;
  }

  take(files) {
    const found = [...files];
    if (!found.length) return;
    this.trouble.replaceChildren();
    const archives = found.filter((file) => ARCHIVE.test(file.name)).length;
    if (archives && found.length > 1) return this.refuse(t("ask.mixed"));
    const most = archives ? this.limits.archive_bytes : this.limits.image_bytes;
    const large = found.find((file) => file.size > most);
    if (large) return this.refuse(t("ask.large", { name: large.name, size: bytes(most) }));
    this.files = found;
    this.show();
    this.changed();
  }

  refuse(text) {
    this.trouble.replaceChildren(h("p", { class: "notice bad" }, text));
  }

  show() {
    this.forget();
    this.invitation.hidden = this.files.length > 0;
    const first = this.files.slice(0, this.archive ? 0 : MOST_SHOWN).map((file) => this.preview(file));
    const size = this.files.reduce((total, file) => total + file.size, 0);
    const name = this.files.length === 1 ? this.files[0].name : t("ask.several", { n: number(this.files.length) });
    const clear = h("button", { type: "button", class: "plain", onclick: () => this.clear() }, t("ask.clear"));
    this.shown.classList.toggle("many", this.files.length > 1);
    this.shown.replaceChildren(...first, h("p", { class: "chosen" }, h("span", { class: "name" }, name), ` ${bytes(size)} `, clear));
  }

  preview(file) {
    const url = URL.createObjectURL(file);
    this.urls.push(url);
    const image = h("img", { src: url, alt: t("ask.preview", { name: file.name }) });
    // Browsers show neither DICOM nor TIFF.
    image.addEventListener("error", () => image.replaceWith(h("p", { class: "notice calm" }, t("ask.unseen", { name: file.name }))));
    return image;
  }

  // Where it goes, and the body so far: one picture is a job, an archive or several pictures are a batch.
  request() {
    const body = new FormData();
    if (this.archive) body.append("archive", this.files[0]);
    else if (this.files.length > 1) body.append("archive", tar(this.files), "pictures.tar");
    else body.append("image", this.files[0]);
    return [body.has("image") ? "/v1/jobs" : "/v1/batches", body];
  }

  clear() {
    this.files = [];
    this.forget();
    this.shown.replaceChildren();
    this.invitation.hidden = false;
    this.changed();
    document.getElementById("files")?.focus();
  }

  forget() {
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
  }

  leave() {
    this.forget();
    document.removeEventListener("paste", this.onpaste);
    document.removeEventListener("dragover", this.onstray);
    document.removeEventListener("drop", this.onstray);
  }
}
