// The list of all apps with their current load, and the state of the host.

import { html, useMemo, useRef, useState } from "./lib.js";
import { call } from "./api.js";
import { bufferedEvents, rates } from "./counters.js";
import { NONE, bytes, moment, ms, number, percent, rate } from "./format.js";
import { usePoll } from "./hooks.js";
import { link, setFilters } from "./route.js";
import { useTopics } from "./stream.js";
import { Badge, ChoiceFilter, Loading, Table, TextFilter } from "./ui.js";

const EVERY_MS = 5000;
const PAGE = 1000;
// Rows of the table. Filters select among all apps.
const ROWS_MAX = 500;

// Returns the latest metrics of the active apps and of the host, and the rates since the sample
// before.
function useMetrics() {
  const [found, setFound] = useState(null);
  const before = useRef(null);
  useTopics({ apps: true }, {
    apps: ({ items, host }) => {
      const now = { at: Date.parse(host.measured_at), apps: new Map(items.map((item) => [item.app, item])) };
      // Streams share measurements, so a new connection may receive the same one.
      if (now.at === before.current?.at) return;
      const found = before.current === null ? new Map() : rates(before.current, now);
      // The host measures the busiest apps if many are awake.
      setFound({ host, loads: now.apps, rates: found, hasAll: items.length >= host.apps_awake });
      before.current = now;
    },
  });
  return found;
}

const NO_REQUESTS = { requests: 0, errors: 0 };

// Returns an app with its metrics. Only apps that are awake have metrics. The rates are null if they
// are unknown.
function withLoad(app, metrics) {
  const load = metrics?.loads.get(app.name) ?? null;
  const isAsleep = metrics?.hasAll && load === null;
  const rates = metrics?.rates.get(app.name) ?? (isAsleep ? NO_REQUESTS : null);
  return { ...app, state: load?.state ?? app.state, load, rates };
}

async function allApps(options) {
  const apps = [];
  let cursor = "";
  do {
    const page = await call(`/v1/apps?limit=${PAGE}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`, options);
    apps.push(...page.items);
    cursor = page.next;
  } while (cursor);
  return apps;
}

const slowest = (load) => {
  const known = [load?.pull.latency_ms.p99, load?.push.latency_ms.p99].filter((value) => value != null);
  return known.length === 0 ? null : Math.max(...known);
};

// Columns that sort: the first click shows the largest values, or the first names.
const SORTS = {
  name: (a, b) => a.name.localeCompare(b.name),
  requests: (a, b) => (b.rates?.requests ?? -1) - (a.rates?.requests ?? -1),
  errors: (a, b) => (b.rates?.errors ?? -1) - (a.rates?.errors ?? -1),
  p99: (a, b) => (slowest(b.load) ?? -1) - (slowest(a.load) ?? -1),
  cpu: (a, b) => (b.load?.cpu_percent ?? -1) - (a.load?.cpu_percent ?? -1),
  memory: (a, b) => (b.load?.memory_bytes ?? -1) - (a.load?.memory_bytes ?? -1),
};

function head(text, key, sort) {
  return html`<button type="button" class="sort" onClick=${() => setFilters({ sort: key === "name" ? "" : key })}>
    ${text}${sort === key && html`<span aria-hidden="true"> ${key === "name" ? "↑" : "↓"}</span>`}</button>`;
}

const pair = (pull, push) => html`<span class="pair"><span>${pull}</span><span class="quiet">${push}</span></span>`;

const ofLoad = (app, cell) => (app.load === null ? NONE : cell(app.load));

const cores = ({ active_cores: active, cores: allowed }) => `${active} of ${allowed}`;

const buffered = ({ pull, push }) => pair(number(pull.buffered), number(bufferedEvents(push)));

function deadLetters({ push }) {
  const count = push.dead_letters ?? null;
  return count > 0 ? html`<span class="badge bad">${number(count)}</span>` : number(count);
}

function columns(sort) {
  const sorted = (key, column) => ({
    ...column,
    head: head(column.name, key, sort),
    sort: sort === key ? (key === "name" ? "ascending" : "descending") : undefined,
  });
  return [
    sorted("name", { name: "App", wide: true, cell: (app) => html`<a class="strong"
        href=${link(["apps", app.name])}>${app.name}</a>` }),
    { name: "Type", cell: (app) => app.type },
    { name: "State", cell: (app) => html`<${Badge} state=${app.state} />
        ${app.error && html`<span class="quiet"> ${app.error.message}</span>`}` },
    { name: "Release", cell: (app) => (app.release === null ? NONE : `v${app.release}`) },
    sorted("requests", { name: "Requests/s", numeric: true, cell: (app) => rate(app.rates?.requests) }),
    sorted("errors", { name: "Errors/s", numeric: true, cell: (app) => errors(app.rates?.errors) }),
    sorted("p99", { name: "p99", numeric: true, cell: (app) => ms(slowest(app.load)) }),
    { name: "Cores pull / push", numeric: true,
      cell: (app) => ofLoad(app, ({ pull, push }) => pair(cores(pull), cores(push))) },
    { name: "Buffered pull / push", numeric: true, cell: (app) => ofLoad(app, buffered) },
    { name: "Dead letters", numeric: true, cell: (app) => ofLoad(app, deadLetters) },
    sorted("cpu", { name: "CPU", numeric: true, cell: (app) => percent(app.load?.cpu_percent) }),
    sorted("memory", { name: "Memory", numeric: true, cell: (app) => bytes(app.load?.memory_bytes) }),
  ];
}

const errors = (value) => (value > 0 ? html`<span class="bad-text">${rate(value)}</span>` : rate(value));

export function Overview({ query }) {
  const polled = usePoll("apps", allApps, EVERY_MS);
  const status = usePoll("status", statusOf, 5000);
  const metrics = useMetrics();
  const { q = "", state = "", type = "", sort = "name" } = query;
  const columnsNow = useMemo(() => columns(sort), [sort]);
  const apps = polled.data?.map((app) => withLoad(app, metrics));
  const rows = (apps ?? []).filter((app) =>
    app.name.includes(q.toLowerCase()) && (state === "" || app.state === state) && (type === "" || app.type === type));
  rows.sort(SORTS[sort] ?? SORTS.name);
  return html`<main id="main">
    <h1>Apps</h1>
    ${metrics && html`<${Host} host=${metrics.host} status=${status.data} />`}
    <${Problems} status=${status.data} />
    <div class="filters" role="search">
      <${TextFilter} name="q" label="Name" value=${q} placeholder="part of a name" />
      <${ChoiceFilter} name="state" label="State" value=${state}
        choices=${["running", "deploying", "starting", "stopped", "error"]} />
      <${ChoiceFilter} name="type" label="Type" value=${type} choices=${["dev", "staging", "production"]} />
    </div>
    <${Loading} of=${polled} />
    ${apps && html`<${Table} caption="Apps" columns=${columnsNow} rows=${rows.slice(0, ROWS_MAX)}
      keyOf=${(app) => app.name}
      empty=${apps.length === 0 ? "No apps yet. Create one with: isopod deploy" : "No app matches the filters."} />`}
    ${rows.length > ROWS_MAX && html`<p class="quiet">${number(rows.length - ROWS_MAX)} more apps match: narrow the
      filters.</p>`}
  </main>`;
}

// Returns the host's status, or null if the token is limited to some apps. The response is 503
// while the host has a problem.
async function statusOf(options) {
  const response = await call("/v1/status", options).catch((problem) => problem.body ?? null);
  return response?.version ? response : null;
}

function Host({ host, status }) {
  const facts = [
    ["CPU", `${percent(host.cpu_percent)} of ${host.cores * 100} %`],
    ["Memory", bytes(host.memory_bytes)],
    ["Apps awake", `${number(host.apps_awake)} of ${number(host.apps)}`],
    ["Instances", number(host.instances)],
    ["Buffered", number(host.buffered)],
    ...(status ? [["Log lines dropped", number(status.log_lines_dropped)], ["Version", status.version],
      ["Started", moment(status.started_at)]] : []),
  ];
  return html`<dl class="facts" aria-label="Host">${facts.map(([name, value]) =>
    html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Problems({ status }) {
  if (!status) return null;
  const problems = [
    ...status.data_folder_problems,
    ...status.middleware_problems.map(({ plugin, why }) => `middleware ${plugin}: ${why}`),
    ...status.gate_problems.map(({ plugin, why }) => `gate ${plugin}: ${why}`),
    ...(status.apps_in_error.length > 0 ? [`apps in error: ${status.apps_in_error.join(", ")}`] : []),
  ];
  if (problems.length === 0) return null;
  return html`<div class="problem" role="status"><strong>The host reports problems</strong>
    <ul>${problems.map((problem) => html`<li>${problem}</li>`)}</ul></div>`;
}
