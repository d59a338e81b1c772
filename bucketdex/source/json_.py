"""A JSON document: one record, or the records in a list of it. Changes with what a document may hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bucketdex.source.jsontext import record_spans
from bucketdex.source.object import ObjectError, RecordBatch
from bucketdex.source.reading import Reading, document, json_batch, mark_length

BATCH_RECORDS = 10_000


def json_batches(reading: Reading, chunks: Iterable[bytes]) -> Iterator[RecordBatch]:
    """The one record of a document, which has no range, or with `records` the elements of that list with theirs."""
    data = document(chunks)
    mark = mark_length(data)
    plain = data[mark:]
    if not plain and reading.key.endswith("/"):
        return  # what consoles put where they show a folder
    if not plain.strip():
        raise ObjectError("empty: no JSON document")
    steps = reading.definition.source.record_steps
    if steps is None:
        yield json_batch(reading, [plain], [None], lambda _: None)
        return
    spans = record_spans(plain, steps, depth_max=reading.definition.source.max_depth)
    for first in range(0, len(spans), BATCH_RECORDS):
        part = spans[first : first + BATCH_RECORDS]
        ats = [(start + mark, end - start) for start, end in part]
        yield json_batch(reading, [plain[start:end] for start, end in part], ats, _LineCounter(data, ats))


class _LineCounter:
    """The line that a record starts in; asked in ascending order, it reads the document once."""

    def __init__(self, data: bytes, ats: list[tuple[int, int]]) -> None:
        self._data, self._ats, self._offset, self._line = data, ats, 0, 1

    def __call__(self, i: int) -> int:
        start = self._ats[i][0]
        self._line += self._data.count(b"\n", self._offset, start)
        self._offset = start
        return self._line
