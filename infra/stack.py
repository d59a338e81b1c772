"""A stack that holds one `BucketIndex` and the outputs that clients look up."""

from __future__ import annotations

from pathlib import Path

import aws_cdk as cdk
from constructs import Construct

from infra.bucket_index import BucketIndex


class BucketdexStack(cdk.Stack):
    """One indexed bucket as a stack of its own; `Database.from_stack(name)` reads its outputs."""

    def __init__(
        self,
        scope: Construct,
        id: str,  # noqa: A002 (as CDK names it)
        *,
        tables: str | Path,
        max_concurrency: int = 8,
        construct: type[BucketIndex] = BucketIndex,
    ) -> None:
        super().__init__(scope, id, description="Bucketdex: an S3 bucket that answers questions")
        self.index = construct(self, "Index", tables=tables, max_concurrency=max_concurrency)
        self._output("DataBucketName", self.index.data_bucket.bucket_name)
        self._output("IndexBucketName", self.index.index_bucket.bucket_name)
        self._output("TopicArn", self.index.topic.topic_arn)
        self._output("DeadLetterQueueUrl", self.index.dead_letter_queue.queue_url)

    def _output(self, name: str, value: str) -> None:
        cdk.CfnOutput(self, name, value=value)
