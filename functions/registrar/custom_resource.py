"""The answer that CloudFormation waits for."""

from __future__ import annotations

import json
import urllib.request

from aws_lambda_powertools.utilities.data_classes import CloudFormationCustomResourceEvent

RESPONSE_TIMEOUT_S = 30
REASON_MAX = 1000  # CloudFormation takes 4 KiB in all


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
