"""What a table says of itself: its status, its rejects, and what the index knows of one object."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from bucketdex.client.context import Context
from bucketdex.errors import TableNotFoundError
from bucketdex.query.access import KeyRange
from bucketdex.query.reader import Reader
from bucketdex.storage import GetRequest
from bucketdex.views import OBJECTS, RECORDS, REJECTS
from bucketdex.views.keys import key_range
from bucketdex.views.lines import decode_object, decode_reject


def table_status(context: Context, table: str) -> dict[str, Any]:
    """See `Table.status`. A view's `lag` is in generations that it hasn't folded; they are read beside its runs."""

    def read(reader: Reader, _: None) -> dict[str, Any]:
        manifest = reader.known.manifest
        return {
            "table": table,
            "generation": manifest.generation,
            "updated_at": datetime.fromtimestamp(manifest.updated_at, UTC),
            "managed_by": manifest.managed_by,
            "revision": manifest.revision,
            "objects": reader.snapshot.count(OBJECTS, None, None),
            "rows": reader.snapshot.count(RECORDS, None, None),
            "rejects": reader.snapshot.count(REJECTS, None, None),
            "successor": None if manifest.successor is None else _successor(context, manifest.successor),
            "live_deltas": len(manifest.deltas),
            "views": {
                name: {
                    "state": state.state,
                    "runs": len(state.runs),
                    "rows": sum(run.rows for run in state.runs),
                    "bytes": sum(run.bytes for run in state.runs),
                    "lag": sum(1 for delta in manifest.deltas if delta.added > state.folded),
                }
                for name, state in manifest.views.items()
            },
        }

    return context.session.read(table, lambda _: (None, []), read)


def _successor(context: Context, name: str) -> dict[str, Any]:
    """What is known of a table that is being built; its count only while it is there. Costs as `status` does."""
    try:
        return context.session.read(
            name,
            lambda _: (None, []),
            lambda reader, _: {"name": name, "objects": reader.snapshot.count(OBJECTS, None, None)},
        )
    except TableNotFoundError:  # it took the table's place just now
        return {"name": name, "objects": None}


def reject_rows(context: Context, table: str, key: str | None) -> Iterator[dict[str, Any]]:
    """See `Table.rejects`."""
    where = KeyRange(None, None, ()) if key is None else KeyRange(*key_range(key), ())

    def prepare(reader: Reader) -> tuple[None, list[GetRequest]]:
        return None, reader.predict(REJECTS, [where])

    def read(reader: Reader, _: None) -> list[dict[str, Any]]:
        rows = [decode_reject(entry.line) for entry in reader.snapshot.scan(REJECTS, where.low, where.high)]
        return [
            {
                "_key": row.key,
                "_at": row.at,
                "kind": row.kind,
                "line": row.line,
                "field": row.field,
                "value": row.value,
                "reason": row.reason,
            }
            for row in rows
        ]

    return iter(context.session.read(table, prepare, read))


def object_state(context: Context, table: str, key: str) -> dict[str, Any] | None:
    """What the index knows of one object: `etag`, `size`, `records`, `rejects`, ...; None when it has none."""
    low, high = key_range(key)

    def prepare(reader: Reader) -> tuple[None, list[GetRequest]]:
        return None, reader.predict(OBJECTS, [KeyRange(low, high, ())])

    def read(reader: Reader, _: None) -> dict[str, Any] | None:
        for entry in reader.snapshot.scan(OBJECTS, low, high):
            row = decode_object(entry.line)
            return {name: getattr(row, name) for name in msgspec.structs.asdict(row)}
        return None

    return context.session.read(table, prepare, read)
