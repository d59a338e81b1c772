"""The distinct values of a column: by leaps through an index that starts with it, else from the rows of a query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from bucketdex.definition import FieldType, to_python
from bucketdex.definition.ordering import unescape, value
from bucketdex.query.columns import AT, KEY, BoundColumn
from bucketdex.query.keyset import PAST
from bucketdex.query.reader import Reader

# Entries of one value that are read on through before a leap past the rest of them: about a block at first. A leap
# costs a round trip and starts with small rounds again, so after each it takes twice as many.
REPEATS_FIRST, REPEATS_MAX = 150, 20_000


def leap(reader: Reader, column: BoundColumn) -> Iterator[Any] | None:
    """The values in order, null first, by an index that starts with the column; None when there is none ready.

    Reads an index once through where values are many, and skips over the entries of values that have many.
    """
    for layout in reader.known.layouts:
        if layout.columns[0].name == column.name and layout.view not in reader.known.building and column.name != AT:
            return _leap(reader, layout.view, column)
    return None


def distinct_values(column: BoundColumn, rows: Iterable[Any]) -> list[Any]:
    """The values in order, null first, of these rows. Of a multi-valued column its values; a row without any counts for
    none.
    """
    if column.multi:
        seen = {item for row in rows for item in column.get(row) or ()}
    else:
        seen = {column.get(row) for row in rows}
    return [_python(column, item) for item in sorted(seen, key=column.component)]


def _leap(reader: Reader, view: str, column: BoundColumn) -> Iterator[Any]:
    last: str | None = None
    low: str | None = PAST if column.multi else None
    repeats_max = REPEATS_FIRST
    while True:
        repeats = 0
        for entry in reader.fresh().scan(view, low, None):
            component = entry.key[: entry.key.index("\x00")]
            if component != last:
                last, repeats = component, 0
                yield _decoded(column, component)
                continue
            repeats += 1
            if repeats > repeats_max:
                repeats_max = min(2 * repeats_max, REPEATS_MAX)
                break
        else:
            return
        assert last is not None
        low = last + PAST


def _decoded(column: BoundColumn, component: str) -> Any:
    if column.name == KEY:
        return unescape(component)
    return _python(column, value(column.type or FieldType.STRING, component))


def _python(column: BoundColumn, stored: Any) -> Any:
    return stored if column.type is None else to_python(column.type, stored)
