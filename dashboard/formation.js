// The formation of an app: its process types, with controls to scale them, and its cores.

import { html, useEffect, useState } from "./lib.js";
import { call, ofApp } from "./api.js";
import { NONE } from "./format.js";
import { useAction, usePoll } from "./hooks.js";
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
  const [min, setMin] = useState(process.min);
  const [max, setMax] = useState(process.max);
  useEffect(() => setMin(process.min), [process.min]);
  useEffect(() => setMax(process.max), [process.max]);
  const action = useAction(reload);
  const scale = (event) => {
    event.preventDefault();
    return action.run(async () => {
      const body = { [name]: { min: Number(min), max: Number(max) } };
      await call(ofApp(app, "/formation"), { method: "PATCH", body });
      return `${name} now runs ${min} to ${max} instances.`;
    });
  };
  const changed = Number(min) !== process.min || Number(max) !== process.max;
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
    ${may("operate") && html`<form class="row" onSubmit=${scale}>
      <label class="field small"><span>Minimum</span>
        <input type="number" name="min" min="0" max=${max} required
          value=${min} onInput=${(event) => setMin(event.currentTarget.value)} /></label>
      <label class="field small"><span>Maximum</span>
        <input type="number" name="max" min="1" max="1000" required
          value=${max} onInput=${(event) => setMax(event.currentTarget.value)} /></label>
      <button type="submit" class="primary" disabled=${!changed || action.busy}>Scale</button>
      <${ActionResult} action=${action} />
    </form>`}
    ${type && type !== "production" && html`<p class="quiet">A ${type} app doesn't scale: the maximum takes effect
      only in a production app.</p>`}
  </section>`;
}

function Cores({ app, cores, may, reload }) {
  const [pull, setPull] = useState(cores.pull);
  const [push, setPush] = useState(cores.push);
  useEffect(() => setPull(cores.pull), [cores.pull]);
  useEffect(() => setPush(cores.push), [cores.push]);
  const action = useAction(reload);
  const change = (event) => {
    event.preventDefault();
    return action.run(async () => {
      await call(ofApp(app, "/cores"), { method: "PATCH", body: { pull: Number(pull), push: Number(push) } });
      return "The cores were changed.";
    });
  };
  const changed = Number(pull) !== cores.pull || Number(push) !== cores.push;
  return html`<section class="panel" aria-label="Cores">
    <h3>Cores</h3>
    <p class="quiet">The maximum number of jobs of each queue that run concurrently.</p>
    ${may("admin")
      ? html`<form class="row" onSubmit=${change}>
          <label class="field small"><span>Pull</span>
            <input type="number" name="pull" min="1" max="1000" required
              value=${pull} onInput=${(event) => setPull(event.currentTarget.value)} /></label>
          <label class="field small"><span>Push</span>
            <input type="number" name="push" min="1" max="1000" required
              value=${push} onInput=${(event) => setPush(event.currentTarget.value)} /></label>
          <button type="submit" class="primary" disabled=${!changed || action.busy}>Change</button>
          <${ActionResult} action=${action} />
        </form>`
      : html`<p>Pull ${cores.pull}, push ${cores.push}. The role <code>admin</code> can change them.</p>`}
  </section>`;
}
