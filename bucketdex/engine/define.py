"""Definition commits: the only way in which a table appears, changes or goes."""

from __future__ import annotations

from bucketdex.definition import TableDefinition
from bucketdex.engine.commit import replacement
from bucketdex.engine.garbage import retire_runs
from bucketdex.engine.land import land
from bucketdex.engine.settings import Settings
from bucketdex.errors import DefinitionError, ManagedByStackError, TableNotFoundError
from bucketdex.runtime import Runtime
from bucketdex.storage import (
    MANIFEST_FORMAT,
    MANIFEST_READER,
    Garbage,
    LogEntry,
    Manifest,
    ManifestStore,
    ObjectStore,
    SwapLostError,
    Versioned,
    ViewState,
)
from bucketdex.views import OBJECTS, RECORDS, View, view_of, views_of


class Definer:
    """Creates, changes and drops tables."""

    def __init__(self, store: ObjectStore, runtime: Runtime, settings: Settings) -> None:
        self._runtime, self._settings = runtime, settings
        self._manifests = ManifestStore(store, runtime)

    def define(self, definition: TableDefinition, *, managed_by: str | None) -> Versioned:
        """Makes the table be as defined. Idempotent. A table that is managed by a stack is changed by that stack only.

        New indexes and summaries start as `building` where the table has rows, and are built by the next compaction. A
        change of fields or source needs the objects read again, so it is refused while the table has objects.
        """
        try:
            base = self._manifests.load(definition.name)
        except TableNotFoundError:
            try:
                return self._manifests.create(definition.name, self._created(definition, managed_by))
            except SwapLostError as lost:  # somebody else created it at the same moment
                base = lost.current
        self._refuse_other_manager(base.manifest, managed_by)

        def change(current: Manifest) -> Manifest | None:
            if _is_same(current, definition, managed_by):
                return None
            self._refuse_other_manager(current, managed_by)
            return self._redefined(current, definition, managed_by)

        landed = land(self._manifests, self._runtime, self._settings, base, change)
        return landed or self._manifests.load(definition.name)

    def drop(self, table: str, *, managed_by: str | None) -> None:
        """Leaves a tombstone: a late event must not resurrect the table. Its files go with the next sweep."""
        base = self._manifests.load(table)
        self._refuse_other_manager(base.manifest, managed_by)

        def change(current: Manifest) -> Manifest | None:
            if current.state == "dropped":
                return None
            new = replacement(current, "definition", self._runtime, self._settings, touched=None)
            new.state, new.managed_by = "dropped", None
            _retire_all(new, self._runtime.now())
            new.views = {}
            return new

        land(self._manifests, self._runtime, self._settings, base, change)

    def _created(self, definition: TableDefinition, managed_by: str | None) -> Manifest:
        commit = self._runtime.token()
        return Manifest(
            format=MANIFEST_FORMAT,
            reader=MANIFEST_READER,
            table=definition.name,
            generation=1,
            commit=commit,
            managed_by=managed_by,
            definition=definition.to_dict(),
            revision=1,
            log=[LogEntry(id=commit, generation=1, kind="definition", touched=None)],
            views={view.name: _fresh(view, 1, building=False) for view in views_of(definition)},
            updated_at=self._runtime.now(),
        )

    def _redefined(self, current: Manifest, definition: TableDefinition, managed_by: str | None) -> Manifest:
        now = self._runtime.now()
        new = replacement(current, "definition", self._runtime, self._settings, touched=None)
        new.definition, new.managed_by, new.state = definition.to_dict(), managed_by, "live"
        new.revision = current.revision + 1
        empty = current.state == "dropped" or _is_empty(current)
        if not empty and current.views[RECORDS].hash != view_of(definition, RECORDS).hash:
            raise DefinitionError(
                f"table {definition.name}: a change of its fields or source needs every object read again, "
                "and it has objects; "
                "give the new definition another table name, or drop the table first and apply its objects again"
            )
        if empty:
            _retire_all(new, now)
            new.views = {}
        views: dict[str, ViewState] = {}
        for view in views_of(definition):
            old = new.views.get(view.name)
            same = old is not None and old.hash == view.hash
            views[view.name] = old if same and old else _fresh(view, new.generation, building=not empty)
        for name, state in new.views.items():
            if name not in views or views[name].hash != state.hash:
                retire_runs(new, state.id, state.runs, now)
        new.views = views
        return new

    def _refuse_other_manager(self, manifest: Manifest, managed_by: str | None) -> None:
        if manifest.state == "live" and manifest.managed_by not in (None, managed_by):
            raise ManagedByStackError(
                f"table {manifest.table} is managed by {manifest.managed_by}: "
                f"change tables/{manifest.table}.toml and deploy"
            )


def _fresh(view: View, generation: int, *, building: bool) -> ViewState:
    return ViewState(
        name=view.name, kind=view.kind, hash=view.hash, folded=generation, runs=[],
        state="building" if building else "ready", folds=[(generation, generation)],
    )  # fmt: skip


def _is_same(current: Manifest, definition: TableDefinition, managed_by: str | None) -> bool:
    """Whether nothing changes, nor does this version of the code make any view differently."""
    hashes = {name: state.hash for name, state in current.views.items()}
    return (
        current.state == "live"
        and current.definition == definition.to_dict()
        and current.managed_by == managed_by
        and hashes == {view.name: view.hash for view in views_of(definition)}
    )


def _is_empty(current: Manifest) -> bool:
    return not current.deltas and all(not current.views[name].runs for name in (OBJECTS, RECORDS))


def _retire_all(new: Manifest, now: float) -> None:
    for state in new.views.values():
        retire_runs(new, state.id, state.runs, now)
    new.garbage.extend(Garbage(removed=new.generation, removed_at=now, delta=delta) for delta in new.deltas)
    new.deltas = []
