// Responds as the path asks: whole, streamed, or not at all. For tests of how the host ends
// responses.

addEventListener("fetch", (event) => event.respondWith(answer(new URL(event.request.url), event.request)));

async function answer(url, request) {
  const bytes = Number(url.searchParams.get("n") ?? 0);
  switch (url.pathname) {
    case "/whole":
      return new Response("x".repeat(bytes));
    case "/stream":
      return new Response(pieces(bytes, 64 * 1024));
    case "/echo":
      return new Response(await request.text());
    case "/length":
      return new Response(String((await request.arrayBuffer()).byteLength));
    case "/throw":
      throw new Error("the probe was asked to throw");
    case "/never":
      // Nothing is left to wait for, so the engine returns.
      return new Promise(() => {});
    case "/allocate":
      return new Response(String(allocate().length));
    default:
      return new Response("ok");
  }
}

// Returns a stream of this number of bytes, in chunks of this size.
function pieces(bytes, size) {
  let left = bytes;
  return new ReadableStream({
    pull(controller) {
      const piece = new TextEncoder().encode("x".repeat(Math.min(left, size)));
      left -= piece.length;
      if (piece.length > 0) controller.enqueue(piece);
      if (left === 0) controller.close();
    },
  });
}

function allocate() {
  const all = [];
  for (;;) all.push(new Uint8Array(1 << 20).fill(1));
}
