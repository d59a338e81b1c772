"""Applies a batch of events to a table: the commit protocol, from the manifest that was loaded to the one that was
swapped in.

An event only says "look at this key". Every key is read after its base was loaded and committed only if nobody
committed it in between, so the
reads of one key are ordered as its commits are. docs/protocol.md argues why nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable

from bucketdex.definition import TableDefinition
from bucketdex.engine.commit import Contribution, RedoEverythingError, same_shape, touched_bytes, touched_since
from bucketdex.engine.draft import Change, Draft
from bucketdex.engine.events import ApplyResult, Event
from bucketdex.engine.fetch import Fetched, ObjectReader, TooLargeHereError, fetch
from bucketdex.engine.settings import Backoff, Settings
from bucketdex.errors import CommitGaveUpError, ObjectChangedError, SnapshotExpiredError, TableNotFoundError
from bucketdex.runtime import Runtime
from bucketdex.storage import Manifest, ManifestStore, ObjectStore, SwapLostError, Versioned
from bucketdex.views import OBJECTS, RECORDS, REJECTS, BlockCache, Snapshot
from bucketdex.views.keys import key_range
from bucketdex.views.lines import ObjectRow, decode_object
from bucketdex.views.merge import Entries

EventsByKey = dict[str, list[Event]]


class Applier:
    """Applies batches to one table."""

    def __init__(
        self, index: ObjectStore, data: ObjectStore, runtime: Runtime, settings: Settings, cache: BlockCache
    ) -> None:
        self.index, self.data, self.runtime, self.settings, self.cache = index, data, runtime, settings, cache
        self.manifests = ManifestStore(index, runtime)

    def apply(self, table: str, events: Iterable[Event]) -> ApplyResult:
        """Applies all events; large objects follow the others, each in a commit of its own.

        Guarantee: when it returns, the effect of every key in `applied` or `skipped` is in the index. Keys in `failed`
        are to be sent again.
        Cost: 1 GET of the manifest, 1 GET an object, old-row reads for keys that may be known, 1 or 2 PUTs (more for
        bulk commits). Raises
        CommitGaveUpError, with nothing changed, when too many others came first.
        """
        by_key: EventsByKey = {}
        for event in events:
            by_key.setdefault(event.key, []).append(event)
        large = {k: e for k, e in by_key.items() if max((x.size or 0) for x in e) > self.settings.alone_bytes}
        small = {k: e for k, e in by_key.items() if k not in large}
        result = ApplyResult(generation=0)
        if small:
            deferred: set[str] = set()
            result.add(self._commit(table, small, deferred))
            large |= {key: small[key] for key in deferred}
        for key, its_events in large.items():
            result.add(self._alone(table, key, its_events))
        return result

    def _alone(self, table: str, key: str, events: list[Event]) -> ApplyResult:
        try:
            return self._commit(table, {key: events}, None)
        except TableNotFoundError:
            raise
        except Exception as error:  # whatever it is, it is this object's alone
            return ApplyResult(generation=0, failed={key: error})

    def _commit(self, table: str, by_key: EventsByKey, deferred: set[str] | None) -> ApplyResult:
        """One commit of the keys; what turns out to be too large for a batch goes to `deferred` (None: stream it)."""
        backoff = Backoff(self.settings)
        redone = 0
        for _ in range(self.settings.attempts_max):
            base = self.manifests.load(table)
            if base.manifest.state == "dropped":
                return ApplyResult(generation=base.manifest.generation, skipped=set(by_key))
            attempt = Attempt(self, base, by_key, deferred)
            try:
                result = attempt.run(backoff)
                result.redone += redone
                return result
            except (RedoEverythingError, SnapshotExpiredError, ObjectChangedError):
                redone += len(by_key)
                if deferred is not None:
                    deferred.clear()
                self.runtime.sleep(self.runtime.uniform(0, backoff.ceiling()))
        raise CommitGaveUpError(
            f"table {table}: {self.settings.attempts_max} attempts lost to other commits; "
            "nothing was changed, send the batch again"
        )


class Attempt:
    """One run through the protocol on top of one loaded manifest."""

    def __init__(self, applier: Applier, base: Versioned, by_key: EventsByKey, deferred: set[str] | None) -> None:
        self._applier, self._base, self._by_key, self._deferred = applier, base, by_key, deferred
        self._definition = TableDefinition.from_dict(base.manifest.table, base.manifest.definition)
        self._draft = Draft(applier.index, applier.runtime, applier.settings, base.manifest, self._definition)
        self._touched: set[str] = set()
        self._counts: dict[str, tuple[int, int]] = {}
        self._result = ApplyResult(generation=base.manifest.generation)

    def run(self, backoff: Backoff) -> ApplyResult:
        """Steps 2 to 6."""
        snapshot = self._snapshot(self._base.manifest)
        known = self._known(snapshot, self._by_key)
        work = [key for key in self._by_key if not self._is_duplicate(key, known.get(key))]
        self._result.skipped = set(self._by_key) - set(work)
        for start in range(0, len(work), self._applier.settings.wave_objects):
            self._gather(snapshot, work[start : start + self._applier.settings.wave_objects], known)
        if self._touched:
            self._swap(backoff)
        self._result.applied = set(self._touched)
        self._result.rows = sum(records for records, _ in self._counts.values())
        self._result.rejects = sum(rejects for _, rejects in self._counts.values())
        return self._result

    def _snapshot(self, manifest: Manifest) -> Snapshot:
        return Snapshot(self._applier.index, manifest, self._definition, self._applier.cache)

    def _known(self, snapshot: Snapshot, keys: Iterable[str]) -> dict[str, tuple[ObjectRow, Entries]]:
        """The `objects` rows of keys, with their lines."""
        found = snapshot.lookup(OBJECTS, keys)
        return {key: (decode_object(entries.lines[-1]), entries) for key, entries in found.items()}

    def _is_duplicate(self, key: str, known: tuple[ObjectRow, Entries] | None) -> bool:
        """Only if every event of the key is a created event with the sequencer that the index has: one newer event
        among them decides.
        """
        if known is None or known[0].sequencer is None:
            return False
        return all(e.kind == "created" and e.sequencer == known[0].sequencer for e in self._by_key[key])

    def _gather(self, snapshot: Snapshot, keys: list[str], known: dict[str, tuple[ObjectRow, Entries]]) -> None:
        """Steps 3 to 5 for a wave of keys: read the objects, look up their old rows, put both into the draft."""
        alone = {k for k in keys if self._deferred is None or (k in known and self._is_large(known[k][0]))}
        if self._deferred is not None:
            self._deferred |= alone
        else:
            for key in keys:
                self._stream(snapshot, key, known.get(key))
            return
        small = [key for key in keys if key not in alone]
        outcomes = self._applier.runtime.map(self._fetch, small)
        read = {}
        for key, outcome in zip(small, outcomes, strict=True):
            if isinstance(outcome, TooLargeHereError):
                self._deferred.add(key)
            elif isinstance(outcome, Exception):
                self._result.failed[key] = outcome
            else:
                read[key] = outcome
        for key, change in self._changes(snapshot, read, known).items():
            self._draft.put(key, change)
            self._touched.add(key)

    def _is_large(self, row: ObjectRow) -> bool:
        return row.records > self._applier.settings.alone_rows

    def _fetch(self, key: str) -> Fetched | Exception:
        """An object, or what went wrong with it alone: one bad object never fails the others of a batch."""
        try:
            return fetch(self._applier.data, self._definition, self._applier.settings, key)
        except Exception as error:
            return error

    def _changes(
        self, snapshot: Snapshot, read: dict[str, Fetched], known: dict[str, tuple[ObjectRow, Entries]]
    ) -> dict[str, Change]:
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

    def _finish_key(self, change: Change, reader: ObjectReader, known: tuple[ObjectRow, Entries] | None) -> None:
        """The `objects` rows of a key: the old one out, the new one in."""
        if known is not None:
            change.retract(OBJECTS, known[1])
        if reader.exists:
            line = reader.object_line(self._sequencer(reader.key))
            change.add(OBJECTS, [line], 1)
        self._counts[reader.key] = (reader.records, reader.rejects)

    def _sequencer(self, key: str) -> str | None:
        """The sequencer of any one created event that the key is applied for."""
        return next((e.sequencer for e in self._by_key[key] if e.kind == "created" and e.sequencer), None)

    def _stream(self, snapshot: Snapshot, key: str, known: tuple[ObjectRow, Entries] | None) -> None:
        """One object of any size, in parts; a failure spoils the draft, so the object is alone in it."""
        reader = ObjectReader(self._applier.data, self._definition, self._applier.settings, key)
        rejecting = self._definition.source.on_error == "reject_object"
        rejected = rejecting and self._has_rejects(key)
        for part in reader.parts():
            change = Change() if rejected else Change(rows=part.rows, lines=part.lines)
            change.add(REJECTS, part.rejects, 1)
            self._draft.extend(key, change)
        if rejecting and rejected != bool(reader.rejects):
            raise ObjectChangedError(f"{key} was replaced between its two readings; it will be read again")
        if rejected:
            reader.records = 0
        old = Change()
        self._finish_key(old, reader, known)
        self._draft.extend(key, old)
        if known is not None:
            self._retract_stream(snapshot, key)
        self._touched.add(key)

    def _has_rejects(self, key: str) -> bool:
        """A first reading of an object that is to be rejected whole if any of it is; the object is read twice."""
        reader = ObjectReader(self._applier.data, self._definition, self._applier.settings, key)
        return any(reader.rejects for _ in reader.parts())

    def _retract_stream(self, snapshot: Snapshot, key: str) -> None:
        for view in (RECORDS, REJECTS):
            for entries in snapshot.batches(view, *key_range(key), blocks_first=8):
                part = Change()
                part.retract(view, entries)
                self._draft.extend(key, part)

    def _swap(self, backoff: Backoff) -> None:
        """Step 6. Lost swaps are tried again on the new base; keys that were touched meanwhile are redone."""
        applier, base = self._applier, self._base
        contribution = Contribution(applier.index, applier.runtime, applier.settings, self._draft.build())
        for _ in range(applier.settings.attempts_max):
            touched = touched_bytes(self._touched, applier.settings)
            new = contribution.place(base.manifest, touched, len(self._touched))
            try:
                landed = applier.manifests.swap(base, new)
            except SwapLostError as lost:
                applier.runtime.sleep(applier.runtime.uniform(0, backoff.ceiling()))
                base = self._rebase(base, lost.current)
                if self._redo(base):
                    built = self._draft.build_corrected()
                    contribution = Contribution(applier.index, applier.runtime, applier.settings, built)
                continue
            self._result.generation = landed.manifest.generation
            self._result.commits = 1
            return
        raise CommitGaveUpError(
            f"table {base.manifest.table}: {applier.settings.attempts_max} swaps lost to other commits; "
            "send the batch again"
        )

    def _rebase(self, base: Versioned, current: Versioned) -> Versioned:
        """The newest manifest as the base, and the keys that somebody touched since the old one."""
        if current.manifest.state == "dropped":
            raise RedoEverythingError
        if not same_shape(base.manifest, current.manifest):
            raise RedoEverythingError
        self._conflicts = touched_since(current.manifest, base.manifest.generation, self._touched)
        return current

    def _redo(self, base: Versioned) -> bool:
        """Steps 2 to 5 again for the keys in conflict, on the new base."""
        conflicts = sorted(self._conflicts)
        if not conflicts:
            return False
        if self._deferred is None:
            raise RedoEverythingError  # a large object's rows are in files; the files of a failed attempt are orphans
        snapshot = self._snapshot(base.manifest)
        known = self._known(snapshot, conflicts)
        if any(self._is_large(row) for row, _ in known.values()):
            raise RedoEverythingError
        self._result.redone += len(conflicts)
        read = {}
        outcomes = self._applier.runtime.map(self._fetch, conflicts)
        for key, outcome in zip(conflicts, outcomes, strict=True):
            if isinstance(outcome, Exception):
                raise RedoEverythingError from outcome
            read[key] = outcome
        for key, change in self._changes(snapshot, read, known).items():
            self._draft.correct(key, change)
        return True
