# The greeting for workerd. The benchmark replaces ADDRESS and GREETING.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "main", worker = .hello)],
  sockets = [(name = "http", address = "ADDRESS", http = (), service = "main")],
);

const hello :Workerd.Worker = (
  modules = [(name = "hello.mjs", esModule = "export default { fetch() { return new Response('GREETING'); } };")],
  compatibilityDate = "2026-01-01",
);
