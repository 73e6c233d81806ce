"""Tokens of an identity provider: real keys, published over real HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from functions.adapters.identity_tokens import MAX_AGE_S, MIN_REFRESH_S, REFRESH_S, IdentityTokens
from functions.core.errors import MisconfiguredError, RequestRefusedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction

AUDIENCE = "flyertime"
RSA = {name: rsa.generate_private_key(65537, 2048) for name in ("one", "two")}
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


class Provider:
    """A provider that publishes keys, and counts how often they are read."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.reads = 0
        self.broken = False
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/.well-known/openid-configuration":
                    body: object = {"issuer": provider.url, "jwks_uri": f"{provider.url}/keys"}
                else:
                    provider.reads += 1
                    body = {"keys": provider.keys}
                self.send_response(500 if provider.broken else 200)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def publish(self, *names: str) -> None:
        """Publish some of the RSA keys, and the others."""
        self.keys = [
            {**RSAAlgorithm.to_jwk(RSA[name].public_key(), as_dict=True), "kid": name, "use": "sig"} for name in names
        ]
        self.keys.append({**ECAlgorithm(ECAlgorithm.SHA256).to_jwk(EC.public_key(), as_dict=True), "kid": "ec"})
        self.keys.append({**OKPAlgorithm().to_jwk(ED.public_key(), as_dict=True), "kid": "ed"})
        self.keys.append({"kty": "OKP", "crv": "X25519", "kid": "agreement", "x": "AAAA", "use": "enc"})
        self.keys.append({"kty": "EC", "crv": "of-tomorrow", "kid": "new", "x": "AAAA", "y": "AAAA"})
        self.keys.append(
            {"kty": "oct", "kid": "shared", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "alg": "HS256"}
        )

    def token(self, key: Any = RSA["one"], name: str | None = "one", algorithm: str = "RS256", **changes: Any) -> str:
        """Return a token; a claim that is changed to None is not there."""
        now_s = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "reader",
            "exp": now_s + 300,
            "merchant_id": "acme",
            **changes,
        }
        headers = {} if name is None else {"kid": name}
        return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm, headers=headers)


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A running provider."""
    provider = Provider()
    provider.publish("one")
    thread = threading.Thread(target=provider.server.serve_forever, args=(0.05,))
    thread.start()
    yield provider
    provider.server.shutdown()
    thread.join()
    provider.server.server_close()


@pytest.fixture
def oidc(provider: Provider, settings: Settings) -> Settings:
    """Settings that name it."""
    return dataclasses.replace(settings, oidc_issuer=provider.url, oidc_audience=AUDIENCE)


def claims_of(tokens: IdentityTokens, *each: str) -> list[Any]:
    """Return the claims of tokens, or the error in their place."""

    async def read() -> list[Any]:
        found: list[Any] = []
        for token in each:
            try:
                found.append(await tokens.claims(token))
            except (RequestRefusedError, UnavailableError) as e:
                found.append(e)
        return found

    return asyncio.run(read())


def test_every_asymmetric_kind_of_key_is_taken(provider: Provider, oidc: Settings) -> None:
    """RSA, elliptic curves, Edwards curves; the keys' address comes from the issuer's own description."""
    each = [
        provider.token(),
        provider.token(algorithm="PS256"),
        provider.token(EC, "ec", "ES256"),
        provider.token(ED, "ed", "EdDSA"),
        provider.token(aud=["other", AUDIENCE]),
    ]

    assert ["acme"] * 5 == [claims["merchant_id"] for claims in claims_of(IdentityTokens(oidc), *each)]
    assert 1 == provider.reads


def test_what_is_no_valid_token_of_this_provider_is_refused(provider: Provider, oidc: Settings) -> None:
    """Each with a 401 that says why, and repeats nothing of it."""
    now_s = int(time.time())
    good = provider.token()
    head, body, signature = good.split(".")
    public = RSA["one"].public_key()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    import base64  # noqa: PLC0415
    import hmac  # noqa: PLC0415

    forged_head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=").decode()
    forged = f"{forged_head}.{body}"
    mac = base64.urlsafe_b64encode(hmac.digest(pem, forged.encode(), "sha256")).rstrip(b"=").decode()
    bad = {
        "expired": provider.token(exp=now_s - 60),
        "not valid yet": provider.token(nbf=now_s + 120),
        "another issuer": provider.token(iss="https://elsewhere"),
        "another audience": provider.token(aud="elsewhere"),
        "without exp": provider.token(exp=None),
        "without aud": provider.token(aud=None),
        "without iss": provider.token(iss=None),
        "another key": provider.token(RSA["two"], "one"),
        "an unknown key": provider.token(RSA["two"], "two"),
        "no name of a key": provider.token(name=None),
        "no signature": f"{head}.{body}.",
        "a changed body": f"{head}.{body[:-4]}AAAA.{signature}",
        "none": jwt.encode({"iss": provider.url, "aud": AUDIENCE, "exp": now_s + 9}, "", "none"),
        "the public key as a shared secret": f"{forged}.{mac}",
        "a published shared secret": provider.token(b"secret-secret-secret-secret-secret", "shared", "HS256"),
        "nonsense": "a.b.c",
    }
    refused = dict(zip(bad, claims_of(IdentityTokens(oidc), *bad.values()), strict=True))

    assert dict.fromkeys(bad, 401) == {name: error.status for name, error in refused.items()}
    assert not any(value in error.message for error in refused.values() for value in ("acme", "elsewhere", "reader"))


def test_keys_may_change(provider: Provider, oidc: Settings) -> None:
    """A new one is found when a token first names it; one that is taken back is refused once keys are read again."""
    now_s = 1000.0
    tokens = IdentityTokens(oidc, clock=lambda: now_s)
    one, two = provider.token(), provider.token(RSA["two"], "two")
    assert [False, True] == [isinstance(found, RequestRefusedError) for found in claims_of(tokens, one, two)]

    provider.publish("two")
    assert isinstance(claims_of(tokens, two)[0], RequestRefusedError), "not asked again so soon"
    now_s += MIN_REFRESH_S
    assert [False, True] == [isinstance(found, RequestRefusedError) for found in claims_of(tokens, two, one)]


def test_made_up_key_names_make_no_load(provider: Provider, oidc: Settings) -> None:
    """However many tokens name unknown keys, the provider is asked once in a while."""
    tokens = IdentityTokens(oidc, clock=lambda: 1000.0)
    claims_of(tokens, *(provider.token(name=f"made-up-{number}") for number in range(20)))

    assert 1 == provider.reads


def test_known_keys_outlast_the_provider_for_a_day(provider: Provider, oidc: Settings) -> None:
    """Where it does not answer; without any keys it is told that this is nobody's fault who asks."""
    now_s = 1000.0
    tokens = IdentityTokens(oidc, clock=lambda: now_s)
    token = provider.token()
    assert "acme" == claims_of(tokens, token)[0]["merchant_id"]
    provider.broken = True
    now_s += REFRESH_S
    assert "acme" == claims_of(tokens, token)[0]["merchant_id"]
    now_s += MAX_AGE_S

    assert isinstance(claims_of(tokens, token)[0], UnavailableError)
    assert isinstance(claims_of(IdentityTokens(oidc), token)[0], UnavailableError)


def test_an_audience_must_be_set(settings: Settings) -> None:
    """A token for somebody else would do otherwise."""
    with pytest.raises(MisconfiguredError):
        IdentityTokens(dataclasses.replace(settings, oidc_issuer="https://issuer"))


@contextmanager
def guarded(serve_function: ServeFunction, oidc: Settings, **named: str) -> Iterator[httpx2.Client]:
    """Serve a report that takes tokens."""
    environment = {"FLYERTIME_OIDC_ISSUER": oidc.oidc_issuer or "", "FLYERTIME_OIDC_AUDIENCE": AUDIENCE, **named}
    oidc = dataclasses.replace(oidc, pseudonyms="off")
    with (
        serve_function("report", oidc, **environment) as process,
        httpx2.Client(base_url=process.url, trust_env=False) as client,
    ):
        yield client


def test_a_token_shows_what_its_claims_allow(provider: Provider, oidc: Settings, serve_function: ServeFunction) -> None:
    """Over HTTP: one merchant, all of them, or nothing."""

    def ask(client: httpx2.Client, path: str, **claims: Any) -> httpx2.Response:
        return client.get(path, headers={"authorization": f"Bearer {provider.token(**claims)}"})

    with guarded(serve_function, oidc) as client:
        assert (200, []) == ((answer := ask(client, "/merchants/acme")).status_code, answer.json())
        assert "other_merchant" == ask(client, "/merchants/zephyr").json()["code"]
        assert ask(client, "/summary").json()["ledger"] is None
        everything = {"merchant_id": None, "scope": "openid flyertime.read.all"}
        assert ask(client, "/summary", **everything).json()["ledger"] is not None
        assert "no_such_merchant" == ask(client, "/merchants/zephyr", **everything).json()["code"]
        assert (403, "nothing_to_read") == (
            (none := ask(client, "/", merchant_id=None)).status_code,
            none.json()["code"],
        )
        assert (401, "invalid_token") == ((late := ask(client, "/", exp=1)).status_code, late.json()["code"])
        assert "invalid_token" in late.headers["www-authenticate"]
        assert 401 == client.get("/").status_code


def test_the_owner_of_tokens_asks_as_often_as_the_setting_allows(
    provider: Provider, oidc: Settings, serve_function: ServeFunction
) -> None:
    """Another token of the same owner is no way around it; another owner is not held up."""
    tokens = [provider.token(), provider.token(exp=int(time.time()) + 200), provider.token(sub="another")]
    with guarded(serve_function, oidc, FLYERTIME_READ_RATE_PER_S="0.1") as client:
        answers = [client.get("/", headers={"authorization": f"Bearer {token}"}) for token in tokens]

    assert [200, 429, 200] == [answer.status_code for answer in answers]
    assert 1 <= int(answers[1].headers["retry-after"]) <= 10


def test_a_provider_that_is_away_is_a_503_that_says_when_to_ask_again(
    provider: Provider, oidc: Settings, serve_function: ServeFunction
) -> None:
    """And no 401: the token may be right."""
    provider.broken = True
    with guarded(serve_function, oidc) as client:
        answer = client.get("/", headers={"authorization": f"Bearer {provider.token()}"})

    assert (503, "identity_provider", "5") == (
        answer.status_code, answer.json()["code"], answer.headers["retry-after"],
    )  # fmt: skip
