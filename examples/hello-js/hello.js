// A greeting in JavaScript. `wasi:http/incoming-handler` calls the listener of the `fetch` event,
// and `isopod:app/event-handler` calls `eventHandler.handle`.

import { emit } from "isopod:app/emit@0.1.0";

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const path = new URL(request.url).pathname;
  if (path === "/echo" && request.method === "POST") {
    return new Response(await request.text(), { headers: { "content-type": "text/plain" } });
  }
  if (path === "/greet" && request.method === "POST") {
    // The event is on disk when `emit` returns, and is handled after the response.
    const id = emit({ type: "greeting", subject: await request.text(), extensions: [] });
    return new Response(id, { status: 202, headers: { "content-type": "text/plain" } });
  }
  if (path === "/") {
    return new Response("Hello from JavaScript!\n", { headers: { "content-type": "text/plain" } });
  }
  return new Response("No route matches this path.\n", { status: 404 });
}

export const eventHandler = {
  // Returns a reply or nothing; throws a `failure` of the interface.
  handle(event) {
    if (event.type !== "greeting") {
      throw { tag: "permanent", val: `unknown event type ${event.type}` };
    }
    const text = `Hello ${event.subject ?? "there"}, delivery ${event.attempt}`;
    console.log(text);
    return { dataContentType: "text/plain", data: new TextEncoder().encode(text) };
  },
};
