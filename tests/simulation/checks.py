"""What must hold: always, of every snapshot a reader can get; and at rest, of the index against the bucket."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec

from bucketdex.definition import TableDefinition
from bucketdex.engine.collect import referenced
from bucketdex.storage import Manifest, ObjectStore
from bucketdex.storage.paths import manifest_path, owner_of, successors_prefix, table_of, table_prefix
from bucketdex.views import OBJECTS, RECORDS, REJECTS, BlockCache, Snapshot, view_of, views_of
from bucketdex.views.derive import derive, weighted_rows
from bucketdex.views.lines import decode_object
from bucketdex.views.merge import cancel
from bucketdex.views.summary import summary_fold


def definition_of(manifest: Manifest) -> TableDefinition:
    return TableDefinition.from_dict(owner_of(manifest.table), manifest.definition)


def contents(snapshot: Snapshot) -> dict[str, Any]:
    """Every view that is ready, folded; sequencers left out, since any one of several may be kept."""
    out: dict[str, Any] = {}
    for view in views_of(snapshot.definition):
        if snapshot.manifest.views[view.name].state != "ready":
            continue
        if view.kind == "summary":
            if not view.hidden:
                out[view.name] = list(snapshot.summary_rows(view.name, None, None))
            continue
        entries = list(snapshot.scan(view.name, None, None))
        assert all(entry.weight == 1 for entry in entries), f"{view.name}: weights other than 1 after the fold"
        lines = [entry.line for entry in entries]
        if view.name == OBJECTS:
            lines = [f"{o.key} {o.etag or None} {o.records} {o.rejects}".encode() for o in map(decode_object, lines)]
        out[view.name] = lines
    return out


def assert_consistent(snapshot: Snapshot) -> dict[str, Any]:
    """Every index and summary equals a fold of the snapshot's own `records`; `objects` counts these and the rejects.
    The snapshot's contents.
    """
    found = contents(snapshot)
    definition = snapshot.definition
    batch = weighted_rows(definition, found[RECORDS], None)
    where = f"generation {snapshot.generation}"
    for view in views_of(definition):
        if view.name not in found:
            continue
        if view.kind == "index":
            assert found[view.name] == cancel(derive(view, definition, batch)).lines, f"{where}: {view.name}"
        elif view.kind == "summary":
            expected = _summary(snapshot, view.name, batch.rows)
            assert found[view.name] == expected, f"{where}: {view.name}: {found[view.name]} instead of {expected}"
    counted = Counter(row.key for row in batch.rows)
    rejected = Counter(msgspec.json.decode(line)["_key"] for line in found[REJECTS])
    stated = [line.decode().split() for line in found[OBJECTS]]
    for place, counts in ((2, counted), (3, rejected)):
        told = {parts[0]: int(parts[place]) for parts in stated if int(parts[place])}
        assert told == dict(counts), f"{where}: objects and what is held of them disagree"
    return found


def _summary(snapshot: Snapshot, name: str, rows: Any) -> list[dict[str, Any]]:
    """The summary's rows computed by plain Python over the records."""
    definition = snapshot.definition
    summary = view_of(definition, name).summary
    assert summary is not None
    fold = summary_fold(view_of(definition, name), definition)
    place = {field.name: f"f{i}" for i, field in enumerate(definition.fields)}
    decimals = {field.name for field in definition.fields if field.type == "decimal"}
    groups: dict[str, list[Any]] = {}
    for row in rows:
        key = fold.key(tuple(getattr(row, place[term.field]) for term in summary.group_by))
        groups.setdefault(key, []).append(row)
    out = []
    for key in sorted(groups):
        members = groups[key]
        made: dict[str, Any] = {}
        for term in summary.group_by:
            value = getattr(members[0], place[term.field])
            made[term.name] = Decimal(value) if value is not None and term.field in decimals else value
        for measure in summary.measures:
            if measure.field is None:
                made[measure.name] = len(members)
                continue
            values = [getattr(member, place[measure.field]) for member in members]
            known = [Decimal(value) for value in values if value is not None]
            functions: dict[str, Any] = {
                "sum": sum, "min": min, "max": max, "count_distinct": lambda v: len(set(v)), "count": len,
            }  # fmt: skip
            empty: dict[str, Any] = {"count_distinct": 0, "count": 0}
            made[measure.name] = functions[measure.function](known) if known else empty.get(measure.function)
        out.append(made)
    return out


def assert_no_orphans(store: ObjectStore, manifest: Manifest) -> None:
    """Every file of the table is listed by its manifest, and every listed file is there. Of past successors there is
    nothing but such files, and a tombstone beside them.
    """
    prefix = table_prefix(manifest.table)
    listed = referenced(manifest)
    homes = {table_of(path) for path in listed}
    found = {item.key for start in (prefix, successors_prefix(manifest.table)) for item in store.list(start)}
    found -= {manifest_path(table) for table in homes | {manifest.table}}
    assert found == listed, f"orphans {found - listed}, missing {listed - found}"


def snapshot_of(store: ObjectStore, manifest: Manifest, *, at: int | None = None) -> Snapshot:
    return Snapshot(store, manifest, definition_of(manifest), BlockCache(), at=at)
