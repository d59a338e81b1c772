"""What failed for a reason of ours is replayed after a fix, once and completely."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import pytest

from bucketdex.cli.main import main
from bucketdex.client import deadletters
from bucketdex.client.deadletters import DeadLetters
from tests.local.conftest import Pipeline

MANIFEST = "tables/orders/manifest.json"


def order(name: str) -> dict[str, Any]:
    return {"id": name, "customer": {"id": "dlq"}, "country": "FO", "amount": "2.50", "quantity": 1}


@pytest.fixture(autouse=True)
def one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator's queues are in one place: an empty answer means an empty queue without a wait."""
    monkeypatch.setattr(deadletters, "WAIT_SECONDS", 0)


def bucketdex(*arguments: str) -> tuple[int, Any]:
    """The exit code of a command, and the JSON that it prints."""
    with redirect_stdout(io.StringIO()) as out:
        code = main((*arguments, "--format", "json"))
    return code, json.loads(out.getvalue() or "null")


def listed(*arguments: str) -> list[dict[str, Any]]:
    code, letters = bucketdex("dlq", "list", *arguments)
    assert code == 0
    return list(letters)


def failures(pipeline: Pipeline) -> int:
    """How many messages the functions have failed so far, by their log."""
    return pipeline.deployment.log.read_text(errors="replace").count('"message failed"')


@contextmanager
def broken(pipeline: Pipeline) -> Iterator[None]:
    """The table's manifest is gone, as if somebody had deleted it. What arrives meanwhile is given up at once: its
    messages are copied into the dead letter queue by SNS, and taken out of the event queue, where they would be tried
    for a day."""
    outputs, bucket = pipeline.deployment.outputs, pipeline.deployment.outputs["IndexBucketName"]
    manifest = pipeline.s3.get_object(Bucket=bucket, Key=MANIFEST)["Body"].read()
    arns: Any = ["QueueArn"]
    attributes = pipeline.sqs.get_queue_attributes(QueueUrl=outputs["EventDeadLetterQueueUrl"], AttributeNames=arns)
    tap = pipeline.sns.subscribe(
        TopicArn=pipeline.topic, Protocol="sqs", Endpoint=attributes["Attributes"]["QueueArn"],
        Attributes={"RawMessageDelivery": "true"},
    )["SubscriptionArn"]  # fmt: skip
    pipeline.s3.delete_object(Bucket=bucket, Key=MANIFEST)
    try:
        yield
    finally:
        pipeline.sns.unsubscribe(SubscriptionArn=tap)
        pipeline.sqs.purge_queue(QueueUrl=outputs["EventQueueUrl"])
        pipeline.s3.put_object(Bucket=bucket, Key=MANIFEST, Body=manifest)


def test_events_that_failed_while_the_index_was_broken(pipeline: Pipeline) -> None:
    keys = [f"orders/dlq {number:02d}+ü.ndjson" for number in range(12)]
    orders = pipeline.database.table("orders")
    for key in (keys[0], keys[1]):
        pipeline.put(key, order("old"))
    pipeline.settle()
    before = failures(pipeline)
    with broken(pipeline):
        pipeline.delete(keys[0])
        for key in keys[1:]:
            pipeline.put(key, order(key))
        pipeline.eventually(lambda: pipeline.dead_letters() >= len(keys))
        pipeline.eventually(lambda: failures(pipeline) - before >= len(keys))
    malformed = pipeline.sqs.send_message(
        QueueUrl=pipeline.deployment.outputs["EventDeadLetterQueueUrl"], MessageBody="no event"
    )["MessageId"]
    pipeline.settle()
    assert sorted(row["_key"] for row in orders.where(country="FO").rows()) == keys[:2], "the index missed it all"

    found = listed()
    assert sorted(key for letter in found for key in letter["keys"]) == keys
    assert {tuple(letter["tables"]) for letter in found} == {("orders",), ()}
    [bad] = [letter for letter in found if letter["why"]]
    assert (bad["id"], bad["queue"]) == (malformed, "events")
    assert [letter["id"] for letter in listed("--limit", "3")] == [letter["id"] for letter in found[:3]]
    assert pipeline.dead_letters() == len(keys) + 1, "they are only looked at"

    assert bucketdex("dlq", "drop")[0] == 1
    assert bucketdex("dlq", "drop", "--id", malformed)[0] == 0
    one = next(letter["id"] for letter in found if letter["keys"] == [keys[3]])
    assert bucketdex("dlq", "redrive", "--id", one)[0] == 0
    code, moved = bucketdex("dlq", "redrive", "--all")
    assert code == 0 and moved == {
        "found": len(keys) - 1, "done": len(keys) - 1, "kept": 0, "failed": 0, "returned": 0, "missing": []
    }  # fmt: skip
    pipeline.settle()
    assert pipeline.dead_letters() == 0 and listed() == []
    assert sorted(row["id"] for row in orders.where(country="FO").rows()) == keys[1:], "once and completely"
    assert orders.summary("revenue").get(country="FO")["orders"] == len(keys) - 1
    code, verified = bucketdex("verify", "orders")
    assert (code, verified["differences"]) == (0, [])
    for key in keys[1:]:
        pipeline.delete(key)
    pipeline.settle()


def test_messages_of_the_other_queues_go_where_they_belong(pipeline: Pipeline) -> None:
    """An event that SNS couldn't deliver goes to the event queue; a compaction keeps its group."""
    outputs = pipeline.deployment.outputs
    key = "orders/undelivered.ndjson"
    announced = pipeline.s3.get_bucket_notification_configuration(Bucket=pipeline.bucket)
    wired: Any = {"TopicConfigurations": announced["TopicConfigurations"]}
    pipeline.s3.put_bucket_notification_configuration(Bucket=pipeline.bucket, NotificationConfiguration={})
    pipeline.put(key, order("undelivered"))
    pipeline.s3.put_bucket_notification_configuration(Bucket=pipeline.bucket, NotificationConfiguration=wired)
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"object": {"key": key, "size": 9}}}
    why: Any = {"ErrorMessage": {"StringValue": "the queue was gone", "DataType": "String"}}
    pipeline.sqs.send_message(
        QueueUrl=outputs["UndeliveredEventsQueueUrl"], MessageBody=json.dumps({"Records": [record]}),
        MessageAttributes=why,
    )  # fmt: skip
    for view in ("by_id", "records"):
        for number in range(6):
            pipeline.sqs.send_message(
                QueueUrl=outputs["MaintenanceDeadLetterQueueUrl"], MessageGroupId=view,
                MessageBody=json.dumps({"table": "orders", "view": view}), MessageDeduplicationId=f"{view}{number}",
            )  # fmt: skip
    letters = DeadLetters.from_stack("Pipeline")
    [undelivered] = letters.letters("undelivered")
    assert (undelivered.keys, undelivered.tables, undelivered.why) == ((key,), ("orders",), "the queue was gone")
    assert {letter.view for letter in letters.letters("maintenance")} == {"by_id", "records"}
    moved = letters.redrive()
    assert (moved.done, moved.is_good) == (13, True)
    assert letters.count() == 0
    pipeline.settle()
    assert pipeline.database.table("orders").get(key)["id"] == "undelivered"
    pipeline.delete(key)
    pipeline.settle()
    assert letters.letters() == []
