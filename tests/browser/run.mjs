// Runs one fact about the dashboard in a headless browser: `node run.mjs FACT`. Contains no fact.

import assert from "node:assert/strict";

import * as facts from "./facts.mjs";
import * as filters from "./filters.mjs";
import { withBrowser } from "./tools.mjs";
import * as views from "./views.mjs";

const TIME_MS = 90_000;

setTimeout(() => {
  console.error(`timed out after ${TIME_MS / 1000} s`);
  process.exit(1);
}, TIME_MS).unref();

const name = process.argv[2];
const fact = { ...facts, ...views, ...filters }[name];
assert.ok(fact, `no fact ${name}`);
await withBrowser(fact).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
