"""What a client knows of a Redis Cluster: who serves which slot, and who has failed of late."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import redis
from redis import exceptions

from functions.adapters.redis_slots import Address, SlotMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 3
"""Trips of one command: the first, and those after a redirection."""
REFRESH_EVERY_S: Final = 0.25
"""While a node is away, the map of slots is asked for so often and not more."""
SHUNNED_S: Final = 1.0
"""A node that hung is left alone for so long, then one trip tries it: the others are not held up by it."""

STALE: Final = (
    redis.ConnectionError,
    redis.TimeoutError,
    exceptions.ClusterDownError,
    exceptions.ReadOnlyError,
    OSError,
)
"""Errors after which somebody else may serve the slot."""
REDIRECTED: Final = (exceptions.AskError, exceptions.TryAgainError)
"""Errors after which the command is known not to have been done; MovedError is an AskError."""


class Topology:
    """What both clients know of a cluster."""

    def __init__(self, seeds: Sequence[Address], *, several: bool) -> None:
        self.seeds = tuple(seeds)
        self.on = several
        self.slots: SlotMap | None = None
        self.stale = False
        self.failed: set[Address] = set()
        self._shunned_until_s: dict[Address, float] = {}
        self._asked_s = 0.0

    def switch_on(self) -> None:
        """Take the store for a cluster from now on."""
        if not self.on:
            logger.info("the store is a node of a Redis Cluster; asking it for the others")
            self.on = True

    def must_ask(self) -> bool:
        """Tell whether to ask for the map before the next command."""
        if self.slots is None:
            return True
        return self.stale and time.monotonic() - self._asked_s >= REFRESH_EVERY_S

    def candidates(self) -> list[Address]:
        """Return whom to ask, those that have failed last."""
        known = dict.fromkeys([*(self.slots.nodes if self.slots else ()), *self.seeds])
        return sorted(known, key=lambda address: address in self.failed)

    def learn(self, slots: SlotMap) -> None:
        """Take a new map."""
        self.slots, self.stale, self._asked_s = slots, False, time.monotonic()

    def node_of(self, slot: int | None) -> Address:
        """Return who serves a slot, or anybody.

        Raises:
            ClusterDownError: Nobody does.
        """
        slots = self.slots
        address = None
        if slots is not None:
            if slot is not None:
                address = slots.at(slot)
            else:
                address = next((node for node in slots.masters if node not in self.failed), None) or slots.masters[0]
        if address is None:
            self.stale = True
            raise exceptions.ClusterDownError("no node serves this slot")
        return address

    def goal_of(self, slot: int | None, reply: object) -> tuple[Address, bool]:
        """Return where to send a command that has had this reply, or None yet, and whether to say ASKING first.

        Raises:
            ClusterDownError: No node serves its slot.
        """
        if isinstance(reply, exceptions.AskError) and not isinstance(reply, exceptions.MovedError):
            return Address(reply.host, reply.port), True  # this one command, while the slot moves there
        return self.node_of(slot), False

    def enter(self, address: Address, timeout_s: float) -> None:
        """Begin a trip to a node; of one that hung, only one trip at a time finds out whether it still does.

        Raises:
            ConnectionError: It hung a moment ago.
        """
        until_s = self._shunned_until_s.get(address)
        if until_s is not None:
            now_s = time.monotonic()
            if now_s < until_s:
                raise redis.ConnectionError("this node did not answer a moment ago")
            self._shunned_until_s[address] = now_s + timeout_s + SHUNNED_S

    def note(self, outcome: object, address: Address) -> None:
        """Learn from what came of a command at a node."""
        if isinstance(outcome, exceptions.MovedError):
            self.stale = True
            if self.slots is not None:
                self.slots.move(outcome.slot_id, Address(outcome.host or address.host, outcome.port))
        elif isinstance(outcome, STALE):
            self.stale = True
            self.failed.add(address)
            if isinstance(outcome, redis.TimeoutError):
                self._shunned_until_s[address] = time.monotonic() + SHUNNED_S
        elif self.failed:
            self.failed.discard(address)
            self._shunned_until_s.pop(address, None)


def no_node(errors: Iterable[BaseException]) -> Exception:
    """Return the error for when nobody tells the map of slots: a server's own words where one gave some."""
    for error in errors:
        if isinstance(error, redis.AuthenticationError | exceptions.ResponseError):
            return error
    return redis.ConnectionError("no node of the cluster answers")
