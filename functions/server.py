"""Serving a function: ``FUNCTION_TARGET=ingest python -m functions.server`` is what a container runs.

uvicorn with uvloop and httptools, one process, and a reply in one piece: uvicorn hands its head and its body to the
socket one by one, which costs a second system call and a second packet. Held together until the loop's next turn a
small reply costs a fifth less, all told (docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from functions.core import settings as settings_
from functions.server_protocol import BoundedProtocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp

KEEP_ALIVE_S: Final = 75
"""Longer than that of the proxies in front, so that none of them sends on a connection that has just been closed."""
GRACEFUL_STOP_S: Final = 25
"""Shorter than the services' timeoutSeconds, which Kubernetes waits for."""
KEPT_PIECE_BYTES: Final = 16 << 20
"""Pieces of memory up to this size come from what is kept."""
KEPT_FREE_BYTES: Final = 32 << 20
"""Free memory that is kept."""
_M_TRIM_THRESHOLD: Final = -1  # mallopt(3)
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> None:
    """Have glibc keep what a request frees for the next one; where there is no glibc nothing changes.

    By itself it gives large pieces back to the kernel and takes them again page by page: a twentieth of a batch's time.
    """
    libc: Any = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, KEPT_PIECE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_FREE_BYTES)


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
    settings = settings_.parse(os.environ)
    BoundedProtocol.max_head_bytes = settings.max_header_bytes
    BoundedProtocol.head_timeout_s = settings.head_timeout_s
    serve("functions.asgi:app", parsed.host, parsed.port)


if __name__ == "__main__":
    main()
