"""The common way: a ``cloud_event`` function of functions-framework that pushes each event's JSON onto a Redis list."""

import json
import os

import functions_framework
import redis
from cloudevents.http import CloudEvent

store = redis.Redis.from_url(os.environ["FLYERTIME_REDIS_URL"])


@functions_framework.cloud_event  # type: ignore[untyped-decorator]  # as the framework has it
def push(event: CloudEvent) -> None:
    """Keep an event."""
    store.rpush("events", json.dumps(event.data))
