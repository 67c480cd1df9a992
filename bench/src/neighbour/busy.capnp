# Two services of one process that do what the example `busy` does; QUIET, NOISY and ANSWER are filled in by the benchmark.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "quiet", worker = .busy), (name = "noisy", worker = .busy)],
  sockets = [
    (name = "quiet", address = "QUIET", http = (), service = "quiet"),
    (name = "noisy", address = "NOISY", http = (), service = "noisy"),
  ],
);

# The clock of a worker stands still while it computes, so the work is counted, as it is in the example. The sum is kept,
# or the loop would be optimised away.
const busy :Workerd.Worker = (
  modules = [(name = "busy.mjs", esModule =
    `let sum = 1;
    `export default { fetch(request) {
    `  const turns = Number(new URL(request.url).searchParams.get("turns"));
    `  for (let turn = 0; turn < turns; turn++) sum = (Math.imul(sum, 1664525) + turn) | 0;
    `  return new Response("ANSWER");
    `} };
  )],
  compatibilityDate = "2026-01-01",
);
