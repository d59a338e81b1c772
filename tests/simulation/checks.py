"""What must hold: always, of every snapshot a reader can get; and at rest, of the index against the bucket."""

from __future__ import annotations

import base64
import re
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
from bucket import Bucket
from releases import as_first_release

from bucketdex.definition import TableDefinition
from bucketdex.engine.collect import referenced
from bucketdex.storage import Manifest, ObjectStore
from bucketdex.storage.paths import manifest_path, owner_of, successors_prefix, table_of, table_prefix
from bucketdex.storage.zstd import SKIPPABLE_HEADER, SKIPPABLE_MAGIC
from bucketdex.storage.zstd import _zstd as zstd
from bucketdex.views import OBJECTS, RECORDS, REJECTS, BlockCache, Snapshot, view_of, views_of
from bucketdex.views.derive import derive, weighted_rows
from bucketdex.views.lines import decode_object
from bucketdex.views.merge import cancel
from bucketdex.views.summary import summary_fold

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


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
        lines = [as_first_release(entry.line) for entry in entries]
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


def assert_real(found: dict[str, Any], bodies: dict[str, bytes]) -> None:
    """Every record is one of the very object that `objects` names, not of two of them mixed."""
    etags = {parts[0]: parts[1] for parts in (line.decode().split() for line in found[OBJECTS])}
    for key, etag, records, rejects in (line.decode().split() for line in found[OBJECTS]):
        if etag in bodies:  # one that is rejected whole has rejects and no records
            told, held = int(records) + int(rejects), bodies[etag].count(b"\n")
            assert told == held or (records == "0" and rejects != "0"), f"{key}: {told} of {held} records"
    for line in found[RECORDS]:
        row = msgspec.json.decode(line)
        start, length = row["_at"]
        record = msgspec.json.decode(bodies[etags[row["_key"]]][start : start + length])
        assert (row.get("g"), row.get("t") or []) == (record["g"], record["t"]), f"{row} of {record}"


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


def assert_erased(index: Bucket, gone: set[bytes]) -> None:
    """None of these is in any file, unpacked."""
    for key in index.live_keys():
        version = index.current(key)
        assert version is not None and version.body is not None
        body = unpacked(version.body)
        held = [secret for secret in gone if secret in body]
        assert not held, f"{key} holds {held}, which was deleted"


def unpacked(body: bytes) -> bytes:
    """A file with all that is in it: frames decompressed, those to be skipped too, and what a manifest inlines."""
    parts = [body]
    if body.startswith(b"{"):
        parts += [unpacked(base64.b64decode(text)) for text in re.findall(rb'"inline":"([^"]+)"', body)]
        return b"\n".join(parts)
    while len(body) > SKIPPABLE_HEADER.size:
        magic, length = SKIPPABLE_HEADER.unpack_from(body)
        if magic == SKIPPABLE_MAGIC:
            payload, body = body[8 : 8 + length], body[8 + length :]
            if payload.startswith(ZSTD_MAGIC):
                parts.append(unpacked(payload))
        else:
            decompressor = zstd.ZstdDecompressor()
            parts.append(decompressor.decompress(body))
            body = decompressor.unused_data
    return b"\n".join(parts)


def snapshot_of(
    store: ObjectStore, manifest: Manifest, *, at: int | None = None, cache: BlockCache | None = None
) -> Snapshot:
    return Snapshot(store, manifest, definition_of(manifest), cache or BlockCache(), at=at)
