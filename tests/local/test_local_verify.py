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
        [f"orders/verify-{number}.ndjson" for number in range(3)],
    )
    order = {"id": "v", "customer": {"id": "c"}, "country": "VA", "amount": "1", "quantity": 1}
    for key in keys[:2]:
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
    generation = pipeline.generation()

    answer = boto3.client("lambda").invoke(FunctionName=pipeline.deployment.outputs["VerifierName"], Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()
    told = json.loads(pipeline.s3.get_object(Bucket=index, Key="verify/orders.json")["Body"].read())
    assert (told["missing"], told["stale"], told["extra"], told["wrong"], told["failures"]) == (1, 1, 1, 0, 0)
    assert told["read"] == told["objects"] - 2, "those that look the same are read"
    assert "last_key" not in told or told["last_key"] is None
    assert pipeline.generation() == generation, "it only looked"

    repaired = pipeline.database.table("orders").verify(repair=True, settle_seconds=0.1)
    assert repaired.is_good and repaired.found == 3
    for key in keys[1:]:
        pipeline.delete(key)
    pipeline.settle()
