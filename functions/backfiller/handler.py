"""The backfiller: one turn of all backfills under way, by schedule or when somebody starts one."""

from __future__ import annotations

from typing import Any

import boto3
import msgspec
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from bucketdex.engine import Engine
from bucketdex.runtime import system_runtime
from bucketdex.storage import open_data_store, open_index_store
from functions.backfiller.queue import SqsPageQueue
from functions.configuration import from_environment
from functions.observability import logger, metrics, tracer

MARGIN_MS = 60_000  # a step takes seconds; what a timeout cuts off is only done again


class Settings(msgspec.Struct, frozen=True):
    """The variables that the stack sets."""

    index_bucket: str
    data_bucket: str
    backfill_queue_url: str


settings = from_environment(Settings)
index, data = open_index_store(f"s3://{settings.index_bucket}"), open_data_store(f"s3://{settings.data_bucket}")
engine = Engine(index, data, system_runtime())  # it lists data, and reads none
queue = SqsPageQueue(boto3.client("sqs"), settings.backfill_queue_url)


@logger.inject_lambda_context
@metrics.log_metrics
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Goes on with every running job until there is no more to do now, or a minute before its time runs out.

    It never invokes itself: the schedule goes on.
    """
    jobs = engine.continue_backfills(queue, in_time=lambda: context.get_remaining_time_in_millis() > MARGIN_MS)
    for job in jobs:
        level = logger.warning if job.error else logger.info
        level("backfill", table=job.table, state=job.state, number=job.number, left=job.left, error=job.error)
    if jobs:
        metrics.add_metric("BackfillLeft", MetricUnit.Count, sum(job.left for job in jobs))
        metrics.add_metric("BackfillsFailed", MetricUnit.Count, sum(job.state == "failed" for job in jobs))
