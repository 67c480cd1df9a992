// Rates of requests and errors, from two readings of the host's Prometheus metrics. Never draws.

import { useRef } from "./lib.js";
import { text } from "./api.js";
import { usePoll } from "./hooks.js";

const LINE = /^isopod_requests_total\{([^}]*)\} (\d+)/gm;

// Returns the totals of each app: {all, failed}.
export function totals(metrics) {
  const apps = new Map();
  for (const [, labels, count] of metrics.matchAll(LINE)) {
    const app = /app="([^"]*)"/.exec(labels)?.[1];
    if (app === undefined) continue;
    const of = apps.get(app) ?? { all: 0, failed: 0 };
    of.all += Number(count);
    if (labels.includes('class="5xx"')) of.failed += Number(count);
    apps.set(app, of);
  }
  return apps;
}

// Returns the rates per second between two readings. A counter that fell belongs to a restarted
// host.
export function rates(before, now) {
  const found = new Map();
  const seconds = (now.at - before.at) / 1000;
  for (const [app, { all, failed }] of now.apps) {
    const earlier = before.apps.get(app) ?? { all: 0, failed: 0 };
    if (all < earlier.all || seconds <= 0) continue;
    found.set(app, { requests: (all - earlier.all) / seconds, errors: (failed - earlier.failed) / seconds });
  }
  return found;
}

// Polls the rates of all apps. They are unknown for a token that is limited to some apps.
export function useRates(everyMs) {
  const before = useRef(null);
  const { data } = usePoll(
    "rates",
    async (options) => {
      const now = { at: performance.now(), apps: totals(await text("/metrics", options)) };
      const found = before.current === null ? null : rates(before.current, now);
      before.current = now;
      return found;
    },
    everyMs,
  );
  return data;
}
