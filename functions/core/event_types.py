"""The types of the CloudEvents that flyertime sends and takes."""

from __future__ import annotations

from typing import Final

APP_EVENT: Final = "flyertime.app.event"
"""An app event, as the command line sends it; ingest takes app events of any type."""
BACKLOG_REACHED: Final = "flyertime.backlog.reached"
"""From ingest: a shard's backlog has passed its part of the threshold."""
FLUSH_REQUESTED: Final = "flyertime.flush.requested"
"""From ingest, the command line or anyone: fold what is there without delay."""
RUN_ENDED: Final = "flyertime.run.ended"
"""From the local launcher: a run has ended; on Kubernetes the ApiServerSource says so."""
REPORT_REQUESTED: Final = "flyertime.report.requested"
"""From anyone, to report: answer with the report as an event."""
REPORT_ANSWERED: Final = "flyertime.report.answered"
"""From report: the answer to such a request."""
REPORT_UPDATED: Final = "flyertime.report.updated"
"""The report shows something else now: from a run while it commits, and from trigger, as the answer to the broker that
told it of the run's end."""
PING: Final = "dev.knative.sources.ping"
"""From a PingSource: look whether the oldest event is too old."""
RUN_OBJECT_CHANGED: Final = (
    "dev.knative.apiserver.resource.add",
    "dev.knative.apiserver.resource.update",
    "dev.knative.apiserver.resource.delete",
    "dev.knative.apiserver.ref.add",
    "dev.knative.apiserver.ref.update",
    "dev.knative.apiserver.ref.delete",
)
"""From an ApiServerSource: a SparkApplication has changed."""
