"""A queue with SQS's semantics: at least once, in any order, hidden while worked on, given up after many receives."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from scheduler import Actor, Scheduler

from bucketdex.engine import Event

RECEIVES_MAX = 500  # of a message that nothing is wrong with: the faults are far denser than in any real week
POISON_RECEIVES_MAX = 6
IDLE_S = 2_000.0  # the longest that an empty queue is waited for


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

    def wait(self) -> None:
        """Gives up the turn until a message is visible, at most for `IDLE_S`."""
        times = [message.visible_at for message in self.waiting]
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
