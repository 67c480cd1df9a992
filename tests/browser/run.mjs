// Runs one fact about the dashboard in a headless browser: `node run.mjs FACT`. The environment
// names the browser, the folder with the packages, and the host. Contains no fact.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

import * as facts from "./facts.mjs";

const { BROWSER, MODULES, ADMIN, TOKEN } = process.env;
const TIME_MS = 90_000;
const STEP_MS = 20_000;

const require = createRequire(join(MODULES, "package.json"));
const { chromium } = require("playwright-core");

// Sends a request to the API with the administrator's token, and returns its JSON.
async function api(path, { method = "GET", body } = {}) {
  const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
  const response = await fetch(ADMIN + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
  return text === "" ? null : JSON.parse(text);
}

// Opens a page. A script error, or a message of the browser about an error, fails the fact.
async function open(browser, options = {}) {
  const context = await browser.newContext({ baseURL: ADMIN, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_MS);
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error.stack ?? error)));
  page.on("console", (message) => {
    // A refused sign-in is such a message too; the page shows it.
    const isResponse = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !isResponse) errors.push(message.text());
  });
  return { page, context, errors };
}

async function signIn(page, path = "/") {
  await page.goto(path);
  await page.getByLabel("Token", { exact: true }).fill(TOKEN);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
}

async function main(name) {
  const fact = facts[name];
  assert.ok(fact, `no fact ${name}`);
  const browser = await chromium.launch({ executablePath: BROWSER });
  const opened = [];
  const tools = {
    api,
    token: TOKEN,
    signIn,
    axe: require.resolve("axe-core/axe.min.js"),
    open: async (options) => {
      const one = await open(browser, options);
      opened.push(one);
      return one.page;
    },
  };
  try {
    await fact(tools);
    assert.deepEqual(opened.flatMap((one) => one.errors), []);
  } catch (error) {
    for (const { page } of opened) console.error(await page.locator("body").innerText().catch(() => "no page"));
    throw error;
  } finally {
    await browser.close();
  }
}

setTimeout(() => {
  console.error(`timed out after ${TIME_MS / 1000} s`);
  process.exit(1);
}, TIME_MS).unref();

await main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
