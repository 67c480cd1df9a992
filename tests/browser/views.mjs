// The facts about the content of the views: figures, charts, rows, their buttons, alerts, and
// hostile text. Each function is one fact; `tests/tests/all/browser_views.rs` starts its host and
// names it. Never starts a browser.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { cell, figure, report, row, sendEvent, show, shows, until, violations } from "./steps.mjs";

const TIME = /^[\d.,]+ m?s$/;
const SIZE = /^[\d.]+ [KM]iB$/;
const POSITIVE = /^[\d.,]*[1-9][\d.,]*$/;

// Three clients send requests to `greedy`, which has one core for them. One of its two cores for
// events is busy, two events are delayed, and one is a dead letter.
export async function the_list_shows_the_load_of_both_queues({ open, signIn }) {
  const page = await open();
  await signIn(page);
  const app = row(page, "greedy");
  for (const [name, pattern] of Object.entries({
    Type: /^production$/,
    State: /^running$/,
    Release: /^v1$/,
    "Requests/s": POSITIVE,
    "Errors/s": /^0$/,
    p99: TIME,
    "Dead letters": /^1$/,
    CPU: /^[\d.]+ %$/,
    Memory: SIZE,
  })) {
    await shows(cell(app, name), pattern);
  }
  for (const [name, pull, push] of [["Cores pull / push", /^1 of 1$/, /^1 of 2$/],
    ["Buffered pull / push", /^2$/, /^3$/]]) {
    await shows(cell(app, name).locator(".pair > span").first(), pull);
    await shows(cell(app, name).locator(".pair > span").last(), push);
  }
}

// The host has the same load.
export async function an_app_shows_the_load_of_both_queues({ open, signIn, api }) {
  const page = await open();
  await signIn(page, "/#/apps/greedy");
  const chart = (queue, title, values) => page.getByRole("region", { name: `Queue ${queue}` })
    .getByRole("img", { name: new RegExp(`^${title}, now: ${values}$`) });
  const time = "[\\d.,]+ m?s";
  const latency = ["Latency of the last minute", `p50 ${time}, p95 ${time}, p99 ${time}`];
  const jobs = ["Jobs", "ended per second [\\d.,]*[1-9][\\d.,]*"];
  for (const of of [jobs, latency]) {
    await chart("pull", ...of).waitFor();
    await until(`events in the chart ${of[0]}`, async () => {
      await sendEvent(api, "greedy", { id: randomUUID(), type: "quiet" });
      return (await chart("push", ...of).count()) === 1;
    });
  }
  await chart("pull", "Cores", "busy 1, allowed 1").waitFor();
  await chart("push", "Cores", "busy 1, allowed 2").waitFor();
  await chart("pull", "Buffered", "waiting 2").waitFor();
  await chart("push", "Buffered", "waiting 0, stored 3, dead letters 1").waitFor();
  await page.getByRole("img", { name: /^CPU \(100 % is one processor\), now: CPU [\d.]+ %$/ }).waitFor();
  await page.getByRole("img", { name: /^Memory of its instances, now: memory [\d.]+ [KM]iB$/ }).waitFor();
  assert.equal(await page.locator("canvas").count(), 10);
  for (const [name, pattern] of Object.entries({
    Type: /^production$/,
    Release: /^v1$/,
    Instances: POSITIVE,
    "Requests/s": POSITIVE,
    "Errors/s": /^0$/,
    "p99 pull": TIME,
    "p99 push": TIME,
    "Cores pull": /^1 of 1$/,
    "Cores push": /^1 of 2$/,
    "Buffered pull": /^2$/,
    "Buffered push": /^3$/,
    CPU: /^[\d.]+ %$/,
    Memory: SIZE,
  })) {
    await shows(figure(page, name), pattern);
  }
}

// An instance of `web` has handled a request.
export async function a_person_restarts_an_instance({ open, signIn, api }) {
  const page = await open();
  const { items } = await api("/v1/apps/greedy/instances");
  const { id } = items.find((it) => it.process === "web");
  await signIn(page, "/#/apps/greedy/instances");
  const shown = row(page, id);
  for (const [name, pattern] of Object.entries({
    Process: /^web$/,
    State: /^(idle|busy)$/,
    Release: /^v1$/,
    Age: /^[\d.]+ (m?s|min)$/,
    Requests: /^1$/,
    CPU: TIME,
    Memory: SIZE,
    Restarts: /^0$/,
  })) {
    await shows(cell(shown, name), pattern);
  }
  await shown.getByRole("button", { name: `Restart ${id}` }).click();
  const dialog = page.getByRole("dialog", { name: `Restart ${id}?` });
  await dialog.getByRole("button", { name: "Restart" }).click();
  await page.getByText(`${id} is being replaced.`).waitFor();
  await shows(cell(shown, "Restarts"), /^1$/);
  await shows(cell(shown, "State"), /^idle$/);
}

// The host waits for the apps `building-seen` and `deploying-seen` before it continues the push.
export async function a_page_shows_the_progress_of_a_push({ open, signIn, api }) {
  const page = await open();
  await signIn(page, "/#/apps/hello/pushes");
  await row(page, "building").getByRole("link").click();
  const push = page.getByRole("region", { name: /^Push job p-/ });
  const step = push.locator("[aria-current=step]");
  await shows(step, /^building$/);
  assert.deepEqual(await push.locator(".steps .reached").allInnerTexts(), ["queued", "running", "building"]);
  await push.getByText(/received \d+ bytes/).waitFor();
  await report(api, "building-seen");
  await shows(step, /^deploying$/);
  await report(api, "deploying-seen");
  await shows(step, /^completed$/);
  await push.getByText("v2 serves").waitFor();
  const listed = page.getByRole("row").filter({ has: page.getByText("v2", { exact: true }) });
  await shows(cell(listed, "State"), /^completed$/);
}

export async function the_activity_shows_each_change_with_its_cause({ open, signIn, api }) {
  const page = await open();
  await signIn(page, "/#/apps/hello/activity");
  const entries = page.locator(".timeline > li");
  const entry = (text) => entries.filter({ hasText: text }).first();
  const { items: [{ id }] } = await api("/v1/apps/hello/pushes");
  await entry(`running → deploying: v2 is being deployed: push ${id}`).waitFor();
  const deployed = entry(`v2 is in service, replacing v1: push ${id}`);
  await shows(deployed, /app-deployed\s+by admin/);
  await page.getByText("live", { exact: true }).waitFor();
  await api("/v1/apps/hello/stop", { method: "POST" });
  await entry("running → stopped: requested").waitFor();
  await shows(entry("app-stopped"), /by admin/);
  // The latest entry is the first.
  const texts = await entries.allInnerTexts();
  const [stopped, started] = ["app-stopped", "app-created"].map((kind) => texts.findIndex((it) => it.includes(kind)));
  assert.ok(stopped >= 0 && stopped < started, texts.join("\n"));
  await deployed.getByRole("link", { name: id, exact: true }).click();
  await shows(page.getByRole("region", { name: `Push job ${id}` }), /v2 serves/);
  await page.goBack();
  await deployed.getByRole("link", { name: "v2", exact: true }).click();
  await shows(page.getByRole("region", { name: "Changes of v2" }), /bundle/);
}

// The manifest sets COLOUR.
export async function a_person_sets_and_unsets_config_vars({ open, signIn, api }) {
  const page = await open();
  await signIn(page, "/#/apps/greedy/config");
  const shown = async (key, value, source) => {
    await shows(cell(row(page, key), "Value"), value);
    await shows(cell(row(page, key), "Source"), source);
  };
  const set = async (key, value, isSecret) => {
    await page.getByLabel("Name", { exact: true }).fill(key);
    await page.getByLabel("Value", { exact: true }).fill(value);
    await page.getByLabel("Secret", { exact: true }).setChecked(isSecret);
    await page.getByRole("button", { name: "Set", exact: true }).click();
    await page.getByText(`${key} is set.`).waitFor();
  };
  await shown("COLOUR", /^green$/, /^manifest$/);
  assert.equal(await page.getByRole("button", { name: "Unset COLOUR" }).count(), 0);
  await set("SIZE", "large", false);
  await shown("SIZE", /^large$/, /^host$/);
  await set("TOKEN", "s3cret-value", true);
  await shown("TOKEN", /^secret, hidden$/, /^host$/);
  assert.equal(await page.getByLabel("Value", { exact: true }).inputValue(), "");
  await page.reload();
  await shown("TOKEN", /^secret, hidden$/, /^host$/);
  assert.ok(!(await page.content()).includes("s3cret-value"));
  assert.deepEqual(await api("/v1/apps/greedy/config"), { SIZE: "large", TOKEN: { secret: true } });
  await page.getByRole("button", { name: "Unset TOKEN" }).click();
  await page.getByRole("dialog", { name: "Unset TOKEN?" }).getByRole("button", { name: "Unset" }).click();
  await page.getByText("TOKEN is unset.").waitFor();
  await row(page, "TOKEN").waitFor({ state: "detached" });
  await shown("SIZE", /^large$/, /^host$/);
}

export async function a_person_starts_a_run_of_a_schedule({ open, signIn }) {
  const page = await open();
  await signIn(page, "/#/apps/greedy/schedules");
  const schedule = page.getByRole("region", { name: "Schedule of nightly" });
  await shows(schedule, /0 0 29 2 \* UTC/);
  await shows(schedule, /Next run\s+20\d\d-0[23]-\d\d/);
  await shows(schedule, /Last run\s+–/);
  await shows(schedule, /No run yet\./);
  await schedule.getByRole("button", { name: "Run now: nightly" }).click();
  await page.getByText("A run of nightly was requested.").waitFor();
  const run = schedule.getByRole("table", { name: "Runs of nightly" }).getByRole("row").last();
  await shows(cell(run, "State"), /^done$/);
  await shows(cell(run, "Started"), /^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d$/);
  await shows(schedule, /Last run\s+20\d\d-.* done/);
  await run.getByRole("link", { name: "event" }).click();
  await shows(cell(row(page, "isopod.schedule"), "Process"), /^nightly$/);
}

export async function a_person_cancels_a_stored_event({ open, signIn, api }) {
  const page = await open();
  await sendEvent(api, "greedy", { id: "early", type: "fail", subject: "ann" });
  await sendEvent(api, "greedy", { id: "late", type: "quiet", subject: "bob", isopoddelay: "1d" });
  await signIn(page, "/#/apps/greedy/events");
  const [early, late] = [row(page, "early"), row(page, "late")];
  for (const [name, pattern] of Object.entries({
    Type: /^fail$/,
    Subject: /^ann$/,
    Source: /^\/test$/,
    Process: /^worker$/,
    State: /^dead$/,
    Attempts: /^1 of \d+$/,
    Accepted: /ago$|^now$/,
    Error: /greedy was asked to fail/,
  })) {
    await shows(cell(early, name), pattern);
  }
  assert.equal(await page.getByRole("button", { name: "Cancel event early" }).count(), 0);
  await shows(cell(late, "State"), /^delayed\s+due in \d+ h$/);
  await page.getByRole("button", { name: "Cancel event late" }).click();
  const dialog = page.getByRole("dialog", { name: "Cancel event late?" });
  await dialog.getByRole("button", { name: "Cancel event" }).click();
  await page.getByText("late was cancelled.").waitFor();
  await shows(cell(late, "State"), /^cancelled$/);
  assert.equal((await api("/v1/apps/greedy/events/late")).state, "cancelled");
  // An event that arrives while the page is open.
  await sendEvent(api, "greedy", { id: "next", type: "quiet" });
  await shows(cell(row(page, "next"), "State"), /^done$/);
}

// The alerts `disk-space`, and `queue-depth` of `greedy`, fire. The second ends once the app
// `alerts-seen` exists.
export async function a_banner_names_the_alerts_that_fire({ open, signIn, api }) {
  const page = await open();
  await signIn(page);
  const banner = page.getByRole("complementary", { name: "Alerts" });
  for (const path of ["/", "/apps/greedy/config", "/audit"]) {
    await show(page, path);
    await shows(banner, /^Alerts fire: .*disk-space of the host/);
    await shows(banner, /queue-depth of greedy/);
  }
  await banner.getByRole("link", { name: "Alerts fire" }).click();
  await page.getByRole("heading", { name: "Alerts", exact: true }).waitFor();
  const firing = page.getByRole("table", { name: "Alerts that fire" });
  const alert = (rule) => firing.getByRole("row").filter({ hasText: rule });
  const depth = alert("queue-depth");
  await shows(cell(depth, "Of"), /^greedy$/);
  await shows(cell(depth, "Since"), /ago$|^now$/);
  await shows(cell(depth, "Value"), /^2$/);
  await shows(cell(depth, "Threshold"), /^2$/);
  await shows(cell(alert("disk-space"), "Of"), /^the host$/);
  await shows(cell(alert("disk-space"), "Threshold"), /^[\d.,]+ TiB$/);
  const rule = page.getByRole("table", { name: "Rules" }).getByRole("row").filter({ hasText: "queue-depth" });
  await shows(cell(rule, "Fires"), /^≥ 2$/);
  await report(api, "alerts-seen");
  await depth.waitFor({ state: "detached" });
  await show(page, "/");
  await shows(banner, /disk-space of the host/);
  assert.ok(!(await banner.innerText()).includes("queue-depth"));
}

const HOSTILE = "<img src=x onerror=window.attacked=1>";

// The path of a request, a log line, an argument of `web`, and the key of an invalid manifest are
// HOSTILE. The events of `outbox` do what their data asks.
export async function hostile_text_is_shown_as_text({ open, signIn, api }) {
  await api("/v1/apps/greedy/config", { method: "PATCH", body: { TEXT: HOSTILE } });
  const source = `/${encodeURIComponent(HOSTILE)}`;
  const event = { source, type: HOSTILE, subject: HOSTILE };
  await sendEvent(api, "outbox", { ...event, id: HOSTILE, data: [["fail", "permanent", HOSTILE]] });
  await sendEvent(api, "outbox", { ...event, id: `${HOSTILE} later`, isopoddelay: "1d" });
  const { items: pushes } = await api("/v1/apps/greedy/pushes");
  const failed = pushes.find((it) => it.state === "failed").id;
  const { release } = await api("/v1/apps/greedy");
  const page = await open();
  await signIn(page);
  const main = page.locator("main");
  const isText = async (path, ...places) => {
    await show(page, path);
    for (const place of places) await place.filter({ hasText: HOSTILE }).first().waitFor();
    assert.equal(await page.locator("img").count(), 0, path);
    assert.equal(await page.evaluate(() => window.attacked), undefined, path);
  };
  const cells = (...names) => names.map((name) => main.locator(`[data-label="${name}"]`));
  await isText("/apps/outbox/dead-letters", ...cells("Event", "Type", "Subject", "Error"));
  await isText("/apps/outbox/events", ...cells("Event", "Type", "Subject", "Error"));
  assert.equal(await main.locator('[data-label="Source"]').first().innerText(), source);
  await page.getByRole("button", { name: `Cancel event ${HOSTILE} later` }).click();
  await page.getByRole("dialog").getByRole("heading").filter({ hasText: HOSTILE }).waitFor();
  await page.keyboard.press("Escape");
  await isText("/apps/outbox/activity", main.locator(".timeline p"));
  await isText("/apps/outbox/logs", main.locator(".message"));
  await isText("/apps/greedy/config", ...cells("Value"));
  await isText(`/apps/greedy/releases?diff=v${release}`, main.locator(".after"));
  const reasons = [main.locator(".problem"), main.locator(".log"), ...cells("Reason")];
  await isText(`/apps/greedy/pushes?push=${failed}`, ...reasons);
  await isText("/apps/greedy/formation", main.locator(".facts dd"));
  await isText("/apps/greedy/logs", main.locator(".message"));
  await main.locator(".message").filter({ hasText: `GET ${source} 404` }).waitFor();
  await isText(`/apps/greedy/logs?q=${encodeURIComponent(HOSTILE)}`, main.locator("mark"));
  await page.goto(`/#/apps/${encodeURIComponent(HOSTILE)}`);
  await page.getByRole("heading", { name: HOSTILE }).waitFor();
  await page.getByRole("alert").first().waitFor();
  assert.equal(await page.locator("img").count(), 0);
}

// The alert `disk-space` fires. The app has a secret, a second release, a run of its schedule, a
// trap, and a push job that failed.
export async function axe_finds_no_violation_in_what_a_person_opens({ open, signIn, api, axe }) {
  const { items } = await api("/v1/apps/greedy/pushes");
  const pushIn = (state) => `/apps/greedy/pushes?push=${items.find((it) => it.state === state).id}`;
  for (const colorScheme of ["light", "dark"]) {
    // The content policy forbids the page itself to run other scripts.
    const page = await open({ bypassCSP: true, colorScheme });
    await page.addInitScript({ path: axe });
    await signIn(page);
    const passes = async (path, ...parts) => {
      if (path) await show(page, path);
      for (const part of parts) await part.first().waitFor();
      assert.deepEqual(await violations(page), [], `${page.url()}, ${colorScheme}`);
    };
    const banner = page.getByRole("complementary", { name: "Alerts" }).getByText("disk-space of the host");
    await passes("/", banner);
    await passes("/audit", banner);
    await passes("/alerts", page.getByRole("table", { name: "Alerts that fire" }));
    await passes("/apps/greedy/schedules", page.getByRole("table", { name: "Runs of nightly" }));
    await passes("/apps/greedy/config", page.getByText("secret, hidden"), page.getByText("green"));
    await passes("/apps/greedy/releases?diff=v2", page.locator(".before"), page.locator(".after"));
    await page.getByRole("button", { name: "Roll back to v1" }).click();
    await passes(null, page.getByRole("dialog"));
    await page.keyboard.press("Escape");
    await passes(pushIn("completed"), page.locator("[aria-current=step]"));
    await passes(pushIn("failed"), page.getByRole("alert"));
    await show(page, "/apps/greedy/logs?level=error");
    await page.getByText(/^Backtrace, \d+ lines$/).first().click();
    await passes(null, page.getByText("greedy::acts::act"));
    await passes("/apps/unknown", page.getByRole("alert"));
  }
}
