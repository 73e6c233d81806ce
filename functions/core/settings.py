"""The settings of a process: one frozen value, which functions/core/environment.py makes of variables ``FLYERTIME_*``.

Each field says what it means, in which unit and why it is as it is; docs/settings.md shows the same table, and a test
holds the two equal.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from functions.core import events as events_
from functions.core import policy as policy_
from functions.core import shards
from functions.core.addresses import without_credentials

LATENESS_S: Final = 172_800
PREFIX: Final = "FLYERTIME_"
HIDDEN: Final = "(set, hidden)"
MEMORY: Final = "memory"
FSYNC: Final = "fsync"
REPLICAS: Final = "replicas"


def _setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: str | None = None,
    secret: bool = False,
    env: str | None = None,
) -> Any:
    """Declare a setting: its default, what it means (first its unit), and the values it may have.

    ``env`` names the variable where it is not ours to name: Knative sets ``K_SINK``.
    """
    metadata: dict[str, Any] = {"doc": doc, "low": low, "high": high, "choices": choices, "pattern": pattern}
    metadata |= {"secret": secret, "env": env}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; each process reads those that concern it."""

    # The store
    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        "redis:// or rediss:// (TLS) address of the store; may carry user and password. Of a Redis Cluster several "
        "nodes, apart by commas, so that one may be away",
    )
    redis_password: str | None = _setting(
        None, "password of the store, kept apart from the address so that it can come from a Secret", secret=True
    )
    redis_timeout_s: float = _setting(
        2.0, "seconds to wait for one reply of the store, and to connect; then the caller is asked to retry", low=0.05
    )
    namespace: str = _setting("ft", "first part of every key; keeps pipelines in one store apart")
    shards: int | None = _setting(
        None,
        "number of shards, fixed when the store is first used; unset: what the store has, 16 in a new one",
        low=1,
        high=shards.MAX_SHARDS,
    )

    # ingest
    dedupe_window_s: int = _setting(
        21_600, "seconds; an event sent again with the same source and id counts once for one to two windows", low=1
    )
    durability: str = _setting(
        MEMORY,
        "when an event counts as accepted: the store has it in memory (and on disk as its appendfsync says), has "
        "written it to disk, or FLYERTIME_DURABILITY_REPLICAS replicas have it; docs/durability.md has the cost",
        choices=(MEMORY, FSYNC, REPLICAS),
    )
    durability_replicas: int = _setting(
        1,
        "replicas that must have an event before it is accepted, where FLYERTIME_DURABILITY is replicas",
        low=1,
    )
    durability_timeout_s: float = _setting(
        2.0, "seconds to wait for disk or replicas; then the sender is asked to retry", low=0.05, high=30
    )
    write_auth: str = _setting(
        "keys", "who may write: who has one of the write keys, or everybody", choices=("keys", "off")
    )
    write_keys: str | None = _setting(
        None, "the write keys: lines that `flyertime keys new` prints, apart by white space", secret=True
    )
    cors_origins: str | None = _setting(
        None, "origins of web pages that may send events, apart by commas; `*`: every one; unset: none"
    )
    webhook_origins: str | None = _setting(
        None, "senders whose CloudEvents webhook handshake is granted, apart by commas; `*`: every one; unset: none"
    )
    max_body_bytes: int = _setting(
        8_388_608, "bytes, as sent and unpacked; larger requests are refused with 413. About 30,000 events", low=1024
    )
    max_header_bytes: int = _setting(
        32_768, "bytes of a request's line and headers; larger ones are refused with 431", low=1024
    )
    head_timeout_s: float = _setting(
        30.0, "seconds for a request's line and headers to arrive; slower ones are refused with 408", low=0.1, high=3600
    )
    body_timeout_s: float = _setting(
        30.0, "seconds for a request's body to arrive; slower ones are refused with 408", low=0.1, high=3600
    )
    max_request_events: int = _setting(10_000, "events; requests with more are refused with 413", low=1)
    max_field_bytes: int = _setting(
        events_.MAX_FIELD_BYTES,
        "bytes of UTF-8; an event with a longer field or attribute is rejected; extensions may have 8 times as many",
        low=1,
        high=65_534,
    )
    max_depth: int = _setting(
        events_.MAX_DEPTH, "an event whose data is nested deeper is rejected; its own fields need 1", low=1, high=200
    )
    max_future_s: int = _setting(
        86_400, "seconds; an event whose timestamp is further ahead of our clock is rejected; 0: any is taken", low=0
    )
    quarantine_max_events: int = _setting(
        10_000,
        "rejected events kept for a fix, the newest; no key pushes the others out of half of it; 0: none is kept",
        low=0,
    )
    quarantine_max_bytes: int = _setting(33_554_432, "bytes that they may take in the store, all together", low=65_536)
    quarantine_max_event_bytes: int = _setting(
        65_536, "bytes of JSON; a larger rejected event is not kept", low=1024, high=1_048_576
    )
    quarantine_max_age_s: int = _setting(
        2_592_000, "seconds that they are kept at most, 30 days by default; 0: until they are pushed out", low=0
    )
    max_pending_events: int = _setting(
        10_000_000, "events pending in the store; beyond that senders are asked to retry later; 0: no limit", low=0
    )
    max_store_memory_ratio: float = _setting(
        0.9,
        "part of the store's maxmemory; beyond that senders are asked to retry later, so that the fold, which frees "
        "memory, still has some",
        low=0.1,
        high=1.0,
    )
    max_waiting_events: int = _setting(
        50_000, "events that one process holds while the store is slow; further senders are asked to retry", low=1
    )
    max_wait_s: int = _setting(
        50, "seconds; the longest that `Prefer: wait` holds a request, below the timeouts in front of us", low=0
    )
    sink_url: str | None = _setting(
        None, "where ingest says that a backlog is reached: the broker, or trigger itself", env="K_SINK"
    )
    sink_timeout_s: float = _setting(
        2.0, "seconds to deliver that; where it fails, the ping finds the backlog", low=0.1
    )

    # report
    read_auth: str = _setting(
        "keys",
        "who may read the report: who has one of the read keys or a token of the identity provider, or everybody",
        choices=("keys", "off"),
    )
    read_keys: str | None = _setting(
        None, "the read keys: lines that `flyertime keys new --read` prints, apart by white space", secret=True
    )
    oidc_issuer: str | None = _setting(
        None, "identity provider (OpenID Connect) whose tokens may read too: their `iss`; unset: none"
    )
    oidc_audience: str | None = _setting(None, "the `aud` that these tokens must have; must be set with the issuer")
    oidc_jwks_url: str | None = _setting(
        None, "address of the provider's keys; unset: what its `/.well-known/openid-configuration` says"
    )
    oidc_merchant_claim: str = _setting("merchant_id", "the claim that names the one merchant that a token may read")
    oidc_all_scope: str = _setting(
        "flyertime.read.all", "the scope or role with which a token without that claim may read all merchants"
    )
    reader_flush_interval_s: float = _setting(
        10.0,
        "seconds; readers who wait (`Prefer: wait`) make a flush be asked for at most once in so long, all of them "
        "together, since each may start a Spark run; 0: whenever one of them comes",
        low=0,
    )
    pseudonyms: str = _setting(
        "keyed",
        "what readers bound to a merchant see in place of user ids: pseudonyms, other ones for each merchant, or the "
        "ids as they are, by which partners can join their data",
        choices=("keyed", "off"),
    )
    pseudonym_secret: str | None = _setting(
        None,
        "a random text of 32 characters or more, as `openssl rand -hex 32` prints it, by which pseudonyms are made; "
        "another one makes others. Must be set where a reader may be bound to a merchant, unless pseudonyms are off",
        secret=True,
    )
    min_group_users: int | None = _setting(
        None,
        "users; summaries, their histogram and percentiles show no group of fewer, to no reader; 1: every group; "
        "unset: 5 for readers bound to a merchant, every group for those who read all of them",
        low=1,
    )
    read_rate_per_s: float = _setting(
        0.0,
        "requests a second of one read key, or of one token's owner, in one process; ten seconds' worth may come at "
        "once; beyond that 429; 0: no limit",
        low=0,
    )
    reader_stall_s: float = _setting(
        60.0, "seconds; a reader of the report whose side confirms not one byte for so long is cut off", low=0.1
    )

    # trigger
    threshold_events: int = _setting(50_000, "events pending that are worth a Spark run", low=1)
    max_age_s: float = _setting(300.0, "seconds; a smaller backlog is folded once its oldest event is this old", low=0)
    max_attempts: int = _setting(
        5, "runs started for one backlog before trigger gives up and says so", low=1, high=policy_.MAX_ATTEMPTS
    )
    retry_pause_s: float = _setting(30.0, "seconds after a failed run; doubles with each further failure", low=0)
    max_retry_pause_s: float = _setting(600.0, "seconds; the longest pause between attempts", low=0)
    launcher: str = _setting(
        "operator", "who runs Spark: the Kubernetes operator, or this machine", choices=("operator", "local")
    )
    run_name_prefix: str = _setting(
        "flyertime",
        "where the names of runs begin; lower-case letters, digits and dashes, a letter first, at most 28",
        pattern=policy_.PREFIX_PATTERN,
    )

    # the local launcher
    local_runs_dir: str = _setting(".flyertime/runs", "folder in which the local launcher keeps its runs")
    local_runs_kept: int = _setting(50, "ended runs of which it keeps the folder, the newest ones", low=1)
    local_max_run_s: float = _setting(3600.0, "seconds; a local run that takes longer is ended and has failed", low=1)
    run_ended_sink: str | None = _setting(
        None, "where the local launcher says that a run has ended: trigger itself; unset: K_SINK"
    )

    # the operator's launcher
    kubeconfig: str | None = _setting(
        None, "path of a kubeconfig, for a trigger outside the cluster; unset: the service account of trigger's pod"
    )
    kube_timeout_s: float = _setting(
        5.0, "seconds for one call of the Kubernetes API; then the sender is asked to retry", low=0.1
    )
    spark_namespace: str = _setting(
        "spark-jobs", "Kubernetes namespace of the runs; the operator must watch it (its value spark.jobNamespaces)"
    )
    spark_image: str | None = _setting(None, "image of the Spark job; must be set here or in the template")
    spark_image_pull_policy: str = _setting(
        "IfNotPresent", "when nodes pull that image", choices=("IfNotPresent", "Always", "Never")
    )
    spark_version: str = _setting("4.0.4", "version of Spark in that image")
    spark_main_file: str = _setting("local:///opt/flyertime/spark/main.py", "the job's main file in that image")
    spark_service_account: str = _setting(
        "flyertime-spark", "service account of the driver, which creates the executors' pods"
    )
    spark_redis_url: str | None = _setting(
        None, "address of the store as the job sees it, from its own namespace; unset: FLYERTIME_REDIS_URL"
    )
    spark_redis_secret: str | None = _setting(
        None, "name of the Secret in the runs' namespace that holds the store's password; unset: no password"
    )
    spark_redis_secret_key: str = _setting("password", "key of the password in that Secret")
    driver_cores: int = _setting(1, "cores of the driver", low=1)
    driver_memory: str = _setting("1g", "memory of the driver's JVM, such as 512m or 2g")
    executors: int = _setting(2, "executors of a run; with FLYERTIME_MAX_EXECUTORS the fewest", low=1)
    max_executors: int | None = _setting(
        None,
        "executors that a run may grow to: a core for each million events pending, at most one a shard; unset: fixed",
        low=1,
    )
    executor_cores: int = _setting(1, "cores of an executor, each working on one shard at a time", low=1)
    executor_memory: str = _setting("1g", "memory of an executor's JVM, such as 512m or 2g")
    executor_memory_overhead: str | None = _setting(
        None,
        "memory of an executor outside the JVM, where it folds; unset: a core's 192 MB and 3 KB an event of a round",
    )
    spark_node_selector: str | None = _setting(
        None, "labels of the nodes for driver and executors: `key=value,key=value`, or a JSON object"
    )
    spark_conf: str | None = _setting(
        None, "further Spark configuration: `key=value,key=value`, or a JSON object where values hold commas"
    )
    spark_labels: str | None = _setting(
        None, "further labels of runs and their pods: `key=value,key=value`, or a JSON object"
    )
    spark_template: str | None = _setting(
        None, "path of a YAML or JSON file with a part of a SparkApplication, merged over all of the above"
    )
    spark_ttl_s: int = _setting(
        21_600, "seconds for which an ended run is kept; failed attempts count as long", low=600
    )
    spark_unseen_s: float = _setting(
        120.0, "seconds after which a run without any state is told to be one that no operator has seen", low=1
    )

    # the Spark job
    spark_master: str | None = _setting(
        None, "Spark master; unset: what spark-submit says, or all cores of this machine"
    )
    round_events: int = _setting(
        250_000,
        "events of one shard that are folded in one step; bounds the memory of a task, and the pause of the store, a "
        "microsecond an event. Larger ones touch fewer users twice",
        low=1,
        high=1_000_000,
    )
    archive_uri: str | None = _setting(
        None,
        "folder, also file://, s3a:// or gs://, in which the job keeps all events as Parquet; unset: they are not kept",
    )
    linger_s: float = _setting(
        0.0,
        "seconds; a run goes on folding what arrives until nothing has for so long, instead of a new run each time",
        low=0,
    )
    linger_max_s: float = _setting(
        1800.0, "seconds; a run that lingers ends after so long, and the next one has the newest image", low=1
    )
    updates_sink: str | None = _setting(
        None,
        "where a run says, every few seconds at most, that it has committed and the report shows something new: a "
        "broker, or any address that takes CloudEvents; unset: nobody is told before the run's end",
    )

    open_to_close: str = _setting(
        "on",
        "whether the time from open to close is kept; what is folded without it has none from then on",
        choices=("on", "off"),
    )
    lateness_s: float = _setting(
        LATENESS_S,
        "seconds; an event so much before the latest one of its user and flyer still counts exactly for the time from "
        "open to close. Longer takes more memory in the store",
        low=0,
        high=10_000_000,
    )

    # every function
    log_level: str = _setting(
        "INFO", "least severe level that is logged", choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )

    access_log: str = _setting(
        "problems",
        "which requests are logged: status 400 and above and slow ones, at most 20 a second; all; or none",
        choices=("problems", "all", "off"),
    )
    slow_request_s: float = _setting(1.0, "seconds; a request that takes longer is logged as slow", low=0)
    metrics: str = _setting(
        "direct",
        "who may read `GET /metrics`: only who asks the process itself, not through a proxy as Knative's route is; "
        "everybody; or nobody",
        choices=("direct", "on", "off"),
    )

    @property
    def policy(self) -> policy_.Policy:
        """When trigger starts a run."""
        return policy_.Policy(
            threshold_events=self.threshold_events,
            max_age_s=self.max_age_s,
            max_attempts=self.max_attempts,
            retry_pause_s=self.retry_pause_s,
            max_retry_pause_s=self.max_retry_pause_s,
        )

    @property
    def lateness_us(self) -> int | None:
        """How far before a span's latest event its openings are exact, microseconds; None where none are kept."""
        return round(self.lateness_s * 1_000_000) if self.open_to_close == "on" else None

    def shown(self) -> dict[str, object]:
        """Return the settings by variable name for the log, without secrets."""
        shown: dict[str, object] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata["secret"] and value is not None:
                value = HIDDEN
            elif isinstance(value, str) and field.name.endswith(("_url", "_uri")):
                value = without_credentials(value)
            shown[variable_of(field)] = value
        return shown


def variable_of(field: dataclasses.Field[Any]) -> str:
    """Return the environment variable that sets a field."""
    return field.metadata["env"] or PREFIX + field.name.upper()
