"""The indexer: batches of S3 events, through SQS, into commits. Changes with what Lambda hands over and takes back."""

from __future__ import annotations

import boto3
import msgspec
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes import SQSEvent, event_source
from aws_lambda_powertools.utilities.typing import LambdaContext

from bucketdex.engine import Engine
from bucketdex.runtime import system_runtime
from bucketdex.storage import open_data_store, open_index_store
from functions.configuration import deployed_tables, from_environment
from functions.indexer.batch import Batch
from functions.indexer.events import read_message
from functions.indexer.queues import Queues
from functions.observability import logger, metrics, tracer


class Settings(msgspec.Struct, frozen=True):
    """What the stack tells this function."""

    index_bucket: str
    data_bucket: str
    event_queue_url: str
    maintenance_queue_url: str


settings = from_environment(Settings)
tables = deployed_tables()
engine = Engine(
    open_index_store(f"s3://{settings.index_bucket}"), open_data_store(f"s3://{settings.data_bucket}"), system_runtime()
)
queues = Queues(
    boto3.client("sqs"), system_runtime(), events_url=settings.event_queue_url, maintenance_url=settings.maintenance_queue_url
)  # fmt: skip


def route(key: str) -> str | None:
    """The table that claims the key; no two do."""
    return next((table.name for table in tables if table.match(key) is not None), None)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler(capture_response=False)
@event_source(data_class=SQSEvent)
def handler(event: SQSEvent, context: LambdaContext) -> PartialItemFailureResponse:
    """Indexes what the messages name and reports those that failed, and only those, for another try."""
    messages = [read_message(record, route) for record in event.records]
    budget_ms = context.get_remaining_time_in_millis()
    batch = Batch(
        engine.apply,
        alone_bytes=engine.settings.alone_bytes,
        settle=queues.settle,
        time_left=lambda: context.get_remaining_time_in_millis() > budget_ms / 2,
    )
    batch.run(messages)
    queues.postpone(messages, batch.failed)
    queues.ask_for_compaction((table, view) for table, result in batch.results for view in result.debt)
    for message_id, error in batch.failed.items():
        logger.error("message failed", message_id=message_id, error=f"{type(error).__name__}: {error}")
    metrics.add_metric("Messages", MetricUnit.Count, len(messages))
    metrics.add_metric("FailedMessages", MetricUnit.Count, len(batch.failed))
    metrics.add_metric("Waited", MetricUnit.Milliseconds, max((message.waited_ms for message in messages), default=0))
    for name in ("applied", "skipped", "failed"):
        count = sum(len(getattr(result, name)) for _, result in batch.results)
        metrics.add_metric(f"{name.capitalize()}Objects", MetricUnit.Count, count)
    for name in ("rows", "rejects", "commits", "redone"):
        metrics.add_metric(name.capitalize(), MetricUnit.Count, sum(getattr(result, name) for _, result in batch.results))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in batch.failed]}
