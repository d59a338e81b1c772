"""One deployment to the emulator for all tests of this folder: the real stack, the real bundles, the real client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest

from bucketdex import Database, local

TABLES = Path(__file__).parent / "tables"
SETTLE_TIMEOUT_S = 180.0
QUIET_S = 0.7  # the emulator announces an object from a thread of its own
POLL_S = 0.15


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.local)


class Pipeline:
    """A deployed stack, seen as its users see it: a bucket to write to, a database to ask."""

    def __init__(self, deployment: local.Deployment) -> None:
        self.deployment = deployment
        self.bucket = deployment.outputs["DataBucketName"]
        self.s3, self.sns, self.sqs = (boto3.client(name) for name in ("s3", "sns", "sqs"))
        assert deployment.stack is not None
        self.database = Database.from_stack(deployment.stack)
        urls = self.sqs.list_queues(MaxResults=100, QueueNamePrefix=f"{deployment.stack}-")["QueueUrls"]
        self.queues = [url for url in urls if "DeadLetters" not in url and "Undelivered" not in url]
        self.topic = deployment.outputs["TopicArn"]

    def put(self, key: str, *records: dict[str, Any], **options: Any) -> None:
        """Uploads records as NDJSON."""
        self.put_bytes(key, b"".join(json.dumps(record).encode() + b"\n" for record in records), **options)

    def put_bytes(self, key: str, body: bytes, **options: Any) -> str:
        return str(self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, **options).get("VersionId"))

    def delete(self, key: str, version: str | None = None) -> str:
        options = {"VersionId": version} if version else {}
        return str(self.s3.delete_object(Bucket=self.bucket, Key=key, **options).get("VersionId"))

    def announce(self, event: str, key: str, **fields: Any) -> None:
        """Publishes an event as S3 would."""
        changed = {"key": quote_plus(key, safe="/"), **fields}
        record = {
            "eventSource": "aws:s3",
            "eventName": event,
            "s3": {"bucket": {"name": self.bucket}, "object": changed},
        }
        self.sns.publish(TopicArn=self.topic, Message=json.dumps({"Records": [record]}))

    def settle(self) -> None:
        """Waits until every event so far is worked off, and the compactions they asked for."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET_S:
            if any(self.waiting(url) for url in self.queues):
                quiet_since = time.monotonic()
            assert time.monotonic() < deadline, f"events are still waiting; see {self.deployment.log}"
            time.sleep(POLL_S)

    def eventually(self, holds: Callable[[], bool]) -> None:
        """Waits for a condition, for what is retried with a delay."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while not holds():
            assert time.monotonic() < deadline, f"it never came true; see {self.deployment.log}"
            time.sleep(POLL_S)

    def generation(self, table: str = "orders") -> int:
        return int(self.database.table(table).status()["generation"])

    def dead_letters(self) -> int:
        return self.waiting(self.deployment.outputs["EventDeadLetterQueueUrl"])

    def waiting(self, url: str) -> int:
        """How many messages a queue holds, hidden ones included."""
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local.Deployment]:
    """A deployment apart from the checkout's own one, gone after the tests."""
    home = tmp_path_factory.mktemp("deployment")
    try:
        deployed = local.deploy(TABLES, stack="Pipeline", directory=home)
        with deployed.environment():
            yield deployed
    finally:
        local.stop(directory=home)


@pytest.fixture(scope="session")
def pipeline(deployment: local.Deployment) -> Pipeline:
    return Pipeline(deployment)
