"""The outside world: one file, or one prefix, an outside system; its exceptions stop there."""

from __future__ import annotations

import sys
from typing import Any

# redis-py imports OpenTelemetry's SDK for metrics wherever that is installed, and uses it only where told to: 30 ms and
# 2 MB of a start from zero. Not found, it goes without. redis_client.py, which imports redis-py, lifts this again.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("opentelemetry.sdk.metrics", None)
