"""From a request's headers and body to its events: the quick way where it does, else the strict one. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.adapters import cloud_events as cloud_events_
from functions.core.errors import RequestRefusedError
from functions.ingest.quick_decoding import quick_array, quick_batch, quick_binary, quick_structured
from functions.ingest.submissions import from_array, from_cloud_events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functions.core.events import Limits
    from functions.core.naming import Digests
    from functions.ingest.submissions import Submissions


def cloud_events(
    headers: Mapping[str, str],
    body: bytes,
    limits: Limits,
    digests: Digests,
    may_send: Callable[[str], bool] | None = None,
) -> Submissions:
    """Return the events of a CloudEvents request.

    Args:
        headers: By lower-case name.
        body: The whole body.
        limits: What an event may be at most.
        digests: Makes the store's.
        may_send: Whether the sender may send events of a source; None: of any.

    Raises:
        RequestRefusedError: The request is no CloudEvent, or cannot be read as what its headers say it is.
    """
    content_type = headers.get("content-type", "")
    quick = None
    if content_type.startswith(cloud_events_.BATCH_TYPE):
        if _is_plain(content_type, cloud_events_.BATCH_TYPE):
            quick = quick_batch(body, limits, digests, may_send)
    elif content_type.startswith(cloud_events_.STRUCTURED_TYPE):
        if _is_plain(content_type, cloud_events_.STRUCTURED_TYPE):
            quick = quick_structured(body, limits, digests, may_send)
    else:
        quick = quick_binary(headers, body, limits, digests, may_send)
    if quick is not None:
        return quick
    return from_cloud_events(cloud_events_.decode(headers, body, limits), limits, digests, may_send)


def check_attributes(headers: Mapping[str, str], names: Sequence[bytes]) -> None:
    """Let a request pass none of whose headers that are attributes of its event came more than once.

    Joined, as other headers may be, they would be a value that nobody gave, and a name that no repeat would have.

    Args:
        headers: By lower-case name.
        names: Of all headers, as often as each came.

    Raises:
        RequestRefusedError: Some did.
    """
    if headers.get("content-type", "").lower().startswith("application/cloudevents"):
        return  # then the attributes are in the body
    attributes = [name for name in names if name.startswith(b"ce-")]
    if len(set(attributes)) < len(attributes):
        raise RequestRefusedError("not_a_cloudevent", "some attribute of the event came in more than one header")


def array(headers: Mapping[str, str], body: bytes, limits: Limits, digests: Digests) -> Submissions:
    """Return the events of a raw JSON array.

    Raises:
        RequestRefusedError: It is none.
    """
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RequestRefusedError("unsupported_format", "send a JSON array as application/json", status=415)
    key = headers.get("idempotency-key")
    quick = quick_array(body, key, limits, digests)
    return from_array(cloud_events_.decode_json(body), key, limits, digests) if quick is None else quick


def _is_plain(content_type: str, media_type: str) -> bool:
    return content_type[len(media_type) :].lower() in {"", "; charset=utf-8", ";charset=utf-8"}
