"""The registrar: the custom resource through which a deployment commits its table definitions to the index."""

from __future__ import annotations

import boto3
import msgspec
from aws_lambda_powertools.utilities.data_classes import CloudFormationCustomResourceEvent, event_source
from aws_lambda_powertools.utilities.typing import LambdaContext

from bucketdex.engine import Engine
from bucketdex.runtime import system_runtime
from bucketdex.storage import open_index_store
from functions.backfills import Backfiller
from functions.configuration import deployed_tables, from_environment
from functions.maintenance_queue import MaintenanceQueue
from functions.observability import logger, tracer
from functions.registrar.custom_resource import register, respond


class Settings(msgspec.Struct, frozen=True):
    """The variables that the stack sets."""

    index_bucket: str
    maintenance_queue_url: str
    backfiller_name: str


settings = from_environment(Settings)
tables = deployed_tables()
index = open_index_store(f"s3://{settings.index_bucket}")
engine = Engine(index, index, system_runtime())  # it never reads data
maintenance = MaintenanceQueue(boto3.client("sqs"), system_runtime(), settings.maintenance_queue_url)
backfiller = Backfiller(boto3.client("lambda"), settings.backfiller_name)


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
@event_source(data_class=CloudFormationCustomResourceEvent)
def handler(event: CloudFormationCustomResourceEvent, context: LambdaContext) -> None:
    """Registers the tables and answers CloudFormation, whatever happens: without an answer it waits for an hour."""
    failure: Exception | None = None
    try:
        register(engine, maintenance, backfiller, tables, event)
    except Exception as error:
        logger.exception("registration failed")
        failure = error
    respond(event, failure)
