// The page of one app: its state, its actions, and one view at a time.

import { html, useEffect, useRef, useState } from "./lib.js";
import { call, ofApp } from "./api.js";
import { bufferedEvents, rates } from "./counters.js";
import { NONE, bytes, ms, number, percent, rate } from "./format.js";
import { useAction, usePoll } from "./hooks.js";
import { link } from "./route.js";
import { reopen, useTopics } from "./stream.js";
import { ActionResult, Badge, ConfirmButton, Loading } from "./ui.js";
import { Activity } from "./activity.js";
import { Config } from "./config.js";
import { DeadLetters, Events } from "./events.js";
import { Formation } from "./formation.js";
import { Instances } from "./instances.js";
import { Load } from "./load.js";
import { Logs } from "./logs.js";
import { Pushes } from "./pushes.js";
import { Releases } from "./releases.js";
import { Schedules } from "./schedules.js";

const VIEWS = [
  ["load", "Load", Load],
  ["instances", "Instances", Instances],
  ["releases", "Releases", Releases],
  ["pushes", "Push jobs", Pushes],
  ["activity", "Activity", Activity],
  ["logs", "Logs", Logs],
  ["formation", "Formation", Formation],
  ["config", "Config", Config],
  ["schedules", "Schedules", Schedules],
  ["events", "Events", Events],
  ["dead-letters", "Dead letters", DeadLetters],
];

// Samples of the metrics that a page keeps, one per second.
const SAMPLES_MAX = 600;

// Returns the samples of an app's metrics since the page was opened, and the state of the stream.
// `changed` is called when the app may have changed.
function useSamples(name, changed) {
  const samples = useRef([]);
  const [, setCount] = useState(0);
  const stream = useTopics({ metrics: name, activity: name }, {
    started: ({ topic }) => topic === "activity" && changed(),
    ended: ({ topic }) => {
      if (topic !== "metrics") return;
      samples.current = [];
      changed();
    },
    activity: changed,
    metrics: (sample) => {
      const at = Date.parse(sample.measured_at) / 1000;
      const earlier = samples.current[samples.current.length - 1];
      // The host's clock was set back.
      if (earlier && at <= earlier.at) samples.current = [];
      samples.current.push({ at, ...sample });
      if (samples.current.length > SAMPLES_MAX) samples.current.shift();
      setCount((before) => before + 1);
      if (earlier && sample.state !== earlier.state) changed();
    },
  });
  return { samples: samples.current, stream };
}

// Returns a number that changes when the app is destroyed and created again, so that its views
// begin again.
function useGeneration(createdAt) {
  const seen = useRef({ createdAt, generation: 0 });
  if (createdAt && createdAt !== seen.current.createdAt) {
    const generation = seen.current.generation + (seen.current.createdAt ? 1 : 0);
    seen.current = { createdAt, generation };
  }
  return seen.current.generation;
}

export function AppPage({ name, view = "load", query, may }) {
  const app = usePoll(`app ${name}`, (options) => call(ofApp(name), options), 5000);
  const { samples, stream } = useSamples(name, app.reload);
  const generation = useGeneration(app.data?.created_at);
  // On a narrow screen, the tabs scroll.
  useEffect(() => {
    document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [view]);
  // Each successful poll returns new data.
  useEffect(() => {
    if (app.data) reopen();
  }, [app.data]);
  const [key, title, View] = VIEWS.find(([key]) => key === view) ?? VIEWS[0];
  return html`<main id="main">
    <nav aria-label="Path" class="crumbs"><a href="#/">Apps</a> <span aria-hidden="true">/</span>${" "}
      <span aria-current="page">${name}</span></nav>
    ${app.data
      ? html`<${Head} app=${app.data} may=${may} reload=${app.reload} samples=${samples} />`
      : html`<h1>${name}</h1>`}
    <${Loading} of=${app} />
    <nav aria-label="Views of the app" class="tabs">
      ${VIEWS.map(([one, text]) => html`<a key=${one} href=${link(["apps", name, one])}
        aria-current=${one === key ? "page" : undefined}>${text}</a>`)}
    </nav>
    ${app.problem?.status !== 404 && html`<section aria-labelledby="view-title">
      <h2 id="view-title" class="unseen">${title}</h2>
      <${View} key=${`${name} ${key} ${generation}`} app=${name} info=${app.data} query=${query} may=${may}
        samples=${samples} stream=${stream} />
    </section>`}
  </main>`;
}

function Head({ app, may, reload, samples }) {
  const action = useAction(reload);
  const post = (what, done) => action.run(async () => {
    await call(ofApp(app.name, `/${what}`), { method: "POST" });
    return done;
  });
  return html`<div>
    <div class="row">
      <h1>${app.name} <${Badge} state=${app.state} /></h1>
      ${may("operate") && (app.state === "stopped" || app.state === "error"
        ? html`<button type="button" disabled=${action.busy}
            onClick=${() => post("start", "The app is starting.")}>Start</button>`
        : html`<${ConfirmButton} label="Stop" danger title=${`Stop ${app.name}?`} disabled=${action.busy}
            act=${() => post("stop", "The app is stopping.")}>
            <p>The app refuses new requests, completes its accepted work and then stops.</p>
          <//>`)}
    </div>
    <${ActionResult} action=${action} />
    <dl class="facts">
      <div><dt>Type</dt><dd>${app.type}</dd></div>
      <div><dt>Release</dt><dd>${app.release === null ? NONE : `v${app.release}`}</dd></div>
      <${Now} samples=${samples} />
      ${app.urls.map((url) => html`<div><dt>URL</dt><dd><a href=${url} rel="noreferrer">${url}</a></dd></div>`)}
    </dl>
    ${app.error && html`<div class="problem"><strong>${app.error.message}</strong>
      ${app.error.detail && html`<pre>${app.error.detail}</pre>`}</div>`}
    ${app.build_error && html`<div class="problem"><strong>The latest build failed</strong>
      <pre>${app.build_error}</pre></div>`}
  </div>`;
}

function Now({ samples }) {
  if (samples.length === 0) return null;
  const [before, data] = samples.slice(-2);
  if (!data) return html`<${Figures} data=${before} />`;
  const of = (sample) => ({ at: sample.at * 1000, apps: new Map([["", sample]]) });
  return html`<${Figures} data=${data} rates=${rates(of(before), of(data)).get("")} />`;
}

function Figures({ data, rates }) {
  const cores = ({ active_cores: active, cores: allowed }) => `${active} of ${allowed}`;
  const facts = [
    ["Instances", number(data.instances)],
    ["Requests/s", rate(rates?.requests)],
    ["Errors/s", rate(rates?.errors)],
    ["p99 pull", ms(data.pull.latency_ms.p99)],
    ["p99 push", ms(data.push.latency_ms.p99)],
    ["Cores pull", cores(data.pull)],
    ["Cores push", cores(data.push)],
    ["Buffered pull", number(data.pull.buffered)],
    ["Buffered push", number(bufferedEvents(data.push))],
    ["CPU", percent(data.cpu_percent)],
    ["Memory", bytes(data.memory_bytes)],
  ];
  return facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`);
}
