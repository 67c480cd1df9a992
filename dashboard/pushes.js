// The push jobs of an app, and the live progress of one.

import { html, useEffect, useState } from "./lib.js";
import { call, ofApp } from "./api.js";
import { ago, moment } from "./format.js";
import { useAction, usePoll } from "./hooks.js";
import { link } from "./route.js";
import { ActionResult, Badge, Loading, ProblemBox, Table } from "./ui.js";

const STEPS = ["queued", "running", "building", "deploying", "completed"];
const PROGRESS_EVERY_MS = 500;
const ENDED = ["completed", "failed", "cancelled"];

export function Pushes({ app, query, may }) {
  const polled = usePoll(`pushes ${app}`, (options) => call(ofApp(app, "/pushes?limit=100"), options), 2000);
  const action = useAction(polled.reload);
  const cancel = (id) => action.run(async () => {
    await call(ofApp(app, `/pushes/${encodeURIComponent(id)}/cancel`), { method: "POST" });
    return `${id} was cancelled.`;
  });
  const columns = [
    { name: "Push job", cell: (it) => html`<a href=${link(["apps", app, "pushes"], { push: it.id })}>${it.id}</a>` },
    { name: "State", cell: (it) => html`<${Badge} state=${it.state} />` },
    { name: "Release", cell: (it) => (it.release === null ? "" : `v${it.release}`) },
    { name: "Reason", wide: true, cell: (it) => it.reason },
    { name: "Created", cell: (it) => html`<time datetime=${it.created_at} title=${moment(it.created_at)}>
        ${ago(it.created_at)}</time> <span class="quiet">by ${it.created_by}</span>` },
    ...(may("deploy") ? [{ name: "Cancel", cell: (it) => it.state === "queued" && html`<button type="button"
        aria-label=${`Cancel ${it.id}`} disabled=${action.busy}
        onClick=${() => cancel(it.id)}>Cancel</button>` }] : []),
  ];
  return html`<${Loading} of=${polled} /><${ActionResult} action=${action} />
    ${query.push && html`<${Push} key=${query.push} app=${app} id=${query.push} />`}
    ${polled.data && html`<${Table} caption=${`Push jobs of ${app}`} columns=${columns} rows=${polled.data.items}
      keyOf=${(it) => it.id} empty="No push job yet." />`}`;
}

function Push({ app, id }) {
  const path = ofApp(app, `/pushes/${encodeURIComponent(id)}`);
  const [runs, setRuns] = useState(true);
  const polled = usePoll(`push ${app} ${id}`, (options) => call(path, options), runs ? PROGRESS_EVERY_MS : 0);
  const push = polled.data;
  useEffect(() => setRuns(push === null || !ENDED.includes(push.state)), [push?.state]);
  return html`<section class="panel" aria-label=${`Push job ${id}`}>
    <div class="row"><h3>${id}</h3>${push && html`<${Badge} state=${push.state} />`}</div>
    <${Loading} of=${polled} />
    ${push && html`<div>
      <ol class="steps">${STEPS.map((step) => html`<li aria-current=${step === push.state ? "step" : undefined}
        class=${reached(push, step) ? "reached" : ""}>${step}</li>`)}</ol>
      ${push.reason && html`<${ProblemBox} problem=${{ message: push.reason }} />`}
      <pre class="log" tabindex="0" aria-label="Log of the push job">${push.log.join("\n")}</pre>
    </div>`}
  </section>`;
}

const reached = (push, step) => step === "queued" || step === push.state ||
  (push.steps ?? []).some((taken) => taken.state === step);
