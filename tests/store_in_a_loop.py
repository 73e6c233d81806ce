"""Using the functions' store from tests that are not asynchronous."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from functions.adapters.redis_store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from functions.core.settings import Settings

T = TypeVar("T")


def run(settings: Settings, use: Callable[[RedisStore], Awaitable[T]]) -> T:
    """Use a store of its own in an event loop of its own."""

    async def main() -> T:
        store = RedisStore(settings)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(main())
