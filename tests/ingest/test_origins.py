"""Who asks before sending: browsers and webhook senders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction

SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def open_ingest(serve_function: ServeFunction, ingest_settings: Settings) -> Iterator[httpx2.Client]:
    """Ingest for the pages of a shop and the webhooks of a sender."""
    environment = {
        "FLYERTIME_CORS_ORIGINS": f"{SHOP}, https://other.example",
        "FLYERTIME_WEBHOOK_ORIGINS": "sender.example",
    }
    with (
        serve_function("ingest", ingest_settings, **environment) as process,
        httpx2.Client(base_url=process.url, trust_env=False) as client,
    ):
        yield client


def test_a_page_of_a_named_origin_may_send(open_ingest: httpx2.Client) -> None:
    """The preflight names what it may send, the answer is readable for it."""
    headers = "ce-id, Ce-Apprelease, ce-, x-other, ce-a b"
    asks = {"origin": SHOP, "access-control-request-method": "POST", "access-control-request-headers": headers}
    granted = open_ingest.options("/", headers=asks)

    assert (204, SHOP, "POST") == (
        granted.status_code,
        granted.headers["access-control-allow-origin"],
        granted.headers["access-control-allow-methods"],
    )
    allowed = granted.headers["access-control-allow-headers"].split(", ")
    assert {"ce-id", "content-type", "authorization", "ce-apprelease"} <= set(allowed)
    assert not {"ce-", "x-other", "ce-a b"} & set(allowed)
    for status, body in ((200, "[]"), (400, "{")):
        answer = open_ingest.post(
            "/api/process", content=body, headers={"origin": SHOP, "content-type": "application/json"}
        )
        assert (status, SHOP) == (answer.status_code, answer.headers["access-control-allow-origin"])
        assert "origin" == answer.headers["vary"]


@pytest.mark.parametrize("origin", ["https://evil.example", "https://shop.example.evil", "null", ""])
def test_a_page_of_another_origin_may_not(open_ingest: httpx2.Client, origin: str) -> None:
    """Its browser is told nothing that would let it read or send."""
    asks = {"origin": origin, "access-control-request-method": "POST"}

    for reply in (open_ingest.options("/", headers=asks), open_ingest.post("/", headers={"origin": origin})):
        assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_a_webhook_sender_that_is_named_is_granted_its_wish(open_ingest: httpx2.Client) -> None:
    """The handshake of the CloudEvents webhook specification, §4: origin and rate, whether one was asked for or not."""
    asks = {"webhook-request-origin": "sender.example"}
    granted = open_ingest.options("/", headers={**asks, "webhook-request-rate": "120"})
    without_rate = open_ingest.options("/", headers=asks)
    other = open_ingest.options("/", headers={"webhook-request-origin": "stranger.example"})

    assert ("sender.example", "*") == (
        granted.headers["webhook-allowed-origin"],
        granted.headers["webhook-allowed-rate"],
    )
    assert "*" == without_rate.headers["webhook-allowed-rate"]
    assert "POST, OPTIONS" == granted.headers["allow"]
    assert "webhook-allowed-origin" not in other.headers


def test_without_the_settings_nobody_is_granted_anything(ingest: httpx2.Client) -> None:
    """OPTIONS says what there is, and no more."""
    headers = {"origin": SHOP, "access-control-request-method": "POST", "webhook-request-origin": "sender.example"}
    reply = ingest.options("/", headers=headers)

    assert (204, "POST, OPTIONS") == (reply.status_code, reply.headers["allow"])
    assert not [name for name in reply.headers if name.startswith(("access-control-", "webhook-"))]
