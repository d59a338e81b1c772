"""The compactor: works off the maintenance queue and a schedule. Changes with what Lambda hands over and takes back."""

from __future__ import annotations

from typing import Any

import msgspec
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import SqsFifoPartialProcessor, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from bucketdex.engine import Engine
from bucketdex.engine import Settings as EngineSettings
from bucketdex.runtime import system_runtime
from bucketdex.storage import ManifestStore, open_index_store
from functions.compactor.maintenance import compact, for_each, maintain
from functions.configuration import from_environment
from functions.observability import logger, metrics, tracer


class Settings(msgspec.Struct, frozen=True):
    """The variables that the stack sets."""

    index_bucket: str
    erase_seconds: float = EngineSettings().erase_seconds


settings = from_environment(Settings)
index = open_index_store(f"s3://{settings.index_bucket}")
manifests = ManifestStore(index, system_runtime())
bounds = EngineSettings(erase_seconds=settings.erase_seconds)
engine = Engine(index, index, system_runtime(), settings=bounds)  # it never reads data


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse | None:
    """Compacts the views that messages name; by schedule, whatever is due in any table of the index."""
    budget_ms = context.get_remaining_time_in_millis()

    def time_left() -> bool:
        return context.get_remaining_time_in_millis() > budget_ms / 3

    def work_off(record: SQSRecord) -> None:
        try:
            asked = record.json_body
            count(compact(engine, asked["table"], asked["view"], time_left=time_left))
        except Exception:
            logger.exception("message failed", message_id=record.message_id)
            raise

    if "Records" in event:
        # After a failure the group's later messages wait: they name the same view.
        return process_partial_response(event, work_off, SqsFifoPartialProcessor(skip_group_on_error=True), context)
    count(for_each(manifests.tables(), lambda table: maintain(engine, table, time_left=time_left)))
    return None


def count(steps: int) -> None:
    """Counts compaction steps that landed."""
    metrics.add_metric("CompactionSteps", MetricUnit.Count, steps)
