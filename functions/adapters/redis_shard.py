"""The store as the Spark job uses it: read a shard's log and state, commit what became of them. Blocking, in bulk."""

from __future__ import annotations

import itertools
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError, ResponseError

from functions.adapters import redis_client
from functions.adapters.redis_arguments import PackedArguments
from functions.adapters.redis_client import load_script, translated_errors
from functions.adapters.redis_layout import LAYOUT_FORMAT, check_layout, ledger_from
from functions.core import shards as sharding
from functions.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from functions.core.archive import ArchivedFile
    from functions.core.ledger import ShardLedger
    from functions.core.settings import Settings

    Pairs: TypeAlias = "Mapping[bytes, bytes] | PackedArguments"
    """Names and values of a hash."""

_COMMIT: Final = load_script("commit")
_LEDGER: Final = load_script("ledger")
GENERATION: Final = load_script("generation")
_LIFT_FENCE: Final = load_script("lift_fence")

_FENCE_POLL_S: Final = 0.02
ENTRIES_A_READ: Final = 1000
FENCE_S: Final = 30.0
"""A fence that stands longer is lifted by who waits: whoever put it up is gone, or too slow."""
USERS_A_READ: Final = 20_000
RUNS_KEPT: Final = 1000


@dataclass(frozen=True, slots=True)
class BackfillPart:
    """Which part of a backfill a change holds: with it, the shard's users up to a place are counted."""

    backfill: str
    upto: int
    """CRC-32 of a user id."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a task makes of one shard, to replace what it read."""

    shard: int
    commits: int
    """The shard's ledger said so when the task read it; a commit in between makes this change void."""
    folded_to: str
    """Last log entry folded; empty where the change comes from elsewhere than the log."""
    events: int
    """Events in the entries folded, or in the part of a backfill."""
    report_changes: bool
    """Whether any user's totals are others after this change."""
    spans: Pairs
    averages: Pairs
    merchants: Mapping[bytes, Pairs] = field(default_factory=dict)
    """Averages by merchant id (UTF-8)."""
    summaries: Mapping[bytes, bytes] = field(default_factory=dict)
    """What all averages of one of these merchants, or under an empty name those of all users, then come to: packed as
    ``functions.core.summary_packing.pack_counts`` does."""
    late_events: int = 0
    """Of the flyer events, those too late for the time from open to close: for the record, nothing of it is stored."""
    part: BackfillPart | None = None
    """Where the change comes from a backfill."""
    archived: ArchivedFile | None = None
    """The file that holds its events, where there is an archive."""

    @property
    def users(self) -> int:
        """Users whose state is written."""
        return _packed(self.spans).count // 2


@dataclass(frozen=True, slots=True)
class Committed:
    """The change is in the store."""

    commits: int
    version: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """Nothing was changed; read again and start over."""

    reason: str


class ShardStore:
    """All that a task asks of Redis."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redis = redis_client.connect(settings)
        self._redis.set_response_callback("XRANGE", _as_it_came)
        self.keys = sharding.Keys(settings.namespace)

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()

    def shards(self) -> int:
        """Return the number of shards; 0 where the store has never been used.

        Raises:
            MisconfiguredError: The settings or this version of flyertime do not fit what the store holds.
        """
        with translated_errors():
            held, version = self._redis.hmget(self.keys.layout, ["shards", "format"])
        if held is None:
            return 0
        check_layout(int(held), int(version or LAYOUT_FORMAT), self._settings.shards)
        return int(held)

    def check_settled(self) -> None:
        """Check that the shards are not being laid out anew.

        Raises:
            UnavailableError: They are: the files and users of a shard may soon be another's.
        """
        with translated_errors():
            resharding: Any = self._redis.hget(self.keys.layout, "resharding")
        if resharding is not None:
            raise UnavailableError(
                "resharding", f"the store is being laid out with {resharding.decode()} shards: try again later"
            )

    def ledger(self, shard: int) -> ShardLedger:
        """Return the shard's books; what is read and committed next is of the generation that is live then.

        In this order: a switch to another generation makes void what was read by the books before it.
        """
        ledger = ledger_from(shard, self._call(_LEDGER, [self.keys.ledger(shard), self.keys.events(shard)], []))
        live = self.live_generation()
        if live != self.keys.generation:
            self.keys = sharding.Keys(self._settings.namespace, live)
        return ledger

    def live_generation(self) -> int:
        """Return which generation of the state is shown and folded into."""
        with translated_errors():
            held: Any = self._redis.hget(self.keys.layout, "generation")
        return int(held or 0)

    def open_ledger(self, shard: int) -> ShardLedger:
        """Return the shard's books when commits are let through, waiting for that while a rebuild switches to its own.

        Raises:
            UnavailableError: The store does not answer, or its shards are being laid out anew, which takes a while.
        """
        fence, since_s = 0, 0.0
        while True:
            ledger = self.ledger(shard)
            if not ledger.fence:
                return ledger
            if ledger.fence != fence:
                fence, since_s = ledger.fence, time.monotonic()
            elif time.monotonic() - since_s >= FENCE_S:
                self.check_settled()  # a resharding's fence is its own: the same command completes or undoes it
                self.give_up_switch(fence)
                self.lift_fence(shard, fence)
            time.sleep(_FENCE_POLL_S)

    def give_up_switch(self, generation: int) -> None:
        """Take care that a generation does not become live, unless it is."""
        self._call(GENERATION, [self.keys.layout], ["cancel", generation, ""])

    def lift_fence(self, shard: int, generation: int) -> None:
        """Let commits through again; it must be decided whether the generation is live."""
        live = self.live_generation()
        keys = sharding.Keys(self.keys.namespace, generation)
        names = [keys.ledger(shard), keys.built(shard), keys.summaries(shard)]
        self._call(_LIFT_FENCE, names, [generation, int(live == generation)])

    def log(self, shard: int, after: str, upto: str) -> Iterator[tuple[str, bytes]]:
        """Yield (id, packed entry) of the log's entries after one id up to and including another, oldest first."""
        key = self.keys.events(shard)
        while True:
            with translated_errors():
                entries: Any = self._redis.xrange(key, f"({after}", upto, count=ENTRIES_A_READ)
            for entry_id, (_, entry) in entries:
                after = entry_id.decode()
                yield after, entry
            if len(entries) < ENTRIES_A_READ:
                return

    def spans(self, shard: int, users: Sequence[bytes]) -> list[bytes | None]:
        """Return the users' packed spans, in their order; None for a user without."""
        return self._fields(self.keys.spans(shard), users)

    def spans_of(self, shard: int, users: Iterable[PackedArguments]) -> list[bytes | None]:
        """Return the same of users whose ids are packed, at most `USERS_A_READ` in each pack."""
        values: list[bytes | None] = []
        with translated_errors():
            for some in users:
                held: Any = self._redis.execute_command("HMGET", self.keys.spans(shard), some)
                values += held
        return values

    def averages(self, shard: int, users: Sequence[bytes], merchant: str | None = None) -> list[bytes | None]:
        """Return the users' packed averages, in their order; None for a user without."""
        return self._fields(self.keys.averages(shard, merchant), users)

    def summed(self, ledger: ShardLedger) -> set[bytes]:
        """Return the merchants whose summaries a change takes along; an empty name is for the averages of all users.

        Those that are kept, and that of all users where there have never been averages: it is known, it is empty.
        """
        held = self.summed_in(self.keys, ledger.shard)
        return held if ledger.version else {*held, b""}

    def summed_in(self, keys: sharding.Keys, shard: int) -> set[bytes]:
        """Return the merchants whose summaries a generation keeps of a shard; an empty name is for all users."""
        with translated_errors():
            held: Any = self._redis.hkeys(keys.summaries(shard))
        return {*held}

    def kept_summaries(self, shard: int, merchants: Sequence[bytes]) -> list[tuple[bytes | None, int]]:
        """Return packed summaries, None where there is none, each with the version of the averages by now.

        That of all users' averages is in the ledger, so what comes with an empty name here is 0.
        """
        packed = self._fields(self.keys.summaries(shard), merchants)
        versions = self._fields(self.keys.versions(shard), merchants)
        return [(one, int(version or 0)) for one, version in zip(packed, versions, strict=True)]

    def commit(self, change: Change) -> Committed | Superseded:
        """Replace the shard's state by the change, unless something else changed it since it was read."""
        keys, shard = self.keys, change.shard
        names = [
            keys.ledger(shard),
            keys.events(shard),
            keys.spans(shard),
            keys.merchants(shard),
            keys.averages(shard),
            keys.versions(shard),
            keys.backfilled(shard),
            keys.archive(shard),
            keys.aside(shard),
            keys.summaries(shard),
            *(keys.averages(shard, merchant.decode()) for merchant in change.merchants),
        ]
        hashes = [_packed(pairs) for pairs in (change.spans, change.averages, *change.merchants.values())]
        reply = self._transaction(change, names, hashes)
        if reply is None:
            reply = self._call(_COMMIT, names, _arguments(change, "whole", [_as_messages(pairs) for pairs in hashes]))
        if reply[0] == 1:
            return Committed(reply[1], reply[2])
        return Superseded(reply[1].decode())

    def _transaction(self, change: Change, names: list[str], hashes: list[PackedArguments]) -> list[Any] | None:
        """Commit by commands between the script's two steps; None where the store refuses that and has changed nothing.

        As one that is full does: what stands in a transaction must have room, but not what a script writes.
        """
        pipe: Any = self._redis.pipeline(transaction=True)
        nothing = [b""] * len(hashes)
        for step in ("before", "after"):
            # With its text, since a script that is not known would fail alone.
            pipe.eval(_COMMIT.text, len(names), *names, *_arguments(change, step, nothing))
            if step == "before":
                for number, pairs in zip((3, 5, *range(11, len(names) + 1)), hashes, strict=True):
                    if pairs.count:
                        pipe.execute_command("HSET", f"{names[8]}:{number}", pairs)
        with translated_errors():
            try:
                replies: list[Any] = pipe.execute(raise_on_error=False)
            except ResponseError:
                return None
            if errors := [reply for reply in replies if isinstance(reply, Exception)]:
                raise errors[0]
        return list(replies[-1] if replies[0][0] == 1 else replies[0])

    def record_run(self, fields: Mapping[str, str]) -> None:
        """Add to the record of what each run did."""
        with translated_errors():
            values: Any = dict(fields)
            self._redis.xadd(self.keys.runs, values, maxlen=RUNS_KEPT, approximate=True)

    def _fields(self, key: str, names: Sequence[bytes]) -> list[bytes | None]:
        values: list[bytes | None] = []
        with translated_errors():
            for start in range(0, len(names), USERS_A_READ):
                some: Any = self._redis.hmget(key, list(names[start : start + USERS_A_READ]))
                values += some
        return values

    def _call(self, script: redis_client.Script, keys: list[str], arguments: list[Any]) -> Any:
        with translated_errors():
            try:
                return self._redis.evalsha(script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return self._redis.eval(script.text, len(keys), *keys, *arguments)


def _as_it_came(reply: Any, **_: Any) -> Any:
    """Leave a reply as it is: a dictionary an entry is what the client makes of a log otherwise."""
    return reply or []


def _arguments(change: Change, step: str, hashes: Sequence[bytes]) -> list[Any]:
    """Return the script's arguments."""
    spans, averages, *merchants = hashes
    return [
        change.commits,
        change.folded_to,
        change.events,
        int(change.report_changes),
        spans,
        averages,
        change.part.backfill if change.part else "",
        change.part.upto if change.part else 0,
        change.archived.path if change.archived else "",
        change.archived.record if change.archived else "",
        step,
        _as_messages(PackedArguments.of(itertools.chain(*change.summaries.items()))) if step != "before" else b"",
        *itertools.chain.from_iterable(zip(change.merchants, merchants, strict=True)),
    ]


def _packed(pairs: Pairs) -> PackedArguments:
    return pairs if isinstance(pairs, PackedArguments) else PackedArguments.of(itertools.chain(*pairs.items()))


_TEXT: Final = struct.Struct(">BI")
"""How a text of MessagePack begins: its type, and its bytes."""
_MSGPACK_TEXT: Final = 0xDB


def _as_messages(pairs: PackedArguments) -> bytes:
    """Return texts as a script takes them best: one argument, where each would be parsed and copied once more."""
    return b"".join(_TEXT.pack(_MSGPACK_TEXT, len(text)) + text for text in pairs.texts())
