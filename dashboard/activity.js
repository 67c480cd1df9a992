// The activity of an app as a timeline: each change with its cause and its requester.

import { html, useCallback, useMemo, useRef, useState } from "./lib.js";
import { call, ofApp, query as queryOf } from "./api.js";
import { clock, day } from "./format.js";
import { useAction, usePoll } from "./hooks.js";
import { link } from "./route.js";
import { useTopics } from "./stream.js";
import { ActionResult, ChoiceFilter, Loading, StreamState, TextFilter } from "./ui.js";

const PAGE = 100;
const ENTRIES_MAX = 2000;

export function Activity({ app, query }) {
  const path = ofApp(app, "/activity");
  const [older, setOlder] = useState({ items: [], next: undefined });
  const [newer, setNewer] = useState([]);
  const newest = usePoll(`activity ${app}`, (options) => call(`${path}${queryOf({ limit: PAGE })}`, options), 0);
  const last = useRef(null);
  const state = useTopics({ activity: app }, {
    // The page of the newest entries is loaded again, since the stream starts with its next entry.
    started: ({ topic }) => topic === "activity" && newest.reload(),
    activity: (entry, at) => {
      last.current = at.activity;
      setNewer((before) => [entry, ...before].slice(0, ENTRIES_MAX));
    },
  }, () => ({ activity: last.current }));
  const action = useAction();
  const next = older.next === undefined ? newest.data?.next : older.next;
  const more = useCallback(() => action.run(async () => {
    const page = await call(`${path}${queryOf({ limit: PAGE, cursor: next })}`);
    setOlder((before) => ({ items: [...before.items, ...page.items].slice(0, ENTRIES_MAX), next: page.next ?? null }));
  }), [path, next]);
  const entries = useMemo(() => unique([...newer, ...(newest.data?.items ?? []), ...older.items]),
    [newer, newest.data, older]);
  const { q = "", kind = "" } = query;
  const kinds = [...new Set(entries.map((entry) => entry.kind))].sort();
  const shown = entries.filter((entry) => (kind === "" || entry.kind === kind) &&
    `${entry.text} ${JSON.stringify(entry.data)}`.toLowerCase().includes(q.toLowerCase()));
  return html`<div class="filters" role="search">
      <${TextFilter} name="q" label="Contains" value=${q} />
      <${ChoiceFilter} name="kind" label="Kind" value=${kind} choices=${kinds} />
      <p class="row"><${StreamState} state=${state} /></p>
    </div>
    <${Loading} of=${newest} />
    <ol class="timeline">${shown.map((entry, index) => html`<${Entry} key=${keyOf(entry)} app=${app} entry=${entry}
      date=${index === 0 || day(shown[index - 1].at) !== day(entry.at) ? day(entry.at) : null} />`)}</ol>
    ${newest.data && shown.length === 0 && html`<p class="empty">No entry matches.</p>`}
    ${next && html`<button type="button" disabled=${action.busy} onClick=${more}>Older entries</button>`}
    <${ActionResult} action=${action} />`;
}

const keyOf = (entry) => `${entry.at} ${entry.kind} ${entry.text}`;

function unique(entries) {
  const found = new Map(entries.map((entry) => [keyOf(entry), entry]));
  return [...found.values()].sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0));
}

const TONES = [[/error|failed|dead|crash|refused/, "bad"], [/deployed|created|running/, "good"]];

function Entry({ app, entry, date }) {
  const { by, cause, push, release, ...rest } = entry.data ?? {};
  const tone = TONES.find(([words]) => words.test(`${entry.kind} ${entry.text}`))?.[1] ?? "calm";
  // The text already contains most values.
  const facts = Object.entries(rest).filter(([, value]) => value !== null && !entry.text.includes(String(value)));
  return html`<li class=${tone}>
    ${date && html`<h3>${date}</h3>`}
    <div class="entry">
      <time datetime=${entry.at}>${clock(entry.at)}</time>
      <div>
        <p>${entry.text}</p>
        <p class="quiet row">
          <span class="kind">${entry.kind}</span>
          ${by && html`<span>by ${by}</span>`}
          ${cause && !entry.text.includes(cause) && html`<span>because: ${cause}</span>`}
          ${push && html`<a href=${link(["apps", app, "pushes"], { push })}>${push}</a>`}
          ${release && html`<a href=${link(["apps", app, "releases"], { diff: `v${release}` })}>v${release}</a>`}
        </p>
        ${facts.length > 0 && html`<details><summary>Details</summary>
          <dl class="details">${facts.map(([name, value]) => html`<dt>${name}</dt>
            <dd><code>${typeof value === "string" ? value : JSON.stringify(value)}</code></dd>`)}</dl></details>`}
      </div>
    </div>
  </li>`;
}
