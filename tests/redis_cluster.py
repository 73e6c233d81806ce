"""A real Redis Cluster of embedded servers on the loopback address."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import redis

from functions.local.valkey import EmbeddedValkey, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Self

SLOTS = 16384
_DEADLINE_S = 20.0


def plain_client(url: str) -> redis.Redis:
    """Return a client that is not ours: redis-py's own, for the addresses of a cluster its RedisCluster."""
    first, *others = url.split(",")
    client: Any = redis.RedisCluster.from_url(first) if others else redis.Redis.from_url(first)
    return client  # type: ignore[no-any-return]


class EmbeddedCluster:
    """Masters that share all slots, in equal parts, and any number of replicas of each."""

    def __init__(
        self,
        folder: Path,
        *,
        masters: int = 3,
        replicas: int = 0,
        config: Mapping[str, str] | None = None,
        binary: str | None = None,
    ) -> None:
        """Prepare servers; nothing starts before the ``with`` block."""
        self.masters = masters
        settings = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": "1500",
            "cluster-require-full-coverage": "no",
            "repl-diskless-sync-delay": "0",
            **(config or {}),
        }
        ports = free_ports(masters * (1 + replicas))
        self.nodes = [
            EmbeddedValkey(
                folder / str(number), port=port, binary=binary,
                config={**settings, "cluster-port": str(bus), "cluster-config-file": "nodes.conf"},
            )
            for number, (port, bus) in enumerate(ports)
        ]  # fmt: skip
        self._bus = dict(ports)

    @property
    def url(self) -> str:
        """Address for FLYERTIME_REDIS_URL: all nodes."""
        return ",".join(node.url.removesuffix("/0") for node in self.nodes)

    def client(self, number: int) -> redis.Redis:
        """Return a plain client of one node."""
        return redis.Redis(port=self.nodes[number].port, socket_timeout=5)

    def node_of(self, key: str) -> int:
        """Return the number of the master that serves a key."""
        with self.client(0) as client:
            slot = int(client.execute_command("CLUSTER KEYSLOT", key))
        return slot * self.masters // SLOTS

    def __enter__(self) -> Self:
        started: list[EmbeddedValkey] = []
        try:
            for node in self.nodes:
                node.start()
                started.append(node)
            self._join()
        except BaseException:
            for node in started:
                node.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()

    def wait_until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait for something that the cluster does in its own time."""
        deadline = time.monotonic() + _DEADLINE_S
        while not happened():
            if time.monotonic() > deadline:
                raise TimeoutError(what)
            time.sleep(0.05)

    def is_whole(self) -> bool:
        """Tell whether every node that answers sees all slots served."""
        return all("cluster_state:ok" in self._info(number) for number in range(len(self.nodes)))

    def _info(self, number: int) -> str:
        with self.client(number) as client:
            reply = client.execute_command("CLUSTER", "INFO")
        return reply.decode() if isinstance(reply, bytes) else str(reply)

    def _join(self) -> None:
        bounds = [SLOTS * number // self.masters for number in range(self.masters + 1)]
        for number in range(self.masters):
            with self.client(number) as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number in range(1, len(self.nodes)):
            port = self.nodes[number].port
            with self.client(0) as client:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", port, self._bus[port])
        self.wait_until(lambda: self._known() and self.is_whole(), "the nodes do not meet")
        for number in range(self.masters, len(self.nodes)):
            with self.client(number % self.masters) as master, self.client(number) as client:
                client.execute_command("CLUSTER", "REPLICATE", master.execute_command("CLUSTER", "MYID").decode())
        replicas = range(self.masters, len(self.nodes))
        self.wait_until(lambda: all(map(self._replicates, replicas)), "a replica does not follow its master")

    def _known(self) -> bool:
        wanted = f"cluster_known_nodes:{len(self.nodes)}\r"
        return all(wanted in self._info(number) for number in range(len(self.nodes)))

    def _replicates(self, number: int) -> bool:
        with self.client(number) as client:
            return bool(client.info("replication").get("master_link_status") == "up")


def free_ports(servers: int) -> list[tuple[int, int]]:
    """Return two different ports for each server, for its clients and for the cluster's bus."""
    ports: set[int] = set()
    while len(ports) < 2 * servers:
        ports.add(free_port())
    taken = sorted(ports)
    return list(zip(taken[:servers], taken[servers:], strict=True))
