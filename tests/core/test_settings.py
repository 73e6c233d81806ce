"""Settings: every default on purpose, every mistake named at once, no secret shown."""

from __future__ import annotations

import dataclasses

import pytest

from functions.core.addresses import addresses_of, without_credentials
from functions.core.environment import parse, unknown_variables
from functions.core.errors import MisconfiguredError
from functions.core.settings import HIDDEN, Settings, variable_of

DEFAULTS = {
    "redis_url": "redis://127.0.0.1:6379/0",
    "redis_password": None,
    "redis_timeout_s": 2.0,
    "namespace": "ft",
    "shards": None,
    "dedupe_window_s": 21_600,
    "max_body_bytes": 8_388_608,
    "max_request_events": 10_000,
    "max_wait_s": 50,
    "sink_url": None,
    "sink_timeout_s": 2.0,
    "threshold_events": 50_000,
    "max_age_s": 300.0,
    "max_attempts": 5,
    "retry_pause_s": 30.0,
    "max_retry_pause_s": 600.0,
    "launcher": "operator",
    "round_events": 250_000,
    "log_level": "INFO",
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_are_what_they_are_on_purpose(name: str) -> None:
    """Whoever changes one meets this line."""
    assert DEFAULTS[name] == getattr(parse({}), name)


def test_variables_set_fields_of_every_type() -> None:
    """Whole numbers, numbers, texts, and K_SINK, which Knative names."""
    settings = parse({
        "FLYERTIME_SHARDS": "8", "FLYERTIME_MAX_AGE_S": "1.5", "FLYERTIME_NAMESPACE": "x", "K_SINK": "http://sink",
        "PATH": "/bin",
    })  # fmt: skip

    assert (8, 1.5, "x", "http://sink") == (settings.shards, settings.max_age_s, settings.namespace, settings.sink_url)


def test_an_empty_variable_is_an_unset_one() -> None:
    """Charts and shells leave empty ones behind."""
    assert parse({}) == parse({"FLYERTIME_SHARDS": "", "FLYERTIME_NAMESPACE": " "})


def test_all_mistakes_are_named_at_once() -> None:
    """With the variable, and what would be right."""
    with pytest.raises(MisconfiguredError) as error:
        parse({
            "FLYERTIME_SHARDS": "0", "FLYERTIME_MAX_AGE_S": "nan", "FLYERTIME_MAX_BODY_BYTES": "8MB",
            "FLYERTIME_LAUNCHER": "cron", "FLYERTIME_REDIS_TIMEOUT_S": "soon",
        })  # fmt: skip

    for words in (
        "FLYERTIME_SHARDS must be at least 1",
        "FLYERTIME_MAX_AGE_S must be",
        "FLYERTIME_MAX_BODY_BYTES must be a whole number",
        "FLYERTIME_LAUNCHER must be one of operator, local",
        "FLYERTIME_REDIS_TIMEOUT_S must be a number",
    ):
        assert words in error.value.message


def test_a_mistake_in_a_secret_shows_nothing_of_it() -> None:
    """Neither what is shown at start nor an error has the password."""
    settings = parse({"FLYERTIME_REDIS_PASSWORD": "hunter2", "FLYERTIME_REDIS_URL": "rediss://me:hunter2@host:1/0"})

    assert "hunter2" not in str(settings.shown())
    assert HIDDEN == settings.shown()["FLYERTIME_REDIS_PASSWORD"]
    assert "rediss://host:1/0" == settings.shown()["FLYERTIME_REDIS_URL"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:p@h", "redis://h"),
        ("redis://u:p%40x@h:1", "redis://h:1"),
        ("redis://u:p@x@h", "redis://h"),
        ("rediss://h:1?db=3&password=p&ssl_password=p", "rediss://h:1?db=3&password=(hidden)&ssl_password=(hidden)"),
    ],
)
def test_an_address_is_shown_without_user_and_password(url: str, shown: str) -> None:
    """Whatever characters are in them."""
    assert shown == without_credentials(url)


def test_unknown_variables_are_told_with_what_was_meant() -> None:
    """Told, not refused: Kubernetes adds such variables for a Service of that name."""
    warnings = unknown_variables({"FLYERTIME_TRESHOLD_EVENTS": "1", "FLYERTIME_REDIS_URL": "x", "HOME": "/"})

    assert ["FLYERTIME_TRESHOLD_EVENTS is not a setting (did you mean FLYERTIME_THRESHOLD_EVENTS?)"] == warnings


def test_every_setting_says_what_it_means() -> None:
    """And none shares its variable with another."""
    fields = dataclasses.fields(Settings)

    assert all(len(field.metadata["doc"]) > 10 for field in fields)
    assert len(fields) == len({variable_of(field) for field in fields})


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("redis://a:1/0", ["redis://a:1/0"]),
        ("redis://a:1,redis://b:2", ["redis://a:1", "redis://b:2"]),
        ("rediss://u:p@a:1, b:2,c", ["rediss://u:p@a:1", "rediss://u:p@b:2", "rediss://u:p@c"]),
        ("redis://:p,w@a:1,b:2", ["redis://:p,w@a:1", "redis://:p,w@b:2"]),
        ("redis://u:p@a:1,redis://u:q@b:2,", ["redis://u:p@a:1", "redis://u:q@b:2"]),
    ],
)
def test_a_store_may_have_several_addresses(url: str, addresses: list[str]) -> None:
    """Apart by commas; those without a scheme are like the first. A comma in a password is none between addresses."""
    assert addresses == addresses_of(url)
    assert "@" not in without_credentials(url)
