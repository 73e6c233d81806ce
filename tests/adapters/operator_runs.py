"""Runs as SparkApplications, by a launcher of their own each time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from functions.adapters.spark_operator import OperatorLauncher
from functions.core.policy import Cause, Launch, Run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from functions.core.settings import Settings


T = TypeVar("T")
DIGEST = "0123456789ab"
TIMEOUT_S = 1.5


def launch_of(attempt: int = 1) -> Launch:
    """Return an order to start a run."""
    return Launch(f"ft-{DIGEST}-{attempt}", DIGEST, attempt, 7, Cause.AGE, "old")


NAME = launch_of().name


def using(
    settings: Settings, work: Callable[[OperatorLauncher], Awaitable[T]], clock: Callable[[], float] = time.time
) -> T:
    """Do something with a launcher."""

    async def run() -> T:
        launcher = OperatorLauncher(settings, clock)
        try:
            return await work(launcher)
        finally:
            await launcher.close()

    return asyncio.run(run())


def start(settings: Settings, attempt: int = 1) -> bool:
    """Start a run."""
    return using(settings, lambda launcher: launcher.launch(launch_of(attempt)))


def runs(settings: Settings, clock: Callable[[], float] = time.time) -> list[Run]:
    """Return the runs."""
    return using(settings, lambda launcher: launcher.runs(), clock)
