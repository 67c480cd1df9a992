// The browser, and the tools of facts and images: pages, sign-ins, and requests to the host and to
// its apps. The environment names the browser, the folder with the packages, and the host. Contains
// no fact.

import assert from "node:assert/strict";
import { get } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const { BROWSER, MODULES, ADMIN, TOKEN } = process.env;
const STEP_MS = 20_000;

const require = createRequire(join(MODULES, "package.json"));
const { chromium } = require("playwright-core");

// Sends a request to the API with the administrator's token, and returns its JSON.
async function api(path, { method = "GET", body, type = "application/json" } = {}) {
  const headers = { authorization: `Bearer ${TOKEN}`, "content-type": type };
  const response = await fetch(ADMIN + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
  return text === "" ? null : JSON.parse(text);
}

// Sends a request to an app, and returns its status.
async function request(app, path) {
  const url = new URL(path, (await api(`/v1/apps/${app}`)).urls[0]);
  // The address of the host is that of the API: systems may not resolve names below `localhost`.
  const options = { host: new URL(ADMIN).hostname, port: url.port, path, headers: { host: url.host } };
  return new Promise((resolve, reject) => {
    get(options, (response) => response.resume().on("end", () => resolve(response.statusCode))).on("error", reject);
  });
}

async function signIn(page, path = "/") {
  await page.goto(path);
  await page.getByLabel("Token", { exact: true }).fill(TOKEN);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
}

// Opens a page. Adds script errors, and messages of the browser about errors, to `errors`.
async function openPage(browser, errors, options = {}) {
  const context = await browser.newContext({ baseURL: ADMIN, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_MS);
  page.on("pageerror", (error) => errors.push(String(error.stack ?? error)));
  page.on("console", (message) => {
    // A refused sign-in is such a message too; the page shows it.
    const isResponse = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !isResponse) errors.push(message.text());
  });
  return page;
}

// Calls `act` with the tools. A script error in a page makes it fail. Prints the text of all pages
// if it fails.
export async function withBrowser(act) {
  const browser = await chromium.launch({ executablePath: BROWSER });
  const [pages, errors] = [[], []];
  const open = async (options) => {
    const page = await openPage(browser, errors, options);
    pages.push(page);
    return page;
  };
  try {
    await act({ api, request, open, signIn, token: TOKEN, axe: require.resolve("axe-core/axe.min.js") });
    assert.deepEqual(errors, []);
  } catch (error) {
    for (const page of pages) console.error(await page.locator("body").innerText().catch(() => "no page"));
    throw error;
  } finally {
    await browser.close();
  }
}
