"""What the index owes for each key, at the moments when it can be told: when an event is acknowledged, when a commit
lands, when a view is built, when a table takes another's place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bucket import Bucket
from checks import assert_consistent, definition_of
from messages import EventQueue
from shapes import Shape
from toxics import StillStore
from witness import Witness

from bucketdex.storage import LogEntry, Manifest, touch_hash
from bucketdex.views import OBJECTS, BlockCache, Snapshot
from bucketdex.views.lines import decode_object


class Promises:
    """Watches the live table of a world."""

    def __init__(
        self, data: Bucket, index: Bucket, queue: EventQueue, witness: Witness, shape: Shape, counts: Counter[str]
    ) -> None:
        self._data, self._index, self._queue, self._witness = data, index, queue, witness
        self._keys, self._counts = shape.keys, counts
        self._cache = BlockCache(4_000_000)
        self._hashes = {touch_hash(key).to_bytes(8, "little"): key for key in shape.keys}
        self._reached = dict.fromkeys(shape.keys, 0)  # of each key's states, the one that the index holds, or a later
        self.applied: dict[str, int] = {}  # keys that were said to be in the index, and how often each had changed then
        witness.committed, witness.promoted = self._committed, self._promoted
        if shape.flickers:
            witness.built = self._built

    def acknowledged(self, key: str) -> None:
        """No message of the key is left: what its object is now is in the index, at this very moment."""
        if not self._live or self._queue.lost or self._witness.dropped:
            return
        if any(message.event.key == key for message in (*self._queue.waiting, *self._queue.dead)):
            return
        self._check_row(key)
        self._counts["acknowledged keys checked"] += 1

    @property
    def _live(self) -> Manifest | None:
        return self._witness.manifests.get("t")

    def _committed(self, entry: LogEntry) -> None:
        """No key that it touched has gone back."""
        touched = entry.touched
        keys = self._keys if touched is None else [
            self._hashes[touched[i : i + 8]] for i in range(0, len(touched), 8) if touched[i : i + 8] in self._hashes
        ]  # fmt: skip
        self._went_on(keys)

    def _went_on(self, keys: Sequence[str]) -> None:
        """No key goes back to what its object was before that which the index has held of it."""
        if self._witness.dropped:
            return
        for key, etag in zip(keys, self._etags(keys), strict=True):
            if etag == "":  # it couldn't be read, at whatever time
                continue
            states = self._data.states.get(key, [None])
            at = next((i for i in range(self._reached[key], len(states)) if states[i] == etag), None)
            assert at is not None, f"{key} goes back to what it was, at {self._witness.generation('t')}"
            self._reached[key] = at
            self._counts["keys that went on"] += 1

    def _promoted(self) -> None:
        """What the table held for certain, what takes its place holds; of the rest, nothing older."""
        self._went_on(self._keys)
        for key in self._keys:
            self.acknowledged(key)
        for key, changes in self.applied.items():
            if self._data.changes(key) == changes and not self._witness.dropped:
                self._check_row(key)
                self._counts["applied keys checked"] += 1

    def _built(self, table: str) -> None:
        """What has just been built is right at that very moment; later it may be gone, or built again."""
        manifest = self._witness.manifests[table]
        assert_consistent(Snapshot(StillStore(self._index), manifest, definition_of(manifest), self._cache))
        self._counts["built views checked"] += 1

    def _check_row(self, key: str) -> None:
        there = self._data.current(key)
        expected = ("" if key in self._data.archived else there.etag) if there else None
        (etag,) = self._etags([key])
        assert etag == expected, f"{key}: {etag} instead of {expected} at {self._witness.generation('t')}"

    def _etags(self, keys: Sequence[str]) -> list[str | None]:
        """What the live table says of objects: their ETags, "" where it couldn't read one, None where there is none."""
        manifest = self._live
        assert manifest is not None
        snapshot = Snapshot(StillStore(self._index), manifest, definition_of(manifest), self._cache)
        found = snapshot.lookup(OBJECTS, list(keys))
        return [decode_object(found[key].lines[-1]).etag if key in found else None for key in keys]
