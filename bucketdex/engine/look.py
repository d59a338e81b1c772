"""Compares one key: what its object holds now with what the index has of it. Changes with what the index keeps of an
object.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from bucketdex.engine.changes import ChangeReader, Means
from bucketdex.engine.events import Event
from bucketdex.engine.walk import Stamp, Walk, stamp
from bucketdex.errors import (
    KeyMissingError,
    SnapshotExpiredError,
    StorageError,
    UnreadableObjectError,
)
from bucketdex.views import OBJECTS, RECORDS, REJECTS, Snapshot
from bucketdex.views.keys import key_range
from bucketdex.views.lines import ObjectRow, decode_object

TRIES_MAX = 3
WAVE_KEYS = 64  # looked at side by side
UNREADABLE = Stamp("", 0)  # as the row of an object that couldn't be read has it


class Fingerprint:
    """A digest of weighted lines in any order: equal ones mean equal folds, but for a chance of about 2**-128 (or for
    somebody who picks the lines to that end). 16 bytes, whatever their number.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, line: bytes, weight: int = 1) -> None:
        """Adds a line, `weight` times."""
        self.rows += weight
        self._sum += weight * int.from_bytes(blake2b(line, digest_size=16).digest(), "big")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fingerprint) and (self.rows, self._sum) == (other.rows, other._sum)

    __hash__ = None  # type: ignore[assignment]  # it changes


class Look(NamedTuple):
    """One look at a key: the stamps of its object and of its row (None: not there), and whether the two agree."""

    object: Stamp | None
    row: Stamp | None
    agree: bool


class Looker:
    """Looks at keys. `deep` reads the objects to their end and compares rows and rejects."""

    def __init__(self, means: Means, walk: Walk) -> None:
        self._means, self._walk = means, walk

    def look(self, keys: Iterable[str], *, deep: bool) -> dict[str, Look | StorageError]:
        """A fresh look at each key, its row in the newest snapshot first, then its object; or why there is none.

        Cost: a GET a key, a GET of the manifest and the look-ups a wave; with `deep` also the blocks of the key's rows.
        """
        listed = list(keys)
        looks: dict[str, Look | StorageError] = {}
        for start in range(0, len(listed), WAVE_KEYS):
            looks |= self._wave(listed[start : start + WAVE_KEYS], deep)
        return looks

    def _wave(self, keys: list[str], deep: bool) -> dict[str, Look | StorageError]:
        for _ in range(TRIES_MAX - 1):
            try:
                return self._wave_once(keys, deep)
            except SnapshotExpiredError:
                continue
        return self._wave_once(keys, deep)

    def _wave_once(self, keys: list[str], deep: bool) -> dict[str, Look | StorageError]:
        snapshot = self._walk.snapshot()
        found = snapshot.lookup(OBJECTS, keys)
        rows = {key: decode_object(entries.lines[-1]) for key, entries in found.items()}
        look = partial(self._deep if deep else self._shallow, snapshot, rows)
        return dict(zip(keys, self._means.runtime.map(look, keys), strict=True))

    def _shallow(self, snapshot: Snapshot, rows: dict[str, ObjectRow], key: str) -> Look | StorageError:
        row = stamp(rows[key]) if key in rows else None
        if snapshot.definition.match(key) is None:
            return Look(None, row, row is None)
        try:
            opened = self._means.data.open(key)
        except KeyMissingError:
            return Look(None, row, row is None)
        except UnreadableObjectError:
            return Look(UNREADABLE, row, row == UNREADABLE)
        except StorageError as error:
            return error
        opened.close()
        there = Stamp(opened.info.etag.strip('"'), int(opened.info.last_modified))
        return Look(there, row, there == row)

    def _deep(self, snapshot: Snapshot, rows: dict[str, ObjectRow], key: str) -> Look | StorageError:
        row = rows.get(key)
        held = {name: Fingerprint() for name in (RECORDS, REJECTS)}
        try:
            there = self._read(snapshot, key, held)
        except StorageError as error:
            return error
        for name, expected in held.items():
            indexed = Fingerprint()
            for entries in snapshot.batches(name, *key_range(key)):
                for line, weight in zip(entries.lines, entries.weight_list(), strict=True):
                    indexed.add(line, weight)
            if indexed != expected:
                return Look(_stamp_of(there), _stamp_of(row), False)
        return Look(_stamp_of(there), _stamp_of(row), _comparable(there) == _comparable(row))

    def _read(self, snapshot: Snapshot, key: str, held: dict[str, Fingerprint]) -> ObjectRow | None:
        """What a commit would bring of this object: its row, and its lines into the fingerprints."""
        reader = ChangeReader(self._means, snapshot.definition, {key: [Event(key)]})
        row: ObjectRow | None = None
        for part in reader.parts(snapshot, key, None):
            for line in part.lines:
                held[RECORDS].add(line)
            for line in part.stored.get(REJECTS, ([], []))[0]:
                held[REJECTS].add(line)
            for line in part.stored.get(OBJECTS, ([], []))[0]:
                row = decode_object(line)
        return row


def _stamp_of(row: ObjectRow | None) -> Stamp | None:
    return None if row is None else stamp(row)


def _comparable(row: ObjectRow | None) -> tuple[Stamp, int, int, int] | None:
    """All of a row but its sequencer, which is that of any one event."""
    return None if row is None else (stamp(row), row.size, row.records, row.rejects)
