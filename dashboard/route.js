// The address of the current view: a path and its filters, after the # of the URL. Never draws.

import { useEffect, useState } from "./lib.js";

export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?");
  const parts = path.split("/").filter((part) => part !== "").map(decode);
  return { parts, query: Object.fromEntries(new URLSearchParams(query)) };
}

// A URL that a person edited may have an incomplete escape.
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function link(parts, query = {}) {
  const path = parts.map(encodeURIComponent).join("/");
  const present = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const text = new URLSearchParams(present).toString();
  return `#/${path}${text === "" ? "" : `?${text}`}`;
}

export function useRoute() {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const update = () => setRoute(parse(location.hash));
    addEventListener("hashchange", update);
    return () => removeEventListener("hashchange", update);
  }, []);
  return route;
}

// Changes filters of the current view, and returns to its first page. The history has one entry per
// view, not one per key press.
export function setFilters(changes) {
  const { parts, query } = parse(location.hash);
  history.replaceState(null, "", link(parts, { ...query, cursor: "", ...changes }));
  dispatchEvent(new HashChangeEvent("hashchange"));
}
