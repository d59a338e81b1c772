"""The index equals a rebuild from the bucket, whatever was put, overwritten, deleted, compacted and collected on the way."""

from __future__ import annotations

import random

import msgspec
import pytest
from enginekit import DEFINITION, TINY, Bench, documents, interrupted, read_in_blocks

from bucketdex.engine import Event


@pytest.fixture(params=["whole files", "blocks"], autouse=True)
def way_of_reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are read whole, others by footer, filter and blocks."""
    if request.param == "blocks":
        read_in_blocks(monkeypatch)


@pytest.mark.parametrize("seed", range(2))
def test_index_equals_rebuild(seed: int) -> None:
    r = random.Random(seed)
    bench = Bench(seed)
    keys = [f"orders/{i}.ndjson" for i in range(6)] + ["orders/a b+c%.ndjson", "orders/né\u4e2d.ndjson"]
    for step in range(30):
        batch = r.sample(keys, r.randrange(1, 5))
        for key in batch:
            if r.random() < 0.25:
                bench.data.delete_many([key])
            else:
                bench.put(key, documents(r, r.choice([0, 1, 2, 5, 40])))
        bench.apply(*batch, *batch[:1])
        choice = r.random()
        if choice < 0.2:
            bench.engine.compact("orders", mode=r.choice(["tidy", "full", "tiered"]))
        elif choice < 0.3:
            bench.runtime.clock += 200
            bench.engine.collect("orders")
        elif choice < 0.35:
            bench.engine.sweep("orders")
        if step % 10 == 9:
            assert bench.contents() == bench.rebuilt()
    bench.engine.compact("orders", mode="full")
    assert bench.contents() == bench.rebuilt()
    manifest = bench.engine.load("orders").manifest
    assert not manifest.deltas
    assert all(len(state.runs) <= 1 for state in manifest.views.values())


def test_duplicates_cost_nothing() -> None:
    bench = Bench()
    bench.put("orders/1.ndjson", documents(random.Random(1), 3))
    event = Event("orders/1.ndjson", "created", "0055")
    assert bench.engine.apply("orders", [event]).commits == 1
    result = bench.engine.apply("orders", [event, event])
    assert (result.commits, result.skipped) == (0, {"orders/1.ndjson"})
    newer = Event("orders/1.ndjson", "created", "0056")
    bench.data.delete_many(["orders/1.ndjson"])
    assert bench.engine.apply("orders", [event, newer]).applied == {"orders/1.ndjson"}
    assert bench.contents()["records"] == []


def test_views_added_later_are_built() -> None:
    plain = DEFINITION.to_dict()
    less = {**plain, "indexes": {}, "summaries": {}}
    bench = Bench()
    bench.engine.drop_table("orders")
    bench.engine.define(type(DEFINITION).from_dict("orders", less))
    r = random.Random(5)
    for i in range(9):
        bench.put(f"orders/{i}", documents(r, 7))
    bench.apply(*(f"orders/{i}" for i in range(9)))
    bench.engine.create_table(DEFINITION)
    bench.apply("orders/1")
    assert bench.contents() == bench.rebuilt()


def test_what_gathered_while_no_compactor_ran_is_folded_in_parts_that_memory_holds() -> None:
    bench = Bench(settings=msgspec.structs.replace(TINY, delta_rows_max=100, inline_total_max=10**6))
    r = random.Random(7)
    for i in range(12):
        bench.put(f"orders/{i % 5}", documents(r, 7))
        bench.apply(f"orders/{i % 5}")
    manifest = bench.engine.load("orders").manifest
    assert sum(delta.rows for delta in manifest.deltas) > 5 * TINY.flush_rows
    folds = []
    while bench.engine.compact("orders", "records", mode="tidy", in_time=interrupted(1)):
        state = bench.engine.load("orders").manifest.views["records"]
        folds.append(max(run.rows for run in state.runs if run.start is None))
        assert bench.contents() == bench.rebuilt()
    assert len(folds) > 5
    assert folds[0] <= TINY.flush_rows
    assert state.folded >= manifest.generation
