"""A function that does nothing: what the server itself costs."""

import sys

import functions_framework.aio
from functions_framework.aio import create_asgi_app
from starlette.requests import Request
from starlette.responses import Response

from functions.server import serve


@functions_framework.aio.http  # type: ignore[untyped-decorator]  # as the framework has it
async def empty(request: Request) -> Response:
    """Take a body and answer nothing."""
    await request.body()
    return Response(status_code=202)


if __name__ == "__main__":
    serve(create_asgi_app("empty", __file__), "127.0.0.1", int(sys.argv[1]))
