// The stored events of an app, and its dead letters with redrive.

import { html } from "./lib.js";
import { call, ofApp, query as queryOf } from "./api.js";
import { ago, moment, number } from "./format.js";
import { useAction, usePoll } from "./hooks.js";
import { link } from "./route.js";
import { ActionResult, Badge, ChoiceFilter, ConfirmButton, Loading, Pager, Table, TextFilter, Traced } from "./ui.js";

const STATES = ["ready", "delayed", "leased", "done", "dead", "cancelled"];
const PAGE = 100;

const filtersOf = ({ type, subject, id, source, process }) => ({ type, subject, id, source, process });

function Filters({ query, children }) {
  return html`<div class="filters" role="search">${children}
    ${["type", "subject", "source", "id", "process"].map((name) => html`<${TextFilter} key=${name} name=${name}
      label=${name === "id" ? "Id" : name[0].toUpperCase() + name.slice(1)} value=${query[name] ?? ""} />`)}
  </div>`;
}

const time = (at) => at && html`<time datetime=${at} title=${moment(at)}>${ago(at)}</time>`;

const columns = (app) => [
  { name: "Event", wide: true, cell: (it) => html`<code>${it.id}</code>` },
  { name: "Type", cell: (it) => it.type },
  { name: "Subject", cell: (it) => it.subject },
  { name: "Source", cell: (it) => it.source },
  { name: "Process", cell: (it) => it.process },
  { name: "State", cell: (it) => html`<${Badge} state=${it.state} />
      ${it.state === "delayed" && html` <span class="quiet">due ${time(it.due_at)}</span>`}
      ${it.is_blocked && html` <span class="quiet">waits for an earlier event of its subject</span>`}
      ${it.is_stranded && html` <span class="bad-text">its process type is missing</span>`}` },
  { name: "Attempts", numeric: true, cell: (it) => `${it.attempt} of ${it.attempts_max}` },
  { name: "Accepted", cell: (it) => time(it.accepted_at) },
  { name: "Error", wide: true, cell: (it) => it.error && html`<${Traced} text=${it.error} />` },
  { name: "Log", cell: (it) => html`<a href=${link(["apps", app, "logs"], { request: it.request_id })}
      aria-label=${`Log of event ${it.id}`}>log</a>` },
];

export function Events({ app, query, may }) {
  const { state, cursor } = query;
  const path = `${ofApp(app, "/events")}${queryOf({ ...filtersOf(query), state, cursor, limit: PAGE })}`;
  const polled = usePoll(path, (options) => call(path, options), 3000);
  const action = useAction(polled.reload);
  const cancel = ({ id, source }) => action.run(async () => {
    const route = ofApp(app, `/events/${encodeURIComponent(id)}/cancel${queryOf({ source })}`);
    await call(route, { method: "POST" });
    return `${id} was cancelled.`;
  });
  const withCancel = [
    ...columns(app),
    { name: "Cancel", cell: (it) => ["ready", "delayed"].includes(it.state) && html`<${ConfirmButton}
        label="Cancel event" name=${`Cancel event ${it.id}`} title=${`Cancel event ${it.id}?`} danger
        disabled=${action.busy} act=${() => cancel(it)}><p>The event will not be delivered.</p><//>` },
  ];
  return html`<${Filters} query=${query}>
      <${ChoiceFilter} name="state" label="State" value=${state} choices=${STATES} /><//>
    <${Loading} of=${polled} /><${ActionResult} action=${action} />
    ${polled.data && html`<${Table} caption=${`Stored events of ${app}`}
      columns=${may("operate") ? withCancel : columns(app)} rows=${polled.data.items}
      keyOf=${(it) => `${it.source} ${it.id}`} empty="No stored event matches." />
      <${Pager} query=${query} next=${polled.data.next} />`}`;
}

export function DeadLetters({ app, query, may }) {
  const filters = filtersOf(query);
  const path = `${ofApp(app, "/dead-letters")}${queryOf({ ...filters, cursor: query.cursor, limit: PAGE })}`;
  const polled = usePoll(path, (options) => call(path, options), 3000);
  const action = useAction(polled.reload);
  const redrive = (wanted) => action.run(async () => {
    const body = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value));
    const result = await call(ofApp(app, "/dead-letters/redrive"), { method: "POST", body });
    const missing = result.missing_processes ?? [];
    const rest = missing.length > 0 ? ` The current release lacks the process types ${missing.join(", ")}.` : "";
    return `Dead letters redriven: ${number(result.events)}.${rest}`;
  });
  const drop = (wanted) => action.run(async () => {
    const result = await call(`${ofApp(app, "/dead-letters")}${queryOf(wanted)}`, { method: "DELETE" });
    return `Dead letters deleted: ${number(result.events)}.`;
  });
  const isFiltered = Object.values(filters).some((value) => value);
  const which = isFiltered ? "matching dead letters" : "all dead letters";
  const perRow = [
    ...columns(app).filter((column) => column.name !== "State"),
    { name: "Redrive", cell: (it) => html`<button type="button" aria-label=${`Redrive event ${it.id}`}
        disabled=${action.busy} onClick=${() => redrive({ id: it.id, source: it.source })}>Redrive</button>` },
  ];
  const items = polled.data?.items ?? [];
  return html`<${Filters} query=${query} />
    ${may("operate") && items.length > 0 && html`<div class="row">
      <${ConfirmButton} label=${`Redrive ${which}`} title=${`Redrive ${which} of ${app}?`} disabled=${action.busy}
        act=${() => redrive(filters)}><p>They return to the queue with their attempts reset to 0.</p><//>
      <${ConfirmButton} label=${`Delete ${which}`} title=${`Delete ${which} of ${app}?`} danger disabled=${action.busy}
        act=${() => drop(filters)}><p>They can't be restored.</p><//>
    </div>`}
    <${Loading} of=${polled} /><${ActionResult} action=${action} />
    ${polled.data && html`<${Table} caption=${`Dead letters of ${app}`} rows=${items}
      columns=${may("operate") ? perRow : perRow.slice(0, -1)} keyOf=${(it) => `${it.source} ${it.id}`}
      empty=${isFiltered ? "No dead letter matches." : "No dead letters."} />
      <${Pager} query=${query} next=${polled.data.next} />`}`;
}
