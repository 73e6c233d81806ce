"""Who may read what: lines of keys, claims of tokens, where a token stands; buckets, pseudonyms."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.access import fitting, sha256_of
from functions.core.errors import RequestRefusedError
from functions.core.pseudonyms import Pseudonyms
from functions.core.read_access import Reader, ReadKey, parse_read_keys, reader_of, token_of
from functions.core.token_bucket import TokenBuckets

ALL = ReadKey("analysts", sha256_of("ftr_all"))
ACME = ReadKey("acme", sha256_of("ftr_acme"), "acme & söns: 100%", 0.5)


def test_lines_are_read_as_they_are_printed() -> None:
    """Whatever is in a merchant's name."""
    assert (ALL, ACME) == parse_read_keys(f" {ALL.line}\n\t{ACME.line} ")
    assert ACME.line.endswith(":merchant=acme%20%26%20s%C3%B6ns%3A%20100%25:rate=0.5")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_key_is_bound_to_exactly_its_merchant(merchant: str) -> None:
    """Through its line."""
    (key,) = parse_read_keys(ReadKey("k", sha256_of("t"), merchant).line)

    assert Reader("k", merchant) == key.reader


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftr_secret", "key 1 must be name:SHA-256"),
        ("", ""),
        (f"{ALL.line} acme:ftr_secret", "key 2 must be name:SHA-256"),
        (f"{ALL.line}:source=secret", "key 1 may go on with :merchant=ID and :rate=N"),
        (f"{ALL.line}:merchant=a:merchant=secret", "each once"),
        (f"{ALL.line}:merchant=", "merchant without a name"),
        (f"{ALL.line}:rate=secret", "requests a second"),
        (f"{ALL.line}:rate=0", "requests a second"),
        (f"{ALL.line}:", "and nothing else"),
        (f"{ALL.line} {ALL.line}", "key 2 has the name of an earlier one"),
    ],
)
def test_a_wrong_line_is_told_by_its_number(text: str, words: str) -> None:
    """And nothing of it is repeated: it may be a token. No line is no key."""
    if not text:
        assert () == parse_read_keys(text)
        return
    with pytest.raises(ValueError, match=words) as error:
        parse_read_keys(text)

    assert "secret" not in str(error.value)


@given(st.text())
def test_no_other_token_fits(token: str) -> None:
    """Whatever its length and its characters."""
    assert fitting((ALL, ACME), token) is None


def basic(text: str) -> str:
    """Return the header of basic authentication."""
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "key", "token"),
    [
        ("Bearer ftr_x", None, "ftr_x"),
        ("bearer  ftr_x ", None, "ftr_x"),
        (basic("anyone:ftr_x"), None, "ftr_x"),
        (basic("ftr_x"), None, None),
        ("Basic !!!", None, None),
        ("Digest ftr_x", None, None),
        ("ftr_x", None, None),
        ("", None, None),
        (None, "ftr_x", "ftr_x"),
        (None, "", None),
        (None, None, None),
    ],
)
def test_a_token_comes_as_readers_can_send_it(authorization: str | None, key: str | None, token: str | None) -> None:
    """As a bearer, as a password, or in the query."""
    assert token == token_of(authorization, key)


def test_two_tokens_are_one_too_many() -> None:
    """Which of them counts would be a guess."""
    with pytest.raises(RequestRefusedError):
        token_of("Bearer ftr_x", "ftr_y")


@pytest.mark.parametrize(
    ("claims", "reader"),
    [
        ({"sub": "s", "merchant": "m"}, Reader("s", "m")),
        ({"sub": "s", "merchant": "m", "scope": "read.all"}, Reader("s", "m")),
        ({"sub": "s", "scope": "openid read.all"}, Reader("s")),
        ({"scp": ["read.all"]}, Reader("")),
        ({"roles": ["other", "read.all"]}, Reader("")),
        ({"scope": "read.allx"}, None),
        ({"merchant": ["m"], "scope": "read.all"}, None),
        ({"merchant": "", "scope": "read.all"}, None),
        ({"merchant": 7, "scope": "read.all"}, None),
        ({"merchant": ["m"]}, None),
        ({}, None),
    ],
)
def test_claims_name_one_merchant_or_allow_all(claims: dict[str, object], reader: Reader | None) -> None:
    """A claim that names a merchant always binds; one that makes no sense allows nothing."""
    if reader is None:
        with pytest.raises(RequestRefusedError) as refused:
            reader_of(claims, "merchant", "read.all")
        assert 403 == refused.value.status
    else:
        assert reader == reader_of(claims, "merchant", "read.all")


def test_a_bucket_gives_a_burst_and_then_its_rate() -> None:
    """Two a second: twenty at once, then one every half second; somebody else has a bucket of their own."""
    buckets = TokenBuckets()

    assert [0] * 20 + [1] == [buckets.take("a", 2, 100.0) for _ in range(21)]
    assert 0 == buckets.take("b", 2, 100.0)
    assert [0, 1] == [buckets.take("a", 2, 100.5) for _ in range(2)]
    assert 10 == [buckets.take("slow", 0.1, 0.0) for _ in range(2)][1]


@given(st.binary(max_size=40), st.binary(max_size=40), st.text(max_size=9), st.text(max_size=9))
def test_pseudonyms_are_one_a_user_and_others_for_each_merchant(a: bytes, b: bytes, one: str, other: str) -> None:
    """The same merchant always sees the same one; two merchants share none, nor does another secret."""
    first, second = Pseudonyms("s", one + "1"), Pseudonyms("s", other + "2")

    assert (a == b) == (first.of(a) == first.of(b))
    assert first.of(a) != second.of(a)
    assert first.of(a) != Pseudonyms("t", one + "1").of(a)
    assert 34 == len(first.of(a))
