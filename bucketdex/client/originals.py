"""From rows back to the original records in the data bucket, each from the version of its object that was indexed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bucketdex.definition import TableDefinition
from bucketdex.errors import KeyMissingError, ObjectChangedError, PreconditionFailedError
from bucketdex.query.reader import Cost, Reader, cost_of
from bucketdex.runtime import Runtime
from bucketdex.source import named_packed, original
from bucketdex.source.object import ObjectError
from bucketdex.source.unpack import unpack
from bucketdex.storage import CountingStore, GetRequest, ObjectStore
from bucketdex.views import OBJECTS
from bucketdex.views.lines import ObjectRow, decode_object

Fetch = Callable[[int | None, int | None], bytes]
BATCH_ROWS = 1_000


class Originals:
    """Fetches records concurrently, and counts what that costs."""

    def __init__(self, data: ObjectStore, runtime: Runtime) -> None:
        self._store = CountingStore(data)
        self._runtime = runtime
        self._rounds = 0

    @property
    def cost(self) -> Cost:
        """What it has cost so far, in the data bucket. A batch of GETs side by side is one round."""
        return replace(cost_of(self._store), rounds=self._rounds)

    def fetch(self, reader: Reader, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """The records of rows, in their order."""
        records: list[dict[str, Any]] = []
        for start in range(0, len(rows), BATCH_ROWS):
            records += self._batch(reader, rows[start : start + BATCH_ROWS])
        return records

    def _batch(self, reader: Reader, rows: Sequence[Any]) -> list[dict[str, Any]]:
        places: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            places.setdefault(row.key, []).append(i)
        objects = {
            key: decode_object(entries.lines[-1])
            for key, entries in reader.snapshot.lookup(OBJECTS, list(places)).items()
        }
        self._rounds += 1
        packed = [key for key in places if named_packed(key)]
        whole = dict(
            zip(
                packed,
                self._runtime.map(lambda key: self._unpacked(reader.definition, objects[key]), packed),
                strict=True,
            )
        )

        def record(row: Any) -> dict[str, Any]:
            if row.key in whole:
                return original(reader.definition, row.at, _slices(whole[row.key]), packed=False)
            return original(reader.definition, row.at, self._fetcher(objects[row.key]), packed=False)

        return self._runtime.map(record, rows)

    def _unpacked(self, definition: TableDefinition, row: ObjectRow) -> bytes:
        """A packed object, unpacked once for all of its rows; of a damaged one what lies before the damage."""
        body = self._fetcher(row)(None, None)
        pieces: list[bytes] = []
        with suppress(ObjectError):
            pieces.extend(unpack([body], unpacked_bytes_max=definition.source.max_unpacked_bytes))
        return b"".join(pieces)

    def _fetcher(self, row: ObjectRow) -> Fetch:
        def fetch(start: int | None, length: int | None) -> bytes:
            if start is not None and start >= row.size:
                return b""
            try:
                return self._store.get(GetRequest(row.key, start, length, if_match=row.etag)).body
            except PreconditionFailedError as error:
                raise ObjectChangedError(f"{row.key!r} was replaced since it was indexed: query again") from error
            except KeyMissingError as error:
                raise KeyMissingError(f"{row.key!r} is gone since it was indexed: query again") from error

        return fetch


def _slices(body: bytes) -> Fetch:
    def fetch(start: int | None, length: int | None) -> bytes:
        first = start or 0
        return body[first : None if length is None else first + length]

    return fetch
