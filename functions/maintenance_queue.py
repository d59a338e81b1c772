"""Asking the compactor for work: which views of a table are due, and one message for each."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from bucketdex.engine import Engine
from bucketdex.runtime import Runtime
from functions.sqs import only_logged, tens

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

REPEAT_S = 15  # a view is named at most once in this time


class MaintenanceQueue:
    """The compactor's queue. Each view is a message group, so that only one compactor works on it.

    A schedule compacts what is not asked for, so a failing request is logged and fails nothing.
    """

    def __init__(self, client: SQSClient, runtime: Runtime, url: str) -> None:
        self._client, self._runtime, self._url = client, runtime, url

    def ask(self, engine: Engine, table: str) -> None:
        """Names the views that are due, of the table and of its successor. One GET of each manifest, and a request for
        each ten views.
        """
        period = int(self._runtime.now() // REPEAT_S)
        with only_logged("the compactor was not told"):
            due = [(manifest.table, view) for manifest in engine.manifests(table) for view in engine.debt(manifest)]
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {
                    "Id": str(number),
                    "MessageBody": json.dumps({"table": name, "view": view}),
                    "MessageGroupId": _name(name, view),
                    "MessageDeduplicationId": _name(name, view, str(period)),
                }
                for number, (name, view) in enumerate(due)
            ]
            for some in tens(entries):
                self._client.send_message_batch(QueueUrl=self._url, Entries=some)


def _name(*parts: str) -> str:
    """A name within SQS's limits for ids, whatever the parts are."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()
