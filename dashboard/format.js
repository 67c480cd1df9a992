// Numbers, sizes, durations and times as text. Never draws.

export const NONE = "–";

export function number(value, digits = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0";
  return number(value, value < 10 ? 1 : 0);
}

export function percent(value) {
  return value === null || value === undefined ? NONE : `${number(value, value < 10 ? 1 : 0)} %`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let rest = value;
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${number(rest, rest < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

export function ms(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 1) return `${number(value, 2)} ms`;
  if (value < 1000) return `${number(value, value < 10 ? 1 : 0)} ms`;
  if (value < 60_000) return `${number(value / 1000, value < 10_000 ? 1 : 0)} s`;
  if (value < 3_600_000) return `${number(value / 60_000, 0)} min`;
  if (value < 172_800_000) return `${number(value / 3_600_000, 0)} h`;
  return `${number(value / 86_400_000, 0)} d`;
}

export function ago(time, now = Date.now()) {
  if (!time) return NONE;
  const span = now - Date.parse(time);
  return span < 0 ? `in ${ms(-span)}` : span < 2000 ? "now" : `${ms(span)} ago`;
}

const two = (value) => String(value).padStart(2, "0");

// Returns the local time of day, with milliseconds if `exact`.
export function clock(time, exact = false) {
  const at = new Date(time);
  const text = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
  return exact ? `${text}.${String(at.getMilliseconds()).padStart(3, "0")}` : text;
}

export function day(time) {
  const at = new Date(time);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

export const moment = (time) => (time ? `${day(time)} ${clock(time)}` : NONE);
