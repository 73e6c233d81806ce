"""How clients are set up, and what the store's errors mean to our callers."""

from __future__ import annotations

import hashlib

import pytest
import redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from functions.adapters.redis_client import as_flyertime_error, connect, connect_async, load_script
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from functions.core.settings import Settings

REDIS_6_SCRIPT = "Error running script (call to f_1a2b): @user_script:46: @user_script: 46: -{} text of it. "


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (OutOfMemoryError("command not allowed"), UnavailableError, "store_full"),
        (ResponseError(REDIS_6_SCRIPT.format("OOM")), UnavailableError, "store_full"),
        (BusyLoadingError("loading"), UnavailableError, "store_loading"),
        (ReadOnlyError("replica"), UnavailableError, "store_read_only"),
        (ResponseError(REDIS_6_SCRIPT.format("READONLY")), UnavailableError, "store_read_only"),
        (redis.ConnectionError("refused"), UnavailableError, "store_unavailable"),
        (redis.TimeoutError("late"), UnavailableError, "store_unavailable"),
        (OSError("no route"), UnavailableError, "store_unavailable"),
        (ClusterDownError("down"), UnavailableError, "store_unavailable"),
        (TryAgainError("resharding"), UnavailableError, "store_unavailable"),
        (ResponseError("MISCONF no disk"), UnavailableError, "store_unavailable"),
        (ResponseError(REDIS_6_SCRIPT.format("MISCONF")), UnavailableError, "store_unavailable"),
        (ResponseError("NOREPLICAS few"), UnavailableError, "store_unavailable"),
        (ResponseError("BUSY running a script"), UnavailableError, "store_unavailable"),
        (ResponseError("UNKILLABLE"), UnavailableError, "store_unavailable"),
        (AuthenticationError("hunter2"), MisconfiguredError, "store_refused"),
        (NoPermissionError("hunter2"), MisconfiguredError, "store_refused"),
        (MovedError("3999 127.0.0.1:6381"), UnavailableError, "store_unavailable"),
        (AskError("3999 127.0.0.1:6381"), UnavailableError, "store_unavailable"),
        (ResponseError("This instance has cluster support disabled"), MisconfiguredError, "store_is_no_cluster"),
        (ResponseError("WRONGTYPE Operation against a key"), MisconfiguredError, "store_misused"),
        (ResponseError("BUSYGROUP exists"), MisconfiguredError, "store_misused"),
    ],
    ids=lambda value: f"{type(value).__name__}: {value}"[:60] if isinstance(value, Exception) else "",
)
def test_an_error_says_whether_to_retry_or_whom_to_call(
    error: redis.RedisError | OSError, kind: type[FlyertimeError], code: str
) -> None:
    """Passing troubles ask for a retry, the others for the operator."""
    meant = as_flyertime_error(error)

    assert (kind, code) == (type(meant), meant.code)
    assert "hunter2" not in meant.message


def test_a_password_of_its_own_goes_before_that_of_the_address() -> None:
    """It comes from a Secret; the address from a chart's values."""
    client = connect(Settings(redis_url="redis://:old@127.0.0.1:1/0", redis_password="new"))

    assert "new" == client.connection_pool.connection_kwargs["password"]


def test_no_client_sends_a_command_twice_by_itself() -> None:
    """Who called us decides that, since only he knows how long he waits."""
    settings = Settings()

    for client in (connect(settings), connect_async(settings)):
        assert 0 == client.connection_pool.connection_kwargs["retry"].get_retries()


def test_the_job_waits_longer_for_a_reply_than_a_function() -> None:
    """Nobody waits for the job; a request waits for the function."""
    settings = Settings(redis_timeout_s=0.5)

    assert 0.5 == connect_async(settings).connection_pool.connection_kwargs["socket_timeout"]
    assert 30 <= connect(settings).connection_pool.connection_kwargs["socket_timeout"]


@pytest.mark.parametrize("name", ["append", "commit", "ledger"])
def test_a_script_has_the_id_that_the_store_gives_it(name: str, raw_redis: redis.Redis) -> None:
    """Else every call would send the text."""
    script = load_script(name)

    assert hashlib.sha1(script.text.encode()).hexdigest() == script.sha  # noqa: S324  # Redis names scripts by SHA-1
    assert script.sha == raw_redis.script_load(script.text)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:6379",
        "127.0.0.1:6379",
        "redis://:hunter2@127.0.0.1:port/0",
        "redis://:hunter2@127.0.0.1/zero",
        "redis://127.0.0.1/0/1",
    ],
)
def test_an_address_that_is_none_is_the_operators_matter(url: str) -> None:
    """The setting is named, and nothing of its value is shown."""
    for make in (connect, connect_async):
        with pytest.raises(MisconfiguredError, match="FLYERTIME_REDIS_URL must be") as error:
            make(Settings(redis_url=url))
        assert "hunter2" not in error.value.message


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("redis://127.0.0.1", 0),
        ("redis://127.0.0.1:1/", 0),
        ("rediss://127.0.0.1/3", 3),
        ("redis://[::1]:1/3?protocol=2", 3),
        ("redis://127.0.0.1?db=3", 3),
        ("unix:///run/redis.sock?db=3", 3),
    ],
)
def test_an_address_may_name_a_database(url: str, database: int) -> None:
    """Behind the host, or behind a question mark."""
    for make in (connect, connect_async):
        assert database == make(Settings(redis_url=url)).connection_pool.connection_kwargs.get("db", 0)
