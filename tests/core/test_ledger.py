"""The books of all shards together."""

from __future__ import annotations

from functions.core.ledger import Backlog, ShardLedger, backlog_of, position_of


def test_the_backlog_sums_up_and_takes_the_oldest() -> None:
    """Pending is what is accepted and not folded; the oldest is the oldest of any shard."""
    backlog = backlog_of([
        ShardLedger(0, accepted=10, folded=4, oldest_pending_ms=2000),
        ShardLedger(1, accepted=5, folded=5),
        ShardLedger(2, accepted=1, oldest_pending_ms=1000),
    ])  # fmt: skip

    assert (7, 1000) == (backlog.pending_events, backlog.oldest_pending_ms)


def test_the_digest_follows_from_what_is_folded() -> None:
    """New events do not change it, a commit does: it names the work that starts where the last commit ended."""
    before = [ShardLedger(0, accepted=1, folded_to="5-0"), ShardLedger(1)]
    more = [ShardLedger(0, accepted=9, folded_to="5-0"), ShardLedger(1, accepted=3)]
    folded = [ShardLedger(0, accepted=9, folded_to="5-0"), ShardLedger(1, accepted=3, folded_to="6-0")]

    assert backlog_of(before, "p").digest == backlog_of(more, "p").digest
    assert 3 == len({backlog_of(before, "p").digest, backlog_of(folded, "p").digest, backlog_of(before, "q").digest})


def test_nothing_is_no_backlog() -> None:
    """No shards, no events."""
    assert isinstance(backlog_of([]), Backlog)
    assert (0, None) == (backlog_of([]).pending_events, backlog_of([]).oldest_pending_ms)


def test_positions_are_numbers_not_texts() -> None:
    """1000-10 comes after 999-9 and after 1000-9."""
    assert position_of("999-9") < position_of("1000-9") < position_of("1000-10")
