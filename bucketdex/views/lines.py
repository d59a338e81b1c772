"""The lines that the engine itself makes: rows of `objects`, rows of `rejects`, and how a delta marks the view of a
line.
"""

from __future__ import annotations

import msgspec

from bucketdex.source import Reject
from bucketdex.views.spec import OBJECTS, RECORDS, REJECTS

STORED = (OBJECTS, RECORDS, REJECTS)  # what a delta holds; every other view is derived from `records`
_PREFIXES = {name: b'{"_view":"%s",' % name.encode() for name in STORED}
_encoder = msgspec.json.Encoder()


class ObjectRow(msgspec.Struct, rename={"key": "_key"}):
    """A row of `objects`: what was indexed of one object, and the sequencer of one event it was applied for."""

    key: str
    etag: str
    sequencer: str | None
    size: int
    records: int
    rejects: int
    last_modified: float


class RejectRow(msgspec.Struct, rename={"key": "_key", "at": "_at"}, omit_defaults=True):
    """A row of `rejects`: what could not be indexed, and why."""

    key: str
    kind: str
    reason: str
    line: int | None = None
    field: str | None = None
    value: str | None = None
    at: tuple[int, int] | None = None


_object_decoder = msgspec.json.Decoder(ObjectRow)
_reject_decoder = msgspec.json.Decoder(RejectRow)


def encode_object(row: ObjectRow) -> bytes:
    """The line of an `objects` row."""
    return _encoder.encode(row)


def decode_object(line: bytes) -> ObjectRow:
    """The `objects` row of a line."""
    return _object_decoder.decode(line)


def encode_reject(reject: Reject) -> bytes:
    """The line of a reject."""
    return _encoder.encode(
        RejectRow(reject.key, reject.kind, reject.reason, reject.line, reject.field, reject.value, reject.at)
    )


def decode_reject(line: bytes) -> RejectRow:
    """The reject of a line."""
    return _reject_decoder.decode(line)


def mark(view: str, line: bytes) -> bytes:
    """A line of a stored view as a delta holds it."""
    return _PREFIXES[view] + line[1:]


def unmark(line: bytes) -> tuple[str, bytes]:
    """The view and the line that `mark` was given."""
    for name, prefix in _PREFIXES.items():
        if line.startswith(prefix):
            return name, b"{" + line[len(prefix) :]
    raise ValueError("a delta line names no view")
