"""Views that are added, dropped or changed while commits and compactions are under way."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from enginekit import DEFINITION, TINY, Bench, InterleavingStore, documents, read_in_blocks

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event
from bucketdex.errors import BucketdexError, SnapshotExpiredError, StorageError
from bucketdex.storage import open_index_store
from bucketdex.views import BlockCache, Snapshot

PLAIN = DEFINITION.to_dict()
BARE = TableDefinition.from_dict("orders", {**PLAIN, "indexes": {}, "summaries": {}})
LATE = sorted({*PLAIN["indexes"], *PLAIN["summaries"]})


def bare_bench(seed: int, index: InterleavingStore | None = None) -> Bench:
    bench = Bench(seed, index=index)
    bench.engine.drop_table("orders")
    bench.engine.define(BARE)
    return bench


def fill(bench: Bench, seed: int, count: int = 5) -> None:
    r = random.Random(seed)
    for i in range(count):
        bench.put(f"orders/{i}", documents(r, 4))
    bench.apply(*(f"orders/{i}" for i in range(count)))


def test_a_generation_at_which_a_view_was_being_built_is_not_answered_from_half_of_it() -> None:
    bench = bare_bench(1)
    fill(bench, 1)
    bench.engine.define(DEFINITION)
    bench.put("orders/9", documents(random.Random(2), 3))
    bench.apply("orders/9")
    during = bench.engine.load("orders").manifest.generation
    bench.engine.create_table(DEFINITION)
    manifest = bench.engine.load("orders").manifest
    for at in range(during - 2, during + 1):
        for name in LATE:
            with pytest.raises(SnapshotExpiredError):
                list(Snapshot(bench.index, manifest, DEFINITION, BlockCache(), at=at).scan(name, None, None))
    assert bench.contents() == bench.rebuilt()


def test_a_build_does_not_land_on_a_view_that_was_dropped_and_added_again() -> None:
    store = InterleavingStore(open_index_store("memory://"))
    bench = bare_bench(2, store)
    fill(bench, 3)
    bench.engine.define(DEFINITION)
    rival = Engine(bench.index, bench.data, bench.runtime, settings=bench.settings)

    def before_swap() -> None:
        store.before_swap = None
        bench.put("orders/1", documents(random.Random(4), 2))
        rival.apply("orders", [Event("orders/1")])
        rival.define(BARE)
        rival.compact("orders", mode="full")  # nothing waits for the dropped views: the delta becomes garbage
        rival.define(DEFINITION)

    store.before_swap = before_swap
    bench.engine.compact("orders", "by_customer")
    bench.engine.create_table(DEFINITION)
    assert bench.contents() == bench.rebuilt()


def test_a_summary_is_not_ready_before_the_views_that_settle_it() -> None:
    bench = bare_bench(3)
    fill(bench, 5)
    bench.engine.define(DEFINITION)
    bench.engine.compact("orders", "scores", mode="tiered")
    manifest = bench.engine.load("orders").manifest
    needed = [state for name, state in manifest.views.items() if name.startswith("scores.")]
    assert needed
    assert all(state.state == "ready" for state in needed) or manifest.views["scores"].state == "building"
    r = random.Random(6)
    for i in range(4):
        bench.put(f"orders/{i}", documents(r, 2))
        bench.apply(f"orders/{i}")
        bench.engine.compact("orders", "scores", mode="full")
    bench.engine.create_table(DEFINITION)
    assert bench.contents() == bench.rebuilt()


def test_another_format_of_lines_is_a_new_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """What shapes lines and groups besides the definition: the time zones' data, the format of lines."""
    zoned: dict[str, Any] = {
        **PLAIN,
        "summaries": {"daily": {"group_by": ['day(created_at, "Europe/Berlin")'], "measures": {"n": "count()"}}},
    }
    definition = TableDefinition.from_dict("orders", zoned)
    bench = bare_bench(4)
    bench.engine.create_table(definition)
    fill(bench, 7)
    before = bench.engine.load("orders").manifest.views["daily"].id
    from bucketdex.views import spec

    spec.views_of.cache_clear()
    monkeypatch.setattr(spec, "TZDATA_VERSION", "2099z")
    try:
        manifest = bench.engine.load("orders").manifest
        with pytest.raises(BucketdexError, match="daily"):
            list(Snapshot(bench.index, manifest, definition, BlockCache()).scan("daily", None, None))
        bench.put("orders/1", documents(random.Random(8), 100))
        result = bench.engine.apply("orders", [Event("orders/1", size=10**9)])
        assert "orders/1" in result.failed
        bench.engine.create_table(definition)
        state = bench.engine.load("orders").manifest.views["daily"]
        assert (state.state, state.id == before) == ("ready", False)
        bench.apply("orders/1")
        manifest = bench.engine.load("orders").manifest
        rows = list(Snapshot(bench.index, manifest, definition, BlockCache()).summary_rows("daily", None, None))
        assert sum(row["n"] for row in rows) == len(
            list(Snapshot(bench.index, manifest, definition, BlockCache()).scan("records", None, None))
        )
    finally:
        monkeypatch.undo()
        spec.views_of.cache_clear()


@pytest.mark.parametrize("seed", range(2))
def test_bulk_commits_into_views_that_come_and_go(seed: int) -> None:
    """Commits that bring sorted runs meet definition commits, builds and drops at every swap."""
    store = InterleavingStore(open_index_store("memory://"))
    bench = Bench(seed, settings=msgspec.structs.replace(TINY, delta_rows_max=0), index=store)
    rival = Engine(bench.index, bench.data, bench.runtime, settings=bench.settings)
    r = random.Random(seed)
    busy = False

    def before_swap() -> None:
        nonlocal busy
        if busy or r.random() > 0.3:
            return
        busy = True
        kind = r.choice(["more", "less", "build", "recreate", "fold"])
        if kind == "recreate" and r.random() < 0.3:
            rival.drop_table("orders")
            rival.define(DEFINITION)
        elif kind in ("more", "less"):
            rival.define(DEFINITION if kind == "more" else BARE)
        elif kind == "build":
            for name in r.sample(LATE, 2):
                rival.compact("orders", name, mode="tiered")
        else:
            rival.compact("orders", r.choice(["records", "objects", *LATE]), mode="full")
        busy = False

    keys = [f"orders/{i}" for i in range(5)]
    store.before_swap = before_swap
    for _ in range(8):
        for key in r.sample(keys, 2):
            bench.put(key, documents(r, r.choice([0, 2, 9])))
            bench.apply(key)
    store.before_swap = None
    bench.engine.create_table(DEFINITION)
    bench.apply(*keys)  # after a drop, what was not applied since is to be applied again
    bench.engine.create_table(DEFINITION)
    assert bench.contents() == bench.rebuilt()


def test_a_merge_whose_view_is_dropped_between_two_steps_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step's PUT landed but reported an error, and a definition came before the writer looked."""
    read_in_blocks(monkeypatch)
    store = InterleavingStore(open_index_store("memory://"))
    settings = msgspec.structs.replace(TINY, step_rows=1, block_bytes=100, merge_blocks=1)
    bench = Bench(5, settings=settings, index=store)
    for seed in (9, 10):
        fill(bench, seed)
        bench.engine.compact("orders", "scores", mode="tidy")
    rival = Engine(bench.index, bench.data, bench.runtime, settings=bench.settings)
    for i in range(3):
        bench.put(f"orders/{i}", documents(random.Random(i), 3))
        bench.apply(f"orders/{i}")
    put = store.put
    landed: list[int] = []

    def doubtful(key: str, body: bytes, **conditions: Any) -> str:
        etag = put(key, body, **conditions)
        if key.endswith("manifest.json"):
            manifest = bench.engine.load("orders").manifest
            if any(run.start for run in manifest.views["scores"].runs):
                landed.append(manifest.generation)
                store.put = put  # type: ignore[method-assign]
                rival.define(BARE)
                raise StorageError("500 after the effect")
        return etag

    store.put = doubtful  # type: ignore[method-assign]
    bench.engine.compact("orders", "scores", mode="full")
    assert landed
    assert bench.engine.create_table(DEFINITION)
    assert bench.contents() == bench.rebuilt()
