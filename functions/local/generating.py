"""Made-up events that behave like real ones: sessions on flyers, other events, repeats, disorder, late arrivals. Pure.

The same seed makes the same events, byte for byte.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from functions.core import event_types
from functions.core.events import FLYER_CLOSE, FLYER_OPEN
from functions.core.timestamps import format_us, parse_us

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE: Final = "/flyertime/generator"
_SECOND_US: Final = 1_000_000
_FLYERS_A_MERCHANT: Final = 8


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who does what, how often. The shares are of all events, from 0 to 1."""

    users: int = 500
    merchants: int = 12
    start: str = "2026-03-02T08:00:00Z"
    sessions_a_second: float = 0.5
    other_share: float = 0.15
    """Sessions that are no look at a flyer: a shopping list opened."""
    unclosed_share: float = 0.05
    """Flyers opened and never closed."""
    duplicate_share: float = 0.02
    """Events that the app sends twice, as it does when a reply got lost."""
    disordered_share: float = 0.05
    """Events that arrive up to two minutes after their time."""
    late_share: float = 0.01
    """Events that arrive hours after their time, as from a phone that was off."""


def generate(seed: int, events: int, crowd: Crowd = Crowd()) -> Iterator[dict[str, Any]]:
    """Yield CloudEvents as JSON objects, in the order in which they arrive.

    Args:
        seed: Of everything random.
        events: How many different events; repeats come on top of them.
        crowd: Who does what.
    """
    rng = random.Random(seed)  # noqa: S311  # not for secrets
    users = [f"{rng.getrandbits(128):032x}" for _ in range(crowd.users)]
    arrivals: list[tuple[int, int, dict[str, Any]]] = []  # a heap by moment of arrival
    now_us = parse_us(crowd.start)
    made = tie = 0
    while made < events:
        now_us += round(rng.expovariate(crowd.sessions_a_second) * _SECOND_US)
        while arrivals and arrivals[0][0] <= now_us:
            yield heapq.heappop(arrivals)[2]
        for moment_us, data in _session(rng, crowd, rng.choice(users), now_us):
            if made == events:
                break
            event = _cloud_event(f"{seed}-{made}", moment_us, data)
            made += 1
            for _ in range(2 if rng.random() < crowd.duplicate_share else 1):
                tie += 1
                heapq.heappush(arrivals, (moment_us + _delay_us(rng, crowd), tie, event))
    while arrivals:
        yield heapq.heappop(arrivals)[2]


def _session(rng: random.Random, crowd: Crowd, user: str, start_us: int) -> list[tuple[int, dict[str, Any]]]:
    """Return the events of one use of the app, with their moments."""

    def event(name: str, moment_us: int, flyer: str, merchant: str) -> tuple[int, dict[str, Any]]:
        data = {
            "timestamp": format_us(moment_us),
            "user_id": user,
            "event": name,
            "flyer_id": flyer,
            "merchant_id": merchant,
        }
        return moment_us, data

    if rng.random() < crowd.other_share:
        return [event("shopping_list_open", start_us, "", "")]
    # A few merchants draw most of the looks.
    merchant = min(int(rng.expovariate(4 / crowd.merchants)), crowd.merchants - 1)
    flyer = f"f{merchant}-{rng.randrange(_FLYERS_A_MERCHANT)}"
    look_us = round(min(rng.lognormvariate(4.5, 1.2), 7200) * 1000) * 1000
    opened = event(FLYER_OPEN, start_us, flyer, f"m{merchant}")
    if rng.random() < crowd.unclosed_share:
        return [opened]
    return [opened, event(FLYER_CLOSE, start_us + look_us, flyer, f"m{merchant}")]


def _delay_us(rng: random.Random, crowd: Crowd) -> int:
    """Return how long an event is under way."""
    chance = rng.random()
    if chance < crowd.late_share:
        return rng.randrange(2 * 3600, 6 * 3600) * _SECOND_US
    if chance < crowd.late_share + crowd.disordered_share:
        return rng.randrange(120 * _SECOND_US)
    return rng.randrange(_SECOND_US)


def _cloud_event(event_id: str, moment_us: int, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": event_types.APP_EVENT,
        "time": format_us(moment_us),
        "data": data,
    }
