"""Merging the runs and deltas of a view over a key range, in either direction, in rounds of block reads that grow."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator

from bucketdex.definition import TableDefinition
from bucketdex.storage import FileEntry, Footer, Run
from bucketdex.views.loader import Loader, Need
from bucketdex.views.merge import NOTHING, Entries, cancel, concatenate, sort_entries
from bucketdex.views.spec import View
from bucketdex.views.summary import summary_fold

BLOCKS_FIRST, BLOCKS_MAX = 1, 64  # blocks a run that one round reads
BLOCKS_REST = 4  # a rest of up to so many is read at once, so that a range of some hundred lines takes one round


def fixed_component(lo: str | None, hi: str | None) -> str | None:
    """The first component that all keys of the range share, closed by U+0000; None when they may differ."""
    if lo is None or hi is None or "\x00" not in lo:
        return None
    component = lo[: lo.index("\x00")]
    return component + "\x00" if hi <= component + "\x01" else None


def clip(entries: Entries, lo: str | None, hi: str | None) -> Entries:
    """The entries whose keys lie in [lo, hi)."""
    keys = entries.keys
    start = 0 if lo is None else bisect_left(keys, lo)
    end = len(keys) if hi is None else bisect_left(keys, hi)
    return cut(entries, start, end)


def cut(entries: Entries, start: int, end: int) -> Entries:
    """A slice of entries."""
    if start == 0 and end == len(entries.keys):
        return entries
    weights = None if entries.weights is None else entries.weights[start:end]
    return Entries(entries.keys[start:end], entries.lines[start:end], weights)


def files_in(run: Run, lo: str | None, hi: str | None) -> tuple[list[FileEntry], str | None]:
    """The files of a run that a range touches, and the range's lower end after what was merged elsewhere."""
    if run.start is not None and (lo is None or lo < run.start):
        lo = run.start
    files = [f for f in run.files if (lo is None or f.last >= lo) and (hi is None or f.first < hi)]
    return files, lo


def blocks_in(footer: Footer, lo: str | None, hi: str | None) -> range:
    """The blocks that a range touches."""
    separators = footer.separators
    start = 0 if lo is None else max(0, bisect_right(separators, lo) - 1)
    end = len(separators) if hi is None else bisect_left(separators, hi)
    return range(start, max(start, end))


class RunCursor:
    """Walks one run's part of a key range, a few blocks at a time."""

    def __init__(self, view: View, run: Run, lo: str | None, hi: str | None, *, reverse: bool, loader: Loader) -> None:
        files, self._lo = files_in(run, lo, hi)
        self._view, self._hi, self._reverse, self._loader = view, hi, reverse, loader
        self._component = fixed_component(lo, hi)
        self._files = deque(reversed(files) if reverse else files)
        self._units: deque[Need] = deque()
        self.buffer = NOTHING

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left beyond the buffer."""
        return not self._files and not self._units

    def needs(self, count: int) -> list[Need]:
        """What the next step of this cursor reads: an index part of the next file, or up to `count` blocks (or
        all that is left, if that is little).
        """
        while len(self._units) < count and self._files:
            parts = self._open(self._files[0])
            if parts:
                return parts if not self._units else list(self._units)[:count]
            self._files.popleft()
        if not self._files and len(self._units) <= BLOCKS_REST:
            return list(self._units)
        return list(self._units)[:count]

    def _open(self, entry: FileEntry) -> list[Need]:
        """The index parts that must be read before the blocks of a file are known; none when its units were queued."""
        loader = self._loader
        component = self._component
        if loader.is_whole(entry):
            self._units.append(loader.need_file(self._view, entry))
            return []
        if loader.get(("footer", entry.path)) is None:
            # The filter comes in the footer's round. With the footer in memory it isn't asked first: a block is one
            # request as well, and a round sooner.
            filters = [loader.need_filter(entry, component)] if component is not None and entry.filter[0] else []
            return [loader.need_footer(entry), *filters]
        if component is not None and loader.excluded(entry, component):
            return []
        indexes = blocks_in(loader.footer(entry), self._lo, self._hi)
        ordered = reversed(indexes) if self._reverse else indexes
        self._units.extend(loader.need_block(self._view, entry, i) for i in ordered)
        return []

    def absorb(self, count: int) -> None:
        """Moves up to `count` units that are in memory into the buffer."""
        parts: list[Entries] = []
        while self._units and len(parts) < count:
            entries = self._loader.get(self._units[0].place)
            if entries is None:
                break
            self._loader.release(self._units.popleft().place)
            parts.append(clip(entries, self._lo, self._hi))
        if self._reverse:
            parts.reverse()
        parts = [part for part in parts if part.keys]
        if parts:
            kept = [self.buffer] if self.buffer.keys else []
            self.buffer = concatenate([*parts, *kept] if self._reverse else [*kept, *parts])


class Merge:
    """The folded entries of several runs and deltas over [lo, hi), in batches, in order."""

    def __init__(
        self,
        view: View,
        definition: TableDefinition,
        loader: Loader,
        runs: list[Run],
        memory: list[Entries],
        lo: str | None,
        hi: str | None,
        *,
        reverse: bool = False,
        blocks_first: int = BLOCKS_FIRST,
    ) -> None:
        self._view, self._definition, self._loader, self._reverse = view, definition, loader, reverse
        self._width = blocks_first
        touched = [run for run in runs if files_in(run, lo, hi)[0]]
        self._cursors = [RunCursor(view, run, lo, hi, reverse=reverse, loader=loader) for run in touched]
        self._memory = self._fold([clip(part, lo, hi) for part in memory])

    def first_needs(self) -> list[Need]:
        """What the first round would read, as far as it isn't in memory."""
        needs = [need for cursor in self._cursors for need in cursor.needs(self._width)]
        return [need for need in needs if self._loader.get(need.place) is None]

    def batches(self) -> Iterator[Entries]:
        """Folded entries in order (each batch ascending inside when forward, descending when reverse)."""
        while True:
            self._fill()
            batch = self._take()
            if batch.keys:
                yield self._turned(batch)
            if not self._cursors and not self._memory.keys:
                return

    def _fill(self) -> None:
        """Reads on until every cursor has something, or nothing is left of it."""
        while True:
            hungry = [cursor for cursor in self._cursors if not cursor.buffer.keys and not cursor.exhausted]
            if not hungry:
                break
            self._loader.load(need for cursor in hungry for need in cursor.needs(self._width))
            for cursor in hungry:
                cursor.absorb(self._width)
        self._width = min(self._width * 2, BLOCKS_MAX)
        self._cursors = [cursor for cursor in self._cursors if cursor.buffer.keys or not cursor.exhausted]

    def _take(self) -> Entries:
        """All entries that nothing unread can precede or equal."""
        growing = [cursor for cursor in self._cursors if not cursor.exhausted]
        parts = []
        if not growing:
            parts = [cursor.buffer for cursor in self._cursors] + [self._memory]
            self._cursors, self._memory = [], NOTHING
            return self._fold(parts)
        ends = [cursor.buffer.keys[0 if self._reverse else -1] for cursor in growing]
        horizon = max(ends) if self._reverse else min(ends)
        for cursor in self._cursors:
            taken, cursor.buffer = self._split(cursor.buffer, horizon)
            parts.append(taken)
        taken, self._memory = self._split(self._memory, horizon)
        folded = self._fold([*parts, taken])
        if not any(part.keys for part in parts) and not taken.keys:
            self._grow(growing, horizon)
        return folded

    def _grow(self, growing: list[RunCursor], horizon: str) -> None:
        """A buffer that is all one key gets more, or nothing would ever be safe to emit."""
        at = 0 if self._reverse else -1
        for cursor in growing:
            if cursor.buffer.keys[at] == horizon:
                size = len(cursor.buffer.keys)
                while len(cursor.buffer.keys) == size and not cursor.exhausted:
                    self._loader.load(cursor.needs(self._width))
                    cursor.absorb(self._width)

    def _split(self, entries: Entries, horizon: str) -> tuple[Entries, Entries]:
        """(what is safely past, what stays)."""
        size = len(entries.keys)
        if self._reverse:
            i = bisect_right(entries.keys, horizon)
            return cut(entries, i, size), cut(entries, 0, i)
        i = bisect_left(entries.keys, horizon)
        return cut(entries, 0, i), cut(entries, i, size)

    def _fold(self, parts: list[Entries]) -> Entries:
        merged = sort_entries(concatenate(parts)) if any(part.keys for part in parts) else NOTHING
        if self._view.kind == "summary":
            return summary_fold(self._view, self._definition).fold_lines(merged)
        return cancel(merged)

    def _turned(self, batch: Entries) -> Entries:
        if not self._reverse:
            return batch
        weights = None if batch.weights is None else batch.weights[::-1]
        return Entries(batch.keys[::-1], batch.lines[::-1], weights)
