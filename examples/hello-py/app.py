"""A greeting in Python over the flat HTTP interface: one call with a request, one response."""

from wit_world import exports
from wit_world.exports.http import Request, Response

TEXT = [("content-type", b"text/plain; charset=utf-8")]


class Http(exports.Http):
    def handle(self, request: Request) -> Response:
        path = request.path_with_query.partition("?")[0]
        if path == "/echo" and request.method == "POST":
            return Response(200, TEXT, request.body)
        if path == "/":
            return Response(200, TEXT, b"Hello from Python!\n")
        return Response(404, TEXT, b"No route matches this path.\n")
