"""A table in memory, its engine on one core, stores that count. Changes with how engine and client are opened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from benchmarks.datasets import Objects
from bucketdex import Database, TableDefinition
from bucketdex.engine import ApplyResult, Engine, Event
from bucketdex.runtime import Runtime
from bucketdex.storage import CountingStore, Manifest, open_data_store, open_index_store

T = TypeVar("T")
R = TypeVar("R")


class SequentialRuntime(Runtime):
    """Does one thing after the other, so that processor time is that of one core."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        return [function(item) for item in items]


class Timed(NamedTuple):
    """Work done and the processor time that it took, in seconds."""

    rows: int
    cpu_s: float

    @property
    def rate(self) -> float:
        """Rows a second of one core."""
        return self.rows / self.cpu_s


class Workbench:
    """One table over two memory stores that count."""

    def __init__(self, definition: TableDefinition, *, sequential: bool = True) -> None:
        self.definition = definition
        self.name = definition.name
        self.index = CountingStore(open_index_store("memory://"))
        self.data = CountingStore(open_data_store("memory://"))
        self.engine = Engine(self.index, self.data, SequentialRuntime() if sequential else Runtime())
        self.engine.create_table(definition)

    def upload(self, objects: Objects) -> None:
        """Puts the objects into the data bucket, unindexed."""
        for key, body in objects.items():
            self.data.put(key, body)

    def apply(self, keys: Iterable[str], sequencer: str | None = None) -> ApplyResult:
        """Applies created events of the keys as one batch; raises what went wrong with any of them."""
        result = self.engine.apply(self.name, [Event(key, "created", sequencer) for key in keys])
        for error in result.failed.values():
            raise error
        return result

    def index_all(self, objects: Objects, batch: int) -> Timed:
        """Indexes uploaded objects in batches, timed."""
        keys = list(objects)
        rows, began = 0, time.process_time()
        for start in range(0, len(keys), batch):
            rows += self.apply(keys[start : start + batch]).rows
        return Timed(rows, time.process_time() - began)

    def compact(self, view: str | None = None) -> Timed:
        """Compacts to at most two runs a view, timed; the rows are those of all runs that were merged."""
        before = self.manifest
        began = time.process_time()
        self.engine.compact(self.name, view, mode="tidy")
        spent = time.process_time() - began
        merged = 0
        for name, state in self.manifest.views.items():
            kept = {run.id for run in state.runs}
            merged += sum(run.rows for run in before.views[name].runs if run.id not in kept)
        return Timed(merged, spent)

    @property
    def manifest(self) -> Manifest:
        """The manifest as it is now."""
        return self.engine.load(self.name).manifest

    def runs(self, view: str) -> int:
        """How many runs a view has."""
        return len(self.manifest.views[view].runs)

    def client(self) -> Database:
        """A client that has read nothing yet, over the counting store."""
        return Database(self.index)
