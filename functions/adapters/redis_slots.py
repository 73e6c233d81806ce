"""Which node of a Redis Cluster a command goes to. Pure.

Source: https://valkey.io/topics/cluster-spec (slots, hash tags, redirections) and the reply of CLUSTER SLOTS.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KEYLESS: Final = frozenset({"TIME", "PING"})
"""Commands that any node answers."""
_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})
_STREAM_READS: Final = frozenset({"XREAD", "XREADGROUP"})
_WHOLE_STORE: Final = frozenset({
    "INFO", "SCAN", "KEYS", "DBSIZE", "FLUSHDB", "FLUSHALL", "RANDOMKEY", "CONFIG", "CONFIG GET", "CONFIG SET",
    "SCRIPT", "SCRIPT LOAD", "SCRIPT FLUSH", "WAIT", "WAITAOF", "CLIENT", "PUBLISH",
})  # fmt: skip
"""Commands that each node answers for itself alone: who sends one says to which."""


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int


class SlotMap:
    """Who serves which slot."""

    def __init__(self, ranges: Iterable[tuple[int, int, Address]], replicas: Iterable[Address] = ()) -> None:
        """Take ranges of slots, first and last, each with the node that writes it."""
        self._ranges = sorted(ranges)
        self._starts = [first for first, _, _ in self._ranges]
        self._moved: dict[int, Address] = {}
        self.masters = tuple(dict.fromkeys(address for _, _, address in self._ranges))
        self.nodes = tuple(dict.fromkeys([*self.masters, *replicas]))

    def at(self, slot: int) -> Address | None:
        """Return the node of a slot; None where nobody serves it."""
        moved = self._moved.get(slot)
        if moved is not None:
            return moved
        place = bisect_right(self._starts, slot) - 1
        if place < 0:
            return None
        _, last, address = self._ranges[place]
        return address if slot <= last else None

    def move(self, slot: int, address: Address) -> None:
        """Learn from a redirection."""
        self._moved[slot] = address


def slot_map_of(reply: Sequence[Any], asked: Address) -> SlotMap:
    """Return what CLUSTER SLOTS says; a node that does not know its own name is the one that was asked."""

    def address_of(node: Sequence[Any]) -> Address:
        host = node[0].decode() if isinstance(node[0], bytes) else node[0]
        return Address(asked.host if host in {None, "", "?"} else host, int(node[1]))

    ranges = [(int(first), int(last), address_of(master)) for first, last, master, *_ in reply]
    return SlotMap(ranges, [address_of(replica) for _, _, _, *others in reply for replica in others])


def slot_of(arguments: Sequence[Any]) -> int | None:
    """Return the slot of a command's first key; None where any node will do.

    Raises:
        RedisError: Each node answers such a command for itself.
    """
    name = str(arguments[0]).upper()
    if name in KEYLESS:
        return None
    if name in _WHOLE_STORE:
        raise RedisError(f"{name} is for one node of a cluster; say for which")
    if name in _SCRIPTS:
        key = arguments[3]
    elif name in _STREAM_READS:
        upper = [part.upper() if isinstance(part, str) else part for part in arguments]
        key = arguments[next(i for i, part in enumerate(upper) if part in {"STREAMS", b"STREAMS"}) + 1]
    else:
        key = arguments[1]
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def common_slot(commands: Iterable[Sequence[Any]]) -> int:
    """Return the one slot of the commands of a transaction.

    Raises:
        RedisError: They have several.
    """
    slots = {slot for slot in map(slot_of, commands) if slot is not None}
    if len(slots) != 1:
        raise RedisError("a transaction is for the keys of one shard")
    return slots.pop()


__all__ = ["KEYLESS", "REDIS_CLUSTER_HASH_SLOTS", "Address", "SlotMap", "common_slot", "slot_map_of", "slot_of"]
