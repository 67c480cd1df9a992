"""A greeting in Python over the flat HTTP interface: one call with a request, one response.

Handles events, too: one call with an event, one reply.
"""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.event_handler import Event, Failure_Permanent, Reply
from wit_world.exports.http import Request, Response
from wit_world.imports import emit

TEXT = [("content-type", b"text/plain; charset=utf-8")]


class Http(exports.Http):
    def handle(self, request: Request) -> Response:
        path = request.path_with_query.partition("?")[0]
        if path == "/echo" and request.method == "POST":
            return Response(200, TEXT, request.body)
        if path == "/greet" and request.method == "POST":
            # The event is on disk when `emit` returns, and is handled after the response.
            return Response(202, TEXT, emit.emit(greeting(request.body.decode())).encode())
        if path == "/":
            return Response(200, TEXT, b"Hello from Python!\n")
        return Response(404, TEXT, b"No route matches this path.\n")


class EventHandler(exports.EventHandler):
    def handle(self, event: Event) -> Reply | None:
        """Returns a reply or None; raises a failure of the interface."""
        if event.type != "greeting":
            raise Err(Failure_Permanent(f"unknown event type {event.type}"))
        text = f"Hello {event.subject or 'there'}, delivery {event.attempt}"
        print(text)
        return Reply("text/plain", text.encode())


def greeting(subject: str) -> emit.NewEvent:
    return emit.NewEvent(
        id=None,
        source=None,
        type="greeting",
        subject=subject,
        time=None,
        data_content_type=None,
        data_schema=None,
        data=None,
        extensions=[],
        delay_ms=None,
        expires_ms=None,
        app=None,
    )
