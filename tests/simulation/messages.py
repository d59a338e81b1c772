"""A queue with SQS's semantics: at least once, in any order, hidden while worked on, given up after many receives."""

from __future__ import annotations

import msgspec
from scheduler import Scheduler

from bucketdex.engine import Event


class Message(msgspec.Struct):
    """One event on its way."""

    event: Event
    visible_at: float
    receives: int = 0


class EventQueue:
    """Events of the data bucket, delivered with delays and duplicates."""

    def __init__(self, world: Scheduler, *, receives_max: int = 500, duplicate_chance: float = 0.3) -> None:
        self._world, self._receives_max, self._duplicate_chance = world, receives_max, duplicate_chance
        self.waiting: list[Message] = []
        self.dead: list[Message] = []

    def announce(self, kind: str, key: str, sequencer: str) -> None:
        """An S3 event. Deletions of a lifecycle carry no sequencer; some events come late, some twice."""
        r = self._world.random
        event = Event(key, kind, sequencer if kind == "created" else None)  # type: ignore[arg-type]
        copies = 2 if r.random() < self._duplicate_chance else 1
        for _ in range(copies):
            delay = r.choice([0.0, 0.0, r.random(), r.random() * 30, r.random() * 4000])
            self.waiting.append(Message(event, self._world.now + delay))

    def visible(self) -> bool:
        """Whether a message could be received now."""
        return any(message.visible_at <= self._world.now for message in self.waiting)

    def receive(self, count: int, visibility_s: float) -> list[Message]:
        """Up to `count` visible messages, in no order; each is hidden for `visibility_s`, then comes back."""
        visible = [message for message in self.waiting if message.visible_at <= self._world.now]
        self._world.random.shuffle(visible)
        taken = []
        for message in visible[:count]:
            message.receives += 1
            if message.receives > self._receives_max:
                self.waiting.remove(message)
                self.dead.append(message)
                continue
            message.visible_at = self._world.now + visibility_s
            taken.append(message)
        return taken

    def done(self, message: Message) -> None:
        """Deletes a message; one that was received again meanwhile is gone all the same."""
        if message in self.waiting:
            self.waiting.remove(message)

    def postpone(self, message: Message, delay_s: float) -> None:
        message.visible_at = self._world.now + delay_s
