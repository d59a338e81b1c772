"""Objects to batches of rows and rejects. Changes when a format is added, or what one failure does to the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bucketdex.definition.table import TableDefinition
from bucketdex.source.csv_ import csv_batches
from bucketdex.source.extractor import extractor_batches
from bucketdex.source.json_ import json_batches
from bucketdex.source.ndjson import ndjson_batches
from bucketdex.source.object import ObjectError, ObjectInfo, RecordBatch, Reject
from bucketdex.source.reading import Reading, object_reject
from bucketdex.source.unpack import unpack

BATCH_ROWS = 10_000

_FORMATS: dict[str, Callable[[Reading, Iterable[bytes]], Iterator[RecordBatch]]] = {
    "json": json_batches,
    "ndjson": ndjson_batches,
    "csv": csv_batches,
}


def read_records(
    definition: TableDefinition, info: ObjectInfo, chunks: Iterable[bytes], *, batch_rows: int = BATCH_ROWS
) -> Iterator[RecordBatch]:
    """An object's rows and rejects, in order, in batches of at most `batch_rows` rows.

    Never raises for what the bytes are. Every record becomes one row or one reject. A failure of the object as a
    whole (not as its table says, damaged, too large) is one reject, the last one; rows before it stay. Under
    `on_error = "reject_object"` an object with any reject has no rows. What comes out depends on the bytes only,
    never on how `chunks` cuts them. ndjson and csv are streamed: about a MiB, one batch and one record (at most 16
    MiB) are held, with "reject_object" all rows. A blob's chunks aren't touched. Errors of `chunks` itself are passed
    on; DefinitionError when the extractor can't be imported. No requests of its own.
    """
    batches = _batches(definition, info, chunks)
    if definition.source.on_error == "reject_object":
        batches = _all_or_nothing(batches)
    rows: list[Any] = []
    rejects: list[Reject] = []
    for batch in batches:
        rows += batch.rows
        rejects += batch.rejects
        if len(rows) >= batch_rows or len(rejects) >= batch_rows:
            kept = len(rows) % batch_rows
            for start in range(0, len(rows) - kept, batch_rows):
                yield RecordBatch(rows[start : start + batch_rows], rejects)
                rejects = []
            if rejects:
                yield RecordBatch([], rejects)
            rows, rejects = rows[len(rows) - kept :], []
    if rows or rejects:
        yield RecordBatch(rows, rejects)


def _batches(definition: TableDefinition, info: ObjectInfo, chunks: Iterable[bytes]) -> Iterator[RecordBatch]:
    source = definition.source
    try:
        reading = Reading(definition, info)
        if source.format == "blob" and source.extractor is None:
            yield RecordBatch([reading.row({}, None)], [])
            return
        if info.size > source.max_object_bytes:
            raise ObjectError(f"{info.size} bytes; max_object_bytes is {source.max_object_bytes}", "too_large")
        read = _FORMATS[source.format] if source.extractor is None else extractor_batches
        yield from read(reading, unpack(chunks, unpacked_bytes_max=source.max_unpacked_bytes))
    except ObjectError as error:
        yield RecordBatch([], [object_reject(info.key, error)])


def _all_or_nothing(batches: Iterator[RecordBatch]) -> Iterator[RecordBatch]:
    rows: list[Any] = []
    rejects: list[Reject] = []
    for batch in batches:
        rejects += batch.rejects
        if rejects:
            rows.clear()
        else:
            rows += batch.rows
    yield RecordBatch(rows, rejects)
