"""One run through the commit protocol on top of one loaded manifest: read, draft, swap, redo what others touched.
Changes with the protocol.
"""

from __future__ import annotations

from bucketdex.definition import TableDefinition
from bucketdex.engine.changes import ChangeReader, EventsByKey, Known, Means
from bucketdex.engine.commit import Contribution, RedoEverythingError, same_shape, touched_bytes, touched_since
from bucketdex.engine.draft import Draft
from bucketdex.engine.events import ApplyResult
from bucketdex.engine.fetch import TooLargeHereError
from bucketdex.engine.settings import Backoff
from bucketdex.errors import CommitGaveUpError
from bucketdex.storage import Manifest, SwapLostError, Versioned, owner_of
from bucketdex.views import Snapshot


class Attempt:
    """An attempt at committing a batch. What is too large for it goes to `deferred`; None: stream it, it is alone."""

    def __init__(self, means: Means, base: Versioned, by_key: EventsByKey, deferred: set[str] | None) -> None:
        self._means, self._base, self._by_key, self._deferred = means, base, by_key, deferred
        self._definition = TableDefinition.from_dict(owner_of(base.manifest.table), base.manifest.definition)
        self._reader = ChangeReader(means, self._definition, by_key)
        self._draft = Draft(means.index, means.runtime, means.settings, base.manifest, self._definition)
        self._touched: set[str] = set()
        self._result = ApplyResult(generation=base.manifest.generation)

    def run(self, backoff: Backoff) -> ApplyResult:
        """Steps 2 to 6. RedoEverythingError and SnapshotExpiredError ask for another attempt on a newer base."""
        snapshot = self._snapshot(self._base.manifest)
        known = self._reader.known(snapshot, self._by_key)
        work = [key for key in self._by_key if not self._reader.is_duplicate(key, known.get(key))]
        self._result.skipped = set(self._by_key) - set(work)
        if self._deferred is None:
            self._stream(snapshot, work, known)
        else:
            wave = self._means.settings.wave_objects
            for start in range(0, len(work), wave):
                self._gather(snapshot, work[start : start + wave], known, self._deferred)
        if self._touched:
            self._swap(backoff)
        self._result.applied = set(self._touched)
        self._result.gone = self._reader.gone & self._touched
        self._result.rows = sum(records for records, _ in self._reader.counts.values())
        self._result.rejects = sum(rejects for _, rejects in self._reader.counts.values())
        return self._result

    def _snapshot(self, manifest: Manifest) -> Snapshot:
        return Snapshot(self._means.index, manifest, self._definition, self._means.cache)

    def _gather(self, snapshot: Snapshot, keys: list[str], known: Known, deferred: set[str]) -> None:
        """Steps 3 to 5 for a wave of keys: read the objects, look up their old rows, put both into the draft."""
        deferred |= {key for key in keys if key in known and self._reader.is_large(known[key][0])}
        small = [key for key in keys if key not in deferred]
        read = {}
        for key, outcome in zip(small, self._means.runtime.map(self._reader.fetch, small), strict=True):
            if isinstance(outcome, TooLargeHereError):
                deferred.add(key)
            elif isinstance(outcome, Exception):
                self._result.failed[key] = outcome
            else:
                read[key] = outcome
        for key, change in self._reader.changes(snapshot, read, known).items():
            self._draft.put(key, change)
            self._touched.add(key)

    def _stream(self, snapshot: Snapshot, keys: list[str], known: Known) -> None:
        """Steps 3 to 5 for objects of any size, in parts."""
        for key in keys:
            for part in self._reader.parts(snapshot, key, known.get(key)):
                self._draft.extend(key, part)
            self._touched.add(key)

    def _swap(self, backoff: Backoff) -> None:
        """Step 6. Lost swaps are tried again on the new base; keys that were touched meanwhile are redone."""
        means, base = self._means, self._base
        contribution = Contribution(means.index, means.runtime, means.settings, self._draft.build())
        for _ in range(means.settings.attempts_max):
            touched = touched_bytes(self._touched, means.settings)
            new = contribution.place(base.manifest, touched, len(self._touched))
            try:
                landed = means.manifests.swap(base, new)
            except SwapLostError as lost:
                means.runtime.sleep(means.runtime.uniform(0, backoff.ceiling()))
                # What stood before the wait is old: a swap on top of it would lose, the more so the longer it was.
                newest = means.manifests.load(base.manifest.table, cached=lost.current)
                conflicts = self._conflicts(base.manifest, newest.manifest)
                base = newest
                if conflicts:
                    self._redo(base.manifest, sorted(conflicts))
                    built = self._draft.build_corrected()
                    contribution = Contribution(means.index, means.runtime, means.settings, built)
                continue
            self._result.generation = landed.manifest.generation
            self._result.commits = 1
            return
        raise CommitGaveUpError(
            f"table {base.manifest.table}: {means.settings.attempts_max} swaps lost to other commits; "
            "send the batch again"
        )

    def _conflicts(self, base: Manifest, current: Manifest) -> set[str]:
        """The keys of ours that somebody touched since the base."""
        if current.state == "dropped" or not same_shape(base, current):
            raise RedoEverythingError("the table was defined anew")
        return touched_since(current, base.generation, self._touched)

    def _redo(self, base: Manifest, conflicts: list[str]) -> None:
        """Steps 2 to 5 again for the keys in conflict, on the new base."""
        if self._deferred is None:
            # Its rows are in files; those of a failed attempt are orphans.
            raise RedoEverythingError("another commit touched the large object")
        snapshot = self._snapshot(base)
        known = self._reader.known(snapshot, conflicts)
        if any(self._reader.is_large(row) for row, _ in known.values()):
            raise RedoEverythingError("another commit made an object large")
        self._result.redone += len(conflicts)
        read = {}
        for key, outcome in zip(conflicts, self._means.runtime.map(self._reader.fetch, conflicts), strict=True):
            if isinstance(outcome, Exception):
                raise RedoEverythingError(f"{key} could not be read again: {outcome}") from outcome
            read[key] = outcome
        for key, change in self._reader.changes(snapshot, read, known).items():
            self._draft.correct(key, change)
