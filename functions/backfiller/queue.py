"""The queue of pages: sends them, and tells how many wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bucketdex.engine import Depth
from bucketdex.errors import StorageError
from bucketdex.storage import Listed
from functions.pages import page_bodies
from functions.sqs import ENTRIES_MAX

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

BATCH_BYTES_MAX = 256 * 1024  # of a batch call
VISIBLE: Any = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed")
HIDDEN: Any = ("ApproximateNumberOfMessagesNotVisible",)


class SqsPageQueue:
    """Pages of keys to an SQS queue. Errors of SQS are StorageErrors: they pass, or the job says them."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client, self._url = client, url

    def send(self, job: str, table: str, due: Sequence[Listed]) -> None:
        """Sends the keys. A request for each ten messages, or each 256 KiB; StorageError when one wasn't accepted."""
        for bodies in _batches(page_bodies(job, table, due)):
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)
            ]
            failed = self._call("send_message_batch", Entries=entries).get("Failed")
            if failed:
                raise StorageError(f"{len(failed)} pages were not accepted: {failed[0].get('Message')}")

    def depth(self) -> Depth:
        """What waits. One request."""
        found = self._call("get_queue_attributes", AttributeNames=[*VISIBLE, *HIDDEN])["Attributes"]
        visible, hidden = (sum(int(found.get(name, 0)) for name in names) for names in (VISIBLE, HIDDEN))
        return Depth(visible, hidden)

    def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, operation)(QueueUrl=self._url, **arguments)
        except Exception as error:
            raise StorageError(f"{operation} of the backfill queue failed: {error}") from error


def _batches(bodies: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for body in bodies:
        if batch and (len(batch) == ENTRIES_MAX or sum(map(len, batch)) + len(body) > BATCH_BYTES_MAX):
            yield batch
            batch = []
        batch.append(body)
    if batch:
        yield batch
