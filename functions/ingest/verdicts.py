"""What became of each event, and what the sender is told. Pure."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functions.ingest.submissions import Submissions


_NONE: Final[Mapping[int, str]] = MappingProxyType({})


class Verdict(StrEnum):
    """What became of an event."""

    ACCEPTED = "accepted"
    """It is in the log."""
    DUPLICATE = "duplicate"
    """It was in the log before; nothing to do."""
    REJECTED = "rejected"
    """It will never be taken as it is; the faults say why."""
    RETRY = "retry"
    """It could not be written; send it again."""


class Answers(NamedTuple):
    """What became of events that could be taken."""

    verdicts: Sequence[Verdict]
    """One an event, in their order."""
    retry_after_s: int = 1
    """Seconds that whatever could not be written should wait at least: the longest that any part of the store needs."""


class Counts(NamedTuple):
    """Events by verdict."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    retry: int = 0


def counts_of(verdicts: Sequence[Verdict]) -> Counts:
    """Count verdicts; where all events were taken there are no others to look for."""
    accepted = verdicts.count(Verdict.ACCEPTED)
    if accepted == len(verdicts):
        return Counts(accepted)
    return Counts(*map(verdicts.count, Verdict))


class _Fault(msgspec.Struct, gc=False):
    code: str
    pointer: str
    reason: str


class _Event(msgspec.Struct, omit_defaults=True, gc=False):
    index: int
    id: str | None
    verdict: str
    faults: list[_Fault] | None = None
    quarantine_id: str | None = None


class _Body(msgspec.Struct, gc=False):
    accepted: int
    duplicate: int
    rejected: int
    retry: int
    quarantined: int
    events: list[_Event]


class Outcome:
    """The verdicts on a request's events."""

    __slots__ = ("_quarantined", "_submissions", "counts", "retry_after_s", "verdicts")

    def __init__(self, submissions: Submissions, written: Answers, quarantined: Mapping[int, str] = _NONE) -> None:
        """Put together what became of those that could be taken (in their order) and those that could not.

        Args:
            submissions: The events.
            written: The verdicts on those that could be taken.
            quarantined: Of those that could not, by place among all: id in the quarantine, where they are kept.
        """
        self._submissions = submissions
        self._quarantined = quarantined
        self.retry_after_s = written.retry_after_s
        self.verdicts = written.verdicts
        if submissions.refused:
            taken = iter(written.verdicts)
            refused = submissions.refused
            self.verdicts = [Verdict.REJECTED if place in refused else next(taken) for place in range(len(submissions))]
        self.counts = counts_of(self.verdicts)

    def count(self, verdict: Verdict) -> int:
        """Return the number of events with a verdict."""
        return int(getattr(self.counts, verdict.value))

    @property
    def status(self) -> int:
        """The status that asks the sender for the most that any event needs.

        503 where something must be sent again, which is safe for all of it; 400 where nothing at all was acceptable;
        else 202.
        """
        if self.counts.retry:
            return 503
        if self._submissions.refused and len(self._submissions.refused) == len(self.verdicts):
            return 400
        return 202

    def body(self, *, minimal: bool = False) -> bytes:
        """Return the counts, and each event's verdict in the order sent, as JSON; minimal leaves out those accepted."""
        refused = self._submissions.refused
        all_accepted = self.counts.accepted == len(self._submissions)
        if minimal and all_accepted:
            return msgspec.json.encode(_Body(*self.counts, 0, []))
        ids = tuple(self._submissions.ids)
        if all_accepted and len(ids) > 1:
            with suppress(TypeError):  # some have none
                if (body := _all_accepted(ids)) is not None:  # type: ignore[arg-type]  # as said
                    return body
        events = [
            _Event(index, event_id, verdict)
            for index, (event_id, verdict) in enumerate(zip(ids, self.verdicts, strict=True))
            if not minimal or verdict is not Verdict.ACCEPTED
        ]
        for event in events if refused else ():
            refusal = refused.get(event.index)
            if refusal is not None:
                event.faults = [_Fault(fault.code, fault.pointer, fault.reason) for fault in refusal.faults]
                event.quarantine_id = self._quarantined.get(event.index)
        return msgspec.json.encode(_Body(*self.counts, len(self._quarantined), events))


_pieces: Final[list[str]] = []
"""What stands before the id of each event in a reply where all were accepted, and behind it a place for the id: for as
many as any reply has needed."""


def _all_accepted(ids: Sequence[str]) -> bytes | None:
    """Return the body for events that were all accepted; None where some id needs escapes."""
    joined = "".join(ids)
    if not ids or len(msgspec.json.encode(joined)) != len(joined) + 2:
        return None
    for index in range(len(_pieces) // 2, len(ids)):
        ended = '","verdict":"accepted"},' if index else ""
        _pieces.extend((f'{ended}{{"index":{index},"id":"', ""))
    head = f'{{"accepted":{len(ids)},"duplicate":0,"rejected":0,"retry":0,"quarantined":0,"events":['
    events = _pieces[: 2 * len(ids)]
    events[1::2] = ids
    return f'{head}{"".join(events)}","verdict":"accepted"}}]}}'.encode()
