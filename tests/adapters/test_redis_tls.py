"""A store as hosts of Redis give it: behind TLS, with a user, a password of any letters, and a database of its own."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx2
import redis

from functions.adapters.redis_shard import ShardStore
from functions.core.settings import Settings
from tests.adapters.test_spark_operator_tls import self_signed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import MakeServer, ServeFunction

PASSWORD = "p@:/,?#%w"
DATA = {"timestamp": "2026-03-02T08:00:00Z", "user_id": "u", "event": "flyer_open", "flyer_id": "f", "merchant_id": "m"}
EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": DATA}


@contextmanager
def tls_in_front_of(port: int, certificate: Path) -> Iterator[int]:
    """Listen with TLS and pass on what comes to a port that has none; the embedded server is built without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.new_event_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await reader.read(65536):
                writer.write(part)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, there_writer), carry(there_reader, writer))

    server = loop.run_until_complete(asyncio.start_server(accept, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:

        async def end() -> None:
            server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.wait(others, timeout=5) if others else None

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def post(url: str) -> httpx2.Response:
    """Send the event."""
    headers = {"content-type": "application/cloudevents+json"}
    return httpx2.post(url, content=json.dumps(EVENT), headers=headers, timeout=20, trust_env=False)


def test_everything_works_behind_tls_as_a_user_in_a_database(
    make_server: MakeServer, serve_function: ServeFunction, tmp_path: Path
) -> None:
    """The three functions and the job's client, all in the one database; no password in a log."""
    certificate = self_signed(tmp_path, "127.0.0.1")
    with (
        make_server({"user": f"app on '>{PASSWORD}' ~* &* +@all"}) as server,
        tls_in_front_of(server.port, certificate) as port,
    ):
        address = f"127.0.0.1:{port}/3?ssl_ca_certs={certificate}"
        settings = Settings(redis_url=f"rediss://app:{quote(PASSWORD, safe='')}@{address}", shards=4)
        with serve_function("ingest", settings) as ingest:
            assert 200 == httpx2.get(f"{ingest.url}/readyz", timeout=10, trust_env=False).status_code
            assert [1, 0] == [post(ingest.url).json()["accepted"] for _ in range(2)]
        with serve_function("report", settings) as report:
            assert [] == httpx2.get(report.url, timeout=10, trust_env=False).json()
            assert 404 == httpx2.get(f"{report.url}/users/u", timeout=10, trust_env=False).status_code
        with serve_function("trigger", settings, FLYERTIME_LAUNCHER="local") as trigger:
            looked = httpx2.get(trigger.url, timeout=10, trust_env=False)
        store = ShardStore(settings)
        assert 1 == sum(store.ledger(shard).pending for shard in range(4))
        store.close()
        with redis.Redis.from_url(server.url) as client, redis.Redis.from_url(f"{server.url[:-1]}3") as there:
            assert 0 == client.dbsize()
            assert 1 < there.dbsize()

    assert 200 == looked.status_code
    for process in (ingest, report, trigger):
        assert PASSWORD not in process.log.read_text()
        assert quote(PASSWORD, safe="") not in process.log.read_text()


def test_a_password_apart_from_the_address_goes_with_its_user(
    make_server: MakeServer, serve_function: ServeFunction
) -> None:
    """As it comes from a Secret: the address has the user, and no password."""
    with make_server({"user": f"app on '>{PASSWORD}' ~* &* +@all"}) as server:
        settings = Settings(redis_url=f"redis://app@127.0.0.1:{server.port}/0", shards=4)
        with serve_function("ingest", settings, FLYERTIME_REDIS_PASSWORD=PASSWORD) as ingest:
            assert 202 == post(ingest.url).status_code
        with serve_function("ingest", settings, FLYERTIME_REDIS_PASSWORD="another") as ingest:
            assert (503, "store_refused") == (post(ingest.url).status_code, post(ingest.url).json()["code"])


def test_a_certificate_that_nobody_vouches_for_is_not_spoken_to(
    make_server: MakeServer, serve_function: ServeFunction, tmp_path: Path
) -> None:
    """Whoever stands there is not the store: nothing is sent, and nothing accepted."""
    certificate = self_signed(tmp_path, "127.0.0.1")
    with make_server() as server, tls_in_front_of(server.port, certificate) as port:
        settings = Settings(redis_url=f"rediss://127.0.0.1:{port}/0", shards=4)
        with serve_function("ingest", settings) as ingest:
            refused = post(ingest.url)
        with redis.Redis.from_url(server.url) as client:
            assert 0 == client.dbsize()

    assert (503, "store_unavailable") == (refused.status_code, refused.json()["code"])
