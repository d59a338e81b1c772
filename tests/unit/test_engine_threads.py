"""Real threads, each with an engine of its own, on the same buckets and the same keys."""

from __future__ import annotations

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from enginekit import DEFINITION, TINY, Bench, documents, read_in_blocks

from bucketdex.engine import Engine, Event
from bucketdex.errors import CommitGaveUpError, SnapshotExpiredError
from bucketdex.runtime import Runtime
from bucketdex.views import BlockCache, Snapshot

KEYS = [f"orders/{i}" for i in range(8)]
BOUNDS = msgspec.structs.replace(TINY, grace_seconds=0.2, log_bytes_max=2_000, log_entries_max=40, attempts_max=40)


@pytest.mark.parametrize("alike", ["one cache", "own caches"])
def test_four_writers_a_janitor_and_a_reader(alike: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read_in_blocks(monkeypatch)
    bench = Bench(1, settings=BOUNDS)
    shared = BlockCache(20_000)
    writing = [True]

    def engine() -> Engine:
        cache = shared if alike == "one cache" else BlockCache()
        return Engine(bench.index, bench.data, Runtime(2), settings=BOUNDS, cache=cache)

    def write(seed: int) -> int:
        r, mine, given_up = random.Random(seed), engine(), 0
        for _ in range(6):
            keys = r.sample(KEYS, r.randrange(1, 4))
            for key in keys:
                if r.random() < 0.2:
                    bench.data.delete_many([key])
                else:
                    bench.put(key, documents(r, r.choice([0, 2, 7, 30])))
            while keys:  # as a queue would
                try:
                    keys = sorted(mine.apply("orders", [Event(key) for key in keys]).failed)
                except CommitGaveUpError:
                    given_up += 1
        return given_up

    def tidy() -> int:
        mine, r, rounds = engine(), random.Random(9), 0
        while writing[0]:
            try:
                mine.compact(
                    "orders", r.choice(list(mine.load("orders").manifest.views)), mode=r.choice(["tidy", "full"])
                )
                mine.collect("orders")
                mine.sweep("orders")
            except CommitGaveUpError:
                continue
            rounds += 1
            time.sleep(0.05)
        return rounds

    def read() -> int:
        """What one snapshot says of objects, records and an index must agree."""
        looks = 0
        while writing[0]:
            manifest = bench.engine.load("orders").manifest
            snapshot = Snapshot(bench.index, manifest, DEFINITION, shared)
            try:
                objects = [json.loads(entry.line) for entry in snapshot.scan("objects", None, None)]
                records = list(snapshot.scan("records", None, None))
                customers = snapshot.count("by_customer", None, None)
                orders = sum(row["orders"] for row in snapshot.summary_rows("revenue", None, None))
            except SnapshotExpiredError:
                continue
            assert sum(row["records"] for row in objects) == len(records) == customers == orders
            looks += 1
            time.sleep(0.02)
        return looks

    with ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(write, seed) for seed in range(4)]
        others = [pool.submit(tidy), pool.submit(read)]
        try:
            for writer in writers:
                writer.result()
        finally:
            writing[0] = False
        assert all(other.result() > 0 for other in others)
    assert bench.contents() == bench.rebuilt()
