"""Garbage collection: forgets what is past its grace period, and sweeps files that no manifest ever listed."""

from __future__ import annotations

import msgspec

from bucketdex.engine.commit import replacement
from bucketdex.engine.land import land
from bucketdex.engine.settings import Settings
from bucketdex.engine.successor import tombstone
from bucketdex.errors import TableNotFoundError
from bucketdex.runtime import Runtime
from bucketdex.storage import Delta, Manifest, ManifestStore, ObjectStore, Run, SwapLostError, Versioned
from bucketdex.storage.paths import (
    base_generation,
    descriptors_prefix,
    is_successor,
    manifest_path,
    owner_of,
    successors_prefix,
    table_of,
    table_prefix,
)


class Collected(msgspec.Struct):
    """What a collection did."""

    expired: int = 0
    deleted: int = 0
    orphans: int = 0


class Collector:
    """Deletes files. Clocks decide only how long readers are indulged; what is live, the manifest decides."""

    def __init__(self, store: ObjectStore, runtime: Runtime, settings: Settings) -> None:
        self._store, self._runtime, self._settings = store, runtime, settings
        self._manifests = ManifestStore(store, runtime)

    def collect(self, table: str) -> Collected:
        """Deletes garbage past the grace period, and the descriptors that named it. Costs nothing but the manifest's
        GET when there is none.
        """
        base = self._manifests.load(table)
        horizon = self._runtime.now() - self._settings.grace_seconds
        if not any(entry.removed_at < horizon for entry in base.manifest.garbage):
            return Collected()
        expired: list[str] = []

        def change(current: Manifest) -> Manifest | None:
            gone = [entry for entry in current.garbage if entry.removed_at < horizon]
            new = replacement(current, "collection", self._runtime, self._settings)
            new.garbage = [entry for entry in current.garbage if entry.removed_at >= horizon]
            _forget(new, max((entry.removed for entry in gone), default=0))
            expired[:] = [path for entry in gone for path in _paths([entry.run], [entry.delta])]
            return new

        landed = land(self._manifests, self._runtime, self._settings, base, change)
        assert landed is not None
        dead = sorted(set(expired) - referenced(landed.manifest))
        if not self._may_delete(table):
            return Collected(expired=len(expired))
        dead += self._dead_descriptors(landed.manifest) if base.manifest.descriptors else []
        self._store.delete_many(dead)
        return Collected(expired=len(expired), deleted=len(dead))

    def _dead_descriptors(self, manifest: Manifest) -> list[str]:
        """Those that neither this manifest nor a later one can name: a swap takes over only what its base names, and
        writes the rest under its base's generation. A reader of an older manifest looks again. Costs a LIST.
        """
        listed = [entry.key for entry in self._store.list(descriptors_prefix(manifest.table))]
        live = set(manifest.descriptors)
        return [path for path in listed if path not in live and base_generation(path) < manifest.generation]

    def sweep(self, table: str) -> Collected:
        """Deletes files that nothing refers to, left by crashed or beaten writers.

        It first commits a floor: from then on a commit that brings a file based below it writes that file anew, so a
        file below the floor that this manifest doesn't list can never become live. So are the successors that the table
        names no more; see `_Homes`. Costs a PUT, two LISTs (one more for each thousand files) and a GET for each past
        successor that still has files.
        """
        homes = None if is_successor(table) else _Homes(self._store, self._manifests, table)
        base = self._manifests.load(table)

        def change(current: Manifest) -> Manifest | None:
            new = replacement(current, "collection", self._runtime, self._settings)
            new.floor, new.floor_at = new.generation, new.updated_at
            return new

        landed = land(self._manifests, self._runtime, self._settings, base, change)
        assert landed is not None
        orphans = self._orphans(landed)
        if homes is not None:
            orphans += homes.forsaken(landed.manifest, self._runtime, self._settings)
        if not self._may_delete(table):
            return Collected()
        self._store.delete_many(orphans)
        return Collected(deleted=len(orphans), orphans=len(orphans))

    def _orphans(self, landed: Versioned) -> list[str]:
        manifest = landed.manifest
        live = referenced(manifest)
        out = []
        for listed in self._store.list(table_prefix(manifest.table)):
            if listed.key in live:
                continue
            generation = base_generation_or_none(listed.key)
            if generation is not None and generation < manifest.floor:
                out.append(listed.key)
        return out

    def _may_delete(self, table: str) -> bool:
        """Whether files that the table's manifest doesn't list are nobody's. Those of a successor may be live in the
        table that it was promoted to. So that table's manifest is replaced while it names the successor: a promotion
        that doesn't know the manifest we committed can't land after that.
        """
        if not is_successor(table):
            return True

        def change(current: Manifest) -> Manifest | None:
            if current.successor != table:
                return None
            return replacement(current, "collection", self._runtime, self._settings)

        owner = self._manifests.load(owner_of(table))
        return land(self._manifests, self._runtime, self._settings, owner, change) is not None


class _Homes:
    """The folders of a table's successors, as they were before a sweep loaded the table's own manifest.

    One that the table names is left alone. Any other was promoted or given up, and will never be named again, or is yet
    to be announced by a writer that is slow or dead. Its manifest becomes a tombstone, by a swap on what was loaded
    here: it can't land once the announcer has looked after its successor (`Successors.hold`), and where it lands the
    announcer starts over. Then nothing in the folder is live but what the table's manifest lists. Age only spares
    announcers from starting over.
    """

    def __init__(self, store: ObjectStore, manifests: ManifestStore, table: str) -> None:
        self._manifests = manifests
        self._files: dict[str, list[str]] = {}
        for listed in store.list(successors_prefix(table)):
            self._files.setdefault(table_of(listed.key), []).append(listed.key)
        self._found = {name: self._load(name) for name in self._files}

    def _load(self, name: str) -> Versioned | None:
        try:
            return self._manifests.load(name)
        except TableNotFoundError:
            return None

    def forsaken(self, live: Manifest, runtime: Runtime, settings: Settings) -> list[str]:
        """What is to be deleted: of a home that has a tombstone, all that the table doesn't list; the tombstone once
        nothing else is left.
        """
        kept = referenced(live)
        dead: list[str] = []
        for name, files in self._files.items():
            if name == live.successor or not self._buried(self._found[name], runtime, settings):
                continue
            going = [path for path in files if path not in kept]
            if len(going) < len(files):
                going = [path for path in going if path != manifest_path(name)]
            dead += going
        return dead

    def _buried(self, found: Versioned | None, runtime: Runtime, settings: Settings) -> bool:
        if found is None or found.manifest.state == "dropped":
            return True
        if found.manifest.updated_at >= runtime.now() - settings.grace_seconds:
            return False
        try:
            self._manifests.swap(found, tombstone(found.manifest, runtime, settings))
        except (SwapLostError, TableNotFoundError):
            return False
        return True


def _forget(manifest: Manifest, generation: int) -> None:
    """What generation `generation` removed is gone: no generation before it can be put together any more, whichever
    compaction it was, so the history of folds starts there.
    """
    for state in manifest.views.values():
        older = [folded for at, folded in state.folds if at <= generation]
        newer = [fold for fold in state.folds if fold[0] > generation]
        state.folds = [(generation, older[-1]), *newer] if older else newer


def base_generation_or_none(path: str) -> int | None:
    """The base generation in a file's name; None for what isn't one of our files."""
    try:
        return base_generation(path)
    except ValueError:
        return None


def referenced(manifest: Manifest) -> set[str]:
    """Every file that the manifest lists, live or within its grace period."""
    runs = [run for state in manifest.views.values() for run in state.runs]
    runs += [entry.run for entry in manifest.garbage if entry.run is not None]
    deltas = [*manifest.deltas, *(entry.delta for entry in manifest.garbage if entry.delta is not None)]
    return _paths(runs, deltas) | set(manifest.descriptors)


def _paths(runs: list[Run] | list[Run | None], deltas: list[Delta] | list[Delta | None]) -> set[str]:
    paths = {file.path for run in runs if run is not None for file in run.files}
    return paths | {delta.file.path for delta in deltas if delta is not None and delta.file and not delta.inline}
