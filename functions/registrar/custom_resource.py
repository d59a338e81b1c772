"""What a deployment asks for, and the answer that CloudFormation waits for."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable

from aws_lambda_powertools.utilities.data_classes import CloudFormationCustomResourceEvent

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine
from functions.backfills import Backfiller
from functions.maintenance_queue import MaintenanceQueue

RESPONSE_TIMEOUT_S = 30
REASON_MAX = 1000  # CloudFormation takes 4 KiB in all


def register(
    engine: Engine,
    maintenance: MaintenanceQueue,
    backfiller: Backfiller,
    tables: Iterable[TableDefinition],
    event: CloudFormationCustomResourceEvent,
) -> None:
    """Commits every definition, has what it changed built (views from rows, successors by a backfill), and drops the
    tables that are gone from the deployment.

    Nothing happens on deletion: the index stays as readable as its bucket.
    """
    if event.request_type == "Delete":
        return
    managed_by = event.resource_properties["ManagedBy"]
    names = set()
    building = False
    for table in tables:
        engine.define(table, managed_by=managed_by)
        maintenance.ask(engine, table.name)
        building = engine.follow_successor(table.name) is not None or building
        names.add(table.name)
    for name in sorted(set(event.old_resource_properties.get("Tables", ())) - names):
        engine.drop_table(name, managed_by=managed_by)
    if building:
        backfiller.wake()


def respond(event: CloudFormationCustomResourceEvent, error: Exception | None) -> None:
    """PUTs the answer to the address that CloudFormation gave. The resource keeps its id for ever."""
    answer = {
        "Status": "FAILED" if error else "SUCCESS",
        "Reason": f"{type(error).__name__}: {error}"[:REASON_MAX] if error else "",
        "PhysicalResourceId": event.physical_resource_id or event.logical_resource_id,
        "StackId": event.stack_id,
        "RequestId": event.request_id,
        "LogicalResourceId": event.logical_resource_id,
    }
    request = urllib.request.Request(  # noqa: S310 (the address is CloudFormation's)
        event.response_url, data=json.dumps(answer).encode(), method="PUT", headers={"Content-Type": ""}
    )
    with urllib.request.urlopen(request, timeout=RESPONSE_TIMEOUT_S):  # noqa: S310
        pass
