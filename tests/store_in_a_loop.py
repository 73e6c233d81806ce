"""Using a store of the functions from tests that are not asynchronous."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeVar

from functions.adapters.redis_store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from functions.core.settings import Settings


class _Closable(Protocol):
    async def close(self) -> None: ...


S = TypeVar("S", bound=_Closable)
T = TypeVar("T")


def run_with(kind: Callable[[Settings], S], settings: Settings, use: Callable[[S], Awaitable[T]]) -> T:
    """Use a store of some kind, its own, in an event loop of its own."""

    async def main() -> T:
        store = kind(settings)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(main())


def run(settings: Settings, use: Callable[[RedisStore], Awaitable[T]]) -> T:
    """Use a plain store so."""
    return run_with(RedisStore, settings, use)
