// The audit trail of the host: each change with its token and address, and the refused calls.

import { html } from "./lib.js";
import { call, query as queryOf } from "./api.js";
import { NONE, moment } from "./format.js";
import { usePoll } from "./hooks.js";
import { link } from "./route.js";
import { Loading, Pager, Table, TextFilter } from "./ui.js";

const PAGE = 100;
const EVERY_MS = 5000;

const COLUMNS = [
  { name: "Time", cell: (it) => html`<time datetime=${it.at}>${moment(it.at)}</time>` },
  { name: "Token", cell: (it) => it.data?.by ?? NONE },
  { name: "Address", cell: (it) => it.data?.address ?? it.data?.addresses?.join(", ") ?? NONE },
  { name: "App", cell: (it) => (it.app ? html`<a href=${link(["apps", it.app, "activity"])}>${it.app}</a>` : NONE) },
  { name: "Kind", cell: (it) => it.kind },
  { name: "Change", wide: true, cell: (it) => it.text },
];

export function Audit({ query }) {
  const { app = "", q = "", cursor } = query;
  const path = `/v1/activity${queryOf({ audit: true, app, cursor, limit: PAGE })}`;
  // An earlier page doesn't change.
  const polled = usePoll(path, (options) => call(path, options), cursor ? 0 : EVERY_MS);
  const wanted = q.toLowerCase();
  const rows = (polled.data?.items ?? []).filter((it) =>
    `${it.kind} ${it.text} ${JSON.stringify(it.data)}`.toLowerCase().includes(wanted));
  return html`<main id="main">
    <h1>Audit trail</h1>
    <div class="filters" role="search">
      <${TextFilter} name="app" label="App" value=${app} placeholder="exact name" />
      <${TextFilter} name="q" label="On this page" value=${q} placeholder="token, address, text" />
    </div>
    <${Loading} of=${polled} />
    ${polled.data && html`<${Table} caption="Audit trail" columns=${COLUMNS} rows=${rows}
      keyOf=${(it) => `${it.at} ${it.kind} ${it.text}`} empty=${q ? "No entry on this page matches." : "No entry matches."} />
      <${Pager} query=${query} next=${polled.data.next} />`}
  </main>`;
}
