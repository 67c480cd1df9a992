// The releases of an app: their differences, and rollbacks.

import { html } from "./lib.js";
import { call, ofApp } from "./api.js";
import { ago, bytes, moment } from "./format.js";
import { useAction, usePoll } from "./hooks.js";
import { link, setFilters } from "./route.js";
import { ActionResult, Badge, ConfirmButton, Loading, Table } from "./ui.js";

// The host refuses a rollback to a release in one of these states.
const UNUSABLE = ["build_error", "deployment_error"];

export function Releases({ app, info, query, may }) {
  const polled = usePoll(`releases ${app}`, (options) => call(ofApp(app, "/releases?limit=200"), options), 3000);
  const action = useAction(polled.reload);
  const rollBack = (release) => action.run(async () => {
    const created = await call(ofApp(app, "/rollback"), { method: "POST", body: { release } });
    return `${created.name}, a copy of v${release}, serves.`;
  });
  const compared = query.diff;
  const columns = [
    { name: "Release", cell: (it) => (it.url && info?.urls.length > 0
        ? html`<a href=${it.url} rel="noreferrer">${it.name}</a>` : it.name) },
    { name: "State", cell: (it) => (it.damaged ? html`<span class="bad-text">damaged: ${it.damaged}</span>`
        : html`<${Badge} state=${it.state} />
            ${it.release === info?.release && html` <span class="quiet">current</span>`}`) },
    { name: "Cause", wide: true, cell: (it) => html`${it.cause}
        ${it.reason && html`<p class="bad-text">${it.reason.code}: ${it.reason.detail}</p>`}` },
    { name: "Created", cell: (it) => it.created_at && html`<time datetime=${it.created_at}
        title=${moment(it.created_at)}>${ago(it.created_at)}</time> <span class="quiet">by ${it.created_by}</span>` },
    { name: "Size", numeric: true, cell: (it) => bytes(it.size_bytes) },
    { name: "Changes", cell: (it) => it.release > 1 && html`<a
        href=${link(["apps", app, "releases"], { diff: it.name })} aria-label=${`diff of ${it.name}`}>diff</a>` },
    ...(may("deploy") ? [{ name: "Roll back", cell: (it) => !it.damaged && it.release !== info?.release &&
        !UNUSABLE.includes(it.state) && html`<${ConfirmButton} label="Roll back" name=${`Roll back to ${it.name}`}
          title=${`Roll ${app} back to ${it.name}?`} disabled=${action.busy} act=${() => rollBack(it.release)}>
          <p>The host creates a new release with the content, config vars and formation of ${it.name}, checks its
            health and then switches the traffic. The current release serves until then.</p><//>` }] : []),
  ];
  return html`<${Loading} of=${polled} /><${ActionResult} action=${action} />
    ${compared && html`<${Diff} app=${app} release=${compared} />`}
    ${polled.data && html`<${Table} caption=${`Releases of ${app}`} columns=${columns} rows=${polled.data.items}
      keyOf=${(it) => it.release} empty="No release yet. Deploy one with: isopod deploy" />`}`;
}

const text = (value) => (value === null || value === undefined ? "not set" : typeof value === "string" ? value
  : JSON.stringify(value));

function Diff({ app, release }) {
  const path = ofApp(app, `/releases/${encodeURIComponent(release)}/diff`);
  const polled = usePoll(`diff ${app} ${release}`, (options) => call(path, options), 0);
  const columns = [
    { name: "Field", cell: (it) => html`<code>${it.field}</code>` },
    { name: "Before", wide: true, cell: (it) => html`<code class="before">${text(it.before)}</code>` },
    { name: "After", wide: true, cell: (it) => html`<code class="after">${text(it.after)}</code>` },
  ];
  return html`<section class="panel" aria-label=${`Changes of ${release}`}>
    <div class="row">
      <h3>${polled.data ? `From v${polled.data.from} to v${polled.data.to}` : `Changes of ${release}`}</h3>
      <button type="button" onClick=${() => setFilters({ diff: "" })}>Close</button></div>
    <${Loading} of=${polled} />
    ${polled.data && html`<${Table} caption="Changes" columns=${columns} rows=${polled.data.changes}
      keyOf=${(it) => it.field} empty="The two releases don't differ." />`}
  </section>`;
}
