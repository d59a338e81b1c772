"""From keys to the changes that a commit makes of them: what the bucket holds now against what the index held.
Changes with what the index keeps of an object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bucketdex.definition import TableDefinition
from bucketdex.engine.draft import Change
from bucketdex.engine.events import Event
from bucketdex.engine.fetch import Fetched, ObjectReader, fetch
from bucketdex.engine.settings import Settings
from bucketdex.errors import ObjectChangedError
from bucketdex.runtime import Runtime
from bucketdex.storage import ManifestStore, ObjectStore, open_data_store
from bucketdex.views import OBJECTS, RECORDS, REJECTS, BlockCache, Snapshot
from bucketdex.views.keys import key_range
from bucketdex.views.lines import ObjectRow, decode_object
from bucketdex.views.merge import Entries

EventsByKey = dict[str, list[Event]]
Known = dict[str, tuple[ObjectRow, Entries]]


@dataclass(frozen=True)
class Means:
    """What the engine works with."""

    index: ObjectStore
    data: ObjectStore
    runtime: Runtime
    settings: Settings
    cache: BlockCache
    manifests: ManifestStore
    open_store: Callable[[str], ObjectStore] = open_data_store  # of a bucket beside these two, by its URL


class ChangeReader:
    """Reads keys of one batch against one definition. Each answer belongs to the snapshot it was asked with."""

    def __init__(self, means: Means, definition: TableDefinition, by_key: EventsByKey) -> None:
        self._means, self._definition, self._by_key = means, definition, by_key
        self.counts: dict[str, tuple[int, int]] = {}  # records and rejects of each key that was read
        self.gone: set[str] = set()  # keys without an object, when they were read last

    def known(self, snapshot: Snapshot, keys: Iterable[str]) -> Known:
        """The `objects` rows of keys, with their lines."""
        found = snapshot.lookup(OBJECTS, keys)
        return {key: (decode_object(entries.lines[-1]), entries) for key, entries in found.items()}

    def is_duplicate(self, key: str, known: tuple[ObjectRow, Entries] | None) -> bool:
        """Only if every event of the key is a created event with the sequencer that the index has: one newer event
        among them decides.
        """
        if known is None or known[0].sequencer is None:
            return False
        return all(e.kind == "created" and e.sequencer == known[0].sequencer for e in self._by_key[key])

    def is_large(self, row: ObjectRow) -> bool:
        """Whether the old rows of an object are too many to be held beside those of others."""
        return row.records > self._means.settings.alone_rows

    def fetch(self, key: str) -> Fetched | Exception:
        """An object, or what went wrong with it alone: one bad object never fails the others of a batch."""
        try:
            return fetch(self._means.data, self._definition, self._means.settings, key)
        except Exception as error:
            return error

    def changes(self, snapshot: Snapshot, read: dict[str, Fetched], known: Known) -> dict[str, Change]:
        """Step 5 for objects that were read whole: the old rows out, byte for byte, and the new ones in."""
        with_records = [key for key in read if key in known and known[key][0].records]
        with_rejects = [key for key in read if key in known and known[key][0].rejects]
        records = snapshot.lookup(RECORDS, with_records) if with_records else {}
        rejects = snapshot.lookup(REJECTS, with_rejects) if with_rejects else {}
        changes = {}
        for key, fetched in read.items():
            change = changes[key] = Change(rows=fetched.rows, lines=fetched.lines)
            change.add(REJECTS, fetched.rejects, 1)
            self._finish_key(change, fetched.reader, known.get(key))
            if key in records:
                change.retract(RECORDS, records[key])
            if key in rejects:
                change.retract(REJECTS, rejects[key])
        return changes

    def parts(self, snapshot: Snapshot, key: str, known: tuple[ObjectRow, Entries] | None) -> Iterator[Change]:
        """Steps 3 to 5 for one object of any size, in parts; a failure spoils what was taken of them."""
        reader = ObjectReader(self._means.data, self._definition, self._means.settings, key)
        rejecting = self._definition.source.on_error == "reject_object"
        rejected = rejecting and self._has_rejects(key)
        for part in reader.parts():
            change = Change() if rejected else Change(rows=part.rows, lines=part.lines)
            change.add(REJECTS, part.rejects, 1)
            yield change
        if rejecting and rejected != bool(reader.rejects):
            raise ObjectChangedError(f"{key} was replaced between its two readings; it will be read again")
        if rejected:
            reader.records = 0
        last = Change()
        self._finish_key(last, reader, known)
        yield last
        if known is not None:
            yield from self._retractions(snapshot, key)

    def _finish_key(self, change: Change, reader: ObjectReader, known: tuple[ObjectRow, Entries] | None) -> None:
        """The `objects` rows of a key: the old one out, the new one in."""
        if known is not None:
            change.retract(OBJECTS, known[1])
        if reader.exists:
            line = reader.object_line(self._sequencer(reader.key))
            change.add(OBJECTS, [line], 1)
            self.gone.discard(reader.key)
        else:
            self.gone.add(reader.key)
        self.counts[reader.key] = (reader.records, reader.rejects)

    def _sequencer(self, key: str) -> str | None:
        """The sequencer of any one created event that the key is applied for."""
        return next((e.sequencer for e in self._by_key[key] if e.kind == "created" and e.sequencer), None)

    def _has_rejects(self, key: str) -> bool:
        """A first reading of an object that is to be rejected whole if any of it is; the object is read twice."""
        reader = ObjectReader(self._means.data, self._definition, self._means.settings, key)
        return any(reader.rejects for _ in reader.parts())

    def _retractions(self, snapshot: Snapshot, key: str) -> Iterator[Change]:
        for view in (RECORDS, REJECTS):
            for entries in snapshot.batches(view, *key_range(key), blocks_first=8):
                part = Change()
                part.retract(view, entries)
                yield part
