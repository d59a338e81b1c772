"""One batch of messages into one commit per table, so that no message's failure costs another's success."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from bucketdex.engine import ApplyResult, Event
from bucketdex.errors import TableNotFoundError
from bucketdex.storage import is_successor
from functions.indexer.events import Message

Apply = Callable[[str, list[Event]], ApplyResult]


class OutOfTimeError(Exception):
    """The message was not begun: too little of the function's time was left."""


class Batch:
    """Applies messages; `failed` says which failed and why, `results` what each commit did.

    alone_bytes: a message that names a larger object is handled by itself, after all others.
    settle: told of every message handled by itself at once when it is done, to delete it: should a later one crash
        the process, it doesn't come back.
    time_left: whether there is time to begin another message by itself.
    """

    def __init__(
        self, apply: Apply, *, alone_bytes: int, settle: Callable[[Message], None], time_left: Callable[[], bool]
    ) -> None:
        self._apply, self._alone_bytes, self._settle, self._time_left = apply, alone_bytes, settle, time_left
        self.failed: dict[str, Exception] = {}
        self.results: list[tuple[str, ApplyResult]] = []

    def run(self, messages: Iterable[Message]) -> None:
        """Applies the messages: the unsuspicious together, one commit per table; then one by one whatever was
        received before or is large, the least often received first, since what crashes comes back most often."""
        together: list[Message] = []
        alone: list[Message] = []
        for message in messages:
            if message.error:
                self.failed[message.id] = message.error
                continue
            (alone if message.receives > 1 or message.bytes_max > self._alone_bytes else together).append(message)
        self._commit(together)
        for message in sorted(alone, key=lambda message: message.receives):
            if self._time_left():
                self._commit([message])
                if message.id not in self.failed:
                    self._settle(message)
            else:
                self.failed[message.id] = OutOfTimeError("not begun: too little time was left")

    def _commit(self, messages: list[Message]) -> None:
        events: dict[str, list[Event]] = defaultdict(list)
        asking: dict[tuple[str, str], list[str]] = defaultdict(list)
        for message in messages:
            for table, event in message.events:
                events[table].append(event)
                asking[table, event.key].append(message.id)
        for table, wanted in events.items():
            try:
                result = self._apply(table, wanted)
            except Exception as error:
                # Of a successor nothing may be left: its table has another by now, or none any more.
                done = isinstance(error, TableNotFoundError) and is_successor(table)
                failed = {} if done else {event.key: error for event in wanted}
            else:
                failed = result.failed
                self.results.append((table, result))
            for key, reason in failed.items():
                self.failed.update(dict.fromkeys(asking[table, key], reason))
