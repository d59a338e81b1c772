"""What a message of a deployment asks for, and how it is sent again. Changes with what the queues carry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef, SendMessageBatchRequestEntryTypeDef

ENTRIES_MAX = 10  # of a batch call
BATCH_BYTES = 200 * 1024  # below what SQS has ever taken in one call, with room for attributes
SNS_ATTRIBUTES = frozenset({"ErrorCode", "ErrorMessage", "RequestID"})  # why SNS couldn't deliver it


class Asks(NamedTuple):
    """The tables, keys and view that a message names, and why it can't be followed, where the message tells."""

    tables: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    view: str | None = None
    why: str | None = None


def asks(message: MessageTypeDef, table_of: Callable[[str], str | None]) -> Asks:
    """Reads a message of any queue; one that is none of ours says so in `why`. Never shows the text of such a one."""
    attributes: dict[str, Any] = dict(message.get("MessageAttributes", {}))
    told = attributes.get("ErrorMessage", {}).get("StringValue")
    try:
        return _read(json.loads(_body(message)), table_of)._replace(why=told)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Asks(why=told or "no message of Bucketdex")


def again(number: int, message: MessageTypeDef, queue_url: str) -> SendMessageBatchRequestEntryTypeDef:
    """The entry of a batch that sends a message to a queue again.

    In a FIFO queue it keeps its group. Its deduplication id is its id here: new to that queue, and the same when this
    is tried again.
    """
    entry: SendMessageBatchRequestEntryTypeDef = {"Id": str(number), "MessageBody": _body(message)}
    attributes = message.get("MessageAttributes", {})
    if kept := {name: value for name, value in attributes.items() if name not in SNS_ATTRIBUTES}:
        entry["MessageAttributes"] = kept  # what is received may be sent
    if queue_url.endswith(".fifo"):
        entry["MessageGroupId"] = message["Attributes"]["MessageGroupId"]
        entry["MessageDeduplicationId"] = message["MessageId"]
    return entry


def packed(messages: Iterable[MessageTypeDef]) -> Iterator[list[MessageTypeDef]]:
    """The messages in lists that one batch call takes."""
    some: list[MessageTypeDef] = []
    size = 0
    for message in messages:
        length = len(message["Body"].encode())
        if some and (len(some) == ENTRIES_MAX or size + length > BATCH_BYTES):
            yield some
            some, size = [], 0
        some.append(message)
        size += length
    if some:
        yield some


def _body(message: MessageTypeDef) -> str:
    """The text that the function is to get: what SNS has put into an envelope comes out of it."""
    body = message["Body"]
    try:
        envelope = json.loads(body)
    except ValueError:
        return body
    if isinstance(envelope, dict) and envelope.get("Type") == "Notification" and "Message" in envelope:
        return str(envelope["Message"])
    return body


def _read(body: dict[str, Any], table_of: Callable[[str], str | None]) -> Asks:
    if "Records" in body:
        keys = tuple(unquote_plus(record["s3"]["object"]["key"]) for record in body["Records"])
        tables = (table_of(key) for key in keys)
        return Asks(tuple(dict.fromkeys(table for table in tables if table is not None)), keys)
    if "backfill" in body:
        page = body["backfill"]
        return Asks((str(page["table"]),), tuple(str(key) for key, _ in page["keys"]))
    return Asks((str(body["table"]),), view=str(body["view"]))
