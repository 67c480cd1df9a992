// The formation of an app: its process types, with controls to scale them, and its cores.

import { html } from "./lib.js";
import { call, ofApp } from "./api.js";
import { NONE } from "./format.js";
import { useAction, useDraft, usePoll } from "./hooks.js";
import { ActionResult, Loading } from "./ui.js";

export function Formation({ app, info, may }) {
  const formation = usePoll(`formation ${app}`, (options) => call(ofApp(app, "/formation"), options), 5000);
  const cores = usePoll(`cores ${app}`, (options) => call(ofApp(app, "/cores"), options), 5000);
  return html`<${Loading} of=${formation} />
    ${formation.data && Object.entries(formation.data).map(([name, process]) => html`<${Process} key=${name} app=${app}
      name=${name} process=${process} may=${may} type=${info?.type} reload=${formation.reload} />`)}
    ${formation.data && Object.keys(formation.data).length === 0 && html`<p class="empty">No process type yet: the first
      deploy creates the formation.</p>`}
    ${cores.data && html`<${Cores} app=${app} cores=${cores.data} may=${may} reload=${cores.reload} />`}`;
}

function health(value) {
  if (value === null) return NONE;
  return typeof value === "string" ? value : value.path ?? JSON.stringify(value);
}

function Process({ app, name, process, may, type, reload }) {
  const draft = useDraft({ min: process.min, max: process.max });
  const { min, max } = draft.numbers;
  const action = useAction(reload);
  const scale = () => action.run(async () => {
    await call(ofApp(app, "/formation"), { method: "PATCH", body: { [name]: { min, max } } });
    return `${name} now runs ${min} to ${max} instances.`;
  });
  const facts = [
    ["Entry", process.entry],
    ["Health", health(process.health)],
    ["Schedule", process.schedule && `${process.schedule} (${process.time_zone ?? "UTC"})`],
    ["Arguments", process.args.length > 0 && process.args.join(" ")],
    ["Order", process.order],
    ["Retry", process.retry && JSON.stringify(process.retry)],
  ].filter(([, value]) => value);
  return html`<section class="panel" aria-label=${`Process type ${name}`}>
    <h3>${name}</h3>
    <dl class="facts">${facts.map(([fact, value]) => html`<div><dt>${fact}</dt><dd>${value}</dd></div>`)}
      ${!may("operate") && html`<div><dt>Instances</dt><dd>${process.min} to ${process.max}</dd></div>`}</dl>
    ${may("operate") && html`<${Numbers} draft=${draft} label="Scale" save=${scale} action=${action} fields=${[
      { name: "min", label: "Minimum", least: 0, most: max },
      { name: "max", label: "Maximum", least: 1, most: 1000 },
    ]} />`}
    ${type && type !== "production" && html`<p class="quiet">A ${type} app doesn't scale: the maximum takes effect
      only in a production app.</p>`}
  </section>`;
}

function Cores({ app, cores, may, reload }) {
  const draft = useDraft({ pull: cores.pull, push: cores.push });
  const action = useAction(reload);
  const change = () => action.run(async () => {
    await call(ofApp(app, "/cores"), { method: "PATCH", body: draft.numbers });
    return "The cores were changed.";
  });
  return html`<section class="panel" aria-label="Cores">
    <h3>Cores</h3>
    <p class="quiet">The maximum number of jobs of each queue that run concurrently.</p>
    ${may("admin")
      ? html`<${Numbers} draft=${draft} label="Change" save=${change} action=${action} fields=${[
          { name: "pull", label: "Pull", least: 1, most: 1000 },
          { name: "push", label: "Push", least: 1, most: 1000 },
        ]} />`
      : html`<p>Pull ${cores.pull}, push ${cores.push}. The role <code>admin</code> can change them.</p>`}
  </section>`;
}

// A form of numbers that are saved together.
function Numbers({ draft, fields, label, save, action }) {
  const submit = (event) => {
    event.preventDefault();
    save();
  };
  return html`<form class="row" onSubmit=${submit}>
    ${fields.map((field) => html`<label class="field small"><span>${field.label}</span>
      <input type="number" min=${field.least} max=${field.most} required ...${draft.field(field.name)} /></label>`)}
    <button type="submit" class="primary" disabled=${!draft.isChanged || action.busy}>${label}</button>
    <${ActionResult} action=${action} />
  </form>`;
}
