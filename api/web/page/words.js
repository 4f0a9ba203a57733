// The page's words in the language that the server chose, and numbers and times as that language writes them.

const words = JSON.parse(document.getElementById("words").textContent);
export const lang = document.documentElement.lang;

export const has = (key) => key in words;

export function t(key, values = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? ""));
}

const percents = new Intl.NumberFormat(lang, { style: "percent", maximumFractionDigits: 1 });
const numbers = new Intl.NumberFormat(lang, { maximumFractionDigits: 1 });
const moments = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" });

export const percent = (share) => percents.format(share);
export const number = (value) => numbers.format(value);
export const moment = (time) => moments.format(new Date(time));

export function seconds(value) {
  if (value >= 90) return t("time.minutes", { n: number(Math.round(value / 60)) });
  return t("time.seconds", { n: number(value < 10 ? Math.round(value * 10) / 10 : Math.round(value)) });
}

// In powers of 1024, as limits are set.
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (value >= 1024 && step < units.length - 1) [value, step] = [value / 1024, step + 1];
  return `${number(value)} ${units[step]}`;
}
