// The facts about filters: each is part of the URL, and is applied again after a reload. Each
// function is one fact; `tests/tests/all/browser_views.rs` starts its host and names it. Never
// starts a browser.

import assert from "node:assert/strict";

import { cell, row, sendEvent, show, until } from "./steps.mjs";

// Checks each filter of a view. `filters` is [[name, value, kept, hidden]]: with this value, the
// filter keeps an item with the text `kept`, and hides those with the text `hidden`.
async function keepsFilters(page, path, filters) {
  const items = page.locator("main tbody [role=row], main .timeline > li, main .line");
  const having = (text) => items.filter({ hasText: text });
  for (const [name, value, kept, hidden] of filters) {
    await show(page, path);
    await having(kept).first().waitFor();
    await having(hidden).first().waitFor();
    const control = page.getByRole("search").locator(`[name="${name}"]`);
    const isChoice = (await control.evaluate((it) => it.tagName)) === "SELECT";
    await (isChoice ? control.selectOption(value) : control.fill(value));
    await until(`no ${hidden} with the filter ${name}`, async () => (await having(hidden).count()) === 0);
    await having(kept).first().waitFor();
    assert.equal(queryOf(page).get(name), value, page.url());
    await page.reload();
    await having(kept).first().waitFor();
    assert.equal(await having(hidden).count(), 0, `${hidden} after a reload with the filter ${name}`);
    assert.equal(await control.inputValue(), value, name);
  }
}

const queryOf = (page) => new URLSearchParams(page.url().split("?")[1]);

// Checks that a view has these filters only, so that a further one needs a fact.
async function hasOnly(page, path, names) {
  await show(page, path);
  const controls = page.getByRole("search").locator("input, select");
  const shown = await controls.evaluateAll((all) => all.map((it) => it.name));
  assert.deepEqual(shown.sort(), names.sort());
}

const namesOf = (filters) => filters.map(([name]) => name);

// The apps are `greedy`, whose requests fail, and `alpha` without a release.
export async function the_filters_of_lists_are_part_of_the_url({ open, signIn }) {
  const page = await open();
  await signIn(page);
  const views = {
    "/": [
      ["q", "greed", "greedy", "alpha"],
      ["state", "running", "greedy", "alpha"],
      ["type", "production", "greedy", "alpha"],
    ],
    "/audit": [
      ["app", "alpha", "created as a dev app", "created as a production app"],
      ["q", "a DEV app", "created as a dev app", "created as a production app"],
    ],
    "/apps/greedy/activity": [
      ["q", "a PRODUCTION app", "created as a production app", "v1 is in service"],
      ["kind", "app-created", "created as a production app", "v1 is in service"],
    ],
  };
  for (const [path, filters] of Object.entries(views)) {
    await hasOnly(page, path, namesOf(filters));
    await keepsFilters(page, path, filters);
  }
}

// The host is the same.
export async function the_order_of_the_list_is_part_of_the_url({ open, signIn }) {
  const page = await open();
  await signIn(page);
  const first = page.locator("tbody [role=row]").first();
  const startsWith = (app) => until(`${app} first`, async () => (await first.innerText()).includes(app));
  await startsWith("alpha");
  for (const [title, key] of [["Requests/s", "requests"], ["Errors/s", "errors"], ["p99", "p99"], ["CPU", "cpu"],
    ["Memory", "memory"]]) {
    await page.getByRole("button", { name: "App", exact: true }).click();
    await startsWith("alpha");
    assert.equal(queryOf(page).get("sort"), null, page.url());
    await page.getByRole("button", { name: title, exact: true }).click();
    await startsWith("greedy");
    assert.equal(queryOf(page).get("sort"), key, page.url());
    await page.reload();
    await startsWith("greedy");
    await page.locator("th[aria-sort=descending]").getByText(title).waitFor();
  }
  await cell(row(page, "alpha"), "Type").getByText("dev").waitFor();
}

// The log of `greedy` has the lines `haystack` (stdout) and then `needle` (an error), and more
// lines before them than the page shows at a time.
export async function the_filters_of_a_log_are_part_of_the_url({ open, signIn, api, request }) {
  const { items } = await api("/v1/apps/greedy/logs?limit=1000");
  const [haystack, needle] = ["haystack", "needle"].map((text) => items.find((line) => line.message === text));
  const filters = [
    ["q", "NEEDLE", "needle", "haystack"],
    ["since", needle.time, "needle", "haystack"],
    ["until", haystack.time, "haystack", "needle"],
    ["level", "error", "needle", "haystack"],
    ["stream", "stdout", "haystack", "needle"],
    ["instance", needle.instance, "needle", "v1 serves"],
    ["request", needle.request_id, "needle", "haystack"],
  ];
  const [page, path] = [await open(), "/apps/greedy/logs"];
  await signIn(page);
  await hasOnly(page, path, [...namesOf(filters), "follow"]);
  await keepsFilters(page, path, filters);
  const log = page.getByRole("log");
  const scrolled = () => log.evaluate((it) => it.scrollTop);
  await show(page, path);
  await until("the end of the log", async () => (await scrolled()) > 0);
  await page.getByLabel("Follow").uncheck();
  assert.equal(queryOf(page).get("follow"), "no", page.url());
  await page.reload();
  await log.getByText("needle", { exact: true }).waitFor();
  assert.equal(await page.getByLabel("Follow").isChecked(), false);
  await page.getByText("live", { exact: true }).waitFor();
  await request("greedy", "/log-line?text=later");
  await log.getByText("later", { exact: true }).waitFor();
  assert.equal(await scrolled(), 0);
}

// The schedule's run of `greedy` fails.
export async function the_filters_of_events_are_part_of_the_url({ open, signIn, api }) {
  await sendEvent(api, "greedy", { id: "event-1", source: "/shop", type: "fail", subject: "ann" });
  await sendEvent(api, "greedy", { id: "event-2", source: "/shop", type: "quiet", subject: "bob" });
  await api("/v1/apps/greedy/schedules/nightly/run", { method: "POST" });
  await until("two dead letters", async () => (await api("/v1/apps/greedy/dead-letters")).items.length === 2);
  const page = await open();
  await signIn(page);
  const shared = [
    ["type", "fail", "event-1", "isopod.schedule"],
    ["subject", "ann", "event-1", "isopod.schedule"],
    ["source", "/shop", "event-1", "isopod.schedule"],
    ["id", "event-1", "event-1", "isopod.schedule"],
    ["process", "worker", "event-1", "isopod.schedule"],
  ];
  const views = { "dead-letters": shared, events: [...shared, ["state", "dead", "event-1", "event-2"]] };
  for (const [view, filters] of Object.entries(views)) {
    await hasOnly(page, `/apps/greedy/${view}`, namesOf(filters));
    await keepsFilters(page, `/apps/greedy/${view}`, filters);
  }
}

// The list of events shows 100 at a time, newest first.
export async function the_page_of_a_list_is_part_of_the_url({ open, signIn, api }) {
  const send = (id) => sendEvent(api, "greedy", { id, source: "/shop", type: "quiet" });
  await send("oldest");
  for (let number = 0; number < 100; number += 1) await send(`between-${number}`);
  await send("newest");
  const page = await open();
  await signIn(page);
  const [oldest, newest] = ["oldest", "newest"].map((text) => row(page, text));
  const showsOnly = async (shown, hidden) => {
    await shown.waitFor();
    assert.equal(await hidden.count(), 0, page.url());
  };
  const [toOlder, toNewest] = ["Older", "Newest"].map((name) => page.getByRole("button", { name, exact: true }));
  await show(page, "/apps/greedy/events");
  await showsOnly(newest, oldest);
  assert.equal(await toNewest.count(), 0);
  await toOlder.click();
  await showsOnly(oldest, newest);
  const cursor = queryOf(page).get("cursor");
  assert.ok(cursor, page.url());
  await page.reload();
  await showsOnly(oldest, newest);
  assert.equal(queryOf(page).get("cursor"), cursor, page.url());
  assert.equal(await toOlder.count(), 0);
  await toNewest.click();
  await showsOnly(newest, oldest);
  assert.equal(queryOf(page).get("cursor"), null, page.url());
  await toOlder.click();
  await showsOnly(oldest, newest);
  await page.getByRole("search").locator('[name="type"]').fill("quiet");
  await showsOnly(newest, oldest);
  assert.equal(queryOf(page).get("cursor"), null, page.url());
}
