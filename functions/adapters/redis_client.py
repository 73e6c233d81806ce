"""Connecting to Redis or Valkey, its scripts, and the one place where its errors become ours.

No retry by the client: it would hold a request for a minute and send a write eleven times (measured, redis-py 8.1's
default). Whoever called us is asked to retry, and a repeated append is recognised by its digests.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from functions.adapters import metrics
from functions.adapters.redis_arguments import Packer
from functions.adapters.redis_cluster import AsyncClient
from functions.adapters.redis_cluster_blocking import Client
from functions.core.addresses import addresses_of
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from functions.core.settings import MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.adapters.redis_slots import Address
    from functions.core.settings import Settings


_modules: dict[str, Any] = sys.modules
if _modules.get("opentelemetry.sdk.metrics", redis) is None:  # redis-py has been imported: see functions/adapters
    del _modules["opentelemetry.sdk.metrics"]

JOB_TIMEOUT_S: Final = 30.0
_BEYOND_WAIT_S: Final = 0.5
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


def connect(settings: Settings) -> Client:
    """Return a blocking client for the job; it connects at its first command.

    It waits longer for a reply than functions do: nobody waits for the job, and a commit of many users takes a while.
    """
    options = {**_options(settings), "socket_timeout": max(settings.redis_timeout_s, JOB_TIMEOUT_S)}
    options |= {"retry": Retry(NoBackoff(), 0), "command_packer": Packer()}
    return Client(*_pools(settings, lambda url: redis.ConnectionPool.from_url(url, **options)))


def connect_async(settings: Settings) -> AsyncClient:
    """Return an asyncio client; it connects at its first command, in the loop that runs then.

    Its connections to a node are few, and who finds none free waits for one: a burst of requests queues here, rather
    than being told that the store is away.
    """
    options = {**_options(settings), "retry": redis.asyncio.retry.Retry(NoBackoff(), 0)}
    if settings.durability != MEMORY:  # the reply to an append comes after the wait
        options["socket_timeout"] = max(settings.redis_timeout_s, settings.durability_timeout_s + _BEYOND_WAIT_S)
    options |= {"max_connections": MAX_CONNECTIONS, "timeout": settings.redis_timeout_s}
    return AsyncClient(*_pools(settings, lambda url: redis.asyncio.BlockingConnectionPool.from_url(url, **options)))


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "socket_timeout": settings.redis_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "health_check_interval": 30,
        "protocol": 2,  # one round trip less to connect, and the same replies from every server
        "driver_info": None,
    }


_Pool = TypeVar("_Pool", redis.ConnectionPool, redis.asyncio.BlockingConnectionPool)


def _pools(settings: Settings, pool_from: Callable[[str], _Pool]) -> tuple[list[_Pool], Callable[[Address], _Pool]]:
    """Return a pool for each address that the settings name, and what makes one for another node of their cluster."""

    def pool_of(url: str) -> _Pool:
        with _named_address():
            parts = urlsplit(url)
            if parts.scheme != "unix" and not re.fullmatch("/?|/[0-9]+/?", parts.path):
                raise ValueError("the client would take the database 0")
            pool = pool_from(url)
        if settings.redis_password is not None:  # it goes before one in the address, which the client would prefer
            pool.connection_kwargs["password"] = settings.redis_password
        return pool

    addresses = addresses_of(settings.redis_url)

    def pool_of_node(node: Address) -> _Pool:
        """Make the pool of a node: as the first address in all but its place."""
        pool = pool_of(addresses[0])
        pool.connection_kwargs |= {"host": node.host, "port": node.port}
        return pool

    return [pool_of(address) for address in addresses], pool_of_node


@contextmanager
def _named_address() -> Iterator[None]:
    """Name the setting where the client cannot read an address; its own words may quote a password."""
    try:
        yield
    except ValueError:
        raise MisconfiguredError(
            "bad_settings",
            "FLYERTIME_REDIS_URL must be a redis://, rediss:// or unix:// address, its port and its database numbers",
        ) from None


def as_flyertime_error(error: redis.RedisError | OSError) -> FlyertimeError:
    """Return what an error of the client means to our callers; the original's text may hold secrets and is dropped."""
    meaning = _meaning_of(error)
    metrics.STORE_ERRORS.of(meaning.code).add()
    return meaning


def _meaning_of(error: redis.RedisError | OSError) -> FlyertimeError:
    code = _code_of(error)
    if isinstance(error, redis.AuthenticationError | exceptions.NoPermissionError):
        return MisconfiguredError("store_refused", "the store refuses our user or password")
    if isinstance(error, exceptions.OutOfMemoryError) or code == "OOM":
        return UnavailableError("store_full", "the store is out of memory", retry_after_s=10)
    if isinstance(error, exceptions.BusyLoadingError):
        return UnavailableError("store_loading", "the store is loading its data", retry_after_s=2)
    if isinstance(error, exceptions.ReadOnlyError) or code == "READONLY":
        return UnavailableError("store_read_only", "the store is a replica just now", retry_after_s=2)
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        return UnavailableError("store_unavailable", "the store does not answer")
    if "cluster support disabled" in str(error):
        return MisconfiguredError(
            "store_is_no_cluster",
            "FLYERTIME_REDIS_URL names several addresses, as for a Redis Cluster, but the store is none; name one",
        )
    passing = exceptions.ClusterError | exceptions.AskError | exceptions.TryAgainError  # MovedError is an AskError
    if isinstance(error, passing) or code in _PASSING:
        return UnavailableError("store_unavailable", "the store cannot take commands just now", retry_after_s=2)
    return MisconfiguredError("store_misused", f"the store refuses a command: {str(error)[:200]}")


_PASSING: Final = frozenset({"MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE"})
_WITHIN_SCRIPT: Final = re.compile(r"Error running script .*?: -([A-Z]+) ")


def _code_of(error: Exception) -> str:
    """Return the code of the store's reply where the client has no class for it.

    Before version 7, Redis puts what a script met into the middle of a longer text.
    """
    text = str(error)
    inner = _WITHIN_SCRIPT.match(text)
    return inner[1] if inner else text.partition(" ")[0]


class translated_errors:  # noqa: N801  # used as a function; one that is a generator costs three times as much
    """Turn the client's errors into ours."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and isinstance(error, redis.RedisError | OSError):
            raise as_flyertime_error(error) from error
