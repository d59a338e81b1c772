"""From a row back to its record. Changes with where a record is found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from bucketdex.definition.table import TableDefinition
from bucketdex.errors import StorageError
from bucketdex.source.csv_ import original_record
from bucketdex.source.extractor import extracted_record
from bucketdex.source.jsontext import plain
from bucketdex.source.object import At, ObjectError
from bucketdex.source.unpack import packing, unpack

Fetch: TypeAlias = Callable[[int | None, int | None], bytes]
"""fetch(start, length) -> those bytes of the object as stored; fetch(None, None) all of it. One GET each."""

HEADER_BYTES = 64 * 1024


def original(definition: TableDefinition, at: At | None, fetch: Fetch, *, packed: bool) -> dict[str, Any]:
    """The record that a row was made of, with all of its members or columns (texts); {} for a blob.

    One range GET for a record with a range, one or more of 64 KiB before it for a CSV's header; the whole object for
    one that is packed (also if `packed` wrongly says it isn't), a single document or an extractor's. StorageError
    when the object no longer holds the record there.
    """
    source = definition.source
    if source.format == "blob" and source.extractor is None:
        return {}
    if at is None or packed or source.extractor is not None:
        return _from_whole(definition, at, fetch)
    try:
        return _record(definition, fetch(*at), lambda: _ranges(fetch))
    except (ValueError, ObjectError) as error:
        if packing(fetch(0, 4)) is None:
            raise _gone(error) from None
    return _from_whole(definition, at, fetch)


def _from_whole(definition: TableDefinition, at: At | None, fetch: Fetch) -> dict[str, Any]:
    try:
        data = b"".join(unpack([fetch(None, None)], unpacked_bytes_max=definition.source.max_unpacked_bytes))
        if definition.source.extractor is not None:
            return extracted_record(definition.source.extractor, data, 0 if at is None else at[0])
        return _record(definition, data if at is None else data[at[0] : sum(at)], lambda: iter([data]))
    except (ValueError, ObjectError) as error:
        raise _gone(error) from None


def _record(definition: TableDefinition, data: bytes, start: Callable[[], Iterator[bytes]]) -> dict[str, Any]:
    if definition.source.format == "csv":
        return dict(original_record(definition, data, start))
    return plain(data)


def _ranges(fetch: Fetch) -> Iterator[bytes]:
    """The object from its start, piece by piece."""
    offset = 0
    while True:
        data = fetch(offset, HEADER_BYTES)
        yield data
        offset += len(data)
        if len(data) < HEADER_BYTES:
            return


def _gone(error: Exception) -> StorageError:
    """Says why, without the error's own text or the bytes that it may hold: they may be anybody's values."""
    why = error.reason if isinstance(error, ObjectError) else type(error).__name__
    return StorageError(f"the object no longer holds the record ({why}); query again")
