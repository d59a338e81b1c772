"""One object being read: what its records share, and how JSON records become a batch.

Changes when a batch is made otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from bucketdex.definition.table import TableDefinition
from bucketdex.source.converter import json_converter
from bucketdex.source.jsontext import deeper, parse
from bucketdex.source.lines import RECORD_BYTES_MAX, TOO_LONG
from bucketdex.source.object import At, ObjectError, ObjectInfo, RecordBatch, RecordError, Reject, shown
from bucketdex.source.values import RecordReader, constants

DOCUMENT_BYTES_MAX = 128 * 1024 * 1024
"""A longer document that must be held whole (json, an extractor's input) is a reject; ndjson and csv have no bound."""

_NOT_OPENING = bytes(set(range(256)) - set(b"[{\n"))


class Reading:
    """An object and its table; ObjectError when the object's key, metadata, tags or properties don't fit the fields."""

    def __init__(self, definition: TableDefinition, info: ObjectInfo) -> None:
        self.definition, self.key = definition, info.key
        self.constants = constants(definition, info)
        self.reader = _record_reader(definition)

    def row(self, record: object, at: At | None) -> Any:
        """The row of a record, by `values`. RecordError when there is none."""
        return self.reader.row(record, self.constants, self.key, at)

    def reject(self, error: RecordError, at: At | None, line: int | None, text: object = None) -> Reject:
        """The reject of a record; `text` is shown if the error has no value and the table nothing to hide."""
        value = error.value
        if value is None and error.field is None and text and not self.reader.has_sensitive:
            value = shown(text)
        return Reject(key=self.key, at=at, line=line, field=error.field, value=value, reason=error.reason)


def object_reject(key: str, error: ObjectError) -> Reject:
    """The reject of an object, or of what is left of it."""
    return Reject(key=key, field=error.field, value=error.value, reason=error.reason, kind=error.kind)


def json_batch(
    reading: Reading,
    records: Sequence[bytes],
    ats: Sequence[At | None],
    line_of: Callable[[int], int | None],
    *,
    lines: bytes | None = None,
) -> RecordBatch:
    """Rows and rejects of records, one JSON text each.

    `lines`, for records that are a line each, is all of them at once, to check together; blank ones are then nothing.
    """
    depth_max = reading.definition.source.max_depth
    rejects: list[Reject] = []

    def decide(i: int) -> Any:
        data = records[i]
        if lines is not None and not data.strip(b" \t\r"):
            return None
        if lines is not None and len(data) > RECORD_BYTES_MAX:
            rejects.append(reading.reject(RecordError(TOO_LONG), ats[i], line_of(i)))
            return None
        try:
            return reading.row(parse(data, depth_max=depth_max), ats[i])
        except RecordError as error:
            rejects.append(reading.reject(error, ats[i], line_of(i), data))
            return None

    convert = json_converter(reading.definition)
    if convert is None:
        rows = [row for i in range(len(records)) if (row := decide(i)) is not None]
    else:
        rows = convert(_vetted(records, lines, depth_max), ats, reading.key, reading.constants, decide)
    return RecordBatch(rows, rejects)


def document(chunks: Iterable[bytes]) -> bytes:
    """The whole of an object that can't be read in parts."""
    parts, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > DOCUMENT_BYTES_MAX:
            raise ObjectError(f"more than {DOCUMENT_BYTES_MAX} bytes, which can't be read in parts", "too_large")
        parts.append(chunk)
    return b"".join(parts)


def mark_length(head: bytes) -> int:
    """The length of a UTF-8 byte order mark; ObjectError for the mark of another encoding."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        raise ObjectError("starts with the byte order mark of UTF-16 or UTF-32, but is to be UTF-8")
    return 3 if head.startswith(b"\xef\xbb\xbf") else 0


@lru_cache(maxsize=256)
def _record_reader(definition: TableDefinition) -> RecordReader:
    return RecordReader(definition)


def _vetted(records: Sequence[bytes], lines: bytes | None, depth_max: int) -> Sequence[bytes]:
    """The records, with nothing in the place of those that the typed decoder would take too lightly.

    It passes over undeclared members without looking at their encoding or depth.
    """
    if lines is not None and len(lines) <= RECORD_BYTES_MAX and _is_utf8(lines):
        openings = max(map(len, lines.translate(None, _NOT_OPENING).split(b"\n")))
        if openings <= depth_max:
            return records
    return [
        data
        if (lines is None or len(data) <= RECORD_BYTES_MAX) and _is_utf8(data) and not deeper(data, depth_max)
        else b""
        for data in records
    ]


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
