// The log of an app: search, filters by time, level, source, instance and request, and new lines as
// they arrive. The host selects the lines.

import { html, useEffect, useMemo, useRef, useState } from "./lib.js";
import { call, ofApp, query as queryOf } from "./api.js";
import { clock, moment } from "./format.js";
import { useAction, usePoll } from "./hooks.js";
import { setFilters } from "./route.js";
import { useTopics } from "./stream.js";
import { ActionResult, ChoiceFilter, Loading, StreamState, TextFilter, Traced } from "./ui.js";

const PAGE = 500;
// Lines that the page keeps. The oldest lines are dropped first.
const LINES_MAX = 5000;
const SHOWN_MAX = 1000;

const LEVELS = ["trace", "debug", "info", "warn", "error", "critical"];

// The lines that match the filters, as the host selects them. New lines are gathered and shown four
// times a second, since a busy app writes thousands.
function useLines(app, filters) {
  const path = ofApp(app, "/logs");
  const [, setCount] = useState(0);
  const held = useRef({ lines: [], next: null });
  const key = `log ${app} ${queryOf(filters)}`;
  const first = usePoll(key, async (options) => {
    // A page that was hidden continues after its last line.
    if (held.current.key === key) return held.current;
    const page = await call(`${path}${queryOf({ limit: PAGE, ...filters })}`, options);
    const topic = queryOf({ log: app, ...filters });
    const { items, next, partial, end } = page;
    held.current = { key, topic, lines: items.map(numbered), next, partial, lastId: end };
    return held.current;
  }, 0);
  // The stream keeps its selection until the first page of the next one is loaded.
  const streamed = useRef(null);
  if (first.data) streamed.current = { log: app, ...filters };
  const add = (line) => {
    held.current.lines.push(numbered(line));
    if (held.current.lines.length > LINES_MAX) held.current.lines.splice(0, held.current.lines.length - LINES_MAX);
    held.current.changed = true;
  };
  const receive = (line, at, topic) => {
    // The stream may still have the selection before.
    if (topic !== held.current.topic) return;
    held.current.lastId = at.log;
    add(line);
  };
  const state = useTopics(streamed.current, {
    log: receive,
    missed: ({ lines }, at, topic) => receive(skipped(lines), at, topic),
  }, () => ({ log: held.current.lastId }));
  useEffect(() => {
    const timer = setInterval(() => {
      if (!held.current.changed) return;
      held.current.changed = false;
      setCount((before) => before + 1);
    }, 250);
    return () => clearInterval(timer);
  }, []);
  const older = async () => {
    const selection = held.current;
    const page = await call(`${path}${queryOf({ limit: PAGE, ...filters, cursor: selection.next })}`);
    selection.lines.unshift(...page.items.map(numbered));
    selection.next = page.next;
    selection.partial = page.partial;
    setCount((before) => before + 1);
  };
  // Lines of an earlier selection are not shown while the host searches.
  const { lines, next, partial } = first.data ? held.current : { lines: [], next: null, partial: false };
  return { first, state, lines, next, partial, older };
}

let lastNumber = 0;
const numbered = (line) => ({ ...line, number: (lastNumber += 1) });

// The line in place of lines that the host skipped, since the page couldn't keep up.
const skipped = (lines) => ({
  time: new Date().toISOString(),
  stream: "host",
  level: "warn",
  message: `${lines} lines skipped: this page couldn't keep up`,
});

// A line without a level counts by its source: a failed request is an error.
function severity(line) {
  if (line.level) return LEVELS.indexOf(line.level.toLowerCase());
  if (line.fault || line.status >= 500) return LEVELS.indexOf("error");
  return LEVELS.indexOf(line.stream === "stderr" ? "warn" : "info");
}

export function Logs({ app, query }) {
  const { q = "", since = "", until = "", level = "", stream = "", instance = "", request = "", follow = "" } = query;
  const filters = { grep: q, since, until, level, stream, instance, request_id: request };
  const { first, state, lines, next, partial, older } = useLines(app, filters);
  const action = useAction();
  const shown = lines.slice(-SHOWN_MAX);
  const box = useRef(null);
  const atEnd = useRef(true);
  const keepsEnd = follow !== "no";
  const newest = shown[shown.length - 1]?.number;
  useEffect(() => {
    if (keepsEnd && atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [newest, shown.length, keepsEnd]);
  const onScroll = ({ currentTarget: it }) => {
    atEnd.current = it.scrollHeight - it.scrollTop - it.clientHeight < 40;
  };
  return html`<div class="filters" role="search">
      <${TextFilter} name="q" label="Search" value=${q} placeholder="text of a line" />
      <${TextFilter} name="since" label="Since" value=${since} placeholder="10m, or a time" />
      <${TextFilter} name="until" label="Until" value=${until} placeholder="5m, or a time" />
      <${ChoiceFilter} name="level" label="At least" value=${level} choices=${LEVELS} none="any level" />
      <${ChoiceFilter} name="stream" label="Source" value=${stream} none="all"
        choices=${["log", "stdout", "stderr", "access", "host"]} />
      <${TextFilter} name="instance" label="Instance" value=${instance} placeholder="web-7f3k2" />
      <${TextFilter} name="request" label="Request id" value=${request} />
      <label class="check"><input type="checkbox" name="follow" checked=${keepsEnd}
        onChange=${(event) => setFilters({ follow: event.currentTarget.checked ? "" : "no" })} /> Follow</label>
    </div>
    <p class="row"><${StreamState} state=${state} />
      <span class="quiet">${lines.length} ${lines.length === 1 ? "line" : "lines"}${lines.length > shown.length && `, the newest ${shown.length} are shown`}
        ${partial && " in the part of the log that was searched"}</span>
      ${next && html`<button type="button" disabled=${action.busy}
        onClick=${() => action.run(older)}>${partial ? "Search older lines" : "Older lines"}</button>`}
    </p>
    <${Loading} of=${first} /><${ActionResult} action=${action} />
    <div class="lines" role="log" aria-live="off" aria-label=${`Log of ${app}`} tabindex="0" ref=${box}
      onScroll=${onScroll}>
      ${shown.map((line) => html`<${Line} key=${line.number} line=${line} text=${q} />`)}
      ${first.data && shown.length === 0 && html`<p class="empty">${partial
        ? "No line matches in the part of the log that was searched." : "No line matches."}</p>`}
    </div>`;
}

function Line({ line, text }) {
  return useMemo(() => {
    const rank = severity(line);
    const tone = rank >= LEVELS.indexOf("error") ? "bad" : rank >= LEVELS.indexOf("warn") ? "warn" : "";
    return html`<div class=${`line ${tone}`}>
      <time datetime=${line.time} title=${moment(line.time)}>${clock(line.time, true)}</time>
      <span class="source">${line.stream}${line.level ? ` ${line.level}` : ""}${line.release ? ` v${line.release}` : ""}
        ${line.instance ? ` ${line.instance}` : ""}</span>
      <div class="message"><${Traced} text=${line.message} open=${isFoundInTrace(line.message, text)}
        show=${(part) => marked(part, text)} />${line.fault && ` fault=${line.fault}`}${line.event_id
          && ` event=${line.event_id}`}</div>
      ${line.request_id && html`<button type="button" class="plain" title="Show the lines of this request"
        aria-label=${`Lines of request ${line.request_id}`}
        onClick=${() => setFilters({ request: line.request_id })}>${line.request_id}</button>`}
    </div>`;
  }, [line, text]);
}

// Returns whether the searched text is in the backtrace of a message, which is then unfolded.
function isFoundInTrace(message, text) {
  const start = message.indexOf("\n    at ");
  return text !== "" && start >= 0 && message.slice(start).toLowerCase().includes(text.toLowerCase());
}

// Returns the message with each occurrence of the searched text marked.
function marked(message, text) {
  if (text === "") return message;
  const parts = [];
  const lower = message.toLowerCase();
  const wanted = text.toLowerCase();
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
    parts.push(message.slice(from, at), html`<mark>${message.slice(at, at + wanted.length)}</mark>`);
    from = at + wanted.length;
  }
  return [...parts, message.slice(from)];
}
