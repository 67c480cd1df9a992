// The schedules of an app: their next and last runs.

import { html } from "./lib.js";
import { call, ofApp } from "./api.js";
import { ago, moment, ms } from "./format.js";
import { useAction, usePoll } from "./hooks.js";
import { ActionResult, Badge, Loading, Table } from "./ui.js";
import { link } from "./route.js";

export function Schedules({ app, may }) {
  const polled = usePoll(`schedules ${app}`, (options) => call(ofApp(app, "/schedules"), options), 5000);
  const action = useAction(polled.reload);
  const run = (process) => action.run(async () => {
    await call(ofApp(app, `/schedules/${encodeURIComponent(process)}/run`), { method: "POST" });
    return `A run of ${process} was requested.`;
  });
  const items = polled.data?.items ?? [];
  return html`<${Loading} of=${polled} /><${ActionResult} action=${action} />
    ${polled.data && items.length === 0 && html`<p class="empty">No process type has a schedule.</p>`}
    ${items.map((it) => html`<section class="panel" key=${it.process} aria-label=${`Schedule of ${it.process}`}>
      <div class="row"><h3>${it.process}</h3>
        ${may("operate") && html`<button type="button" aria-label=${`Run now: ${it.process}`} disabled=${action.busy}
          onClick=${() => run(it.process)}>Run now</button>`}</div>
      <dl class="facts">
        <div><dt>Schedule</dt><dd><code>${it.schedule}</code> ${it.time_zone}</dd></div>
        <div><dt>Next run</dt><dd>${moment(it.next_run_at)} <span class="quiet">${ago(it.next_run_at)}</span></dd></div>
        <div><dt>Last run</dt><dd>${moment(it.last_run_at)}
          ${it.last_state && html` <${Badge} state=${it.last_state} />`}</dd></div>
        <div><dt>Policy for missed runs</dt><dd>${it.missed}</dd></div>
        <div><dt>Policy for overlapping runs</dt><dd>${it.overlap}</dd></div>
      </dl>
      <${Table} caption=${`Runs of ${it.process}`} columns=${columns(app)} rows=${it.runs} empty="No run yet."
        keyOf=${(one) => `${one.started_at} ${one.event}`} />
    </section>`)}`;
}

const columns = (app) => [
  { name: "Started", cell: (it) => moment(it.started_at) },
  { name: "State", cell: (it) => html`<${Badge} state=${it.state} />` },
  { name: "Took", numeric: true, cell: (it) => it.ended_at && ms(Date.parse(it.ended_at) - Date.parse(it.started_at)) },
  { name: "Attempt", numeric: true, cell: (it) => it.attempt },
  { name: "Event", cell: (it) => it.event && html`<a
      href=${link(["apps", app, "events"], { id: it.event })}>event</a>` },
  { name: "Error", wide: true, cell: (it) => it.error },
];
