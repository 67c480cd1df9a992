// The client of the HTTP API: the session, requests, and event streams. Never draws.

// The session's key. The cookie with the other half can't be read by scripts.
const KEY = "isopod.session";

let onSignedOut = () => {};

export const hasSession = () => localStorage.getItem(KEY) !== null;

// Calls `listener` with a message when the host no longer accepts the session.
export function whenSignedOut(listener) {
  onSignedOut = listener;
}

// A failed request: a problem document of the host, or a failure to reach the host.
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? `the host answered ${status}`);
    this.status = status;
    this.body = body;
    this.code = String(body.type ?? "").replace("urn:isopod:problem:", "");
    this.hint = body.hint;
    this.requestId = body.request_id;
  }
}

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(response.status, body ?? {});
}

function endSession(message) {
  localStorage.removeItem(KEY);
  onSignedOut(message);
}

async function send(path, { method = "GET", body, headers = {}, signal } = {}) {
  const key = localStorage.getItem(KEY);
  const all = { accept: "application/json", ...headers };
  if (key !== null) all["x-isopod-session"] = key;
  if (body !== undefined) all["content-type"] = "application/json";
  const json = body === undefined ? undefined : JSON.stringify(body);
  const options = { method, headers: all, body: json, signal, cache: "no-store", credentials: "same-origin" };
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "the host doesn't respond", hint: "the dashboard reconnects automatically" });
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  // Doesn't end a session that another tab has replaced meanwhile.
  if (response.status === 401 && key !== null && localStorage.getItem(KEY) === key) endSession(problem.message);
  throw problem;
}

// Sends a request and returns its JSON, or null without a body.
export async function call(path, options) {
  const response = await send(path, options);
  const text = await response.text();
  return text === "" ? null : JSON.parse(text);
}

export async function signIn(token) {
  localStorage.removeItem(KEY);
  const headers = { authorization: `Bearer ${token.trim()}` };
  const session = await call("/v1/session", { method: "POST", headers });
  localStorage.setItem(KEY, session.key);
  return session;
}

export const session = (options) => call("/v1/session", options);

// Ends the session. Without the key the cookie is of no use, so a failed request doesn't matter.
export async function signOut() {
  await call("/v1/session", { method: "DELETE" }).catch(() => null);
  endSession("");
}

// Returns the path below an app.
export const ofApp = (app, rest = "") => `/v1/apps/${encodeURIComponent(app)}${rest}`;

// Returns a query without the empty values.
export function query(values) {
  const present = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(present).toString();
  return text === "" ? "" : `?${text}`;
}

const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 10_000;

// Follows an event stream until `stop` is called. Reconnects after a loss, with growing pauses, and
// continues after the last event that has an id. `onItem` receives the type, the data and the id.
// `onState` receives "live", "lost" with the problem, "refused" with the problem, or "ended" with
// the reason. After the last two it doesn't reconnect.
export function follow(path, { onItem, onState, lastId = "" }) {
  const abort = new AbortController();
  let id = lastId;
  let pause = RETRY_FIRST_MS;

  const receive = (event) => {
    if (event.id !== undefined) id = event.id;
    if (event.type === "end") {
      abort.abort();
      onState("ended", JSON.parse(event.data).reason);
    } else if (event.data !== undefined) {
      onItem(event.type, JSON.parse(event.data), id);
    }
  };

  const run = async () => {
    while (!abort.signal.aborted) {
      let problem = new Problem(0, { detail: "the connection ended" });
      let liveSince = Infinity;
      try {
        const headers = { accept: "text/event-stream", ...(id === "" ? {} : { "last-event-id": id }) };
        const response = await send(path, { headers, signal: abort.signal });
        liveSince = performance.now();
        onState("live");
        await readEvents(response.body, receive);
      } catch (error) {
        if (abort.signal.aborted) return;
        problem = error instanceof Problem ? error : problem;
      }
      if (abort.signal.aborted || problem.status === 401) return;
      if ([400, 403, 404].includes(problem.status)) {
        onState("refused", problem);
        return;
      }
      onState("lost", problem);
      // A host that accepts connections and soon loses them is asked less and less often.
      if (performance.now() - liveSince > RETRY_MAX_MS) pause = RETRY_FIRST_MS;
      await new Promise((resume) => setTimeout(resume, pause));
      pause = Math.min(pause * 2, RETRY_MAX_MS);
    }
  };
  run();
  return { stop: () => abort.abort() };
}

// Reads server-sent events from a body until it ends.
async function readEvents(body, receive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) receive(parseEvent(block));
  }
}

function parseEvent(block) {
  const event = {};
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*): ?(.*)$/s.exec(line) ?? [];
    if (name === "id") event.id = value;
    if (name === "event") event.type = value;
    if (name === "data") event.data = event.data === undefined ? value : `${event.data}\n${value}`;
  }
  return event;
}
