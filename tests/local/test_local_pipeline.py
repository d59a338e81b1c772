"""From an upload to an answer, through the deployed stack: everything that changes an object changes the index."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from bucketdex import col, local
from tests.local.conftest import Pipeline


def order(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "customer": {"id": "c1"}, "country": "DE", "amount": "1.50", "quantity": 1, **fields}


def ids(pipeline: Pipeline, **where: Any) -> list[str]:
    return sorted(row["id"] for row in pipeline.database.table("orders").where(**where).rows())


def seen(pipeline: Pipeline, key: str) -> list[str]:
    """The ids of an object's rows."""
    rows = pipeline.database.table("orders").where(col("_key") == key).allow_scan().rows()
    return sorted(row["id"] for row in rows)


def test_an_upload_is_indexed_overwritten_and_deleted(pipeline: Pipeline) -> None:
    key = "orders/life.ndjson"
    pipeline.put(key, order("life-1", country="AT"), order("life-2", country="AT"))
    pipeline.settle()
    assert ids(pipeline, country="AT") == ["life-1", "life-2"]
    pipeline.put(key, order("life-3", country="AT", amount="99.99"))
    pipeline.settle()
    assert ids(pipeline, country="AT") == ["life-3"]
    revenue = pipeline.database.table("orders").summary("revenue")
    group = revenue.get(country="AT")
    assert (group["orders"], str(group["revenue"]), str(group["smallest"])) == (1, "99.99", "99.99")
    pipeline.delete(key)
    pipeline.settle()
    assert ids(pipeline, country="AT") == []
    assert revenue.get(country="AT") is None


def test_a_true_duplicate_changes_nothing(pipeline: Pipeline) -> None:
    """The very event of S3, delivered a second time, costs no commit."""
    queue = pipeline.sqs.create_queue(QueueName="tap")["QueueUrl"]
    arn = pipeline.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    tap = pipeline.sns.subscribe(
        TopicArn=pipeline.topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
    )["SubscriptionArn"]
    try:
        pipeline.put("orders/twice.ndjson", order("twice"))
        pipeline.settle()
        (message,) = pipeline.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
        before = pipeline.generation()
        for _ in range(3):
            pipeline.sns.publish(TopicArn=pipeline.topic, Message=message["Body"])
        pipeline.settle()
    finally:
        pipeline.sns.unsubscribe(SubscriptionArn=tap)
        pipeline.sqs.delete_queue(QueueUrl=queue)
    assert pipeline.generation() == before
    assert ids(pipeline, id="twice") == ["twice"]


def test_events_out_of_order_and_of_things_that_never_were(pipeline: Pipeline) -> None:
    """An event only says where to look: a late deletion of an object that is there, a creation of one that isn't."""
    pipeline.put("orders/there.ndjson", order("there"))
    pipeline.settle()
    pipeline.announce("ObjectRemoved:Delete", "orders/there.ndjson", sequencer="0000000000000001")
    pipeline.announce("ObjectCreated:Put", "orders/never.ndjson", sequencer="0000000000000002", size=10)
    pipeline.settle()
    assert ids(pipeline, id="there") == ["there"]
    assert seen(pipeline, "orders/never.ndjson") == []


def test_deleting_the_current_version_indexes_the_one_it_exposes(pipeline: Pipeline) -> None:
    key = "orders/versions.ndjson"
    pipeline.put(key, order("version-1"))
    second = pipeline.put_bytes(key, json.dumps(order("version-2")).encode())
    pipeline.settle()
    assert seen(pipeline, key) == ["version-2"]
    pipeline.delete(key, second)
    pipeline.settle()
    assert seen(pipeline, key) == ["version-1"]
    marker = pipeline.delete(key)
    pipeline.settle()
    assert seen(pipeline, key) == []
    pipeline.delete(key, marker)
    pipeline.settle()
    assert seen(pipeline, key) == ["version-1"]


def test_expiry_by_lifecycle_leaves_every_view(pipeline: Pipeline) -> None:
    """The emulator keeps lifecycle rules but never acts on them, so the test deletes unannounced and says what S3 says."""
    key = "orders/expires.ndjson"
    pipeline.put(key, order("expires", country="IS", tags=["gone"]), {"id": 7})
    pipeline.settle()
    orders = pipeline.database.table("orders")
    assert (orders.where(tags="gone").count(), len(orders.rejects(key))) == (1, 1)

    announced = pipeline.s3.get_bucket_notification_configuration(Bucket=pipeline.bucket)
    events = {event for item in announced["TopicConfigurations"] for event in item["Events"]}
    assert "s3:LifecycleExpiration:*" in events
    wired: Any = {"TopicConfigurations": announced["TopicConfigurations"]}
    pipeline.s3.put_bucket_notification_configuration(Bucket=pipeline.bucket, NotificationConfiguration={})
    pipeline.delete(key)
    pipeline.settle()
    # This also sends s3:TestEvent through the pipeline.
    pipeline.s3.put_bucket_notification_configuration(Bucket=pipeline.bucket, NotificationConfiguration=wired)
    pipeline.settle()
    assert ids(pipeline, id="expires") == ["expires"], "nobody has said anything yet"

    pipeline.announce("LifecycleExpiration:DeleteMarkerCreated", key)
    pipeline.settle()
    assert ids(pipeline, id="expires") == []
    assert orders.where(tags="gone").count() == 0
    assert orders.summary("revenue").get(country="IS") is None
    assert (orders.rejects(key), seen(pipeline, key)) == ([], [])
    assert pipeline.dead_letters() == 0


def test_poison_blocks_nobody(pipeline: Pipeline) -> None:
    pipeline.put_bytes("orders/poison-1.ndjson", b'{"id": "x", "amount": \xff\xfe')
    pipeline.put_bytes("orders/poison-2.ndjson", b"\x1f\x8b\x08 this is no gzip")
    pipeline.put_bytes("orders/poison-3.ndjson", b"[" * 100_000)
    pipeline.put_bytes("orders/poison-4.ndjson", b"")
    pipeline.put("orders/mixed.ndjson", order("mixed-1"), {"id": "bad", "amount": "much"}, order("mixed-2"))
    pipeline.put("orders/healthy.ndjson", order("healthy"))
    orders = pipeline.database.table("orders")
    pipeline.eventually(lambda: ids(pipeline, id="healthy") == ["healthy"])
    pipeline.eventually(lambda: len(orders.rejects("orders/mixed.ndjson")) == 1)
    assert seen(pipeline, "orders/mixed.ndjson") == ["mixed-1", "mixed-2"]
    for number in (1, 2, 3):
        pipeline.eventually(lambda number=number: bool(orders.rejects(f"orders/poison-{number}.ndjson")))  # type: ignore[misc]
    (reject,) = orders.rejects("orders/mixed.ndjson")
    assert (reject["field"], reject["value"]) == ("amount", "much")


def test_a_message_that_is_no_event_fails_alone(pipeline: Pipeline) -> None:
    """It comes back with growing delays until it is a dead letter; this test doesn't wait for that."""
    pipeline.sns.publish(TopicArn=pipeline.topic, Message="no S3 event at all")
    pipeline.put("orders/beside.ndjson", order("beside"))
    pipeline.eventually(lambda: ids(pipeline, id="beside") == ["beside"])
    (events,) = (url for url in pipeline.queues if "EventQueue" in url)
    assert pipeline.waiting(events) == 1
    pipeline.sqs.purge_queue(QueueUrl=events)
    pipeline.settle()


@pytest.mark.parametrize(
    "name",
    ["with space", "plus+and%25percent", "ümläut-日本", "a//b", "trailing/", "/leading", "~tilde*'()!", "ü" + "x" * 1015, "#?&="],
)  # fmt: skip
def test_odd_keys_are_indexed_under_their_own_name(pipeline: Pipeline, name: str) -> None:
    key = f"orders/{name}"
    assert len(key.encode()) <= 1024, "the most that S3 takes, which one of them has"
    pipeline.put(key, order(f"odd {name}"))
    pipeline.settle()
    (row,) = pipeline.database.table("orders").where(id=f"odd {name}").rows()
    assert row["_key"] == key
    pipeline.delete(key)
    pipeline.settle()
    assert ids(pipeline, id=f"odd {name}") == []


def test_keys_that_obstore_would_alias_stay_apart(pipeline: Pipeline) -> None:
    pipeline.put("orders/alias", order("plain"))
    pipeline.put("orders/alias/", order("slash"))
    pipeline.settle()
    pipeline.delete("orders/alias")
    pipeline.settle()
    assert (ids(pipeline, id="plain"), ids(pipeline, id="slash")) == ([], ["slash"])


def test_fields_from_the_key_metadata_and_tags(pipeline: Pipeline) -> None:
    key = "documents/contract/17.json"
    pipeline.put_bytes(key, b'{"title": "Lease"}', Metadata={"owner": "kim"}, Tagging="stage=draft")
    pipeline.put_bytes("documents/too/deep/18.json", b'{"title": "Lease"}')
    pipeline.settle()
    documents = pipeline.database.table("documents")
    assert documents.get(key) == {
        "kind": "contract", "title": "Lease", "owner": "kim", "stage": "draft", "_key": key
    }  # fmt: skip
    assert documents.where(title="Lease").count() == 1, "the other key fits no template"
    tags: Any = {"TagSet": [{"Key": "stage", "Value": "signed"}]}
    pipeline.s3.put_object_tagging(Bucket=pipeline.bucket, Key=key, Tagging=tags)
    # The emulator keeps tags but announces no change of them.
    pipeline.announce("ObjectTagging:Put", key, size=18)
    pipeline.settle()
    assert documents.where(stage="signed").keys() == [key]
    assert documents.where(stage="draft").count() == 0
    assert documents.summary("kinds").get(kind="contract")["documents"] == 1


def test_commits_beyond_the_bound_are_compacted_by_the_queue(pipeline: Pipeline) -> None:
    before = pipeline.database.table("orders").status()["views"]["by_id"]
    for part in range(7):
        pipeline.put(
            f"orders/many-{part}.ndjson", *(order(f"many-{part}-{number}", country="NZ") for number in range(4000))
        )
        pipeline.settle()
    orders = pipeline.database.table("orders")
    after = orders.status()["views"]["by_id"]
    assert after["rows"] > before["rows"], "rows were folded into runs"
    assert orders.where(country="NZ").count() == 28_000
    assert orders.summary("revenue").get(country="NZ")["orders"] == 28_000
    for part in range(7):
        pipeline.delete(f"orders/many-{part}.ndjson")
    pipeline.settle()
    assert orders.where(country="NZ").count() == 0
    assert orders.where(id="many-3-3").rows() == []


def test_a_managed_table_is_left_to_its_stack(pipeline: Pipeline) -> None:
    from bucketdex import ManagedByStackError

    with pytest.raises(ManagedByStackError):
        pipeline.database.drop_table("orders")
    assert set(pipeline.database.tables()) == {"documents", "orders"}


def test_deploying_again_keeps_the_data(pipeline: Pipeline) -> None:
    from tests.local.conftest import TABLES

    pipeline.put("orders/kept.ndjson", order("kept"))
    pipeline.settle()
    again = local.deploy(TABLES, stack="Pipeline", directory=pipeline.deployment.directory)
    assert again.outputs == pipeline.deployment.outputs
    assert ids(pipeline, id="kept") == ["kept"]
    assert local.status(directory=pipeline.deployment.directory) == again


def test_an_archived_object_is_a_reject_until_it_is_restored(pipeline: Pipeline) -> None:
    key = "orders/archived.ndjson"
    pipeline.put(key, order("archived"), StorageClass="GLACIER")
    pipeline.settle()
    orders = pipeline.database.table("orders")
    assert [reject["kind"] for reject in orders.rejects(key)] == ["unreadable"]
    pipeline.s3.restore_object(Bucket=pipeline.bucket, Key=key, RestoreRequest={"Days": 1})
    pipeline.eventually(lambda: ids(pipeline, id="archived") == ["archived"])
    assert orders.rejects(key) == []


def test_an_object_under_a_key_of_its_owner_is_a_reject(pipeline: Pipeline) -> None:
    key = "orders/sealed.ndjson"
    pipeline.put(key, order("sealed"), SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32)
    pipeline.settle()
    assert [reject["kind"] for reject in pipeline.database.table("orders").rejects(key)] == ["unreadable"]
    pipeline.put(key, order("open"))
    pipeline.settle()
    assert ids(pipeline, id="open") == ["open"]
    assert pipeline.database.table("orders").rejects(key) == []


def test_the_emulator_listens_on_one_address_of_this_machine(deployment: local.Deployment) -> None:
    """Bound to every address, it would answer at the others of the loopback network, and to the neighbours."""
    url = urlsplit(deployment.endpoint)
    assert url.hostname == "127.0.0.1" and url.port
    socket.create_connection((url.hostname, url.port), timeout=2).close()
    for host in ("127.0.0.2", "::1"):
        with pytest.raises(OSError):
            socket.create_connection((host, url.port), timeout=2).close()


def test_no_event_was_given_up(pipeline: Pipeline) -> None:
    assert pipeline.dead_letters() == 0
