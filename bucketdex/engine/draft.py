"""The changes of one commit while they are gathered: in memory, and as sorted runs once they outgrow it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from operator import lt
from typing import Any, NamedTuple

import msgspec

from bucketdex.definition import TableDefinition
from bucketdex.engine.runs import RunSink
from bucketdex.engine.settings import Settings
from bucketdex.runtime import Runtime
from bucketdex.storage import EncodedFile, Manifest, ObjectStore, Run, RunWriter
from bucketdex.views import OBJECTS, RECORDS, REJECTS, BlockCache, Snapshot, View, current_view, views_of
from bucketdex.views.derive import WeightedRows, derive, weighted_rows
from bucketdex.views.keys import suffixes, view_keys
from bucketdex.views.lines import STORED, mark
from bucketdex.views.merge import Entries, cancel, fold_rows

DELTA_VIEW = "delta"


class Change(msgspec.Struct):
    """What a commit does to one key: new rows with their lines, and weighted lines of the stored views."""

    rows: list[Any] = msgspec.field(default_factory=list)
    lines: list[bytes] = msgspec.field(default_factory=list)
    stored: dict[str, tuple[list[bytes], list[int]]] = msgspec.field(default_factory=dict)

    def add(self, view: str, lines: Iterable[bytes], weight: int) -> None:
        """Lines of a stored view, each with the same weight."""
        kept = self.stored.setdefault(view, ([], []))
        before = len(kept[0])
        kept[0].extend(lines)
        kept[1].extend([weight] * (len(kept[0]) - before))

    def retract(self, view: str, entries: Entries) -> None:
        """The very lines that the index holds, with their weights negated."""
        kept = self.stored.setdefault(view, ([], []))
        kept[0].extend(entries.lines)
        kept[1].extend(-weight for weight in entries.weight_list())

    @property
    def size(self) -> int:
        """Rows held."""
        return len(self.lines) + sum(len(lines) for lines, _ in self.stored.values())


class Built(NamedTuple):
    """What a draft comes to: a delta, or runs by view, or (after a redo) both; and whether any of it retracts."""

    delta: EncodedFile | None
    runs: dict[str, list[Run]]
    retracts: bool


class Draft:
    """Changes by key on top of one generation."""

    def __init__(
        self, store: ObjectStore, runtime: Runtime, settings: Settings, base: Manifest, definition: TableDefinition
    ) -> None:
        self._store, self._runtime, self._settings = store, runtime, settings
        self._base, self._definition = base, definition
        self._changes: dict[str, Change] = {}
        self._runs: dict[str, list[Run]] = {}
        self._size = 0
        self._retracts = False

    @property
    def flushed(self) -> bool:
        """Whether part of it is in files already."""
        return bool(self._runs)

    def put(self, key: str, change: Change) -> None:
        """The whole change of a key; replaces one that is still in memory."""
        old = self._changes.pop(key, None)
        self._size += change.size - (old.size if old else 0)
        self._changes[key] = change
        self._flush_when_full()

    def extend(self, key: str, part: Change) -> None:
        """A further part of a key's change, for objects that don't fit in memory."""
        change = self._changes.setdefault(key, Change())
        change.rows.extend(part.rows)
        change.lines.extend(part.lines)
        for view, (lines, weights) in part.stored.items():
            kept = change.stored.setdefault(view, ([], []))
            kept[0].extend(lines)
            kept[1].extend(weights)
        self._size += part.size
        self._flush_when_full()

    def correct(self, key: str, change: Change) -> None:
        """Replaces the change of a key after somebody else's commit touched it: what files hold of it already is taken
        back in the delta.
        """
        if self.flushed:
            own = Snapshot(self._store, self._own_manifest(), self._definition, BlockCache(0))
            for view in STORED:
                entries = own.lookup(view, [key]).get(key)
                if entries is not None:
                    change.retract(view, entries)
        old = self._changes.pop(key, None)
        self._size += change.size - (old.size if old else 0)
        self._changes[key] = change

    def build(self) -> Built:
        """Small: one delta. Large, or partly in files already: runs, all in files."""
        if not self.flushed and self._size <= self._settings.delta_rows_max:
            return Built(self._delta(), {}, self._retracts)
        self._flush()
        return Built(None, self._runs, self._retracts)

    def build_corrected(self) -> Built:
        """After `correct`: the runs as they are, everything in memory as the delta of the same commit."""
        return Built(self._delta(), self._runs, self._retracts)

    def _own_manifest(self) -> Manifest:
        views = {
            name: msgspec.structs.replace(state, runs=self._runs.get(name, []), folded=self._base.generation)
            for name, state in self._base.views.items()
        }
        return msgspec.structs.replace(self._base, views=views, deltas=[], garbage=[])

    def _flush_when_full(self) -> None:
        if self._size > self._settings.flush_rows:
            self._flush()

    def _flush(self) -> None:
        """Writes one sorted run a view of all that is in memory."""
        if not self._changes:
            return
        stored = self._stored()
        self._retracts |= any(min(weights, default=1) < 0 for _, weights in stored.values())
        batch = self._weighted(stored.pop(RECORDS, ([], [])))
        views = [current_view(self._base, self._definition, view.name) for view in views_of(self._definition)]

        def write(view: View) -> tuple[str, Run | None]:
            sink = RunSink(self._store, self._runtime, self._settings, self._base.table, view, self._base.generation)
            sink.add(self._entries(view, batch, stored))
            return view.name, sink.finish(self._base.generation + 1)

        for name, run in self._runtime.map(write, views):
            if run is not None:
                self._runs.setdefault(name, []).append(run)
        self._changes = {}
        self._size = 0

    def _entries(self, view: View, batch: WeightedRows, stored: dict[str, tuple[list[bytes], list[int]]]) -> Entries:
        if view.kind in (OBJECTS, REJECTS):
            lines, weights = stored.get(view.name, ([], []))
            keys = view_keys(view, self._definition).of_block(b"\n".join(lines)) if lines else []
            return fold_rows([Entries(keys, lines, weights)])
        entries = derive(view, self._definition, batch)
        return entries if view.kind == "summary" or batch.distinct else cancel(entries)

    def _stored(self) -> dict[str, tuple[list[bytes], list[int]]]:
        merged = Change()
        for change in self._changes.values():
            for view, (lines, weights) in change.stored.items():
                kept = merged.stored.setdefault(view, ([], []))
                kept[0].extend(lines)
                kept[1].extend(weights)
        return merged.stored

    def _weighted(self, retracted: tuple[list[bytes], list[int]]) -> WeightedRows:
        rows = list(chain.from_iterable(change.rows for change in self._changes.values()))
        lines = list(chain.from_iterable(change.lines for change in self._changes.values()))
        if not retracted[0]:
            tails = suffixes(rows)
            ascending = all(map(lt, tails, islice(tails, 1, None)))  # as objects in order of their keys are
            return WeightedRows(rows, lines, tails, None, distinct=ascending)
        old = weighted_rows(self._definition, *retracted)
        tails = suffixes(rows) + old.tails
        return WeightedRows([*rows, *old.rows], lines + old.lines, tails, [1] * len(rows) + retracted[1])

    def _delta(self) -> EncodedFile | None:
        """All changes in memory as one file, equal lines cancelled; None when nothing is left."""
        stored = self._stored()
        batch = self._weighted(stored.pop(RECORDS, ([], [])))
        keys: list[str] = []
        lines: list[bytes] = []
        weights: list[int] = []
        for view in sorted(views_of(self._definition), key=lambda v: v.name):
            if view.name not in STORED:
                continue
            entries = self._entries(view, batch, stored)
            keys += [f"{view.name}\x00{key}" for key in entries.keys]
            lines += [mark(view.name, line) for line in entries.lines]
            weights += entries.weight_list()
        if not keys:
            return None
        self._retracts |= min(weights) < 0
        writer = RunWriter(DELTA_VIEW, with_filter=False, file_bytes=2**40)
        writer.add(keys, lines, weights)
        (file,) = writer.finish()
        return file
