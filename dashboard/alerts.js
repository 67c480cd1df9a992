// The alerts that fire: a banner on every page, and a page with the rules.

import { html } from "./lib.js";
import { call } from "./api.js";
import { ago, bytes, moment, ms, number, percent } from "./format.js";
import { usePoll } from "./hooks.js";
import { link } from "./route.js";
import { Loading, Table } from "./ui.js";

const EVERY_MS = 5000;
// Alerts that the banner names. The page lists all.
const NAMED_MAX = 3;

const load = (options) => call("/v1/alerts", options);

const UNITS = {
  count: (value) => number(value, 1),
  percent: (value) => percent(value),
  seconds: (value) => ms(value * 1000),
  bytes: (value) => bytes(value),
};

const shown = (unit, value) => (UNITS[unit] ?? number)(value);

const of = (alert) => (alert.app === null ? "the host" : html`<a href=${link(["apps", alert.app])}>${alert.app}</a>`);

export function AlertBanner() {
  const { data } = usePoll("alerts", load, EVERY_MS);
  const firing = data?.items ?? [];
  if (firing.length === 0) return null;
  const names = firing.slice(0, NAMED_MAX).map(({ rule, app }) => `${rule} of ${app ?? "the host"}`).join(", ");
  const more = data.total > NAMED_MAX ? ` and ${number(data.total - NAMED_MAX)} more` : "";
  return html`<aside aria-label="Alerts" class="banner"><p class="problem" role="status">
    <a class="strong" href=${link(["alerts"])}>${data.total === 1 ? "An alert fires" : "Alerts fire"}</a>:
    ${" "}${names}${more}</p></aside>`;
}

const ALERT_COLUMNS = [
  { name: "Rule", cell: ({ rule }) => html`<span class="badge bad">${rule}</span>` },
  { name: "Of", cell: of },
  { name: "Since", cell: ({ since }) => html`<time datetime=${since} title=${moment(since)}>${ago(since)}</time>` },
  { name: "Value", numeric: true, cell: ({ unit, value }) => shown(unit, value) },
  { name: "Threshold", numeric: true, cell: ({ unit, threshold }) => shown(unit, threshold) },
  { name: "Meaning", wide: true, cell: ({ text }) => text },
];

const RULE_COLUMNS = [
  { name: "Rule", cell: ({ rule }) => html`<span class="strong">${rule}</span>` },
  { name: "For", cell: (rule) => (rule.per_app ? "each app" : "the host") },
  { name: "Fires", cell: ({ side, unit, threshold }) => `${side === "below" ? "≤" : "≥"} ${shown(unit, threshold)}` },
  { name: "Resolved", cell: ({ side, unit, clear }) => `${side === "below" ? "≥" : "≤"} ${shown(unit, clear)}` },
  { name: "For at least", numeric: true, cell: (rule) => ms(rule.lasting_ms) },
];

export function AlertsPage() {
  const alerts = usePoll("alerts", load, EVERY_MS);
  return html`<main id="main">
    <nav aria-label="Path" class="crumbs"><a href="#/">Apps</a> <span aria-hidden="true">/</span></nav>
    <h1>Alerts</h1>
    <${Loading} of=${alerts} />
    ${alerts.data && html`<${Webhook} webhook=${alerts.data.webhook} />
      <${Table} caption="Alerts that fire" columns=${ALERT_COLUMNS} rows=${alerts.data.items}
        keyOf=${({ rule, app }) => `${rule} ${app}`} empty="No alert fires." />
      ${alerts.data.total > alerts.data.items.length
        && html`<p class="quiet">${number(alerts.data.total - alerts.data.items.length)} more alerts fire.</p>`}
      <h2>Rules</h2>
      <${Table} caption="Rules" columns=${RULE_COLUMNS} rows=${alerts.data.rules} keyOf=${({ rule }) => rule}
        empty="All rules are disabled." />`}
  </main>`;
}

function Webhook({ webhook }) {
  if (!webhook) return null;
  const { waiting, dropped, error } = webhook;
  if (error === null && dropped === 0) return null;
  return html`<p class="problem" role="status">The webhook: ${number(waiting)} messages wait, ${number(dropped)} were
    dropped.${error !== null && html` The last attempt failed: ${error}`}</p>`;
}
