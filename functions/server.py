"""Serving a function: ``FUNCTION_TARGET=ingest python -m functions.server`` is what a container runs.

uvicorn with uvloop and httptools, one process, and a reply in one piece: uvicorn hands its head and its body to the
socket one by one, which costs a second system call and a second packet. Held together until the loop's next turn a
small reply costs a fifth less, all told (docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from typing import TYPE_CHECKING, Final

import uvicorn

from functions.adapters.heap import keep_freed_memory
from functions.core import environment
from functions.core.errors import MisconfiguredError
from functions.server_protocol import BoundedProtocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp

KEEP_ALIVE_S: Final = 75
"""Longer than that of the proxies in front, so that none of them sends on a connection that has just been closed."""
GRACEFUL_STOP_S: Final = 25
"""Shorter than the services' timeoutSeconds, which Kubernetes waits for."""


def serve(app: str | ASGIApp, host: str, port: int) -> None:
    """Serve an app until SIGTERM or Ctrl-C, then finish what is under way."""
    keep_freed_memory()
    # What a request makes dies with it by itself; looking for cycles among it after every 700 objects cost a tenth.
    gc.set_threshold(50_000, 20, 100)
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACEFUL_STOP_S,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the function that FUNCTION_TARGET names."""
    parser = argparse.ArgumentParser(prog="python -m functions.server", description=main.__doc__)
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")  # noqa: S104  # a container's
    parser.add_argument("--port", type=int, default=os.environ.get("PORT", "8080"), help="default: $PORT, or 8080")
    parsed = parser.parse_args(arguments)
    try:
        settings = environment.parse(os.environ)
        BoundedProtocol.max_head_bytes = settings.max_header_bytes
        BoundedProtocol.head_timeout_s = settings.head_timeout_s
        serve("functions.asgi:app", parsed.host, parsed.port)
    except MisconfiguredError as e:
        sys.exit(f"{os.environ.get('FUNCTION_TARGET', 'flyertime')} does not start: {e.message}")


if __name__ == "__main__":
    main()
