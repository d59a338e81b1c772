"""The scheduled verification, invoked as its schedule does it."""

from __future__ import annotations

import json
from typing import Any

import boto3

from tests.local.conftest import Pipeline


def test_the_verifier_finds_lost_events_and_changes_nothing(pipeline: Pipeline) -> None:
    """Events are lost while the bucket's notifications are taken away."""
    index, keys = (
        pipeline.deployment.outputs["IndexBucketName"],
        [f"orders/verify-{number}.ndjson" for number in range(4)],
    )
    order = {"id": "v", "customer": {"id": "c"}, "country": "VA", "amount": "1", "quantity": 1}
    for key in (keys[0], keys[1], keys[3]):
        pipeline.put(key, order)
    pipeline.settle()
    announced = pipeline.s3.get_bucket_notification_configuration(Bucket=pipeline.bucket)
    wired: Any = {"TopicConfigurations": announced["TopicConfigurations"]}
    pipeline.s3.put_bucket_notification_configuration(Bucket=pipeline.bucket, NotificationConfiguration={})
    pipeline.delete(keys[0])
    pipeline.put(keys[1], order | {"amount": "22.00"})
    pipeline.put(keys[2], order)
    pipeline.s3.put_bucket_notification_configuration(Bucket=pipeline.bucket, NotificationConfiguration=wired)
    pipeline.settle()
    orders = pipeline.database.table("orders")
    expected = orders.verify(settle_seconds=0.1)
    assert {item.key: item.kind for item in expected.differences}.items() >= {
        keys[0]: "extra", keys[1]: "stale", keys[2]: "missing",
    }.items()  # fmt: skip
    generation = pipeline.generation()

    answer = boto3.client("lambda").invoke(FunctionName=pipeline.deployment.outputs["VerifierName"], Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()
    told = json.loads(pipeline.s3.get_object(Bucket=index, Key="verify/orders.json")["Body"].read())
    for name in ("objects", "missing", "stale", "extra", "wrong", "failures"):
        assert told[name] == getattr(expected, name), name
    assert told["read"] > 0 and told["last_key"] is None
    assert pipeline.generation() == generation, "it only looked"

    assert orders.verify(repair=True, settle_seconds=0.1).is_good
    for key in keys[1:]:
        pipeline.delete(key)
    pipeline.settle()
