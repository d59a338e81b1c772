"""Walks the keys of a table in its bucket and its rows in `objects` side by side. Changes with how the two are ordered.

Both are streams in key order: S3 lists by UTF-8 bytes, sort keys compare by code point after an escape that keeps the
order, and the three orders agree. Memory holds a page of the one and a few blocks of the other, whatever their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from bucketdex.definition import TableDefinition
from bucketdex.definition.ordering import escape, prefix_end
from bucketdex.definition.template import KeyTemplate
from bucketdex.engine.changes import Means
from bucketdex.errors import (
    BucketdexError,
    SnapshotExpiredError,
    StorageError,
    TableChangedError,
    TableNotFoundError,
)
from bucketdex.storage import Listed, Manifest, owner_of
from bucketdex.views import OBJECTS, Snapshot
from bucketdex.views.keys import key_range
from bucketdex.views.lines import ObjectRow, decode_object

PAGE_KEYS = 1_000  # of a listing; S3's own page
TRIES_MAX = 3  # snapshots that may expire one after the other without a step forward


class Stamp(NamedTuple):
    """Which object it is, as far as a listing tells: S3's GET gives the time in whole seconds."""

    etag: str
    second: int


class Pair(NamedTuple):
    """What the bucket and the index hold under a key; a listed key that isn't the table's counts as not there."""

    key: str
    listed: Listed | None
    row: ObjectRow | None

    @property
    def object_stamp(self) -> Stamp | None:
        """The object's."""
        return None if self.listed is None else stamp(self.listed)

    @property
    def row_stamp(self) -> Stamp | None:
        """The row's."""
        return None if self.row is None else stamp(self.row)


def stamp(item: Listed | ObjectRow) -> Stamp:
    """The stamp of an object or of a row."""
    return Stamp(item.etag.strip('"'), int(item.last_modified))


class Walk:
    """One way through a table's keys below `prefix`, after `start_after`.

    BucketdexError for a prefix that holds none of the table's keys, TableNotFoundError.
    """

    def __init__(self, means: Means, table: str, prefix: str | None, start_after: str | None) -> None:
        self._means, self._table, self._after = means, table, start_after or None
        self.reached = self._after  # the last key listed, anybody's: all keys of the pages so far are up to it
        self.ended = False  # with the last page
        manifest = self._live()
        self._plain = manifest.definition
        self.definition = TableDefinition.from_dict(owner_of(table), self._plain)
        self.prefix = _narrowed(self.definition, prefix or "")

    def pages(self, page_keys: int | None = None) -> Iterator[Iterator[Pair]]:
        """The pairs in key order, by the page: each pairs a page of the listing with the index as it was right after.

        Take all of one before the next. Cost: a LIST and a GET of the manifest a page, and the blocks of `objects`;
        pages of fewer than 1,000 keys share LISTs.
        """
        page_keys = page_keys or PAGE_KEYS
        listing = self._means.data.list(self.prefix, start_after=self._after)
        low = escape(self.prefix)
        if self._after is not None:
            low = max(low, key_range(self._after)[1])
        previous = self._after or ""
        while True:
            page = list(islice(listing, page_keys))
            for listed in page:
                if listed.key <= previous:
                    raise StorageError(
                        f"{self._means.data.url} doesn't list its keys in order, so it can't be walked: "
                        "use a general purpose bucket"
                    )
                previous = listed.key
            self.reached = previous or None
            whole = len(page) == page_keys
            self.ended = not whole
            high = key_range(previous)[1] if whole else prefix_end(escape(self.prefix))
            yield self._merged(page, self._rows(low, high))
            if not whole:
                return
            assert high is not None
            low = high

    def snapshot(self) -> Snapshot:
        """The newest generation. TableChangedError once the table is defined otherwise than when the walk began."""
        manifest = self._live()
        if manifest.definition != self._plain:
            definition = TableDefinition.from_dict(self.definition.name, manifest.definition)
            if definition.settled() != self.definition.settled():
                raise TableChangedError(f"table {self._table} was defined anew meanwhile: run it again")
            self.definition, self._plain = definition, manifest.definition
        return Snapshot(self._means.index, manifest, self.definition, self._means.cache)

    def _live(self) -> Manifest:
        manifest = self._means.manifests.load(self._table).manifest
        if manifest.state == "dropped":
            raise TableNotFoundError.dropped(self._table)
        return manifest

    def _rows(self, low: str, high: str | None) -> Iterator[ObjectRow]:
        """The rows of [low, high); where a file has vanished, on from there in the newest snapshot."""
        tries = 0
        while True:
            try:
                for entries in self.snapshot().batches(OBJECTS, low, high, blocks_first=4):
                    for line in entries.lines:
                        yield (row := decode_object(line))
                        low, tries = key_range(row.key)[1], 0
                return
            except SnapshotExpiredError:
                tries += 1
                if tries == TRIES_MAX:
                    raise

    def _merged(self, page: Iterable[Listed], rows: Iterator[ObjectRow]) -> Iterator[Pair]:
        row = next(rows, None)
        for listed in page:
            while row is not None and row.key < listed.key:
                yield Pair(row.key, None, row)
                row = next(rows, None)
            mine = listed if self.definition.match(listed.key) is not None else None
            if row is not None and row.key == listed.key:
                yield Pair(listed.key, mine, row)
                row = next(rows, None)
            elif mine is not None:
                yield Pair(listed.key, mine, None)
        while row is not None:
            yield Pair(row.key, None, row)
            row = next(rows, None)


def _narrowed(definition: TableDefinition, prefix: str) -> str:
    """The longer of the table's literal prefix and the one asked for."""
    pattern = definition.source.pattern()
    literal = pattern.literal_prefix if isinstance(pattern, KeyTemplate) else pattern
    if literal.startswith(prefix):
        return literal
    if prefix.startswith(literal):
        return prefix
    raise BucketdexError(
        f"no key of table {definition.name!r} starts with {prefix!r}: its keys start with {literal!r}, so do so too"
    )
