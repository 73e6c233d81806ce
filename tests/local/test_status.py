"""`flyertime status`: looks at a pipeline, and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.testing import CliRunner

from functions.cli import main

if TYPE_CHECKING:
    import redis

    from functions.core.settings import Settings


def test_a_look_at_a_new_store_leaves_it_new(settings: Settings, raw_redis: redis.Redis) -> None:
    """Whoever writes first says how many shards there are, not who looks first."""
    environment = {"FLYERTIME_REDIS_URL": settings.redis_url, "FLYERTIME_NAMESPACE": settings.namespace}

    shown = CliRunner().invoke(main, ["status"], env=environment)

    assert (0, True, True) == (
        shown.exit_code,
        "nothing has been received so far" in shown.stdout,
        "no run so far" in shown.stdout,
    ), shown.output
    assert [] == list(raw_redis.scan_iter(f"{{{settings.namespace}*"))
