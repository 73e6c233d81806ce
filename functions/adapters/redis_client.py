"""Connecting to Redis or Valkey, its scripts, and the one place where its errors become ours.

No retry by the client: it would hold a request for a minute and send a write eleven times (measured, redis-py 8.1's
default). Whoever called us is asked to retry, and a repeated append is recognised by its digests.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.core.settings import Settings


JOB_TIMEOUT_S: Final = 30.0
MAX_CONNECTIONS: Final = 32
"""Of one process. One thread serves them all, so more would only wait in another place."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the SHA-1 by which the store knows it."""

    name: str
    text: str
    sha: str


def load_script(name: str) -> Script:
    """Return one of the scripts in functions/adapters/lua."""
    text = (importlib.resources.files("functions.adapters") / "lua" / f"{name}.lua").read_text()
    return Script(name, text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324  # Redis names scripts by SHA-1


def connect(settings: Settings) -> redis.Redis:
    """Return a blocking client for the job; it connects at its first command.

    It waits longer for a reply than functions do: nobody waits for the job, and a commit of many users takes a while.
    """
    options = {**_options(settings), "socket_timeout": max(settings.redis_timeout_s, JOB_TIMEOUT_S)}
    return redis.Redis.from_url(settings.redis_url, **options, retry=Retry(NoBackoff(), 0))


def connect_async(settings: Settings) -> redis.asyncio.Redis:
    """Return an asyncio client; it connects at its first command, in the loop that runs then.

    Its connections are few, and who finds none free waits for one: a burst of requests queues here, rather than being
    told that the store is away.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=MAX_CONNECTIONS,
        timeout=settings.redis_timeout_s,
        **_options(settings),
        retry=redis.asyncio.retry.Retry(NoBackoff(), 0),
    )
    return redis.asyncio.Redis.from_pool(pool)


def _options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": settings.redis_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "health_check_interval": 30,
        "protocol": 2,  # one round trip less to connect, and the same replies from every server
        "driver_info": None,
    }
    if settings.redis_password is not None:
        options["password"] = settings.redis_password
    return options


def as_flyertime_error(error: redis.RedisError | OSError) -> FlyertimeError:
    """Return what an error of the client means to our callers; the original's text may hold secrets and is dropped."""
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return MisconfiguredError("store_refused", "the store refuses our user or password")
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return UnavailableError("store_full", "the store is out of memory", retry_after_s=10)
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return UnavailableError("store_loading", "the store is loading its data", retry_after_s=2)
    if isinstance(error, redis.exceptions.ReadOnlyError):
        return UnavailableError("store_read_only", "the store is a replica just now", retry_after_s=2)
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        return UnavailableError("store_unavailable", "the store does not answer")
    if isinstance(error, redis.exceptions.ClusterError) or str(error).startswith(
        ("CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "MASTERDOWN", "NOREPLICAS", "MISCONF", "UNKILLABLE", "BUSY")
    ):
        return UnavailableError("store_unavailable", "the store cannot take commands just now", retry_after_s=2)
    return MisconfiguredError("store_misused", f"the store refuses a command: {str(error)[:200]}")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the client's errors into ours."""
    try:
        yield
    except (redis.RedisError, OSError) as e:
        raise as_flyertime_error(e) from e
