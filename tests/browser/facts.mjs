// The facts about the dashboard, as a person with a browser sees it. Each function is one fact;
// `tests/tests/all/browser.rs` starts its host and names it. Never starts a browser.

import assert from "node:assert/strict";

// The pages besides those of an app.
const PAGES = ["/", "/alerts", "/audit"];
const VIEWS = ["load", "instances", "releases", "pushes", "activity", "logs", "formation", "config", "schedules",
  "events", "dead-letters"];

// Polls until `look` returns a true value.
async function until(what, look) {
  const end = Date.now() + 20_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, `timed out waiting for ${what}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

const row = (page, text) => page.getByRole("row").filter({ hasText: text });

export async function a_person_signs_in_and_out({ open, signIn, token }) {
  const page = await open();
  await page.goto("/");
  await page.getByLabel("Token", { exact: true }).fill("iso_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").getByText("unknown token").waitFor();
  await signIn(page);
  await page.getByRole("heading", { name: "Apps" }).waitFor();
  // The token itself is nowhere in the page's reach.
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
  await api("/v1/apps", { method: "POST", body: { name: "later", type: "dev" } });
  await row(page, "later").waitFor();
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
  const other = await open();
  await signIn(other, "/#/audit");
  await row(other, "token-created").filter({ hasText: "reader" }).waitFor();
}

// The host sends requests to `hello` meanwhile.
export async function an_app_under_load_shows_live_charts({ open, signIn }) {
  const page = await open();
  await signIn(page, "/#/apps/hello");
  const jobs = page.getByRole("region", { name: "Queue pull" }).getByRole("img", { name: /^Jobs, now:/ });
  const perSecond = async () => Number(/per second ([\d.,]+)/.exec(await jobs.getAttribute("aria-label"))[1]);
  await until("jobs per second in the chart", async () => (await perSecond()) > 0);
  assert.ok(await jobs.locator("canvas").isVisible());
  const facts = page.locator("dl.facts").first();
  await until("requests per second", async () => /Requests\/s\s+[1-9]/.test(await facts.innerText()));
  await page.getByText("live", { exact: true }).waitFor();
}

export async function a_person_rolls_a_release_back({ open, signIn, api }) {
  const page = await open();
  await signIn(page, "/#/apps/hello/releases");
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
  const cores = page.getByRole("region", { name: "Cores" });
  await cores.getByLabel("Push").fill("3");
  await cores.getByRole("button", { name: "Change" }).click();
  await cores.getByText("The cores were changed.").waitFor();
  assert.equal((await api("/v1/apps/hello/cores")).push, 3);
}

// The log contains a line with HTML.
export async function a_person_searches_a_log_and_follows_it({ open, signIn, api }) {
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
  await page.getByText("live", { exact: true }).waitFor();
  await api("/v1/apps/greedy/config", { method: "PATCH", body: { FOLLOWED: "1" } });
  await log.getByText("FOLLOWED").first().waitFor();
}

// The app has three dead letters.
export async function a_person_redrives_dead_letters({ open, signIn, api }) {
  const page = await open();
  await signIn(page, "/#/apps/greedy/dead-letters");
  const redrives = page.getByRole("button", { name: /^Redrive event/ });
  await until("three dead letters", async () => (await redrives.count()) === 3);
  await page.getByRole("button", { name: "Delete all dead letters" }).click();
  await page.keyboard.press("Escape");
  assert.equal((await api("/v1/apps/greedy/dead-letters")).items.length, 3);
  await page.getByRole("button", { name: "Redrive all dead letters" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Redrive all dead letters" }).click();
  await page.getByText("Dead letters redriven: 3.").waitFor();
  // The handler fails again, so that they return.
  await until("three dead letters again", async () => (await redrives.count()) === 3);
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
    await page.goto(`/#${path}`);
    await settled(page);
    const [content, screen] = await widths();
    assert.ok(content <= screen && screen === 360, `${path}: ${content} of ${screen} pixels`);
  }
}

// Waits until the view has its data.
async function settled(page) {
  await page.locator("main").waitFor();
  await until("the data of the view", async () => (await page.getByText("Loading…").count()) === 0);
  if (page.url().endsWith("/load")) await page.locator("canvas").first().waitFor();
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

// Returns the violations of the current view.
async function violations(page) {
  const found = await page.evaluate(() => axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
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
      await page.goto(`/#${path}`);
      await settled(page);
      assert.deepEqual(await violations(page), [], `${path}, ${colorScheme}`);
    }
  }
}

// A page of the app has one stream, whatever its view is, and none while it is hidden.
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
    await page.goto(`/#/apps/greedy/${view}`);
    await settled(page);
    await until(`one stream in ${view}`, () => streams === 1);
  }
  assert.ok(opened.every((url) => url.includes("/v1/stream?")), opened.join());
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
