"""What the indexer tells the queue it reads: when failed messages return, and which are done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bucketdex.errors import CommitGaveUpError
from bucketdex.runtime import Runtime
from functions.indexer.events import Message
from functions.sqs import only_logged, tens

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import ChangeMessageVisibilityBatchRequestEntryTypeDef

RETRY_S = 10  # after the first failure; doubled with each further one
RETRY_S_MAX = 900
CROWDED_S_MAX = 15  # after a lost race: others were only faster


class EventQueue:
    """The queue of S3 events.

    What is told it only hastens what happens anyway (a message goes or comes back), so a failing call is logged and
    fails nothing.
    """

    def __init__(self, client: SQSClient, runtime: Runtime, url: str) -> None:
        self._client, self._runtime, self._url = client, runtime, url

    def settle(self, message: Message) -> None:
        """Deletes a message that is done. One request."""
        with only_logged("a message that is done was not deleted early"):
            self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message.receipt)

    def postpone(self, messages: Iterable[Message], failed: dict[str, Exception]) -> None:
        """Lets failed messages come back soon, with jitter, instead of after the queue's long visibility.

        One request for each ten.
        """
        entries: list[ChangeMessageVisibilityBatchRequestEntryTypeDef] = [
            {"Id": str(number), "ReceiptHandle": message.receipt, "VisibilityTimeout": self._delay(message, failed)}
            for number, message in enumerate(messages)
            if message.id in failed
        ]
        for some in tens(entries):
            with only_logged("failed messages keep their long visibility"):
                self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=some)

    def _delay(self, message: Message, failed: dict[str, Exception]) -> int:
        if isinstance(failed[message.id], CommitGaveUpError):
            return round(self._runtime.uniform(1, CROWDED_S_MAX))
        longest = min(RETRY_S_MAX, RETRY_S * 2 ** min(message.receives, 10))
        return round(self._runtime.uniform(longest / 2, longest))
