// Data of the host that components poll, and what a person edits or starts. Never draws.

import { useCallback, useEffect, useRef, useState } from "./lib.js";

// Whether the page is visible. A hidden page neither polls nor holds a connection.
export function useVisible() {
  const [visible, setVisible] = useState(() => document.visibilityState === "visible");
  useEffect(() => {
    const update = () => setVisible(document.visibilityState === "visible");
    document.addEventListener("visibilitychange", update);
    return () => document.removeEventListener("visibilitychange", update);
  }, []);
  return visible;
}

// Loads data now, every `everyMs`, and on `reload()`. `key` names what is loaded: a change of it
// drops the earlier data. After a failure the earlier data stays, beside the problem.
export function usePoll(key, load, everyMs) {
  const [state, setState] = useState({ key, data: null, problem: null });
  const [turn, setTurn] = useState(0);
  const visible = useVisible();
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    if (!visible) return undefined;
    const abort = new AbortController();
    let timer;
    const run = async () => {
      const started = performance.now();
      try {
        const data = await latest.current({ signal: abort.signal });
        if (!abort.signal.aborted) setState({ key, data, problem: null });
      } catch (problem) {
        if (abort.signal.aborted) return;
        setState((before) => ({ key, data: before.key === key ? before.data : null, problem }));
      }
      // A slow host, or a host with many apps, is polled less often.
      if (everyMs) timer = setTimeout(run, Math.max(everyMs, 10 * (performance.now() - started)));
    };
    run();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, everyMs, turn, visible]);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  const current = state.key === key;
  return { data: current ? state.data : null, problem: current ? state.problem : null, reload };
}

// Numbers that a person edits before they are saved. Each is reset to its saved number when that
// changes. `field(name)` returns the attributes of an input.
export function useDraft(saved) {
  const [draft, setDraft] = useState(saved);
  const earlier = useRef(saved);
  useEffect(() => {
    const changed = Object.entries(saved).filter(([name, value]) => value !== earlier.current[name]);
    earlier.current = saved;
    setDraft((before) => ({ ...before, ...Object.fromEntries(changed) }));
  }, [JSON.stringify(saved)]);
  const numbers = Object.fromEntries(Object.entries(draft).map(([name, value]) => [name, Number(value)]));
  const field = (name) => ({
    name,
    value: draft[name],
    onInput: ({ currentTarget: { value } }) => setDraft((before) => ({ ...before, [name]: value })),
  });
  return { numbers, field, isChanged: Object.keys(saved).some((name) => numbers[name] !== saved[name]) };
}

// An operation that a person starts. Returns `run`, and the state to show beside its button.
export function useAction(done) {
  const [state, setState] = useState({ busy: false, problem: null, note: null });
  const run = useCallback(
    async (work) => {
      setState({ busy: true, problem: null, note: null });
      try {
        const note = await work();
        setState({ busy: false, problem: null, note: typeof note === "string" ? note : null });
        done?.();
        return true;
      } catch (problem) {
        setState({ busy: false, problem, note: null });
        return false;
      }
    },
    [done],
  );
  return { ...state, run };
}
