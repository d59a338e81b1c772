"""Sees every write and every deletion in the index bucket, at the moment it happens, and says what must never be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bucket import Bucket
from scheduler import Scheduler

from bucketdex.definition.table import RETIRED
from bucketdex.engine import Settings
from bucketdex.engine.collect import referenced
from bucketdex.storage import Delta, Garbage, GetRequest, LogEntry, Manifest, Run, descriptors
from bucketdex.storage import manifest as manifests
from bucketdex.storage.paths import is_successor, owner_of

SKEW_MAX_S = 900.0
PAST_MAX = 60  # generations that are remembered


class Witness:
    """Watches one index bucket."""

    def __init__(self, bucket: Bucket, world: Scheduler, settings: Settings, counts: Counter[str]) -> None:
        self._bucket, self._world, self._settings, self._counts = bucket, world, settings, counts
        self.manifests: dict[str, Manifest] = {}
        self._files: dict[str, set[str]] = {}  # of each table: what its manifest refers to
        self._landed_at: dict[str, float] = {}
        self._commits: dict[tuple[str, int], list[tuple[str, frozenset[bytes]]]] = {}
        self.past: dict[int, Manifest] = {}  # what the live table was, by generation
        self._held: set[str] = set()  # successors that were replaced since their table has named them
        self.dropped = False  # a table, at some time: what came meanwhile isn't in it
        self.landed: Counter[int] = Counter()  # commits by the call that they were made in
        self.promoted: Callable[[], None] = lambda: None  # called when a table may have taken another's place
        self.committed: Callable[[LogEntry], None] = lambda entry: None  # called when a commit of the live table lands
        self.built: Callable[[str], None] = lambda table: None  # called when a view of a table is built
        bucket.watcher = self

    def generation(self, table: str) -> int:
        """The newest one; 0 before there is any."""
        return self.manifests[table].generation if table in self.manifests else 0

    def check_announced(self, table: str) -> None:
        """When a definition has been made, by nobody else meanwhile: what the table names is there."""
        name = self.manifests[table].successor
        assert name is None or (name in self.manifests and self.manifests[name].state == "live"), (
            f"{name} was announced, and isn't there"
        )

    def written(self, key: str, body: bytes) -> None:
        """A file, or the next manifest of a table."""
        if key.endswith("/manifest.json"):
            with self._fatal():
                self._replaced(key, body)

    def forgotten(self, key: str) -> None:
        """Something was deleted: nobody may refer to it."""
        with self._fatal():
            self._deleted(key)

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        """Whoever did it may swallow the error; the world doesn't."""
        try:
            yield
        except AssertionError as error:
            self._world.failure = error
            raise

    def _replaced(self, key: str, body: bytes) -> None:
        new = self._whole(body, key)
        old = self.manifests.get(new.table)
        files = referenced(new)
        where = f"{new.table} generation {new.generation}"
        assert new.log[-1].id == new.commit, f"{where}: the log ends with another commit"
        if not self._is_past(new.table):
            new_files = files - self._files.get(new.table, set())  # of the others, a deletion would have told
            missing = [path for path in new_files if self._bucket.current(path) is None]
            assert not missing, f"{where}: lists files that are not there: {missing}"
        if old is not None:
            assert new.generation == old.generation + 1, f"{where} follows {old.generation}"
            self._check_tombstone(old, new, where)
            self._check_garbage(old, new, where)
        self._check_once(new, where)
        self._check_held(new, where)
        self._count(old, new)
        promoted = old is not None and old.successor is not None and new.successor is None and new.state == "live"
        self.dropped |= new.state == "dropped" and not is_successor(new.table)
        self.manifests[new.table], self._files[new.table] = new, files
        if not is_successor(new.table):
            self.past[new.generation] = new
            self.past.pop(min(self.past) if len(self.past) > PAST_MAX else -1, None)
        self._landed_at[new.table] = self._world.now
        if new.log[-1].kind == "commit" and not is_successor(new.table):
            self.committed(new.log[-1])
        if promoted:
            self.promoted()
        if old is not None and _built(old, new):
            self.built(new.table)

    def _deleted(self, key: str) -> None:
        if key.endswith("/manifest.json"):
            table = key.split("/")[1]
            buried = is_successor(table) and self.manifests[table].state == "dropped"
            assert buried, f"{key}: a manifest is deleted"
            del self.manifests[table], self._files[table], self._landed_at[table]
        for table, files in self._files.items():
            assert self._is_past(table) or key not in files, f"{table}: {key} is deleted while it is listed"

    def _is_past(self, table: str) -> bool:
        """Whether it is a successor that its table doesn't name: nobody reads it, and its files are the table's or
        nobody's.
        """
        return is_successor(table) and self.manifests[owner_of(table)].successor != table

    def _whole(self, body: bytes, key: str) -> Manifest:
        stored = manifests.decode_manifest(body, key)
        self._counts["descriptors"] += bool(stored.descriptors)
        parts = [descriptors.read_part(self._bucket.get(GetRequest(path)).body, path) for path in stored.descriptors]
        return descriptors.join_manifest(stored, parts) if parts else stored

    def _check_tombstone(self, old: Manifest, new: Manifest, where: str) -> None:
        kind = new.log[-1].kind
        assert new.state == "live" or not (new.views or new.deltas), f"{where}: a tombstone that holds rows"
        if old.state == "dropped" and kind != "collection":
            assert kind == "definition", f"{where}: a {kind} on a dropped table"
        if old.successor is not None and new.successor is None and new.revision > old.revision:
            self._counts["promotions"] += new.views != old.views and new.definition is not None
        if _retires(old, new):
            self._counts["retired views dropped"] += 1
        elif kind != "definition":
            assert (old.state, old.revision) == (new.state, new.revision), f"{where}: defined by a {kind}"

    def _check_garbage(self, old: Manifest, new: Manifest, where: str) -> None:
        """What is replaced is kept for the grace period, by the clock of whoever replaced it and of whoever collects."""
        for item in new.garbage:
            if item.removed == new.generation:
                earliest = self._landed_at[new.table] - SKEW_MAX_S
                assert item.removed_at >= earliest, f"{where}: garbage that is said to be older than its removal"
        lost = _unlisted(old, new)
        if not lost or (is_successor(new.table) and new.state == "dropped"):  # its files are its table's, or nobody's
            return
        assert new.log[-1].kind == "collection", f"{where}: forgets files"
        horizon = self._world.now + self._world.current.skew_s - self._settings.grace_seconds
        held = {id(item.run or item.delta): item for item in old.garbage}
        for piece in lost:
            item = held.get(id(piece))
            assert isinstance(item, Garbage), f"{where}: forgets what was live"
            assert item.removed_at <= horizon, f"{where}: forgets what a snapshot within its grace period needs"

    def _check_held(self, new: Manifest, where: str) -> None:
        """What is to take a table's place stays, once its announcer has looked after it, while the table names it."""
        owner = self.manifests.get(owner_of(new.table)) if is_successor(new.table) else None
        if owner is None or owner.successor != new.table:
            return
        if new.state == "live":
            self._held.add(new.table)
        assert new.state == "live" or new.table not in self._held, f"{where}: a successor that is named is buried"

    def _check_once(self, new: Manifest, where: str) -> None:
        """One call commits a key once: what has landed, and is still in the log, is not believed lost."""
        entry, call = new.log[-1], self._world.current.call
        if entry.kind != "commit" or not call:
            return
        self.landed[call] += 1
        touched = entry.touched or b""
        keys = frozenset(touched[i : i + 8] for i in range(0, len(touched), 8))
        logged = {other.id for other in new.log[:-1]}
        mine = self._commits.setdefault((new.table, call), [])
        assert not any(commit in logged and keys & theirs for commit, theirs in mine), (
            f"{where}: a landed commit was believed lost, and made again"
        )
        mine.append((entry.id, keys))

    def _count(self, old: Manifest | None, new: Manifest) -> None:
        kind = new.log[-1].kind
        self._counts[f"{kind} landed"] += 1
        if old is None or kind != "compaction":
            return
        for name, state in new.views.items():
            before = old.views.get(name, state)
            if before.state == "building" and state.state == "ready":
                self._counts["views built"] += 1
            elif before.folded != state.folded:
                self._counts["folds"] += 1
            elif before.runs != state.runs:
                several = any(run.start is not None and run not in before.runs for run in state.runs)
                self._counts["merge steps of several" if several else "merges, or last steps"] += 1


def _retires(old: Manifest, new: Manifest) -> bool:
    """Whether a swap made views ready, and dropped those that had answered in their place."""
    made = _built(old, new)
    gone = set(old.views) - set(new.views)
    told = {name: text for name, text in old.definition.items() if name != "retiring"} == {
        name: text for name, text in new.definition.items() if name != "retiring"
    }
    return bool(new.log[-1].kind == "compaction" and made and gone and all(RETIRED in name for name in gone) and told)


def _built(old: Manifest, new: Manifest) -> list[str]:
    """The views that a swap made ready."""
    was = {name: state.state for name, state in old.views.items()}
    return [name for name, state in new.views.items() if (was.get(name), state.state) == ("building", "ready")]


def _unlisted(old: Manifest, new: Manifest) -> list[object]:
    """The runs and deltas that the old manifest lists, live or as garbage, and the new one doesn't list at all."""
    kept = {(piece.id, piece.added) for piece in _pieces(new)}
    return [piece for piece in _pieces(old) if (piece.id, piece.added) not in kept]


def _pieces(manifest: Manifest) -> list[Run | Delta]:
    pieces: list[Run | Delta] = [run for state in manifest.views.values() for run in state.runs]
    pieces += manifest.deltas
    return pieces + [piece for item in manifest.garbage for piece in (item.run, item.delta) if piece is not None]
