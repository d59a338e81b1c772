"""Lines of JSON. Changes with what NDJSON may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, count
from operator import add

from bucketdex.source.lines import TOO_LONG, line_blocks
from bucketdex.source.object import RecordBatch, RecordError
from bucketdex.source.reading import Reading, json_batch, mark_length


def ndjson_batches(reading: Reading, chunks: Iterable[bytes]) -> Iterator[RecordBatch]:
    """A batch a block of whole lines.

    Blank lines are passed over but counted; a record's range is its line without the line's end.
    """
    line = 1
    for offset, data, skipped in line_blocks(chunks):
        if skipped:
            error = RecordError(TOO_LONG)
            yield RecordBatch([], [reading.reject(error, (offset, skipped), line)])
            line += 1
            continue
        mark = mark_length(data) if offset == 0 else 0
        records = data[mark:].split(b"\n")
        # Each line's end is one byte more than its record.
        starts = list(map(add, accumulate(map(len, records), initial=offset + mark), count()))
        if b"\r" in data:
            records = [record.removesuffix(b"\r") for record in records]
        if not records[-1]:
            records.pop()
        ats = list(zip(starts, map(len, records), strict=False))
        yield json_batch(reading, records, ats, line.__add__, lines=data)
        line += len(records)
