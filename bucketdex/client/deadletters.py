"""The dead letter queues of a stack: what lies in them, sending it again, dropping it. Changes with how SQS hands out
messages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from bucketdex.client.database import Database
from bucketdex.client.letter import ENTRIES_MAX, again, asks, packed
from bucketdex.client.stack import asking_aws, stack_outputs
from bucketdex.definition import TableDefinition
from bucketdex.errors import BucketdexError
from bucketdex.query.columns import unknown

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

# How long a message hides from others, should this process die before it gives it back: at first, and in a queue that
# takes longer to look through, up to what SQS takes.
HOLD_SECONDS = 60
HOLD_SECONDS_MAX = 43_200
WAIT_SECONDS = 1  # any wait makes SQS ask all of its servers, so that an empty answer means an empty queue


class Source(NamedTuple):
    """A dead letter queue and where its messages go when they are sent again: names of the stack's outputs.

    log: the log group of the function that failed them; None where no function has seen them.
    """

    dead: str
    alive: str
    log: str | None


# By the names that the command line has for them. What a stack has no output for, it doesn't have.
SOURCES = {
    "events": Source("EventDeadLetterQueueUrl", "EventQueueUrl", "IndexerLogGroup"),
    "undelivered": Source("UndeliveredEventsQueueUrl", "EventQueueUrl", None),
    "maintenance": Source("MaintenanceDeadLetterQueueUrl", "MaintenanceQueueUrl", "CompactorLogGroup"),
    "backfill": Source("BackfillDeadLetterQueueUrl", "BackfillQueueUrl", "IndexerLogGroup"),
}


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that was given up. `tables`, `keys` and `view`: what it asks to be looked at, as far as it can be read.

    sent_at: seconds since 1970. receives: how often it was handed out, this time included. why: what the message tells
    of the cause; else the log group `log` has it, in lines whose `message_id` is this `id`.
    """

    queue: str
    id: str
    sent_at: float
    receives: int
    tables: tuple[str, ...]
    keys: tuple[str, ...]
    view: str | None
    why: str | None
    log: str | None


class Moved(msgspec.Struct):
    """What became of messages: `found` of them were meant; `done` were sent again and deleted, or dropped.

    kept: couldn't be deleted; those that were sent again come twice. failed: couldn't be sent; `errors` says why.
    returned: came back as dead letters meanwhile, and were left. missing: ids that no queue handed out.
    """

    found: int = 0
    done: int = 0
    kept: int = 0
    failed: int = 0
    returned: int = 0
    missing: list[str] = msgspec.field(default_factory=list)
    errors: list[str] = msgspec.field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether every message that was meant is where it should be."""
        return not (self.kept or self.failed or self.returned or self.missing)


Work = Callable[[str, "list[MessageTypeDef]", Moved], "list[MessageTypeDef]"]


class DeadLetters:
    """The dead letter queues of one stack.

    outputs: the stack's. table_of: names the table that claims a key.
    """

    def __init__(
        self, outputs: Mapping[str, str], sqs: SQSClient, *, table_of: Callable[[str], str | None] = lambda _: None
    ) -> None:
        self._sqs, self._outputs, self._table_of = sqs, outputs, table_of
        self.queues = [name for name, source in SOURCES.items() if source.dead in outputs]

    @classmethod
    def from_stack(cls, name: str) -> DeadLetters:
        """Those of a deployed stack, found by its outputs. One request; the tables' definitions, once keys are read."""
        outputs = stack_outputs(name)
        if not any(source.dead in outputs for source in SOURCES.values()):
            raise BucketdexError(f"stack {name!r} doesn't say where its dead letter queues are: deploy it again")
        with asking_aws("SQS"):
            import boto3

            sqs = boto3.client("sqs")

        @cache
        def definitions() -> list[TableDefinition]:
            database = Database(f"s3://{outputs['IndexBucketName']}")
            try:
                return [database.table(table).definition for table in database.tables()]
            except BucketdexError:  # the index can't be read: perhaps that's why the messages are here
                return []

        def table_of(key: str) -> str | None:
            return next((table.name for table in definitions() if table.match(key) is not None), None)

        return cls(outputs, sqs, table_of=table_of)

    def count(self, queue: str | None = None) -> int:
        """How many messages there are, about: SQS takes a minute to count. One request a queue."""
        counters: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        total = 0
        for name in self._chosen(queue):
            with asking_aws(f"queue {name} could not be read"):
                answer = self._sqs.get_queue_attributes(QueueUrl=self._dead(name), AttributeNames=counters)
            total += sum(int(answer["Attributes"][counter]) for counter in counters)
        return total

    def letters(self, queue: str | None = None, *, limit: int | None = None) -> list[DeadLetter]:
        """The messages, each once, of one queue or of all; they stay where they are, and are visible again afterwards.

        Of a FIFO queue SQS hands out only the first ones of a group, ten at most. Cost: two requests for each ten.
        """
        found: list[DeadLetter] = []
        for name in self._chosen(queue):
            rest = None if limit is None else limit - len(found)
            if rest != 0:
                with self._receiving(name) as held:
                    messages = chain.from_iterable(held.batches())
                    found += [self._letter(name, message) for message in islice(messages, rest)]
        return found

    def redrive(self, queue: str | None = None, *, ids: Collection[str] | None = None) -> Moved:
        """Sends messages to the queue that they came from, and then deletes them here: all, or those of these ids.

        Guarantee: nothing is lost. A crash between the two leaves a message in both queues: an event is only a hint, so
        one that comes twice changes nothing. A FIFO message keeps its group; sent twice within five minutes, it comes
        once. What arrives meanwhile is sent too; what fails once more meanwhile is left. BucketdexError, with nothing
        sent, where the stack doesn't say where a queue is.
        Cost: three requests for each ten messages.
        """
        sent: set[str] = set()
        targets = {name: self._alive(name) for name in self._chosen(queue)}

        def send(name: str, messages: list[MessageTypeDef], moved: Moved) -> list[MessageTypeDef]:
            accepted: list[MessageTypeDef] = []
            target = targets[name]
            for some in packed(messages):
                entries = [again(number, message, target) for number, message in enumerate(some)]
                with asking_aws(f"messages of {name} could not be sent again"):
                    answer = self._sqs.send_message_batch(QueueUrl=target, Entries=entries)
                for entry in answer.get("Successful", []):
                    sent.add(entry["MessageId"])
                    accepted.append(some[int(entry["Id"])])
                for refused in answer.get("Failed", []):
                    moved.failed += 1
                    moved.errors.append(f"{some[int(refused['Id'])]['MessageId']}: {refused.get('Message', '')}")
            return accepted

        return self._each(queue, ids, send, sent)

    def drop(self, queue: str | None = None, *, ids: Collection[str] | None = None) -> Moved:
        """Deletes messages for good: all, or those of these ids. What they were about, `verify --repair` finds.

        Cost: two requests for each ten messages.
        """
        return self._each(queue, ids, lambda _name, messages, _moved: messages, ())

    def _each(self, queue: str | None, ids: Collection[str] | None, work: Work, returning: Collection[str]) -> Moved:
        """Does the work on the messages that are meant, a batch at a time, and deletes those that it returns."""
        moved = Moved()
        left = None if ids is None else set(ids)
        for name in self._chosen(queue):
            if left is not None and not left:
                break
            with self._receiving(name) as held:
                for batch in held.batches():
                    meant = [message for message in batch if left is None or message["MessageId"] in left]
                    back = [message for message in meant if message["MessageId"] in returning]
                    meant = [message for message in meant if message["MessageId"] not in returning]
                    moved.returned += len(back)
                    moved.found += len(meant)
                    moved.kept += held.delete(work(name, meant, moved))
                    moved.done = moved.found - moved.failed - moved.kept
                    if left is not None:
                        left -= {message["MessageId"] for message in batch}
                        if not left:
                            break
        moved.missing = sorted(left or ())
        return moved

    @contextmanager
    def _receiving(self, name: str) -> Iterator[_Held]:
        """What this process holds of a queue; what is left of it at the end is visible again."""
        held = _Held(self._sqs, self._dead(name), name)
        try:
            yield held
        finally:
            held.give_back()

    def _letter(self, name: str, message: MessageTypeDef) -> DeadLetter:
        attributes = message.get("Attributes", {})
        log = SOURCES[name].log
        return DeadLetter(
            queue=name,
            id=message["MessageId"],
            sent_at=int(attributes.get("SentTimestamp", 0)) / 1000,
            receives=int(attributes.get("ApproximateReceiveCount", 1)),
            log=None if log is None else self._outputs.get(log),
            **asks(message, self._table_of)._asdict(),
        )

    def _dead(self, name: str) -> str:
        return self._outputs[SOURCES[name].dead]

    def _alive(self, name: str) -> str:
        output = SOURCES[name].alive
        if output not in self._outputs:
            raise BucketdexError(f"the stack has no output {output}, where messages of {name} go: deploy it again")
        return self._outputs[output]

    def _chosen(self, queue: str | None) -> list[str]:
        if queue is None:
            return self.queues
        if queue not in self.queues:
            raise BucketdexError(unknown("dead letter queue", queue, self.queues, "this stack"))
        return [queue]


class _Held:
    """Messages of one queue that nobody else sees meanwhile."""

    def __init__(self, sqs: SQSClient, url: str, name: str) -> None:
        self._sqs, self._url, self._name = sqs, url, name
        self._receipts: dict[str, str] = {}  # by message id, of all that were ever received; "" once deleted
        self._holds: dict[str, int] = {}  # by message id: for how many seconds it was last hidden
        self._hold_seconds = HOLD_SECONDS

    def batches(self) -> Iterator[list[MessageTypeDef]]:
        """Batches of messages, each message once, until the queue hands out none.

        Those that come round before all are seen are held again, for twice as long as the last time: in the end a hold
        outlasts the queue, and each message was received a few times.
        """
        while True:
            with asking_aws(f"dead letter queue {self._name} could not be read"):
                answer = self._sqs.receive_message(
                    QueueUrl=self._url, MaxNumberOfMessages=ENTRIES_MAX, VisibilityTimeout=self._hold_seconds,
                    WaitTimeSeconds=WAIT_SECONDS, AttributeNames=["All"], MessageAttributeNames=["All"],
                )  # fmt: skip
            received = answer.get("Messages", [])
            new = [message for message in received if message["MessageId"] not in self._receipts]
            self._receipts.update((message["MessageId"], message["ReceiptHandle"]) for message in received)
            came_round = any(self._holds.get(message["MessageId"]) == self._hold_seconds for message in received)
            self._holds.update((message["MessageId"], self._hold_seconds) for message in received)
            if new:
                yield new
            if not received or (came_round and self._hold_seconds >= HOLD_SECONDS_MAX):
                return
            if came_round:
                self._hold_seconds = min(2 * self._hold_seconds, HOLD_SECONDS_MAX)

    def delete(self, messages: list[MessageTypeDef]) -> int:
        """Deletes them; how many are still there."""
        if not messages:
            return 0
        entries: Any = [
            {"Id": str(number), "ReceiptHandle": self._receipts[message["MessageId"]]}
            for number, message in enumerate(messages)
        ]
        with asking_aws(f"messages of {self._name} could not be deleted"):
            answer = self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
        for deleted in answer.get("Successful", []):
            self._receipts[messages[int(deleted["Id"])]["MessageId"]] = ""
        return len(answer.get("Failed", []))

    def give_back(self) -> None:
        """Makes visible again what wasn't deleted; by itself it would be when its hold ends. A request for each ten."""
        receipts = iter([receipt for receipt in self._receipts.values() if receipt])
        while some := list(islice(receipts, ENTRIES_MAX)):
            entries: Any = [
                {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                for number, receipt in enumerate(some)
            ]
            with suppress(BucketdexError), asking_aws("SQS"):
                self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
