# Two services of one process that behave like the example `busy`. The benchmark replaces QUIET, NOISY and ANSWER.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "quiet", worker = .busy), (name = "noisy", worker = .busy)],
  sockets = [
    (name = "quiet", address = "QUIET", http = (), service = "quiet"),
    (name = "noisy", address = "NOISY", http = (), service = "noisy"),
  ],
);

# A worker's clock doesn't advance while it computes, so the amount of work is fixed, as in the example. The sum is stored,
# since the loop would be optimised away otherwise.
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
