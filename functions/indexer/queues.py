"""What the indexer tells its queues: when failed messages return, which are done, what is to be compacted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from bucketdex.errors import CommitGaveUpError
from bucketdex.runtime import Runtime
from functions.indexer.batch import OutOfTimeError
from functions.indexer.events import Message
from functions.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import (
        ChangeMessageVisibilityBatchRequestEntryTypeDef,
        SendMessageBatchRequestEntryTypeDef,
    )

T = TypeVar("T")

ENTRIES_MAX = 10  # of an SQS batch call
RETRY_S = 10  # after the first failure; doubled with each further one
RETRY_S_MAX = 900
CROWDED_S_MAX = 15  # after a lost race: others were only faster
REPEAT_S = 15  # a view is named to the compactor at most once in this time


class Queues:
    """The event queue and the maintenance queue of this deployment.

    What is told them only hastens what happens anyway (a message comes back, a schedule compacts), so a failing call
    is logged and fails nothing. One request for each ten messages.
    """

    def __init__(self, client: SQSClient, runtime: Runtime, events_url: str, maintenance_url: str) -> None:
        self._client, self._runtime = client, runtime
        self._events_url, self._maintenance_url = events_url, maintenance_url

    def settle(self, message: Message) -> None:
        """Deletes a message that is done."""
        with _only_logged("a message that is done was not deleted early"):
            self._client.delete_message(QueueUrl=self._events_url, ReceiptHandle=message.receipt)

    def postpone(self, messages: Iterable[Message], failed: dict[str, Exception]) -> None:
        """Lets failed messages come back soon, with jitter, instead of after the queue's long visibility."""
        entries: list[ChangeMessageVisibilityBatchRequestEntryTypeDef] = [
            {"Id": str(number), "ReceiptHandle": message.receipt, "VisibilityTimeout": self._delay(message, failed)}
            for number, message in enumerate(messages)
            if message.id in failed
        ]
        for some in _tens(entries):
            with _only_logged("failed messages keep their long visibility"):
                self._client.change_message_visibility_batch(QueueUrl=self._events_url, Entries=some)

    def ask_for_compaction(self, debts: Iterable[tuple[str, str]]) -> None:
        """Names (table, view) pairs to the compactor, each in its own message group: one at a time compacts a view."""
        period = int(self._runtime.now() // REPEAT_S)
        entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {
                "Id": str(number),
                "MessageBody": json.dumps({"table": table, "view": view}),
                "MessageGroupId": hashlib.sha256(f"{table}/{view}".encode()).hexdigest(),
                "MessageDeduplicationId": hashlib.sha256(f"{table}/{view}/{period}".encode()).hexdigest(),
            }
            for number, (table, view) in enumerate(sorted(set(debts)))
        ]
        for some in _tens(entries):
            with _only_logged("the compactor was not told"):
                self._client.send_message_batch(QueueUrl=self._maintenance_url, Entries=some)

    def _delay(self, message: Message, failed: dict[str, Exception]) -> int:
        if isinstance(failed[message.id], CommitGaveUpError | OutOfTimeError):
            return round(self._runtime.uniform(1, CROWDED_S_MAX))
        longest = min(RETRY_S_MAX, RETRY_S * 2 ** min(message.receives, 10))
        return round(self._runtime.uniform(longest / 2, longest))


@contextmanager
def _only_logged(consequence: str) -> Iterator[None]:
    try:
        yield
    except Exception:
        logger.exception(consequence)


def _tens(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, ENTRIES_MAX)):
        yield some
