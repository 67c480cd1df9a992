// Steps that several facts share: opening a view, finding its parts, and waiting for a state.
// Contains no fact.

import assert from "node:assert/strict";

const PATIENCE_MS = 20_000;

// The pages besides those of an app.
export const PAGES = ["/", "/alerts", "/audit"];
export const VIEWS = ["load", "instances", "releases", "pushes", "activity", "logs", "formation", "config",
  "schedules", "events", "dead-letters"];

// Polls until `look` returns a true value.
export async function until(what, look) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, `timed out waiting for ${what}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

// Waits until the text of an element matches.
export async function shows(element, pattern) {
  let text = "";
  await until(`${pattern}`, async () => {
    text = await element.innerText();
    return pattern.test(text);
  }).catch((error) => assert.fail(`${error.message} in ${element}, which shows: ${text}`));
}

export const row = (page, text) => page.getByRole("row").filter({ hasText: text });

export const cell = (row, name) => row.locator(`[data-label="${name}"]`);

// Returns the value of a figure above the views of an app.
export const figure = (page, name) =>
  page.locator("main dl.facts").first().locator("div").filter({ has: page.getByText(name, { exact: true }) })
    .locator("dd");

// Opens a view, and waits until it has its data.
export async function show(page, path) {
  await page.goto(`/#${path}`);
  // The page stays the same, so the view before it remains for a moment.
  await page.waitForFunction((title) => document.title === title, titleOf(path));
  await page.locator("main").waitFor();
  await until("the data of the view", async () => (await page.getByText("Loading…").count()) === 0);
  if (page.url().endsWith("/load")) await page.locator("canvas").first().waitFor();
}

function titleOf(path) {
  const [page, app, view = "load"] = path.split("?")[0].split("/").slice(1);
  if (app) return `${app} · ${view} · Isopod`;
  return { alerts: "Alerts · Isopod", audit: "Audit trail · Isopod" }[page] ?? "Isopod";
}

// Returns the violations of accessibility in the current view.
export async function violations(page) {
  const found = await page.evaluate(() => axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
}

// Stores an event of an app in its push queue.
export function sendEvent(api, app, event) {
  const body = { specversion: "1.0", source: "/test", ...event };
  const type = "application/cloudevents+json";
  return api(`/v1/apps/${app}/events?queue=push`, { method: "POST", body, type });
}

// Creates an app, which the test waits for: the fact has seen what its name says.
export const report = (api, name) => api("/v1/apps", { method: "POST", body: { name, type: "dev" } });
