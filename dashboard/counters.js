// Rates and counts from the host's metrics. Never draws.

// Returns the rates per second of the apps of two samples, {at, apps: Map of name to metrics}. `at`
// is the time in milliseconds at which the host measured. A counter that fell belongs to a
// restarted host.
export function rates(before, now) {
  const found = new Map();
  const seconds = (now.at - before.at) / 1000;
  for (const [app, { requests, errors }] of now.apps) {
    const earlier = before.apps.get(app);
    if (earlier === undefined || requests < earlier.requests || seconds <= 0) continue;
    found.set(app, {
      requests: (requests - earlier.requests) / seconds,
      errors: (errors - earlier.errors) / seconds,
    });
  }
  return found;
}

// Returns the buffered events of a push queue. Stored events that have not ended are buffered too:
// they wait for their delivery.
export function bufferedEvents({ stored, buffered }) {
  return stored ? stored.ready + stored.leased + stored.delayed : buffered;
}
