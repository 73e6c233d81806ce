"""The quarantine: rejected events in the store, for people to look at, to correct and to send again. Asyncio.

All its keys are in one slot of their own, so each script is one trip and one step, and nothing here touches a shard.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from redis.exceptions import NoScriptError

from functions.adapters import metrics, redis_client
from functions.adapters.redis_client import load_script, translated_errors
from functions.core import quarantine, shards
from functions.core.errors import MisconfiguredError, RequestRefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import redis.asyncio

    from functions.adapters.redis_client import Script
    from functions.core.quarantine import Record
    from functions.core.settings import Settings

NO_ROOM: Final = "no_room"
PAGE_ENTRIES: Final = 200

_ADD: Final = load_script("quarantine_add")
_REMOVE: Final = load_script("quarantine_remove")
_FIX: Final = load_script("quarantine_fix")
_ID: Final = re.compile(r"(\d{1,19})-(\d{1,19})")


class Entry(NamedTuple):
    """A rejected event that is kept."""

    id: str
    record: Record
    fixed: object | None
    """The corrected event, where somebody corrected it; in the form of ``record.received``."""

    @property
    def received_ms(self) -> int:
        """When it came, milliseconds since 1970 by the store's clock."""
        return int(self.id.partition("-")[0])


class Books(NamedTuple):
    """What is in the quarantine now, and what became of events ever."""

    events: int = 0
    fixed: int = 0
    bytes: int = 0
    kept: int = 0
    pushed_out: int = 0
    """By newer ones, since there was no more room."""
    over_share: int = 0
    """By newer ones of the same key, or the same mistake, which had half of the room already."""
    expired: int = 0
    """Since they were too old."""
    redriven: int = 0
    discarded: int = 0
    erased: int = 0


class Quarantine:
    """All that ingest and the command line ask of it."""

    def __init__(self, settings: Settings, client: redis.asyncio.Redis | None = None) -> None:
        """Prepare; connections of its own, so that a flood of rejected events takes none from the good ones."""
        self._max_events = settings.quarantine_max_events
        self._max_bytes = settings.quarantine_max_bytes
        self._max_age_ms = settings.quarantine_max_age_s * 1000
        self._redis = client or redis_client.connect_async(settings)
        self._keys = shards.Keys(settings.namespace).quarantine_parts

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    @metrics.timed_trip("quarantine_add")
    async def add(self, records: Sequence[tuple[Record, bytes]]) -> list[str]:
        """Keep events, in one trip; return for each the id of its entry, or `NO_ROOM`.

        Args:
            records: Each with its packed form.
        """
        arguments: list[Any] = [self._max_events, self._max_bytes, self._max_age_ms]
        for record, value in records:
            arguments += [quarantine.digest_of(record), quarantine.group_of(record), value]
        return [answer.decode() for answer in await self._call(_ADD, arguments)]

    @metrics.timed_trip("quarantine_expire")
    async def expire(self) -> None:
        """Take out what is too old, at most 2,000 entries: for who is called however little comes in."""
        await self._call(_ADD, [self._max_events, self._max_bytes, self._max_age_ms])

    @metrics.timed_trip("quarantine_read")
    async def page(self, after: str | None = None, count: int = PAGE_ENTRIES) -> list[Entry]:
        """Return the entries after one, the oldest first; an empty list where there are no more.

        Raises:
            MisconfiguredError: Some entry is not one that this version of flyertime can read.
        """
        with translated_errors():
            found: Any = await self._redis.xrange(self._keys[0], min="-" if after is None else f"({after}", count=count)
            fixes: Any = await self._redis.hmget(self._keys[2], [entry_id for entry_id, _ in found]) if found else []
        return [_entry_of(entry_id, fields, fix) for (entry_id, fields), fix in zip(found, fixes, strict=True)]

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield all entries, the oldest first, those that come in meanwhile too."""
        after: str | None = None
        while page := await self.page(after):
            for entry in page:
                yield entry
            after = page[-1].id

    async def entry(self, entry_id: str) -> Entry:
        """Return one entry.

        Raises:
            RequestRefusedError: There is none of this id.
        """
        match = _ID.fullmatch(entry_id)
        if match is not None:
            number = int(match[2])
            before = f"{match[1]}-{number - 1}" if number else f"{int(match[1]) - 1}-{2**64 - 1}"
            if found := await self.page(before if int(match[1]) else None, 1):
                (entry,) = found
                if entry.id == entry_id:
                    return entry
        raise _no_such_entry(entry_id)

    @metrics.timed_trip("quarantine_fix")
    async def fix(self, entry_id: str, event: object) -> None:
        """Put a corrected event beside an entry, in place of an earlier correction.

        Raises:
            RequestRefusedError: There is no such entry.
        """
        if not _ID.fullmatch(entry_id) or not await self._call(_FIX, [entry_id, msgspec.json.encode(event)]):
            raise _no_such_entry(entry_id)

    @metrics.timed_trip("quarantine_remove")
    async def remove(self, entry_ids: Sequence[str], why: str, erasure: str = "") -> int:
        """Take entries out; return how many of them were there.

        Args:
            entry_ids: Which ones, a few thousand at most, as they were read here.
            why: What they count as: ``redriven``, ``discarded`` or ``erased``.
            erasure: The name under which an erasure counts them.
        """
        if not entry_ids:
            return 0
        return int(await self._call(_REMOVE, [why, _field_of(erasure) if erasure else "", *entry_ids]))

    async def erase_user(self, user_id: str, erasure: str) -> None:
        """Take out all entries that mention a user, as received or as corrected, and count them under a name."""
        found: list[str] = []
        async for entry in self.entries():
            if (
                quarantine.mentions(entry.record.received, user_id)
                or quarantine.mentions(entry.fixed, user_id)
                or quarantine.mentions([entry.record.source, entry.record.event_id], user_id)
            ):
                found.append(entry.id)
            if len(found) == PAGE_ENTRIES:
                await self.remove(found, "erased", erasure)
                found = []
        await self.remove(found, "erased", erasure)

    async def erased(self, erasure: str) -> int:
        """Return how many entries an erasure has taken out under its name."""
        call: Any = self._redis
        with translated_errors():
            return int(await call.hget(self._keys[4], _field_of(erasure)) or 0)

    async def forget_erased(self, erasure: str) -> None:
        """Forget that: the receipt was given."""
        call: Any = self._redis
        with translated_errors():
            await call.hdel(self._keys[4], _field_of(erasure))

    @metrics.timed_trip("quarantine_books")
    async def books(self) -> Books:
        """Return what is there now, and what became of events."""
        with translated_errors():
            pipe = self._redis.pipeline(transaction=False)
            pipe.xlen(self._keys[0])
            pipe.hlen(self._keys[2])
            pipe.hgetall(self._keys[4])
            events, fixed, held = await pipe.execute()
        counts = {name.decode(): int(value) for name, value in held.items()}
        return Books(
            **{name: counts.get(name, 0) for name in Books._fields} | {"events": int(events), "fixed": int(fixed)}
        )

    async def _call(self, script: Script, arguments: Sequence[Any]) -> Any:
        call: Any = self._redis
        with translated_errors():
            try:
                return await call.evalsha(script.sha, len(self._keys), *self._keys, *arguments)
            except NoScriptError:  # the store was restarted, or is new: nothing of it was done
                return await call.eval(script.text, len(self._keys), *self._keys, *arguments)


def _field_of(erasure: str) -> str:
    return f"erasure:{erasure}"


def _entry_of(entry_id: bytes, fields: Mapping[bytes, bytes], fix: bytes | None) -> Entry:
    try:
        record = quarantine.unpacked(fields[b"r"])
        return Entry(entry_id.decode(), record, None if fix is None else msgspec.json.decode(fix))
    except (KeyError, ValueError) as e:
        raise MisconfiguredError(
            "quarantine_format", f"entry {entry_id.decode()} of the quarantine cannot be read: {e}"
        ) from None


def _no_such_entry(entry_id: str) -> RequestRefusedError:
    return RequestRefusedError(
        "no_such_entry", f"there is no {entry_id[:60]} in the quarantine; it may have been pushed out, or redriven",
        status=404,
    )  # fmt: skip
