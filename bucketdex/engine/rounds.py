"""What is remembered of a scheduled verification between its turns: one small object a table, beside the tables.
Changes with what a round tells of itself.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bucketdex.engine.verify import Verified
from bucketdex.errors import KeyMissingError
from bucketdex.runtime import Runtime
from bucketdex.storage import GetRequest, ObjectStore, round_path

COUNTS = ("objects", "read", "missing", "stale", "extra", "wrong", "changing", "repaired", "failures")


class Round(msgspec.Struct, kw_only=True):
    """One way through a table, in as many turns as it takes. Times in seconds since the epoch.

    last_key: all keys up to it are done. finished_at: when a round last came to its end. The counts are those of this
    round, or of the whole one that `finished_at` ended, until the next begins.
    """

    table: str
    started_at: float
    updated_at: float
    last_key: str | None = None
    finished_at: float | None = None
    objects: int = 0
    read: int = 0
    missing: int = 0
    stale: int = 0
    extra: int = 0
    wrong: int = 0
    changing: int = 0
    repaired: int = 0
    failures: int = 0

    def after(self, turn: Verified, now: float) -> Round:
        """The round after one more turn."""
        begins = self.last_key is None
        counts = {name: getattr(turn, name) + (0 if begins else getattr(self, name)) for name in COUNTS}
        return Round(
            table=self.table,
            started_at=now if begins else self.started_at,
            updated_at=now,
            last_key=turn.last_key,
            finished_at=now if turn.last_key is None else self.finished_at,
            **counts,
        )


class Rounds:
    """Loads and saves the rounds of an index. Two verifications at once harm nobody: the last one saves."""

    def __init__(self, store: ObjectStore, runtime: Runtime) -> None:
        self._store, self._runtime = store, runtime

    def load(self, table: str) -> Round:
        """The table's round, as it is; a new one where there is none, or none that can be read. One GET."""
        try:
            return msgspec.json.decode(self._store.get(GetRequest(round_path(table))).body, type=Round)
        except (KeyMissingError, msgspec.DecodeError):
            return Round(table=table, started_at=0.0, updated_at=0.0)

    def save(self, before: Round, turn: Verified) -> Round:
        """Takes in a turn. One PUT."""
        after = before.after(turn, self._runtime.now())
        self._store.put(round_path(after.table), msgspec.json.format(msgspec.json.encode(after)))
        return after

    def in_turn(self, tables: Iterable[str]) -> list[Round]:
        """The rounds of the tables, the one that has waited longest first. One GET a table."""
        return sorted(self._runtime.map(self.load, tables), key=lambda found: (found.updated_at, found.table))
