"""Queues with SQS's semantics: at least once, in any order, hidden while worked on; of events, those that were received
too often are given up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from scheduler import Actor, Scheduler

from bucketdex.engine import Depth, Event
from bucketdex.errors import StorageError
from bucketdex.storage import Listed

RECEIVES_MAX = 500  # of a message that nothing is wrong with: the faults are far denser than in any real week
POISON_RECEIVES_MAX = 6
IDLE_S = 2_000.0  # the longest that an empty queue is waited for
PAGE_MESSAGE_KEYS = 3
REFUSED = 0.02  # the share of messages that a queue doesn't accept
LATE = 0.2  # the share of looks at a queue that tell what was there at the look before


class Message(msgspec.Struct):
    """One event on its way."""

    event: Event
    visible_at: float
    receives: int = 0


class Delivery(msgspec.Struct, frozen=True):
    """How events travel in a world: how often each is sent again, how late, and the chance that one never arrives."""

    again: float = 0.3
    delays_s: tuple[float, ...] = (0.0, 0.0, 1.0, 30.0, 4_000.0)  # upper bounds
    lost: float = 0.0
    lost_kinds: tuple[str, ...] = ("created",)


class EventQueue:
    """Events of the data bucket, delivered with delays and duplicates."""

    def __init__(self, world: Scheduler, delivery: Delivery, is_poison: Callable[[str], bool]) -> None:
        self._world, self._delivery, self._is_poison = world, delivery, is_poison
        self.bell: list[Actor] = []
        self.waiting: list[Message] = []
        self.dead: list[Message] = []
        self.lost = 0
        self.resent = 0

    def announce(self, kind: str, key: str, sequencer: str) -> None:
        """An S3 event. Deletions of a lifecycle carry no sequencer; some events come late, some twice, some never."""
        r, delivery = self._world.random, self._delivery
        if kind in delivery.lost_kinds and r.random() < delivery.lost:
            self.lost += 1
            return
        event = Event(key, kind, sequencer if kind == "created" else None)  # type: ignore[arg-type]
        copies = 1
        while copies < 4 and r.random() < delivery.again:
            copies += 1
        self.resent += copies - 1
        for _ in range(copies):
            at = self._world.now + r.random() * r.choice(delivery.delays_s)
            self.waiting.append(Message(event, at))
            self._world.ring(self.bell, at)

    def wait(self, until: float) -> None:
        """Gives up the turn until a message is visible, or until that time; at most for `IDLE_S`."""
        times = [until, *(message.visible_at for message in self.waiting)]
        self._world.wait(self.bell, min(min(times, default=IDLE_S * 1e9), self._world.now + IDLE_S))

    def end(self) -> None:
        """Wakes everybody: nothing comes any more."""
        self._world.ring(self.bell, self._world.now)

    def receive(self, count: int, visibility_s: float) -> list[Message]:
        """Up to `count` visible messages, in no order; each is hidden for `visibility_s`, then comes back."""
        now = self._world.now
        visible = [message for message in self.waiting if message.visible_at <= now]
        self._world.random.shuffle(visible)
        taken = []
        for message in visible[:count]:
            message.receives += 1
            if message.receives > (POISON_RECEIVES_MAX if self._is_poison(message.event.key) else RECEIVES_MAX):
                self.waiting.remove(message)
                self.dead.append(message)
                continue
            message.visible_at = now + visibility_s
            taken.append(message)
        return taken

    def done(self, message: Message) -> None:
        """Deletes a message; one that was received again meanwhile is gone all the same."""
        if message in self.waiting:
            self.waiting.remove(message)
        if not self.waiting:
            self.end()

    def postpone(self, message: Message, delay_s: float) -> None:
        message.visible_at = self._world.now + delay_s
        self._world.ring(self.bell, message.visible_at)


class PageMessage(msgspec.Struct):
    """Some keys of a table that a backfill wants applied."""

    table: str
    keys: list[str]
    visible_at: float
    receives: int = 0


class PageQueue:
    """Pages on their way to the indexers: at least once, in any order, hidden while worked on. None is given up."""

    def __init__(self, world: Scheduler, bell: list[Actor]) -> None:
        self._world, self._bell = world, bell
        self.waiting: list[PageMessage] = []
        self._told = Depth(0, 0)

    def send(self, job: str, table: str, due: Sequence[Listed]) -> None:
        """Message after message; any of them may be refused, when those before it are on their way."""
        world = self._world
        for start in range(0, len(due), PAGE_MESSAGE_KEYS):
            if not world.is_over and world.random.random() < REFUSED:
                raise StorageError("simulated: a page was not accepted")
            keys = [listed.key for listed in due[start : start + PAGE_MESSAGE_KEYS]]
            world.note(f"send {table} {keys}")
            for _ in range(1 if world.random.random() < 0.9 else 2):
                self.waiting.append(PageMessage(table, keys, world.now + world.random.random()))
            world.ring(self._bell, world.now + 1.0)
            world.pause(world.random.random() * 0.05)

    def depth(self) -> Depth:
        """About right: now and then it is that of some time ago."""
        visible = len(self.visible())
        told, self._told = self._told, Depth(visible, len(self.waiting) - visible)
        return told if not self._world.is_over and self._world.random.random() < LATE else self._told

    @property
    def wakes_at(self) -> float:
        """When the next message is visible."""
        return min([message.visible_at for message in self.waiting], default=IDLE_S * 1e9)

    def visible(self) -> list[PageMessage]:
        return [message for message in self.waiting if message.visible_at <= self._world.now]

    def receive(self, count: int, visibility_s: float) -> list[PageMessage]:
        """Up to `count` visible messages, in no order."""
        visible = self.visible()
        self._world.random.shuffle(visible)
        for message in visible[:count]:
            message.receives += 1
            message.visible_at = self._world.now + visibility_s
        return visible[:count]

    def done(self, message: PageMessage) -> None:
        """Deletes a message."""
        self.waiting = [other for other in self.waiting if other is not message]

    def postpone(self, message: PageMessage, delay_s: float) -> None:
        message.visible_at = self._world.now + delay_s
        self._world.ring(self._bell, message.visible_at)
