// A greeting in JavaScript. The engine's `fetch` event is what `wasi:http/incoming-handler` calls.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const path = new URL(request.url).pathname;
  if (path === "/echo" && request.method === "POST") {
    return new Response(await request.text(), { headers: { "content-type": "text/plain" } });
  }
  if (path === "/") {
    return new Response("Hello from JavaScript!\n", { headers: { "content-type": "text/plain" } });
  }
  return new Response("Nothing is at this address.\n", { status: 404 });
}
