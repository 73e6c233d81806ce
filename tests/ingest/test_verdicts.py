"""What senders are told, as JSON."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from functions.core.event_columns import EventColumns
from functions.ingest.submissions import Submissions
from functions.ingest.verdicts import Answers, Outcome, Verdict

PLAIN = st.text("abc-#,:{}019", min_size=1, max_size=5)
IDS = st.lists(PLAIN, max_size=5) | st.lists(PLAIN | st.none() | st.text(max_size=5), max_size=5)


@given(IDS, st.booleans(), st.data())
def test_each_event_is_told_its_verdict_by_its_id(ids: list[str | None], minimal: bool, data: st.DataObject) -> None:
    """Whatever characters are in the ids, and whether all were accepted or not."""
    others = st.sampled_from([Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.RETRY])
    all_accepted = [Verdict.ACCEPTED] * len(ids)
    verdicts = data.draw(st.just(all_accepted) | st.lists(others, min_size=len(ids), max_size=len(ids)))

    body = json.loads(Outcome(Submissions(ids, EventColumns(), []), Answers(verdicts)).body(minimal=minimal))

    expected = [
        {"index": index, "id": event_id, "verdict": verdict}
        for index, (event_id, verdict) in enumerate(zip(ids, verdicts, strict=True))
        if not minimal or verdict is not Verdict.ACCEPTED
    ]
    assert expected == body.pop("events")
    assert {verdict: body[verdict] for verdict in Verdict} == {verdict: verdicts.count(verdict) for verdict in Verdict}
    assert 0 == body["quarantined"]
