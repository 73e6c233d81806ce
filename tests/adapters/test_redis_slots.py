"""Which node of a cluster a command goes to."""

from __future__ import annotations

from typing import Any

import pytest
from redis import RedisError
from redis.exceptions import MovedError

from functions.adapters.redis_slots import Address, SlotMap, common_slot, slot_map_of, slot_of
from functions.adapters.redis_topology import Topology

A, B, C = (Address("a", 1), Address("b", 2), Address("c", 3))


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "{ft:3}:ledger"),
        ("HMGET", b"{ft:3}:ledger", "x", "y"),
        ("EVALSHA", "0" * 40, 2, "{ft:3}:events", "{ft:3}:ledger", "{ft:9}"),
        ("EVAL", "return 1", 1, "{ft:3}:events"),
        ("XREAD", "COUNT", 1, "STREAMS", "{ft:3}:events", "0"),
        ("XREADGROUP", "GROUP", "g", "c", b"STREAMS", "{ft:3}:events", ">"),
        ("SET", "ft:3", "value"),
    ],
    ids=lambda command: str(command[0]),
)
def test_a_command_goes_where_its_first_key_is(command: tuple[Any, ...]) -> None:
    """By the part of the key in braces; scripts and reads of streams have theirs further back."""
    assert slot_of(("GET", "ft:3")) == slot_of(command) is not None


def test_any_node_tells_the_time_and_none_speaks_for_all() -> None:
    """What each node answers for itself must be asked of each."""
    assert slot_of(("TIME",)) is None
    for command in ("INFO", "SCAN", "SCRIPT LOAD", "WAITAOF"):
        with pytest.raises(RedisError, match="one node of a cluster"):
            slot_of((command, "x"))


def test_a_transaction_is_for_one_shard() -> None:
    """The server would refuse it halfway."""
    assert slot_of(("GET", "ft:1")) == common_slot([("GET", "{ft:1}:a"), ("GET", "{ft:1}:b"), ("TIME",)])
    with pytest.raises(RedisError, match="one shard"):
        common_slot([("GET", "{ft:1}:a"), ("GET", "{ft:2}:a")])


def test_a_map_knows_who_serves_a_slot() -> None:
    """From CLUSTER SLOTS: ranges, gaps, replicas; a node without a name is the one that was asked."""
    reply = [
        [0, 100, [b"", 1, b"id", []], [b"r", 4, b"id", []]],
        [200, 300, [b"b", 2, b"id", []]],
        [301, 301, [b"?", 1, b"id", []]],
    ]
    slots = slot_map_of(reply, asked=Address("a", 9))

    assert [A, A, None, None, B, B, A, None] == [slots.at(n) for n in (0, 100, 101, 199, 200, 300, 301, 302)]
    assert ((A, B), (A, B, Address("r", 4))) == (slots.masters, slots.nodes)


def test_a_redirection_is_learned() -> None:
    """The slot's next command goes to the new node at once, and the map is asked for again."""
    topology = Topology([A], several=True)
    topology.learn(SlotMap([(0, 16383, A)]))
    topology.note(MovedError("7 b:2"), A)

    assert [B, A] == [topology.node_of(7), topology.node_of(8)]
    assert topology.stale


def test_nodes_that_failed_are_asked_last() -> None:
    """Until they answer again; one that hung is tried by one trip at a time."""
    topology = Topology([A], several=True)
    topology.learn(SlotMap([(0, 8000, A), (8001, 16383, B)], replicas=[C]))
    topology.note(TimeoutError(), A)
    asked, anybody = topology.candidates(), topology.node_of(None)
    topology.note(b"OK", A)

    assert ([B, C, A], B) == (asked, anybody)
    assert [A, B, C] == topology.candidates()
