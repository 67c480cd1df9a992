// The instances of an app.

import { html } from "./lib.js";
import { call, ofApp } from "./api.js";
import { NONE, bytes, ms, number } from "./format.js";
import { useAction, usePoll } from "./hooks.js";
import { ActionResult, Badge, ConfirmButton, Loading, Table } from "./ui.js";
import { link } from "./route.js";

export function Instances({ app, may }) {
  const polled = usePoll(`instances ${app}`, (options) => call(ofApp(app, "/instances?limit=1000"), options), 2000);
  const action = useAction(polled.reload);
  const restart = (id) => action.run(async () => {
    await call(ofApp(app, `/instances/${encodeURIComponent(id)}/restart`), { method: "POST" });
    return `${id} is being replaced.`;
  });
  const columns = [
    { name: "Instance", cell: (it) => (it.url ? html`<a href=${it.url} rel="noreferrer">${it.id}</a>` : it.id) },
    { name: "Process", cell: (it) => it.process },
    { name: "State", cell: (it) => html`<${Badge} state=${it.state} />` },
    { name: "Release", cell: (it) => (it.release === null ? NONE : `v${it.release}`) },
    { name: "Age", numeric: true, cell: (it) => ms(it.age_ms) },
    { name: "Requests", numeric: true, cell: (it) => number(it.requests) },
    { name: "CPU", numeric: true, cell: (it) => ms(it.cpu_ms) },
    { name: "Memory", numeric: true, cell: (it) => bytes(it.memory_bytes) },
    { name: "Restarts", numeric: true, cell: (it) => number(it.restarts) },
    { name: "Log", cell: (it) => html`<a href=${link(["apps", app, "logs"], { instance: it.id })}
        aria-label=${`Log of ${it.id}`}>log</a>` },
    ...(may("operate") ? [{ name: "Restart", cell: (it) => html`<${ConfirmButton} label="Restart"
        name=${`Restart ${it.id}`} title=${`Restart ${it.id}?`} disabled=${action.busy} act=${() => restart(it.id)}>
          <p>A new instance with the same id replaces it. Accepted work is completed first.</p><//>` }] : []),
  ];
  return html`<${Loading} of=${polled} /><${ActionResult} action=${action} />
    ${polled.data && html`<${Table} caption=${`Instances of ${app}`} columns=${columns} rows=${polled.data.items}
      keyOf=${(it) => it.id} empty="No instance is running." />`}`;
}
