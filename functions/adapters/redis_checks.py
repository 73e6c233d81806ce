"""The store as `flyertime verify` reads it: state and report a page of users at a time, one user at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_client import translated_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

USERS_A_PAGE: Final = 1000


class UserValues(NamedTuple):
    """What the store holds of one user at one moment; None where it has nothing."""

    spans: bytes | None
    overall: bytes | None
    merchants: dict[bytes, bytes]


class CheckedStore(ArchiveStore):
    """An archive's store, read to be checked."""

    def span_pages(self, shard: int) -> Iterator[dict[bytes, bytes]]:
        """Yield users with their packed spans; one may come twice, and each that is there all the time comes."""
        yield from self._pages(self.keys.spans(shard))

    def average_pages(self, shard: int, merchant: bytes | None = None) -> Iterator[dict[bytes, bytes]]:
        """Yield users with their packed totals, overall or of a merchant, likewise."""
        yield from self._pages(self.keys.averages(shard, None if merchant is None else merchant.decode()))

    def merchants(self, shard: int) -> list[bytes]:
        """Return the merchants that have averages in a shard."""
        with translated_errors():
            held: Any = self._redis.smembers(self.keys.merchants(shard))
        return sorted(held)

    def versions(self, shard: int) -> dict[bytes, int]:
        """Return when each merchant's averages last changed in a shard; microseconds."""
        with translated_errors():
            held: Any = self._redis.hgetall(self.keys.versions(shard))
        return {merchant: int(version) for merchant, version in held.items()}

    def summaries(self, shard: int) -> dict[bytes, bytes]:
        """Return the packed summaries that are kept of a shard, by merchant; nothing in its place: of all together."""
        with translated_errors():
            held: Any = self._redis.hgetall(self.keys.summaries(shard))
        return dict(held)

    def averages_of(
        self, shard: int, users: Sequence[bytes], by_merchant: Mapping[bytes, Sequence[bytes]]
    ) -> tuple[list[bytes | None], dict[bytes, list[bytes | None]]]:
        """Return packed totals of some users, overall and for each merchant of some of them, in one trip."""
        with translated_errors():
            pipe: Any = self._redis.pipeline(transaction=False)
            pipe.hmget(self.keys.averages(shard), list(users))
            for merchant, some in by_merchant.items():
                pipe.hmget(self.keys.averages(shard, merchant.decode()), list(some))
            overall, *merchants = pipe.execute()
        return overall, dict(zip(by_merchant, merchants, strict=True))

    def user_now(self, shard: int, user: bytes) -> UserValues:
        """Return all that is held of a user, at one moment."""
        merchants = self.merchants(shard)
        with translated_errors():
            pipe: Any = self._redis.pipeline(transaction=True)
            pipe.hget(self.keys.spans(shard), user)
            pipe.hget(self.keys.averages(shard), user)
            for merchant in merchants:
                pipe.hget(self.keys.averages(shard, merchant.decode()), user)
            spans, overall, *values = pipe.execute()
        held = {merchant: value for merchant, value in zip(merchants, values, strict=True) if value is not None}
        return UserValues(spans, overall, held)

    def _pages(self, key: str) -> Iterator[dict[bytes, bytes]]:
        cursor = 0
        while True:
            with translated_errors():
                reply: Any = self._redis.hscan(key, cursor, count=USERS_A_PAGE)
            cursor, page = int(reply[0]), reply[1]
            if page:
                yield page
            if cursor == 0:
                return
