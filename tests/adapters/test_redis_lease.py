"""A lease in the store: one holder at a time, who may be gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from functions.adapters import redis_lease
from functions.adapters.redis_lease import Lease
from functions.core.errors import FlyertimeError, UnavailableError
from functions.local.valkey import free_port

if TYPE_CHECKING:
    import redis

    from functions.core.settings import Settings

LEASE_S: Final = 0.3


@pytest.fixture
def key(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    """A key, and leases that end soon."""
    monkeypatch.setattr(redis_lease, "LEASE_S", LEASE_S)
    return f"{{{settings.namespace}}}:lease"


def test_it_is_one_holders_for_as_long_as_that_one_is_there(
    settings: Settings, key: str, raw_redis: redis.Redis
) -> None:
    """However long that is; then the next one's at once, and nothing is left of it in the end."""
    with Lease(settings, key, "test") as first:
        with pytest.raises(UnavailableError, match="another test is at work"), Lease(settings, key, "test"):
            pass
        first.check()
    began_s = time.monotonic()
    with Lease(settings, key, "test"):
        assert time.monotonic() - began_s < LEASE_S

    assert not raw_redis.exists(key)


def test_one_who_gives_no_sign_holds_it_until_another_one_wants_it(
    settings: Settings, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one waits for the lease to run out; who held it finds out, also when the other one has given it back."""
    monkeypatch.setattr(Lease, "_renew", lambda _: None)
    first = Lease(settings, key, "test").__enter__()
    time.sleep(2 * LEASE_S)  # it has run out
    first.check()
    with Lease(settings, key, "test") as second:
        assert not first.is_held()
        second.check()
    with pytest.raises(FlyertimeError, match="another test was begun meanwhile"):
        first.check()


def test_a_store_that_is_away_is_unavailable(settings: Settings, key: str) -> None:
    """As for all that uses it."""
    away = type(settings)(redis_url=f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError, match="the store does not answer"), Lease(away, key, "test"):
        pass
