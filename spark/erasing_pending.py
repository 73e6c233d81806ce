"""Erasing a user from a shard's pending log: a new log beside it, made in steps, that takes its place in one.

Events come in and are folded meanwhile. Events of the user that come in after the command was called are new ones, and
stay.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final

from functions.adapters import redis_erasure
from functions.adapters.redis_erasure import ChangedEntry
from functions.core import packing
from functions.core.errors import FlyertimeError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from functions.adapters.redis_erasure import ErasureStore

MOST_TRIES: Final = 100
_POLL_S: Final = 0.1


def erase_pending(store: ErasureStore, shard: int, user_id: str, name: str) -> None:
    """Take a user's events out of a shard's log, and count them under a name.

    Raises:
        FlyertimeError: An entry cannot be read, or others were always faster.
    """
    for waits in steps(store, shard, user_id, name):
        if waits:
            time.sleep(_POLL_S)


def steps(store: ErasureStore, shard: int, user_id: str, name: str) -> Iterator[bool]:
    """Do so step by step, and say after each one whether it was to wait for another erasure."""
    bound = store.ledger(shard).newest_id
    for _ in range(MOST_TRIES):
        if bound is None or not any(
            _changed(shard, group, user_id) for group in _groups(store.log(shard, "0-0", bound))
        ):
            return
        token = secrets.token_hex(8)
        while not store.begin_log(shard, token):
            yield True
        if (yield from _made_anew(store, shard, user_id, name, token, bound)):
            return
    raise FlyertimeError("superseded", f"shard {shard}: overtaken by other erasures {MOST_TRIES} times; try again")


def _made_anew(
    store: ErasureStore, shard: int, user_id: str, name: str, token: str, bound: str
) -> Generator[bool, None, bool]:
    """Make the log anew, step by step; return whether nobody else came in between."""
    yield False
    for group in _groups(store.log(shard, "0-0", bound)):
        if not store.copy_log(shard, token, group[-1][0], _changed(shard, group, user_id)):
            return False
        yield False
    while (is_log := store.finish_log(shard, token, name)) is False:
        yield False
    return bool(is_log)


def _groups(entries: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Yield entries as many at a time as one step may copy."""
    group: list[tuple[str, bytes]] = []
    size_bytes = 0
    for entry_id, entry in entries:
        group.append((entry_id, entry))
        size_bytes += len(entry)
        if len(group) >= redis_erasure.ENTRIES_A_STEP or size_bytes >= redis_erasure.BYTES_A_STEP:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group


def _changed(shard: int, group: Iterable[tuple[str, bytes]], user_id: str) -> list[ChangedEntry]:
    """Return the entries that have events of the user, without them."""
    name = user_id.encode()
    changed = []
    for entry_id, entry in group:
        if name not in entry:
            continue
        try:
            events = packing.unpack_events(entry)
        except ValueError as e:
            raise FlyertimeError("damaged_log", f"shard {shard}, log entry {entry_id}: {e}") from e
        others = [event for event in events if event.user_id != user_id]
        if len(others) < len(events):
            content = packing.pack_events(others) if others else b""
            changed.append(ChangedEntry(entry_id, content, len(events) - len(others)))
    return changed
