// The facts about the dashboard, as a person with a browser sees it. Each function is one fact;
// `tests/tests/all/browser.rs` starts its host and names it. `views.mjs` has the facts about the
// content of views, and `filters.mjs` those about filters. Never starts a browser.

import assert from "node:assert/strict";

import { PAGES, VIEWS, figure, row, show, shows, until, violations } from "./steps.mjs";

export async function a_person_signs_in_and_out({ open, signIn, token }) {
  const page = await open();
  await page.goto("/");
  await page.getByLabel("Token", { exact: true }).fill("iso_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").getByText("unknown token").waitFor();
  await signIn(page);
  await page.getByRole("heading", { name: "Apps" }).waitFor();
  // No script can read the token.
  const stored = await page.evaluate(() => JSON.stringify({ ...localStorage }) + document.cookie);
  assert.ok(!stored.includes(token), stored);
  await page.reload();
  await page.getByRole("link", { name: "hello" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
}

// The host sends requests to `hello` meanwhile.
export async function the_list_of_apps_is_live({ open, signIn, api }) {
  const page = await open();
  await signIn(page);
  const busy = row(page, "hello");
  const requests = busy.locator('[data-label="Requests/s"]');
  await until("requests per second", async () => Number((await requests.innerText()).replace(",", "")) > 0);
  assert.equal(await busy.locator('[data-label="Errors/s"]').innerText(), "0");
  const later = "later-than-the-page-and-with-a-name-that-is-long";
  await api("/v1/apps", { method: "POST", body: { name: later, type: "dev" } });
  await row(page, later).waitFor();
  const [table, frame] = await page.locator(".table-wrap").evaluate((it) => [it.scrollWidth, it.clientWidth]);
  assert.ok(table <= frame, `${table} of ${frame} pixels`);
  await api("/v1/apps/hello/stop", { method: "POST" });
  await busy.getByText("stopped").waitFor();
  await page.getByLabel("Name").fill("lat");
  await busy.waitFor({ state: "detached" });
  assert.ok(page.url().endsWith("#/?q=lat"), page.url());
}

export async function a_scoped_token_sees_the_errors_of_its_apps({ open, api, signIn }) {
  const body = { name: "reader", role: "read", apps: ["greedy"] };
  const { token } = await api("/v1/tokens", { method: "POST", body });
  const page = await open();
  await page.goto("/");
  await page.getByLabel("Token", { exact: true }).fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  const errors = row(page, "greedy").locator('[data-label="Errors/s"]');
  await until("errors per second", async () => Number(await errors.innerText()) > 0);
  assert.equal(await page.getByRole("link", { name: "Audit trail" }).count(), 0);
  await page.goto("/#/apps/greedy");
  await shows(figure(page, "Errors/s"), /[1-9]/);
  const other = await open();
  await signIn(other, "/#/audit");
  await row(other, "token-created").filter({ hasText: "reader" }).waitFor();
  await other.getByLabel("On this page").fill("nowhere");
  await other.getByText("No entry on this page matches.").waitFor();
}

// The host sends requests to `hello` meanwhile.
export async function an_app_under_load_shows_live_charts({ open, signIn }) {
  const page = await open();
  await signIn(page, "/#/apps/hello");
  const jobs = page.getByRole("region", { name: "Queue pull" }).getByRole("img", { name: /^Jobs, now:/ });
  const perSecond = async () => /per second [\d.,]*[1-9]/.test(await jobs.getAttribute("aria-label"));
  await until("jobs per second in the chart", perSecond);
  assert.ok(await jobs.locator("canvas").isVisible());
  assert.equal(await page.getByRole("navigation", { name: "Path" }).innerText(), "Apps / hello");
  const facts = page.locator("dl.facts").first();
  await until("requests per second", async () => /Requests\/s\s+[1-9]/.test(await facts.innerText()));
  await page.getByText("live", { exact: true }).waitFor();
}

export async function a_page_shows_a_new_state_of_a_slow_host({ open, signIn, api }) {
  const page = await open();
  await page.route("**/v1/apps/hello", async (route) => {
    await new Promise((resume) => setTimeout(resume, 1500));
    // The page may have given up.
    await route.continue().catch(() => null);
  });
  await signIn(page, "/#/apps/hello");
  await page.getByRole("heading", { name: "hello running" }).waitFor();
  await api("/v1/apps/hello/stop", { method: "POST" });
  await page.getByRole("heading", { name: "hello stopped" }).waitFor();
}

export async function a_person_rolls_a_release_back({ open, signIn, api }) {
  const page = await open();
  await signIn(page, "/#/apps/hello/releases");
  await page.getByRole("link", { name: "diff of v2" }).click();
  const changes = page.getByRole("region", { name: "Changes of v2" });
  await changes.getByRole("heading", { name: "From v1 to v2" }).waitFor();
  const bundle = changes.getByRole("row").filter({ hasText: "bundle" });
  const [before, after] = await bundle.getByText(/^[0-9a-f]{64}$/).allInnerTexts();
  assert.ok(after && before !== after, `${before} to ${after}`);
  await changes.getByRole("button", { name: "Close" }).click();
  await changes.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Roll back to v1" }).click();
  const dialog = page.getByRole("dialog", { name: "Roll hello back to v1?" });
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.equal((await api("/v1/apps/hello")).release, 2);
  await page.getByRole("button", { name: "Roll back to v1" }).click();
  await dialog.getByRole("button", { name: "Roll back" }).click();
  await page.getByText("v3, a copy of v1, serves.").waitFor();
  await row(page, "v3").getByText("current").waitFor();
  assert.equal((await api("/v1/apps/hello")).release, 3);
}

export async function a_person_scales_a_process_type({ open, signIn, api }) {
  const page = await open();
  await signIn(page, "/#/apps/hello/formation");
  const web = page.getByRole("region", { name: "Process type web" });
  const scale = web.getByRole("button", { name: "Scale" });
  await scale.waitFor();
  assert.ok(await scale.isDisabled());
  await web.getByLabel("Maximum").fill("7");
  await scale.click();
  await web.getByText(/web now runs \d+ to 7 instances/).waitFor();
  assert.equal((await api("/v1/apps/hello/formation")).web.max, 7);
  // A change by another person keeps what this person edits.
  await web.getByLabel("Maximum").fill("9");
  await api("/v1/apps/hello/formation", { method: "PATCH", body: { web: { min: 2 } } });
  await until("the new minimum", async () => (await web.getByLabel("Minimum").inputValue()) === "2");
  assert.equal(await web.getByLabel("Maximum").inputValue(), "9");
  const cores = page.getByRole("region", { name: "Cores" });
  await cores.getByLabel("Push").fill("3");
  await cores.getByRole("button", { name: "Change" }).click();
  await cores.getByText("The cores were changed.").waitFor();
  assert.equal((await api("/v1/apps/hello/cores")).push, 3);
}

// The log contains a line with HTML.
export async function a_person_searches_a_log_and_follows_it({ open, signIn, request }) {
  const page = await open();
  await signIn(page, "/#/apps/greedy/logs");
  const log = page.getByRole("log");
  await log.getByText("<b>needle</b>").waitFor();
  await page.getByLabel("Search").fill("needle");
  await log.getByText("haystack").waitFor({ state: "detached" });
  assert.equal(await log.locator("mark").first().innerText(), "needle");
  assert.equal(await log.locator("b").count(), 0);
  assert.ok(page.url().includes("q=needle"), page.url());
  await page.getByLabel("Search").fill("");
  await log.getByText("haystack").waitFor();
  await request("greedy", "/log-line?text=followed");
  await log.getByText("followed", { exact: true }).waitFor();
  await page.goto("/#/apps/greedy/logs?until=0s");
  await page.getByText("ended: until-passed").waitFor();
}

// A request to the app has trapped.
export async function a_person_finds_the_backtrace_of_a_failed_request({ open, signIn }) {
  const page = await open();
  await signIn(page, "/#/apps/greedy/logs?level=error");
  const log = page.getByRole("log");
  const fault = log.locator(".line").filter({ hasText: "the guest trapped" });
  const frame = fault.getByText("greedy::acts::act");
  await fault.getByText("greedy was asked to panic").waitFor();
  assert.equal(await frame.isVisible(), false);
  await fault.getByText(/^Backtrace, \d+ lines$/).click();
  await frame.waitFor();
  assert.match(await fault.locator("pre").innerText(), /greedy::acts::act\S* \(\S*src\/acts\.rs:\d+:\d+\)/);
  await fault.getByRole("button", { name: /^Lines of request / }).click();
  await page.getByLabel("At least").selectOption("");
  await log.getByText("GET /panic 502").waitFor();
  await log.getByText("haystack").waitFor({ state: "detached" });
  // A search unfolds the backtrace that contains the text.
  await page.getByLabel("Search").fill("acts::act");
  await log.locator("mark").first().waitFor();
  assert.ok(await log.locator("mark").first().isVisible());
}

// The app has three dead letters.
export async function a_person_redrives_dead_letters({ open, signIn, api }) {
  const page = await open();
  await signIn(page, "/#/apps/greedy/dead-letters");
  const redrives = page.getByRole("button", { name: /^Redrive event/ });
  await until("three dead letters", async () => (await redrives.count()) === 3);
  const letters = async () => (await api("/v1/apps/greedy/dead-letters")).items;
  const ends = (await letters()).map((letter) => letter.ended_at);
  await page.getByRole("button", { name: "Delete all dead letters" }).click();
  await page.keyboard.press("Escape");
  assert.equal((await letters()).length, 3);
  await page.getByRole("button", { name: "Redrive all dead letters" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Redrive all dead letters" }).click();
  await page.getByText("Dead letters redriven: 3.").waitFor();
  // The handler fails again, so that they return.
  const isNew = (letter) => !ends.includes(letter.ended_at);
  await until("three dead letters again", async () => (await letters()).filter(isNew).length === 3);
  await page.getByRole("button", { name: "Delete all dead letters" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete all dead letters" }).click();
  await page.getByText("No dead letters.").waitFor();
}

const background = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

export async function the_theme_follows_the_system_until_a_person_chooses({ open, signIn }) {
  const page = await open({ colorScheme: "dark" });
  await signIn(page);
  const dark = await background(page);
  await page.emulateMedia({ colorScheme: "light" });
  const light = await background(page);
  assert.notEqual(dark, light);
  await page.getByLabel("Theme").selectOption("dark");
  await until("the dark theme", async () => (await background(page)) === dark);
  await page.reload();
  await page.getByRole("heading", { name: "Apps" }).waitFor();
  assert.equal(await background(page), dark);
}

export async function every_view_fits_a_phone({ open, signIn }) {
  const page = await open({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  await signIn(page);
  await page.getByRole("link", { name: "greedy" }).waitFor();
  const widths = () => page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  for (const path of [...PAGES, ...VIEWS.map((view) => `/apps/greedy/${view}`)]) {
    await show(page, path);
    const [content, screen] = await widths();
    assert.ok(content <= screen && screen === 360, `${path}: ${content} of ${screen} pixels`);
    for (const tab of await page.locator(".tabs [aria-current]").all()) {
      const { x, width } = await tab.boundingBox();
      assert.ok(x >= 0 && x + width <= screen, `the tab of ${path}: ${x} to ${x + width}`);
    }
  }
}

// Presses Tab until the element with this role and name has the focus.
async function tabTo(page, role, name) {
  const wanted = page.getByRole(role, { name, exact: true });
  await wanted.first().waitFor();
  const isFocused = () => wanted.evaluateAll((all) => all.includes(document.activeElement));
  for (let press = 0; press < 80; press += 1) {
    if (await isFocused()) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`Tab doesn't reach the ${role} ${name}`);
}

export async function a_person_needs_only_a_keyboard({ open, token, api }) {
  const page = await open();
  await page.goto("/");
  await page.getByLabel("Token", { exact: true }).waitFor();
  await page.keyboard.press("Tab");
  await tabTo(page, "textbox", "Token");
  await page.keyboard.type(token);
  await page.keyboard.press("Enter");
  await tabTo(page, "link", "hello");
  await page.keyboard.press("Enter");
  await tabTo(page, "link", "Releases");
  await page.keyboard.press("Enter");
  await tabTo(page, "button", "Roll back to v1");
  const outline = () => page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.notEqual(await outline(), "none", "the focus is visible");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: "Roll hello back to v1?" });
  await dialog.waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  await page.keyboard.press("Enter");
  await dialog.waitFor();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByText("v3, a copy of v1, serves.").waitFor();
  assert.equal((await api("/v1/apps/hello")).release, 3);
}

export async function axe_finds_no_violation_in_any_view({ open, signIn, axe }) {
  // The content policy forbids the page itself to run other scripts.
  for (const colorScheme of ["light", "dark"]) {
    const page = await open({ bypassCSP: true, colorScheme });
    await page.addInitScript({ path: axe });
    await page.goto("/");
    await page.getByLabel("Token", { exact: true }).waitFor();
    assert.deepEqual(await violations(page), [], `sign-in, ${colorScheme}`);
    await signIn(page);
    for (const path of [...PAGES, ...VIEWS.map((view) => `/apps/greedy/${view}`)]) {
      await show(page, path);
      assert.deepEqual(await violations(page), [], `${path}, ${colorScheme}`);
    }
  }
}

// A page of the app has one stream in every view, and none while it is hidden.
export async function a_page_has_one_stream({ open, signIn }) {
  const page = await open();
  const opened = [];
  let streams = 0;
  const isStream = (request) => /follow=true|\/v1\/stream/.test(request.url());
  page.on("request", (request) => isStream(request) && (opened.push(request.url()), (streams += 1)));
  for (const event of ["requestfailed", "requestfinished"]) {
    page.on(event, (request) => isStream(request) && (streams -= 1));
  }
  await signIn(page);
  for (const view of VIEWS) {
    await show(page, `/apps/greedy/${view}`);
    await until(`one stream in ${view}`, () => streams === 1);
  }
  assert.ok(opened.every((url) => url.includes("/v1/stream?")), opened.join());
  await show(page, "/apps/greedy/logs");
  await until("the stream of the log", () => opened.at(-1).includes("log=greedy"));
  const before = opened.length;
  await page.getByLabel("Search").fill("needle");
  await until("the stream of the search", () => opened.at(-1).includes("grep=needle"));
  assert.equal(opened.length, before + 1, opened.slice(before).join());
  await setVisibility(page, "hidden");
  await until("no stream", () => streams === 0);
  await setVisibility(page, "visible");
  await until("one stream again", () => streams === 1);
}

const setVisibility = (page, state) => page.evaluate((value) => {
  Object.defineProperty(document, "visibilityState", { configurable: true, get: () => value });
  document.dispatchEvent(new Event("visibilitychange"));
}, state);

// Answers the page's streams with these events. Later streams get no answer.
async function streamOnly(page, ...bodies) {
  const opened = [];
  await page.route("**/v1/stream?*", (route) => {
    opened.push(performance.now());
    const body = bodies.shift();
    return body === undefined ? undefined : route.fulfill({ contentType: "text/event-stream", body });
  });
  return opened;
}

const eventOf = (type, data) => `event: ${type}\ndata: ${JSON.stringify(data)}\n\n`;

export async function rates_use_the_times_of_the_measurements({ open, signIn, api }) {
  await api("/v1/apps", { method: "POST", body: { name: "unmeasured", type: "dev" } });
  const { items: [hello], host } = await api("/v1/metrics");
  const sample = (second, requests, awake) => eventOf("apps", {
    items: [{ ...hello, requests }],
    next: null,
    host: { ...host, apps_awake: awake, measured_at: `2030-01-01T00:00:0${second}.5Z` },
  });
  const cell = (page, app) => row(page, app).locator('[data-label="Requests/s"]');
  for (const [awake, shown] of [[1, "0"], [2000, "–"]]) {
    const page = await open();
    // Both arrive together.
    await streamOnly(page, sample(1, 100, awake) + sample(5, 180, awake));
    await signIn(page);
    await cell(page, "hello").getByText("20", { exact: true }).waitFor();
    // More apps are awake than the host has measured.
    assert.equal(await cell(page, "unmeasured").innerText(), shown);
  }
  const page = await open();
  await streamOnly(page, sample(1, 100, 1));
  await signIn(page);
  await cell(page, "unmeasured").getByText("0", { exact: true }).waitFor();
  assert.equal(await cell(page, "hello").innerText(), "–");
}

export async function a_page_asks_a_failing_stream_less_and_less_often({ open, signIn }) {
  const page = await open();
  const opened = await streamOnly(page, ...Array(4).fill(eventOf("started", { topic: "apps" })));
  await signIn(page);
  await until("four streams", () => opened.length >= 4);
  const pauses = opened.slice(1).map((at, index) => at - opened[index]);
  assert.ok(pauses[1] > 800 && pauses[2] > 1600, pauses.join());
}

export async function a_page_shows_an_app_that_is_created_again({ open, signIn, api }) {
  const page = await open();
  await signIn(page, "/#/apps/greedy");
  const live = page.getByText("live", { exact: true });
  await live.waitFor();
  await api("/v1/apps/greedy", { method: "DELETE" });
  await live.waitFor({ state: "detached" });
  await api("/v1/apps", { method: "POST", body: { name: "greedy", type: "staging" } });
  await live.waitFor();
  assert.match(await page.locator("dl.facts").first().innerText(), /staging/);
}

// The test restarts the host once the app `opened` exists, and creates `later` in the new process.
export async function a_page_reconnects_after_the_host_restarts({ open, signIn, api }) {
  const page = await open();
  const isStream = (response) => response.url().includes("/v1/stream") && response.ok();
  const stream = page.waitForResponse(isStream);
  await signIn(page);
  await stream;
  const next = page.waitForResponse(isStream);
  await api("/v1/apps", { method: "POST", body: { name: "opened", type: "dev" } });
  await row(page, "later").waitFor();
  await next;
  await api("/v1/apps", { method: "POST", body: { name: "seen", type: "dev" } });
  await row(page, "seen").waitFor();
}

// The apps are `shop`, `billing` with dead letters, and `intranet`. Requests of varying number arrive
// meanwhile. `IMAGES` names the folder of the images, which then show a minute.
export async function images_for_the_documentation_can_be_made({ open, signIn, request }) {
  const { IMAGES } = process.env;
  const save = (page, name) => page.screenshot(IMAGES ? { path: `${IMAGES}/${name}.png` } : {});
  const apps = await open({ viewport: { width: 1280, height: 480 } });
  await signIn(apps);
  const charts = await open({ viewport: { width: 1280, height: 1020 }, colorScheme: "dark" });
  await signIn(charts, "/#/apps/shop");
  for (let round = 0; round < (IMAGES ? 240 : 8); round += 1) {
    const count = Math.round(12 + 8 * Math.sin(round / 15) + 4 * Math.sin(round / 4));
    const all = Array.from({ length: count }, () => request("shop", "/"));
    if (round % 6 === 0) all.push(request("billing", `/log-line?text=invoice%20${1000 + round}%20was%20sent`));
    await Promise.all([...all, new Promise((resume) => setTimeout(resume, 250))]);
  }
  const requests = row(apps, "shop").locator('[data-label="Requests/s"]');
  await until("requests", async () => Number(await requests.innerText()) > 0);
  await row(apps, "billing").locator(".badge.bad").getByText("3").waitFor();
  await charts.getByText("live", { exact: true }).waitFor();
  await save(apps, "dashboard-apps");
  await save(charts, "dashboard-load");
}
