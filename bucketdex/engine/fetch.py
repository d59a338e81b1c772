"""From a key to what the bucket holds under it now: rows, lines and rejects, or nothing. One GET an object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from bucketdex.definition import TableDefinition, row_codec
from bucketdex.engine.settings import Settings
from bucketdex.errors import KeyMissingError, ObjectChangedError, UnreadableObjectError
from bucketdex.source import ObjectInfo, Reject, read_records
from bucketdex.storage import ObjectStore
from bucketdex.views.lines import ObjectRow, encode_object, encode_reject

CHANGED_TRIES_MAX = 3


class Part(NamedTuple):
    """Some of an object's rows with their lines, and the lines of rejects to keep."""

    rows: list[Any]
    lines: list[bytes]
    rejects: list[bytes]


class ObjectReader:
    """Reads one object once, in parts. After the last part the counts and the `objects` line are known."""

    def __init__(self, store: ObjectStore, definition: TableDefinition, settings: Settings, key: str) -> None:
        self._store, self._definition, self._settings, self.key = store, definition, settings, key
        self.exists = False
        self.records = 0
        self.rejects = 0
        self._info: ObjectInfo | None = None

    def parts(self, *, bytes_max: int | None = None) -> Iterator[Part]:
        """The parts. A missing object, or one that isn't this table's, has none. TooLargeHereError above `bytes_max`
        bytes.
        """
        if self._definition.match(self.key) is None:
            return
        try:
            opened = self._store.open(self.key, storage_class=self._needs_storage_class())
        except KeyMissingError:
            return
        except UnreadableObjectError as error:
            self.exists = True
            yield self._reject("unreadable", str(error))
            return
        self.exists = True
        try:
            got = opened.info
            self._info = ObjectInfo(
                key=self.key, etag=got.etag, size=got.size, last_modified=got.last_modified,
                content_type=got.content_type, storage_class=got.storage_class, metadata=got.metadata,
                tags=self._tags(),
            )  # fmt: skip
            limit = self._definition.source.max_object_bytes
            reads = self._definition.source.format != "blob"
            if reads and got.size > limit:
                yield self._reject("too_large", f"{got.size} bytes; max_object_bytes is {limit}")
                return
            if reads and bytes_max is not None and got.size > bytes_max:
                raise TooLargeHereError
            yield from self._records(self._info, opened.chunks())
        finally:
            opened.close()

    def _records(self, info: ObjectInfo, chunks: Iterator[bytes]) -> Iterator[Part]:
        encode_lines = row_codec(self._definition).encode_lines
        room = self._settings.rejects_max
        for rows, rejects in read_records(self._definition, info, chunks):
            self.records += len(rows)
            self.rejects += len(rejects)
            kept = rejects[:room]
            room -= len(kept)
            yield Part(rows, encode_lines(rows), [encode_reject(reject) for reject in kept])

    def object_line(self, sequencer: str | None) -> bytes:
        """The row of `objects`, once all parts were read."""
        info = self._info
        return encode_object(
            ObjectRow(
                key=self.key,
                etag=info.etag if info else "",
                sequencer=sequencer,
                size=info.size if info else 0,
                records=self.records,
                rejects=self.rejects,
                last_modified=info.last_modified if info else 0.0,
            )
        )

    def _needs_storage_class(self) -> bool:
        return any(f.source == "system" and f.path == ("storage_class",) for f in self._definition.fields)

    def _tags(self) -> dict[str, str]:
        if any(field.source == "tag" for field in self._definition.fields):
            try:
                return self._store.tags(self.key)
            except KeyMissingError as error:
                raise ObjectChangedError(f"{self.key} was deleted while it was read; it will be read again") from error
        return {}

    def _reject(self, kind: Any, reason: str) -> Part:
        self.rejects += 1
        reject = Reject(key=self.key, at=None, line=None, field=None, value=None, reason=reason, kind=kind)
        return Part([], [], [encode_reject(reject)])


class TooLargeHereError(Exception):
    """The object is to be streamed by itself instead."""


class Fetched(NamedTuple):
    """A small object, read whole: its reader (for counts) and all of its rows."""

    reader: ObjectReader
    rows: list[Any]
    lines: list[bytes]
    rejects: list[bytes]


def fetch(store: ObjectStore, definition: TableDefinition, settings: Settings, key: str) -> Fetched:
    """Reads an object that fits in memory. TooLargeHereError when it doesn't; storage errors that are not the object's
    fault.
    """
    for _ in range(CHANGED_TRIES_MAX):
        reader = ObjectReader(store, definition, settings, key)
        fetched = Fetched(reader, [], [], [])
        try:
            for part in reader.parts(bytes_max=settings.alone_bytes):
                fetched.rows.extend(part.rows)
                fetched.lines.extend(part.lines)
                fetched.rejects.extend(part.rejects)
                if len(fetched.rows) > settings.alone_rows:
                    raise TooLargeHereError
        except ObjectChangedError:
            continue
        if reader.rejects and definition.source.on_error == "reject_object":
            reader.records = 0
            return Fetched(reader, [], [], fetched.rejects)
        return fetched
    raise ObjectChangedError(f"{key} was replaced {CHANGED_TRIES_MAX} times while it was read; it will be read again")
