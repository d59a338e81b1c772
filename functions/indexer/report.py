"""What operators see of a batch: metrics and one log line for each failed message."""

from __future__ import annotations

from collections.abc import Sequence

from aws_lambda_powertools.metrics import MetricUnit

from functions.indexer.batch import Batch
from functions.indexer.events import Message
from functions.observability import logger, metrics


def report(messages: Sequence[Message], batch: Batch) -> None:
    """Logs and counts what became of the messages; never a value of a record."""
    for message_id, error in batch.failed.items():
        logger.error("message failed", message_id=message_id, error=f"{type(error).__name__}: {error}")
    results = [result for _, result in batch.results]
    counts = {
        "Messages": len(messages),
        "FailedMessages": len(batch.failed),
        "AppliedObjects": sum(len(result.applied) for result in results),
        "SkippedObjects": sum(len(result.skipped) for result in results),
        "Rows": sum(result.rows for result in results),
        "Rejects": sum(result.rejects for result in results),
        "Commits": sum(result.commits for result in results),
        "Redone": sum(result.redone for result in results),
    }
    for name, count in counts.items():
        metrics.add_metric(name, MetricUnit.Count, count)
    live_ms = [message.waited_ms for message in messages if not message.is_page]
    if live_ms:  # a backfill's messages wait by intention
        metrics.add_metric("Waited", MetricUnit.Milliseconds, max(live_ms))
