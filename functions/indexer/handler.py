"""The indexer: S3's events and pages of keys, in batches through SQS, into commits. Changes with what Lambda hands over
and takes back.
"""

from __future__ import annotations

import boto3
import msgspec
from aws_lambda_powertools.utilities.data_classes import SQSEvent, event_source
from aws_lambda_powertools.utilities.typing import LambdaContext

from bucketdex.engine import Engine
from bucketdex.runtime import system_runtime
from bucketdex.storage import open_data_store, open_index_store
from functions.configuration import deployed_tables, from_environment, router
from functions.indexer.batch import Batch
from functions.indexer.events import read_message
from functions.indexer.queue import EventQueue
from functions.indexer.report import report
from functions.maintenance_queue import MaintenanceQueue
from functions.observability import logger, metrics, tracer


class Settings(msgspec.Struct, frozen=True):
    """The variables that the stack sets."""

    index_bucket: str
    data_bucket: str
    event_queue_url: str
    backfill_queue_url: str
    maintenance_queue_url: str


settings = from_environment(Settings)
route = router(deployed_tables())
index, data = open_index_store(f"s3://{settings.index_bucket}"), open_data_store(f"s3://{settings.data_bucket}")
engine = Engine(index, data, system_runtime())
sqs = boto3.client("sqs")
queues = {
    url.rpartition("/")[2]: EventQueue(sqs, system_runtime(), url)
    for url in (settings.event_queue_url, settings.backfill_queue_url)
}
maintenance = MaintenanceQueue(sqs, system_runtime(), settings.maintenance_queue_url)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
@event_source(data_class=SQSEvent)
def handler(event: SQSEvent, context: LambdaContext) -> dict[str, list[dict[str, str]]]:
    """Indexes what the messages name and reports those that failed, and only those, for another try."""
    records = list(event.records)
    messages = [read_message(record, route) for record in records]
    queue = queues[records[0].event_source_arn.rpartition(":")[2]]  # Lambda mixes no queues in a batch
    budget_ms = context.get_remaining_time_in_millis()
    batch = Batch(
        engine.apply,
        alone_bytes=engine.settings.alone_bytes,
        settle=queue.settle,
        time_left=lambda: context.get_remaining_time_in_millis() > budget_ms / 2,
    )
    batch.run(messages)
    queue.postpone(messages, batch.failed)
    for table in sorted({table for table, result in batch.results if result.commits}):
        maintenance.ask(engine, table)
    report(messages, batch)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in batch.failed]}
