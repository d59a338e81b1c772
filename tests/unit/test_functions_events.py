"""From queue records to keys: S3's encodings and the shapes that its events come in."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.engine import Event
from bucketdex.errors import ThrottledError
from functions.indexer.events import Message, read_message


def s3_record(name: str, key: str, **fields: Any) -> dict[str, Any]:
    """A record as S3 sends it, the key form-encoded."""
    changed = {"key": quote_plus(key, safe="/"), **fields}
    return {"eventVersion": "2.3", "eventSource": "aws:s3", "eventName": name, "s3": {"object": changed}}


def sqs_record(body: Any, *, receives: int = 1, name: str = "m") -> dict[str, Any]:
    return {
        "messageId": name,
        "receiptHandle": f"receipt-{name}",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {
            "ApproximateReceiveCount": str(receives),
            "SentTimestamp": "1000",
            "ApproximateFirstReceiveTimestamp": "3500",
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:1:events",
    }


def read(body: Any, **options: Any) -> Message:
    return read_message(SQSRecord(sqs_record(body, **options)), lambda key: [] if "/" not in key else ["orders"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ObjectCreated:Put", "created"),
        ("ObjectCreated:CompleteMultipartUpload", "created"),
        ("ObjectRemoved:Delete", "removed"),
        ("ObjectRemoved:DeleteMarkerCreated", "removed"),
        ("LifecycleExpiration:Delete", "removed"),
        ("LifecycleExpiration:DeleteMarkerCreated", "removed"),
        ("s3:LifecycleExpiration:Delete", "removed"),
        ("ObjectRestore:Completed", "other"),
        ("ObjectTagging:Put", "other"),
        ("SomethingNew:Happened", "other"),
    ],
)
def test_every_event_asks_to_look_at_its_key(name: str, kind: str) -> None:
    message = read({"Records": [s3_record(name, "orders/1", sequencer="0055", size=7)]})
    assert message.events == (("orders", Event(key="orders/1", kind=kind, sequencer="0055", size=7)),)  # type: ignore[arg-type]


def test_deletions_have_no_size_and_tagging_has_no_sequencer() -> None:
    deleted, tagged = read({
        "Records": [s3_record("ObjectRemoved:Delete", "o/1", sequencer="1"), s3_record("ObjectTagging:Put", "o/2", size=1)]
    }).events  # fmt: skip
    assert (deleted[1].size, tagged[1].sequencer) == (None, None)


def test_keys_are_form_encoded_in_events() -> None:
    record = s3_record("ObjectCreated:Put", "x")
    record["s3"]["object"]["key"] = "orders/a+b%2Bc%25.json"
    ((_, event),) = read({"Records": [record]}).events
    assert event.key == "orders/a b+c%.json"


@given(st.text(min_size=1, max_size=40))
def test_every_key_survives(key: str) -> None:
    ((_, event),) = read({"Records": [s3_record("ObjectCreated:Put", f"o/{key}")]}).events
    assert event.key == f"o/{key}"


def test_the_test_event_of_s3_is_ignored() -> None:
    message = read({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"})
    assert (message.events, message.error) == ((), None)


def test_keys_that_no_table_claims_are_left_out() -> None:
    records = [s3_record("ObjectCreated:Put", "stray"), s3_record("ObjectCreated:Put", "o/1")]
    assert [event.key for _, event in read({"Records": records}).events] == ["o/1"]


def test_a_key_may_be_for_two_tables_and_where_that_is_unknown_the_message_fails() -> None:
    def route(key: str) -> list[str]:
        if key == "unknown":
            raise ThrottledError("503: the manifest")
        return ["orders", "moved"]

    first, second = (
        read_message(SQSRecord(sqs_record({"Records": [s3_record("ObjectCreated:Put", key)]})), route)
        for key in ("o/1", "unknown")
    )
    assert [(table, event.key) for table, event in first.events] == [("orders", "o/1"), ("moved", "o/1")]
    assert (second.events, type(second.error)) == ((), ThrottledError)


@pytest.mark.parametrize("body", ["", "{", "[]", "7", "{}", '{"Records": [{}]}', '{"Records": 3}', '{"Records": [7]}'])
def test_anything_else_is_an_error_of_that_message(body: str) -> None:
    message = read(body)
    assert message.error is not None
    assert message.events == ()


def test_how_often_and_how_late_it_was_received() -> None:
    message = read({"Records": []}, receives=4, name="x")
    assert (message.id, message.receipt, message.receives, message.waited_ms) == ("x", "receipt-x", 4, 2500)
    large = read({"Records": [s3_record("ObjectCreated:Put", f"o/{size}", size=size) for size in (3, 9)]})
    assert (message.bytes_max, large.bytes_max) == (0, 9)
