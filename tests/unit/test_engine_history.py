"""Any generation within the grace period reads as it did when it was the newest; past it, it says so and never answers wrongly."""

from __future__ import annotations

import random
from typing import Any

import pytest
from enginekit import DEFINITION, TINY, Bench, InterleavingStore, contents, documents, interrupted, read_in_blocks

from bucketdex.errors import SnapshotExpiredError
from bucketdex.storage import open_index_store
from bucketdex.views import BlockCache, Snapshot

KEYS = [f"orders/{i}" for i in range(5)]
GRACE = TINY.grace_seconds


class Historian:
    """Notes what a reader of every generation sees, right before the generation is replaced, and when that is. Now and
    then it sweeps, too, between a writer's files and its swap.
    """

    def __init__(self, bench: Bench, store: InterleavingStore, r: random.Random) -> None:
        self.r, self.sweeping = r, False
        self.bench, self.cache = bench, BlockCache()
        self.seen: dict[int, dict[str, Any]] = {}
        self.replaced_at: dict[int, float] = {}
        store.before_swap = self.note

    def note(self) -> None:
        manifest = self.bench.engine.load("orders").manifest
        self.replaced_at[manifest.generation] = self.bench.runtime.clock
        if manifest.generation not in self.seen and all(v.state == "ready" for v in manifest.views.values()):
            snapshot = Snapshot(self.bench.index, manifest, DEFINITION, self.cache)
            self.seen[manifest.generation] = contents(snapshot)
        if not self.sweeping and self.r.random() < 0.15:
            self.sweeping = True
            self.bench.engine.sweep("orders")
            self.bench.engine.sweep("orders")  # its floor is above what the writer is based on
            self.sweeping = False

    def check(self) -> tuple[int, int]:
        """How many generations could be read, and how many were past their grace period."""
        manifest = self.bench.engine.load("orders").manifest
        cache = BlockCache()  # a new one: files that were deleted too early are missed
        read = expired = 0
        for generation, expected in self.seen.items():
            snapshot = Snapshot(self.bench.index, manifest, DEFINITION, cache, at=generation)
            try:
                assert contents(snapshot) == expected, generation
                read += 1
            except SnapshotExpiredError:
                age = self.bench.runtime.clock - self.replaced_at.get(generation, self.bench.runtime.clock)
                assert age > GRACE, (generation, age)
                expired += 1
        return read, expired


@pytest.mark.parametrize("seed", range(3))
def test_any_generation_reads_as_it_did(seed: int) -> None:
    r = random.Random(seed)
    store = InterleavingStore(open_index_store("memory://"))
    bench = Bench(seed, index=store)
    historian = Historian(bench, store, r)
    read = expired = 0
    for step in range(12):
        batch = r.sample(KEYS, r.randrange(1, 4))
        for key in batch:
            if r.random() < 0.25:
                bench.data.delete_many([key])
            else:
                bench.put(key, documents(r, r.choice([0, 1, 3, 14])))
        bench.apply(*batch)
        choice = r.random()
        if choice < 0.5:
            bench.engine.compact(
                "orders", mode=r.choice(["tidy", "full"]), in_time=interrupted(r.choice([1, 2, 3, 50]))
            )
        bench.runtime.clock += r.choice([0, 30, 60])
        bench.engine.collect("orders")
        if step % 4 == 3:
            counts = historian.check()
            read, expired = read + counts[0], expired + counts[1]
    assert read > 10
    assert expired > 0


def test_the_file_of_folded_deltas_survives_a_sweep_before_it_is_listed() -> None:
    store = InterleavingStore(open_index_store("memory://"))
    bench = Bench(4, index=store)
    before = {}
    for i in range(3):
        bench.put(f"orders/{i}", documents(random.Random(i), 1))
        bench.apply(f"orders/{i}")
        before[bench.engine.load("orders").manifest.generation] = bench.contents()
    manifest = bench.engine.load("orders").manifest
    assert all(delta.inline for delta in manifest.deltas)
    last = "rejects"  # it has nothing to fold, so there is no other file that would be missed
    for name in set(manifest.views) - {last}:
        bench.engine.compact("orders", name, mode="full")

    def sweep_twice() -> None:
        store.before_swap = None
        bench.engine.sweep("orders")
        bench.engine.sweep("orders")

    store.before_swap = sweep_twice
    bench.engine.compact("orders", last, mode="full")
    manifest = bench.engine.load("orders").manifest
    assert not manifest.deltas
    parts = [entry.delta.part for entry in manifest.garbage if entry.delta is not None]
    assert len({part[0] for part in parts if part is not None}) == 3
    for generation, seen in before.items():
        assert contents(Snapshot(bench.index, manifest, DEFINITION, BlockCache(), at=generation)) == seen
    bench.runtime.clock += GRACE + 1
    bench.engine.collect("orders")
    manifest = bench.engine.load("orders").manifest
    for generation in before:
        with pytest.raises(SnapshotExpiredError):
            contents(Snapshot(bench.index, manifest, DEFINITION, BlockCache(), at=generation))
    assert bench.contents() == seen


def test_a_sweep_between_the_steps_of_a_merge_costs_it_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read_in_blocks(monkeypatch)
    bench = Bench(4)
    for i in range(12):
        bench.put(f"orders/{i}", documents(random.Random(i), 14))
        bench.apply(f"orders/{i}")
    seen: list[list[str]] = []

    def sweeping() -> bool:
        runs = bench.engine.load("orders").manifest.views["by_amount"].runs
        if any(run.start is not None for run in runs):
            seen.extend([file.path for file in run.files] for run in runs if run.start is None)
            bench.engine.sweep("orders")
        return True

    bench.engine.compact("orders", "by_amount", mode="full", in_time=sweeping)
    (run,) = bench.engine.load("orders").manifest.views["by_amount"].runs
    assert len(seen) > 1
    assert all([file.path for file in run.files[: len(paths)]] == paths for paths in seen)
    assert bench.contents() == bench.rebuilt()
