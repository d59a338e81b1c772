"""Definition commits: the only way in which a table appears, changes or goes."""

from __future__ import annotations

from bucketdex.definition import TableDefinition
from bucketdex.engine.commit import replacement
from bucketdex.engine.garbage import retire_all
from bucketdex.engine.land import land
from bucketdex.engine.retire import fresh, redefine
from bucketdex.engine.settings import Settings
from bucketdex.engine.successor import Successors
from bucketdex.errors import CommitGaveUpError, DefinitionError, ManagedByStackError, TableNotFoundError
from bucketdex.runtime import Runtime
from bucketdex.storage import (
    MANIFEST_FORMAT,
    MANIFEST_READER,
    LogEntry,
    Manifest,
    ManifestStore,
    SwapLostError,
    Versioned,
    successor_name,
)
from bucketdex.views import OBJECTS, RECORDS, view_of, views_of

TRIES_MAX = 10  # while others define the same table


class Definer:
    """Creates, changes and drops tables."""

    def __init__(self, manifests: ManifestStore, successors: Successors, runtime: Runtime, settings: Settings) -> None:
        self._manifests, self._successors = manifests, successors
        self._runtime, self._settings = runtime, settings

    def define(self, definition: TableDefinition, *, managed_by: str | None) -> Versioned:
        """Makes the table be as defined. Idempotent. A table that is managed by a stack is changed by that stack only.

        New indexes and summaries start as `building` where the table has rows, and are built by the next compaction;
        those that they replace answer until then (`retire.redefine`). A
        change of fields or source needs every object read again: where the table has objects it stays as it is, and a
        successor is announced, to be filled and promoted; one that has the new fields already is gone on with. A
        definition with the table's own fields gives up a successor with others.
        """
        definition = definition.settled()
        for _ in range(TRIES_MAX):
            landed = self._define(definition, managed_by)
            if landed is not None:
                return landed
        raise _gave_up(definition.name)

    def rebuild(self, table: str) -> str:
        """Announces a successor with the table's own definition; where there is one already, goes on with that. Returns
        its name. TableNotFoundError for a table that was dropped.
        """
        for _ in range(TRIES_MAX):
            base = self._manifests.load(table)
            if base.manifest.state == "dropped":
                raise TableNotFoundError.dropped(table)
            successor = self._successors.of(base.manifest)
            if successor is not None and self._successors.hold(successor.manifest.table):
                return successor.manifest.table
            definition = TableDefinition.from_dict(table, base.manifest.definition).settled()
            landed = self._announce(base, definition, base.manifest.managed_by)
            if landed is not None and landed.manifest.successor is not None:
                return landed.manifest.successor
        raise _gave_up(table)

    def _define(self, definition: TableDefinition, managed_by: str | None) -> Versioned | None:
        """None, to be tried again, when somebody else changed the table meanwhile."""
        try:
            base = self._manifests.load(definition.name)
        except TableNotFoundError:
            try:
                return self._manifests.create(definition.name, self._first(definition.name, definition, managed_by))
            except SwapLostError as lost:  # somebody else created it at the same moment
                base = lost.current
        self._refuse_other_manager(base.manifest, managed_by)
        successor = self._successors.of(base.manifest)
        if successor is not None and not _is_empty(base.manifest) and _same_records(successor.manifest, definition):
            return self._define_both(base, successor, definition, managed_by)
        if _is_direct(base.manifest, definition):
            return self._define_here(base, definition, managed_by)
        return self._announce(base, definition, managed_by)

    def _define_here(self, base: Versioned, definition: TableDefinition, managed_by: str | None) -> Versioned | None:
        """The table itself is redefined, and a successor that it has is given up."""
        left = base.manifest.successor

        def change(current: Manifest) -> Manifest | None:
            if _is_same(current, definition, managed_by):
                return None
            if current.successor != left or not _is_direct(current, definition):
                return None
            self._refuse_other_manager(current, managed_by)
            return self._redefined(current, definition, managed_by)

        landed = land(self._manifests, self._runtime, self._settings, base, change)
        if landed is not None:
            self._successors.bury(left)
            return landed
        current = self._manifests.load(definition.name)
        return current if _is_same(current.manifest, definition, managed_by) else None

    def _define_both(
        self, base: Versioned, successor: Versioned, definition: TableDefinition, managed_by: str | None
    ) -> Versioned | None:
        """The successor is redefined, and after it the table, where its fields are the same. Both swaps come in any
        case: a sweep that took the successor for forsaken can't bury it any more, and a promotion that knows it as it
        was can't land any more.
        """
        name = successor.manifest.table

        def change_successor(current: Manifest) -> Manifest | None:
            if current.state == "dropped":
                return None
            if _is_same(current, definition, managed_by):
                return replacement(current, "definition", self._runtime, self._settings)
            return self._redefined(current, definition, managed_by)

        def change(current: Manifest) -> Manifest | None:
            if current.state == "dropped" or current.successor != name:
                return None
            self._refuse_other_manager(current, managed_by)
            if _same_records(current, definition) and not _is_same(current, definition, managed_by, successor=name):
                new = self._redefined(current, definition, managed_by)
            else:
                new = replacement(current, "definition", self._runtime, self._settings)
            new.managed_by, new.successor = managed_by, name
            return new

        try:
            held = land(self._manifests, self._runtime, self._settings, successor, change_successor)
        except TableNotFoundError:
            return None
        return None if held is None else land(self._manifests, self._runtime, self._settings, base, change)

    def _announce(self, base: Versioned, definition: TableDefinition, managed_by: str | None) -> Versioned | None:
        name = successor_name(base.manifest.table, self._runtime.token())
        return self._successors.announce(base, self._first(name, definition, managed_by))

    def drop(self, table: str, *, managed_by: str | None) -> None:
        """Leaves a tombstone: a late event must not resurrect the table. Its files go with the next sweep."""
        base = self._manifests.load(table)
        self._refuse_other_manager(base.manifest, managed_by)
        left: list[str | None] = [None]

        def change(current: Manifest) -> Manifest | None:
            if current.state == "dropped":
                return None
            left[0] = current.successor
            new = replacement(current, "definition", self._runtime, self._settings, touched=None)
            new.state, new.managed_by, new.successor = "dropped", None, None
            retire_all(new, self._runtime.now())
            return new

        land(self._manifests, self._runtime, self._settings, base, change)
        self._successors.bury(left[0])

    def _first(self, name: str, definition: TableDefinition, managed_by: str | None) -> Manifest:
        commit = self._runtime.token()
        return Manifest(
            format=MANIFEST_FORMAT,
            reader=MANIFEST_READER,
            table=name,
            generation=1,
            commit=commit,
            managed_by=managed_by,
            definition=definition.to_dict(),
            revision=1,
            log=[LogEntry(id=commit, generation=1, kind="definition", touched=None)],
            views={view.name: fresh(view, 1, building=False) for view in views_of(definition)},
            floor_at=self._runtime.now(),
            updated_at=self._runtime.now(),
        )

    def _redefined(self, current: Manifest, definition: TableDefinition, managed_by: str | None) -> Manifest:
        now = self._runtime.now()
        new = replacement(current, "definition", self._runtime, self._settings, touched=None)
        new.managed_by, new.state = managed_by, "live"
        new.revision, new.successor = current.revision + 1, None
        if empty := _is_empty(current):
            retire_all(new, now)
        redefine(new, definition, now, empty=empty)
        return new

    def _refuse_other_manager(self, manifest: Manifest, managed_by: str | None) -> None:
        if manifest.state == "live" and manifest.managed_by not in (None, managed_by):
            raise ManagedByStackError(
                f"table {manifest.table} is managed by {manifest.managed_by}: "
                f"change tables/{manifest.table}.toml and deploy"
            )


def _is_same(
    current: Manifest, definition: TableDefinition, managed_by: str | None, *, successor: str | None = None
) -> bool:
    """Whether nothing changes, nor does this version of the code make any view differently. What retires already goes
    on doing so.
    """
    if (current.state, current.successor, current.managed_by) != ("live", successor, managed_by):
        return False
    try:
        known = TableDefinition.from_dict(definition.name, current.definition)
    except DefinitionError:  # as another version wrote it
        return False
    hashes = {name: state.hash for name, state in current.views.items()}
    return known.settled() == definition and hashes == {view.name: view.hash for view in views_of(known)}


def _is_direct(current: Manifest, definition: TableDefinition) -> bool:
    """Whether a definition can be committed as it is, because no object has to be read again for it."""
    return _is_empty(current) or _same_records(current, definition)


def _same_records(current: Manifest, definition: TableDefinition) -> bool:
    """Whether records make the same rows under both definitions."""
    state = current.views.get(RECORDS)
    return state is not None and state.hash == view_of(definition, RECORDS).hash


def _is_empty(current: Manifest) -> bool:
    """Whether there is nothing in the table: no row, no object without rows, or no table."""
    if current.state == "dropped":
        return True
    return not current.deltas and all(not current.views[name].runs for name in (OBJECTS, RECORDS))


def _gave_up(table: str) -> CommitGaveUpError:
    return CommitGaveUpError(f"table {table}: it was changed by others again and again; try again")
