"""Access keys: which token fits, and which lines are keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.access import AccessKey, AccessKeys, parse_keys, sha256_of

KEY = AccessKey("phone", sha256_of("ftw_one"))
LIMITED = (
    AccessKey("fast", sha256_of("ftw_three"), None, 0.5),
    AccessKey("faster", sha256_of("ftw_four"), "a:rate=1", 1000.0, 5000),
)
BOUND = AccessKey("till", sha256_of("ftw_two"), "https://shop.example:8443/till")


def test_a_token_finds_its_key_among_several() -> None:
    """Any number may be valid at once, so that one can be changed without a gap."""
    keys = AccessKeys([KEY, BOUND])

    assert [KEY, BOUND, None] == [keys.find(token) for token in ("ftw_one", "ftw_two", "ftw_three")]


@given(st.text())
def test_no_other_token_fits(token: str) -> None:
    """Whatever its length and its characters."""
    assert AccessKeys([KEY, BOUND]).find(token) is None


def test_lines_are_read_as_they_are_printed() -> None:
    """White space of any kind stands between them."""
    assert AccessKeys((KEY, BOUND, *LIMITED)) == parse_keys(
        f"  {KEY.line}\n\t{BOUND.line}\n{LIMITED[0].line} {LIMITED[1].line}"
    )
    assert f"fast:{LIMITED[0].token_sha256}:rate=0.5" == LIMITED[0].line
    assert LIMITED[1].line.endswith(":rate=1000:burst=5000:source=a:rate=1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftw_secret", "key 1 must be name:SHA-256"),
        (f"{KEY.line} phone:ftw_secret", "key 2 must be name:SHA-256"),
        (f"bad/name:{'0' * 64}", "key 1 must be name:SHA-256"),
        (f"{KEY.line}:merchant=m", "may go on with :rate=N"),
        (f"{KEY.line}:rate=1:rate=2", "may go on with :rate=N"),
        (f"{KEY.line}:source=", "without a name after :source="),
        (f"{KEY.line}:rate=0", "events a second after :rate="),
        (f"{KEY.line}:rate=1e9", "events a second after :rate="),
        (f"{KEY.line}:rate=1:burst=0", "number of events after :burst="),
        (f"{KEY.line}:burst=5", "number of events after :burst=, and a :rate="),
        (f"{KEY.line} {KEY.line}", "key 2 has the name of an earlier one"),
    ],
)
def test_a_wrong_line_is_told_by_its_number(text: str, words: str) -> None:
    """And nothing of it is repeated: it may be a token."""
    with pytest.raises(ValueError, match=words) as error:
        parse_keys(text)

    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("https://shop.example:8443/till", True),
        ("https://shop.example:8443/till/7", True),
        ("https://shop.example:8443/tills", False),
        ("https://shop.example:8443/", False),
        ("", False),
    ],
)
def test_a_bound_key_sends_from_its_source_and_below(source: str, *, allowed: bool) -> None:
    """Below begins at a slash."""
    assert allowed == BOUND.may_send(source)
    assert KEY.may_send(source)
