"""The verifier: by schedule, compares the tables with the bucket as far as its time goes, and tells what it found."""

from __future__ import annotations

from typing import Any

import msgspec
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from bucketdex.engine import Engine, Rounds
from bucketdex.runtime import system_runtime
from bucketdex.storage import ManifestStore, open_data_store, open_index_store
from functions.configuration import from_environment
from functions.observability import logger, metrics, tracer
from functions.verifier.turn import Turn


class Settings(msgspec.Struct, frozen=True):
    """The variables that the stack sets."""

    index_bucket: str
    data_bucket: str
    verify_deep_sample: float = 0.0
    verify_repair: bool = False


settings = from_environment(Settings)
index, data = open_index_store(f"s3://{settings.index_bucket}"), open_data_store(f"s3://{settings.data_bucket}")
manifests = ManifestStore(index, system_runtime())
engine = Engine(index, data, system_runtime())
rounds = Rounds(index, system_runtime())


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Verifies the tables, the one that has waited longest first, until none is left or two thirds of the time are
    over. What isn't done, the next schedule goes on with.
    """
    budget_ms = context.get_remaining_time_in_millis()
    turn = Turn(
        engine,
        rounds,
        sample=settings.verify_deep_sample,
        repair=settings.verify_repair,
        in_time=lambda: context.get_remaining_time_in_millis() > budget_ms / 3,
    )
    try:
        turn.verify(manifests.tables())
    finally:
        metrics.add_metric("Differences", MetricUnit.Count, turn.differences)
