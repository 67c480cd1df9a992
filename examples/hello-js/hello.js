// A greeting in JavaScript. `wasi:http/incoming-handler` calls the listener of the `fetch` event.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const path = new URL(request.url).pathname;
  if (path === "/echo" && request.method === "POST") {
    return new Response(await request.text(), { headers: { "content-type": "text/plain" } });
  }
  if (path === "/") {
    return new Response("Hello from JavaScript!\n", { headers: { "content-type": "text/plain" } });
  }
  return new Response("No route matches this path.\n", { status: 404 });
}
