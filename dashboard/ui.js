// The parts that all views share: tables, badges, fields, problems and dialogs.

import { html, useEffect, useRef, useState } from "./lib.js";
import { NONE } from "./format.js";
import { setFilters } from "./route.js";

// States by meaning. The badge shows the word too, since some readers can't distinguish the
// colours.
const TONES = {
  good: ["running", "ready", "completed", "done", "idle", "up", "live"],
  busy: ["starting", "deploying", "building", "booted", "queued", "leased", "busy", "restarting", "connecting"],
  bad: ["error", "failed", "build_error", "deployment_error", "dead", "down", "lost"],
};

export function Badge({ state }) {
  const tone = Object.keys(TONES).find((name) => TONES[name].includes(state)) ?? "calm";
  return html`<span class=${`badge ${tone}`}>${String(state).replace("_", " ")}</span>`;
}

export function ProblemBox({ problem }) {
  if (!problem) return null;
  return html`<div class="problem" role="alert">
    <strong>${problem.message}</strong>
    ${problem.hint && html`<p>${problem.hint}</p>`}
    ${problem.requestId && html`<p class="quiet">Request <code>${problem.requestId}</code></p>`}
  </div>`;
}

export function ActionResult({ action }) {
  return html`<${ProblemBox} problem=${action.problem} />
    <p class="note" role="status">${action.busy ? "Working…" : action.note}</p>`;
}

// A table of rows. A column is {name, cell(row), numeric, wide, label}. On a narrow screen each row
// becomes a card, so the roles are explicit.
export function Table({ caption, columns, rows, keyOf, empty = "None." }) {
  if (rows.length === 0) return html`<p class="empty">${empty}</p>`;
  const cls = (column) => `${column.numeric ? "numeric" : ""} ${column.wide ? "wide" : ""}`.trim();
  return html`<div class="table-wrap"><table role="table">
    <caption class="unseen">${caption}</caption>
    <thead role="rowgroup"><tr role="row">
      ${columns.map((column) => html`<th role="columnheader" scope="col" class=${cls(column)} aria-sort=${column.sort}>
        ${column.head ?? column.name}</th>`)}
    </tr></thead>
    <tbody role="rowgroup">
      ${rows.map((row) => html`<tr role="row" key=${keyOf(row)}>
        ${columns.map((column) => html`<${Cell} name=${column.name} cls=${cls(column)} content=${column.cell(row)} />`)}
      </tr>`)}
    </tbody>
  </table></div>`;
}

// A card shows no cells without content.
function Cell({ name, cls, content }) {
  const isEmpty = content === NONE || !(content || content === 0);
  return html`<td role="cell" class=${`${cls} ${isEmpty ? "blank" : ""}`} data-label=${name}>
    <div>${content}</div></td>`;
}

// A text filter that is part of the URL. Applies a change after a short pause.
export function TextFilter({ name, label, value, placeholder }) {
  const [text, setText] = useState(value ?? "");
  const shown = useRef(value ?? "");
  useEffect(() => {
    if ((value ?? "") !== shown.current) {
      shown.current = value ?? "";
      setText(shown.current);
    }
  }, [value]);
  useEffect(() => {
    if (text === shown.current) return undefined;
    const timer = setTimeout(() => {
      shown.current = text;
      setFilters({ [name]: text });
    }, 250);
    return () => clearTimeout(timer);
  }, [text, name]);
  return html`<label class="field"><span>${label}</span>
    <input type="search" name=${name} value=${text} placeholder=${placeholder} autocomplete="off" spellcheck=${false}
      onInput=${(event) => setText(event.currentTarget.value)} /></label>`;
}

export function ChoiceFilter({ name, label, value, choices, none = "all" }) {
  return html`<label class="field"><span>${label}</span>
    <select name=${name} value=${value ?? ""} onChange=${(event) => setFilters({ [name]: event.currentTarget.value })}>
      <option value="">${none}</option>
      ${choices.map((choice) => html`<option value=${choice}>${choice}</option>`)}
    </select></label>`;
}

// Pages of a list. The cursor is part of the URL, so a reload shows the same page.
export function Pager({ query, next }) {
  if (!query.cursor && !next) return null;
  return html`<p class="row">
    ${query.cursor && html`<button type="button" onClick=${() => setFilters({ cursor: "" })}>Newest</button>`}
    ${next && html`<button type="button" onClick=${() => setFilters({ cursor: next })}>Older</button>`}
  </p>`;
}

// A button that asks before it acts. `children` explains the effect.
export function ConfirmButton({ label, title, act, disabled, danger, name, children }) {
  const dialog = useRef(null);
  const close = () => dialog.current.close();
  const accept = () => {
    close();
    act();
  };
  return html`<button type="button" disabled=${disabled} aria-label=${name} class=${danger ? "danger" : ""}
      onClick=${() => dialog.current.showModal()}>${label}</button>
    <dialog ref=${dialog} aria-label=${title}>
      <h2>${title}</h2>
      <div>${children}</div>
      <div class="row end">
        <button type="button" onClick=${close}>Cancel</button>
        <button type="button" class=${danger ? "danger" : "primary"} onClick=${accept}>${label}</button>
      </div>
    </dialog>`;
}

// A text whose backtrace is folded. `show` renders a part of the text.
export function Traced({ text, open = false, show = (part) => part }) {
  const start = text.indexOf("\n    at ");
  if (start < 0) return show(text);
  const frames = text.slice(start + 1);
  return html`${show(text.slice(0, start))}<details class="trace" open=${open}>
    <summary>Backtrace, ${frames.split("\n").length} lines</summary><pre>${show(frames)}</pre></details>`;
}

// The state of an event stream.
export function StreamState({ state }) {
  const texts = {
    off: "paused",
    connecting: "connecting",
    live: "live",
    lost: `reconnecting: ${state.about?.message ?? ""}`,
    refused: `disconnected: ${state.about?.message ?? ""}`,
    broken: "unreadable, the host retries",
    ended: `ended: ${state.about ?? ""}`,
  };
  const tones = { live: "good", lost: "bad", refused: "bad", broken: "bad", connecting: "busy" };
  const tone = tones[state.name] ?? "calm";
  return html`<span class=${`badge ${tone}`} role="status">${texts[state.name]}</span>`;
}

export function Loading({ of }) {
  if (of.data === null && of.problem === null) return html`<p class="empty" role="status">Loading…</p>`;
  return html`<${ProblemBox} problem=${of.problem} />`;
}
