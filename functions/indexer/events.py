"""From queue messages to the keys that they ask to look at. Changes with the shape of S3's events and of pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from aws_lambda_powertools.utilities.data_classes import S3Event
from aws_lambda_powertools.utilities.data_classes.s3_event import S3EventRecord
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from bucketdex.engine import Event
from bucketdex.engine.events import EventKind
from functions.pages import PAGE, read_page

TEST_EVENT = "s3:TestEvent"

Route = Callable[[str], str | None]


class Message(NamedTuple):
    """One queue message: what it asks to look at, as (table, event), and how often and how late it was received.

    error: why it cannot be understood, if so; it then has no events. is_page: whether a backfill sent it.
    """

    id: str
    receipt: str
    receives: int
    waited_ms: int
    events: tuple[tuple[str, Event], ...] = ()
    error: Exception | None = None
    is_page: bool = False

    @property
    def bytes_max(self) -> int:
        """The size of the largest object it names."""
        return max((event.size or 0 for _, event in self.events), default=0)


def read_message(record: SQSRecord, route: Route) -> Message:
    """The message of a queue record. Keys that no table claims, and S3's test event, leave it without events.

    `route` names the table that claims a key.
    """
    attributes = record.attributes
    sent_ms = int(attributes.sent_timestamp or 0)
    waited_ms = int(attributes.approximate_first_receive_timestamp or sent_ms) - sent_ms
    receives = int(attributes.approximate_receive_count or 1)
    message = Message(record.message_id, record.receipt_handle, receives, waited_ms)
    try:
        body = record.json_body
        if isinstance(body, dict) and PAGE in body:
            table, keys = read_page(body)  # a page names its table: one that is built beside the live one claims no key
            events = [Event(key, "other", size=size) for key, size in keys]
            return message._replace(events=tuple((table, event) for event in events), is_page=True)
        events = [_event(changed) for changed in _records(body)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return message._replace(error=error)
    routed = ((route(event.key), event) for event in events)
    return message._replace(events=tuple((table, event) for table, event in routed if table is not None))


def _records(body: Any) -> list[S3EventRecord]:
    if isinstance(body, dict) and "Records" in body:
        return list(S3Event(body).records)
    if isinstance(body, dict) and body.get("Event") == TEST_EVENT:
        return []
    raise ValueError("this message is no S3 event")


def _event(record: S3EventRecord) -> Event:
    changed = record.s3.get_object
    # Deletions have no size; tagging and expiry have no sequencer.
    return Event(
        key=unquote_plus(changed.key),
        kind=_kind(record.event_name),
        sequencer=changed.get("sequencer"),
        size=changed.get("size"),
    )


def _kind(name: str) -> EventKind:
    family = name.removeprefix("s3:").partition(":")[0]
    if family == "ObjectCreated":
        return "created"
    return "removed" if family in ("ObjectRemoved", "LifecycleExpiration") else "other"
