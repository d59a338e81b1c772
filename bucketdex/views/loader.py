"""Reads parts of immutable files through the cache: which requests are missing, and what their answers mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from bucketdex.definition import TableDefinition
from bucketdex.errors import KeyMissingError, SnapshotExpiredError, StorageError
from bucketdex.storage import (
    Delta,
    FileEntry,
    Footer,
    GetRequest,
    Got,
    ObjectStore,
    block_request,
    filter_request,
    footer_request,
    get_spans,
    may_contain,
    read_block,
    read_file,
    read_footer,
    split_weights,
)
from bucketdex.views.cache import BlockCache
from bucketdex.views.derive import DeltaLines
from bucketdex.views.keys import view_keys
from bucketdex.views.merge import Entries, concatenate
from bucketdex.views.spec import View

WHOLE_FILE_BYTES = 64 * 1024  # up to here one GET of all of a file beats a footer and then a block
_DECODED_COST = 4  # bytes of memory a byte of lines takes once decoded, about


class Need(NamedTuple):
    """One part of a file that has to be read, where its value is kept, and the request that brings it."""

    place: tuple[Any, ...]
    request: GetRequest
    view: View | None
    entry: FileEntry | None
    block: int = 0


class Loader:
    """Holds what one operation reads, so that a small cache can't evict it midway. Not shared between threads."""

    def __init__(self, store: ObjectStore, definition: TableDefinition, cache: BlockCache) -> None:
        self._store = store
        self._definition = definition
        self._cache = cache
        self._held: dict[tuple[Any, ...], Any] = {}

    def get(self, place: tuple[Any, ...]) -> Any | None:
        """What is in memory at that place. A footer is held from here on: reading a block of its file needs it."""
        found = self._held.get(place)
        if found is None:
            found = self._cache.get(place)
            if found is not None and place[0] == "footer":
                self._held[place] = found
        return found

    def release(self, place: tuple[Any, ...]) -> None:
        """Lets go of a part that won't be asked for again."""
        self._held.pop(place, None)

    def load(self, needs: Iterable[Need]) -> None:
        """Reads what is missing, all in one round. SnapshotExpiredError when a file has vanished."""
        missing = {need.place: need for need in needs if self._hold(need.place) is None}
        if missing:
            self.absorb(list(missing.values()), get_spans(self._store, [need.request for need in missing.values()]))

    def absorb(self, needs: list[Need], results: list[Got | StorageError]) -> None:
        """Takes the answers to the needs' requests."""
        for need, result in zip(needs, results, strict=True):
            if isinstance(result, KeyMissingError):
                raise SnapshotExpiredError(
                    f"{need.request.key} is gone: the snapshot is past its grace period; run it again"
                ) from result
            if isinstance(result, StorageError):
                raise result
            value, size = self._decode(need, result.body)
            self._held[need.place] = value
            self._cache.put(need.place, value, size)

    def _hold(self, place: tuple[Any, ...]) -> Any | None:
        found = self.get(place)
        if found is not None:
            self._held[place] = found
        return found

    def _decode(self, need: Need, body: bytes) -> tuple[Any, int]:
        kind = need.place[0]
        if kind == "delta":
            assert need.entry is not None
            blocks = read_file(body, need.entry)
            return DeltaLines(blocks), _DECODED_COST * sum(map(len, blocks))
        assert need.entry is not None
        if kind == "footer":
            return read_footer(body, need.entry), 3 * len(body) + 1024
        if kind == "filter":
            may_contain(body, need.entry, "")  # a damaged one is not to be kept
            return body, len(body)
        assert need.view is not None
        if kind == "file":
            blocks = read_file(body, need.entry)
            parts = [self._entries(need.view, block) for block in blocks]
            return concatenate(parts) if parts else Entries([], [], None), _DECODED_COST * sum(map(len, blocks))
        block = read_block(body, need.entry, self.footer(need.entry), need.block)
        return self._entries(need.view, block), _DECODED_COST * len(block)

    def _entries(self, view: View, block: bytes) -> Entries:
        lines, weights = split_weights(block)
        return Entries(view_keys(view, self._definition).of_block(block), lines, weights)

    def footer(self, entry: FileEntry) -> Footer:
        """The footer of a file, which must have been loaded."""
        footer = self.get(("footer", entry.path))
        assert isinstance(footer, Footer), "footer not loaded"
        return footer

    def is_whole(self, entry: FileEntry) -> bool:
        """Whether a file is read in one piece."""
        return entry.bytes <= WHOLE_FILE_BYTES

    def need_file(self, view: View, entry: FileEntry) -> Need:
        """All of a small file."""
        return Need(("file", entry.path), GetRequest(entry.path), view, entry)

    def need_footer(self, entry: FileEntry) -> Need:
        """A file's footer."""
        return Need(("footer", entry.path), footer_request(entry), None, entry)

    def need_filter(self, entry: FileEntry, component: str) -> Need:
        """The filter partition that knows of a first component."""
        request = filter_request(entry, component)
        return Need(("filter", entry.path, request.start), request, None, entry)

    def need_block(self, view: View, entry: FileEntry, index: int) -> Need:
        """One block; the footer must have been loaded."""
        return Need(("block", entry.path, index), block_request(entry, self.footer(entry), index), view, entry, index)

    def need_delta(self, delta: Delta) -> Need:
        """A delta that isn't inlined."""
        assert delta.file is not None
        start, length = delta.part if delta.part is not None else (None, None)
        return Need(("delta", delta.id), GetRequest(delta.file.path, start, length), None, delta.file)

    def delta_lines(self, delta: Delta) -> DeltaLines:
        """The lines of a delta: inlined, or loaded before."""
        place = ("delta", delta.id)
        found = self.get(place)
        if found is None:
            assert delta.file is not None, "an inlined delta carries the entry of its file"
            blocks = read_file(delta.inline, delta.file)
            found = DeltaLines(blocks)
            self._cache.put(place, found, _DECODED_COST * sum(map(len, blocks)))
            self._held[place] = found
        assert isinstance(found, DeltaLines)
        return found

    def excluded(self, entry: FileEntry, component: str) -> bool:
        """Whether a filter partition in memory says that no key starts with this component."""
        if not entry.filter[0]:
            return False
        body = self.get(("filter", entry.path, filter_request(entry, component).start))
        return body is not None and not may_contain(body, entry, component)
