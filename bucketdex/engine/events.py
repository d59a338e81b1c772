"""What the engine is told, and what it answers."""

from __future__ import annotations

from typing import Literal

import msgspec

EventKind = Literal["created", "removed", "other"]


class Event(msgspec.Struct, frozen=True):
    """A hint to look at a key. Only a `created` event with the sequencer of the indexed object can be skipped."""

    key: str
    kind: EventKind = "other"
    sequencer: str | None = None
    size: int | None = None


class ApplyResult(msgspec.Struct):
    """What became of a batch. Every key is in exactly one of `applied`, `skipped` and `failed`; those of `applied` that
    have no object in the table are in `gone` too.
    """

    generation: int
    applied: set[str] = msgspec.field(default_factory=set)
    skipped: set[str] = msgspec.field(default_factory=set)
    failed: dict[str, Exception] = msgspec.field(default_factory=dict)
    gone: set[str] = msgspec.field(default_factory=set)
    rows: int = 0
    rejects: int = 0
    commits: int = 0
    redone: int = 0

    def add(self, other: ApplyResult) -> None:
        """Takes in the result of a further part of the batch."""
        self.generation = max(self.generation, other.generation)
        self.applied |= other.applied
        self.skipped |= other.skipped
        self.failed |= other.failed
        self.gone |= other.gone
        self.rows += other.rows
        self.rejects += other.rejects
        self.commits += other.commits
        self.redone += other.redone
