// The live charts of an app: pull and push apart, CPU and memory.

import { html } from "./lib.js";
import { Chart } from "./chart.js";
import { bytes, ms, number, percent, rate } from "./format.js";
import { StreamState } from "./ui.js";

const LATENCY = [
  { name: "p50", colour: "--c1" },
  { name: "p95", colour: "--c2", dash: [6, 4] },
  { name: "p99", colour: "--c3", dash: [2, 3] },
];
const CORES = [
  { name: "busy", colour: "--c1", fill: true },
  { name: "allowed", colour: "--c2", dash: [6, 4] },
];
const ENDED = [{ name: "ended per second", colour: "--c1", fill: true }];
const BUFFERED = [{ name: "waiting", colour: "--c3", fill: true }];
const STORED = [
  { name: "waiting", colour: "--c3", fill: true },
  { name: "stored", colour: "--c1", dash: [6, 4] },
  { name: "dead letters", colour: "--c2", dash: [2, 3] },
];
const CPU = [{ name: "CPU", colour: "--c1", fill: true }];
const MEMORY = [{ name: "memory", colour: "--c2", fill: true }];

const ready = (push) => (push.stored ? push.stored.ready + push.stored.delayed + push.stored.leased : null);

export function Load({ samples: all, stream }) {
  if (all.length === 0) return html`<p class="empty"><${StreamState} state=${stream} /></p>`;
  const at = all.map((sample) => sample.at);
  const data = (...columns) => [at, ...columns.map((column) => all.map((sample) => column(sample) ?? null))];
  const last = all[all.length - 1];
  const queue = (name) => html`<section aria-label=${`Queue ${name}`}>
    <h3>${name} <span class="quiet">${name === "pull" ? "a caller waits" : "events and schedules"}</span></h3>
    <${Chart} title="Jobs" series=${ENDED} format=${rate} data=${data((sample) => sample[name].throughput_per_s)} />
    <${Chart} title="Latency of the last minute" series=${LATENCY} format=${ms}
      data=${data(...["p50", "p95", "p99"].map((part) => (sample) => sample[name].latency_ms[part]))} />
    <${Chart} title="Cores" series=${CORES} format=${number} unit="whole"
      data=${data((sample) => sample[name].active_cores, (sample) => sample[name].cores)} />
    ${name === "pull"
      ? html`<${Chart} title="Buffered" series=${BUFFERED} format=${number} unit="whole"
          data=${data((sample) => sample.pull.buffered)} />`
      : html`<${Chart} title="Buffered" series=${STORED} format=${number} unit="whole"
          data=${data((it) => it.push.buffered, (it) => ready(it.push), (it) => it.push.dead_letters)} />`}
  </section>`;
  return html`<div>
    <p class="row"><${StreamState} state=${stream} />
      <span class="quiet">${last.instances} ${last.instances === 1 ? "instance" : "instances"},
        ${` ${ms(last.cpu_ms)}`} of CPU time since the start of the host</span></p>
    <div class="columns">${queue("pull")}${queue("push")}</div>
    <div class="columns">
      <${Chart} title="CPU (100 % is one processor)" series=${CPU} format=${percent}
        data=${data((it) => it.cpu_percent)} />
      <${Chart} title="Memory of its instances" series=${MEMORY} format=${bytes} unit="bytes"
        data=${data((it) => it.memory_bytes)} />
    </div>
  </div>`;
}
