"""What trigger asks of those that run Spark: the operator on Kubernetes, or this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from functions.core.policy import Launch, Run


class Launcher(Protocol):
    """Starts runs and knows what became of them.

    Both methods raise UnavailableError where asking again may help, and MisconfiguredError, which says why, where only
    a person can.
    """

    async def runs(self) -> list[Run]:
        """Return the runs of this pipeline, of any state."""

    async def launch(self, launch: Launch) -> bool:
        """Start a run and return True; return False, a success too, where a run of this name exists already."""

    async def close(self) -> None:
        """Let go of all connections; runs go on."""
