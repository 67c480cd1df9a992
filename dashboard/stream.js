// The page's event stream: one connection for all topics that the shown views need. Never draws.

import { useEffect, useRef, useState } from "./lib.js";
import { follow, query } from "./api.js";
import { useVisible } from "./hooks.js";

// The topics of the shown views: {params, receive, after, setState}.
const topics = new Set();

let connection = null;
let isPlanned = false;

// Connects again if the topics have changed. Views that appear and disappear together cause one
// new connection.
function plan() {
  if (isPlanned) return;
  isPlanned = true;
  queueMicrotask(() => {
    isPlanned = false;
    connect();
  });
}

function connect() {
  const params = Object.assign({}, ...[...topics].map((topic) => topic.params));
  const path = topics.size === 0 ? null : `/v1/stream${query(params)}`;
  if (path !== null && path === connection?.path && !connection.isOver) {
    show(connection);
    return;
  }
  connection?.stream.stop();
  connection = null;
  if (path === null) return;
  const opened = { path, state: { name: "connecting" }, byTopic: {}, isOver: false };
  connection = opened;
  show(opened);
  // A stopped connection may still return what it has read.
  const ifCurrent = (act) => (...received) => connection === opened && act(...received);
  opened.stream = follow(path, {
    lastId: startOf(topics),
    onItem: ifCurrent((type, item, id) => {
      if (type in STATES) {
        opened.byTopic[item.topic] = STATES[type](item);
        show(opened);
      }
      topics.forEach((topic) => topic.receive(type, item, positions(id)));
    }),
    onState: ifCurrent((name, about) => {
      Object.assign(opened, { state: { name, about }, byTopic: {}, isOver: name === "ended" || name === "refused" });
      show(opened);
    }),
  });
}

// The events that change the state of one topic.
const STATES = {
  started: () => undefined,
  broken: () => ({ name: "broken" }),
  ended: ({ reason }) => ({ name: "ended", about: reason }),
};

function show({ state, byTopic }) {
  for (const topic of topics) {
    const own = state.name === "live" && Object.keys(topic.params).map((name) => byTopic[name]).find(Boolean);
    topic.setState(own || state);
  }
}

// Connects again after the host has ended or refused the stream: the app may exist again.
export function reopen() {
  if (connection?.isOver) plan();
}

// Returns the id after which the stream begins, as the host writes it.
function startOf(all) {
  const after = Object.assign({}, ...[...all].map((topic) => topic.after()));
  const known = ["activity", "log"].filter((name) => after[name]);
  return known.map((name) => `${name}=${after[name]}`).join();
}

// Returns the positions in an event's id, such as {activity: "41", log: "3-5120"}.
const positions = (id) => Object.fromEntries(id.split(",").map((part) => part.split("=")));

// Receives the events of some topics while the page is visible. `params` selects the topics, or is
// null. `on` has a function for each type of event, called with the data, the positions after it,
// and the query of `params`. `after` returns the positions after which the topics begin, if they
// are known. Returns the state to show: {name, about}.
export function useTopics(params, on, after = () => ({})) {
  const [state, setState] = useState({ name: "off" });
  const visible = useVisible();
  const latest = useRef({});
  latest.current = { on, after };
  const key = params === null ? null : query(params);
  useEffect(() => {
    if (key === null || !visible) {
      setState({ name: "off" });
      return undefined;
    }
    const topic = {
      params,
      setState,
      after: () => latest.current.after(),
      receive: (type, item, at) => latest.current.on[type]?.(item, at, key),
    };
    topics.add(topic);
    plan();
    return () => {
      topics.delete(topic);
      plan();
    };
  }, [key, visible]);
  return state;
}
