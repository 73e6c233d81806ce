"""Disturbing what the job's commands do, at any step: breaking it off, as a kill would, or acting meanwhile."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_generations import BuildingStore, GenerationStore
from functions.adapters.redis_resharding import ReshardingStore
from spark.archive import Archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEPS: Final[dict[str, list[tuple[type, str]]]] = {
    "fold": [(Archive, "write_log"), (ArchiveStore, "commit")],
    "backfill": [(Archive, "write_history"), (ArchiveStore, "commit")],
    "merge": [(Archive, "rewrite"), (ArchiveStore, "swap_files"), (Archive, "remove")],
    "erase": [
        *((ErasureStore, name) for name in ("begin_log", "copy_log", "finish_log", "erase_state", "forget_erased")),
        *((Archive, name) for name in ("rewrite", "remove")),
        (ArchiveStore, "swap_files"),
    ],
    "rebuild": [
        *((BuildingStore, name) for name in ("begin_shard", "commit", "forget_counted")),
        *((GenerationStore, name) for name in ("begin_generation", "fence", "switch_to", "lift_fence")),
        *((GenerationStore, name) for name in ("give_up_switch", "drop_generation")),
    ],
    "reshard": [
        *((ReshardingStore, name) for name in ("set_layout", "let_in", "commit", "begin_generation")),
        *((ReshardingStore, name) for name in ("drop_generation", "fence", "add_fields", "put_on_new_record")),
        *((ReshardingStore, name) for name in ("switch_to", "finish_shard", "move_erasures", "count_whole")),
        (Archive, "rewrite"),
        (Archive, "remove"),
    ],
}
"""What changes something outside, by command."""


class BrokenOffError(Exception):
    """In place of a kill: what is outside is as a kill leaves it, and nothing inside is used again."""


class Disturbance(NamedTuple):
    """What happens at the n-th call of a step."""

    step: tuple[type, str]
    nth: int
    how: str
    """``before`` or ``after`` it, all is broken off; anything else is what somebody does before it."""


@contextmanager
def disturbed(disturbance: Disturbance, act: Callable[[], None]) -> Iterator[list[str]]:
    """Disturb what is done within, where it comes to that; yield a list in which it then stands.

    Args:
        disturbance: Where, and how.
        act: What somebody else does, where it is to be broken off by nobody.
    """
    (owner, name), left, how = disturbance
    call = getattr(owner, name)
    own = name in vars(owner)
    happened: list[str] = []

    def restore() -> None:
        if own:
            setattr(owner, name, call)
        elif name in vars(owner):
            delattr(owner, name)

    def instead(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left > 0:
            return call(*arguments, **named)
        happened.append(f"{how} {name}")
        if how not in {"before", "after"}:
            restore()
            act()
            return call(*arguments, **named)
        if left == 0 and how == "after":
            call(*arguments, **named)
        raise BrokenOffError  # also in what cleans up: a kill leaves nobody who does

    setattr(owner, name, instead)
    try:
        yield happened
    except BrokenOffError:
        pass
    finally:
        restore()
