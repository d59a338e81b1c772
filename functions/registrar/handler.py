"""The registrar: the custom resource through which a deployment commits its table definitions to the index."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import msgspec
from aws_lambda_powertools.utilities.data_classes import CloudFormationCustomResourceEvent, event_source
from aws_lambda_powertools.utilities.typing import LambdaContext

from bucketdex.engine import Engine
from bucketdex.runtime import system_runtime
from bucketdex.storage import open_index_store
from functions.configuration import deployed_tables, from_environment
from functions.observability import logger, tracer

RESPONSE_TIMEOUT_S = 30
REASON_MAX = 1000  # CloudFormation takes 4 KiB in all


class Settings(msgspec.Struct, frozen=True):
    """What the stack tells this function."""

    index_bucket: str


settings = from_environment(Settings)
tables = deployed_tables()
index = open_index_store(f"s3://{settings.index_bucket}")
engine = Engine(index, index, system_runtime())  # it never reads data


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
@event_source(data_class=CloudFormationCustomResourceEvent)
def handler(event: CloudFormationCustomResourceEvent, context: LambdaContext) -> None:
    """Registers the tables and answers CloudFormation, whatever happens: without an answer it waits for an hour."""
    try:
        register(event)
    except Exception as error:
        logger.exception("registration failed")
        respond(event, "FAILED", f"{type(error).__name__}: {error}")
    else:
        respond(event, "SUCCESS", "")


def register(event: CloudFormationCustomResourceEvent) -> None:
    """Commits every definition of the bundle, and drops the tables that this deployment no longer has.

    Nothing happens on deletion: the index stays as readable as its bucket.
    """
    if event.request_type == "Delete":
        return
    managed_by = event.resource_properties["ManagedBy"]
    for table in tables:
        engine.define(table, managed_by)
    for name in set(event.old_resource_properties.get("Tables", ())) - {table.name for table in tables}:
        engine.drop_table(name)


def respond(event: CloudFormationCustomResourceEvent, status: str, reason: str) -> None:
    """PUTs the answer to the address that CloudFormation gave."""
    answer: dict[str, Any] = {
        "Status": status,
        "Reason": reason[:REASON_MAX],
        "PhysicalResourceId": event.physical_resource_id or f"{settings.index_bucket}/{event.logical_resource_id}",
        "StackId": event.stack_id,
        "RequestId": event.request_id,
        "LogicalResourceId": event.logical_resource_id,
    }
    request = urllib.request.Request(  # noqa: S310 (the address is CloudFormation's)
        event.response_url, data=json.dumps(answer).encode(), method="PUT", headers={"Content-Type": ""}
    )
    with urllib.request.urlopen(request, timeout=RESPONSE_TIMEOUT_S):  # noqa: S310
        pass
