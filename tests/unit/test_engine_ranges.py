"""Scans, counts and look-ups of any range against a plain sorted list, over runs of small blocks, interrupted merges and deltas."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from enginekit import DEFINITION, TINY, Bench, documents, interrupted, read_in_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketdex.definition.ordering import escape
from bucketdex.storage import CountingStore
from bucketdex.views import BlockCache, Snapshot
from bucketdex.views.keys import key_range
from bucketdex.views.snapshot import Entry

KEYS = ["orders/1", "orders/10", "orders/1/x", "orders/1 ", "orders/2", "orders/a\u00e9", "orders/\u4e2d", "orders/big"]
ROWS = ("objects", "records", "rejects", *DEFINITION.to_dict()["indexes"])


class World:
    """A table in pieces: many files of small blocks, merges left off halfway, retractions, deltas; and its whole content."""

    def __init__(self) -> None:
        bounds = msgspec.structs.replace(TINY, block_bytes=250, merge_blocks=1, step_rows=10, inline_bytes_max=1500)
        self.bench = bench = Bench(3, settings=bounds)
        r = random.Random(3)
        for round_ in range(4):
            for key in KEYS:
                if r.random() < 0.2 and round_:
                    bench.data.delete_many([key])
                else:
                    bench.put(key, documents(r, 60 if key == "orders/big" else r.choice([1, 4, 12])))
            bench.apply(*KEYS)
            if round_ < 3:
                for name in bench.engine.load("orders").manifest.views:
                    bench.engine.compact("orders", name, mode="full", in_time=interrupted(r.choice([1, 3, 4])))
        bench.put("orders/late", documents(r, 3))
        bench.apply("orders/late")
        self.store = CountingStore(bench.index)
        self.manifest = bench.engine.load("orders").manifest
        assert bench.contents() == bench.rebuilt()
        self.entries = {name: list(self.snapshot().scan(name, None, None)) for name in ROWS}
        self.warm_cache = BlockCache()

    def snapshot(self, cache: BlockCache | None = None) -> Snapshot:
        return Snapshot(self.store, self.manifest, DEFINITION, BlockCache() if cache is None else cache)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        read_in_blocks(patch)
        yield World()


def expected(world: World, name: str, lo: str | None, hi: str | None) -> list[Entry]:
    return [e for e in world.entries[name] if (lo is None or e.key >= lo) and (hi is None or e.key < hi)]


def test_the_table_is_in_pieces(world: World) -> None:
    runs = [run for state in world.manifest.views.values() for run in state.runs]
    assert max(len(run.files) for run in runs) > 2
    assert any(run.start for run in runs)
    assert any(run.retracted for run in runs)
    assert len(world.manifest.deltas) >= 1


@st.composite
def bounds_of(draw: st.DrawFn, keys: list[str]) -> str | None:
    """A key, or something right beside one, or beside what two keys share."""
    if draw(st.integers(0, 6)) == 0:
        return None
    key = draw(st.sampled_from(keys)) if keys else ""
    cut = draw(st.integers(0, len(key)))
    return draw(st.sampled_from([key, key + "\x00", key[:-1] + "\x01", key[:cut], key[:cut] + "\x01", key[:cut] + "~"]))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_range_is_a_slice(world: World, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(ROWS))
    keys = [entry.key for entry in world.entries[name]]
    lo, hi = data.draw(bounds_of(keys)), data.draw(bounds_of(keys))
    wanted = expected(world, name, lo, hi)
    cache = data.draw(st.sampled_from([None, world.warm_cache, BlockCache(0), BlockCache(2_000)]))
    reverse = data.draw(st.booleans())
    snapshot = world.snapshot(cache)
    if data.draw(st.booleans()):
        requests = snapshot.predict(name, lo, hi, reverse)
        snapshot.warm(requests, world.store.get_many(requests))
    got = list(snapshot.scan(name, lo, hi, reverse=reverse))
    assert got == (wanted[::-1] if reverse else wanted)
    assert snapshot.count(name, lo, hi) == len(wanted)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_look_ups_find_all_of_a_key_and_nothing_else(world: World, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["objects", "records", "rejects"]))
    made = st.sampled_from([*KEYS, "orders/", "orders/100", "orders/1\x00", "", "orders/bi", "\U0010ffff"])
    keys = data.draw(st.lists(made, unique=True))
    cache = data.draw(st.sampled_from([None, world.warm_cache, BlockCache(0)]))
    found = world.snapshot(cache).lookup(name, keys)
    wanted = {key: [e.line for e in expected(world, name, *key_range(key))] for key in keys}
    assert {key: entries.lines for key, entries in found.items()} == {k: lines for k, lines in wanted.items() if lines}
    assert all(json.loads(line)["_key"] == key for key, entries in found.items() for line in entries.lines)


def test_keys_of_a_common_prefix_stay_apart(world: World) -> None:
    rows = [json.loads(entry.line) for entry in world.entries["records"]]
    for customer in ("c1", "c10", "c2", "", "\x00a", "a\x01", "c"):
        start = "=" + escape(customer)
        lines = [e.line for e in world.snapshot().scan("by_customer", start + "\x00", start + "\x01")]
        assert len(lines) == sum(row["customer"] == customer for row in rows)
        assert all(json.loads(line)["customer"] == customer for line in lines)


def test_order_is_that_of_the_values(world: World) -> None:
    amounts = [json.loads(e.line)["amount"] for e in world.entries["by_amount"]]
    assert amounts == sorted(amounts, key=lambda v: (v is not None, Decimal(v or 0)))
    scores = [json.loads(e.line)["score"] for e in world.entries["by_score"]]
    assert scores == sorted(scores, key=lambda v: (v is not None, v or 0.0))


def test_what_was_predicted_and_warmed_costs_no_further_request(world: World) -> None:
    """Footers and filters in one round, blocks in the next; then a narrow range is in memory."""
    for name in ROWS:
        for entry in world.entries[name][:: max(1, len(world.entries[name]) // 12)]:
            for reverse in (False, True):
                cache = BlockCache()
                lo, hi = entry.key, entry.key + "\x00"
                for round_ in range(3):
                    snapshot = world.snapshot(cache)
                    requests = snapshot.predict(name, lo, hi, reverse)
                    assert round_ < 2 or requests == []
                    snapshot.warm(requests, world.store.get_many(requests))
                world.store.reset()
                got = list(world.snapshot(cache).scan(name, lo, hi, reverse=reverse))
                assert got == expected(world, name, lo, hi)
                assert world.store.requests.total() == 0


def test_scans_side_by_side_over_a_cache_that_holds_next_to_nothing(world: World) -> None:
    cache = BlockCache(600)
    scans = {name: world.snapshot(cache).scan(name, None, None, reverse=i % 2 == 1) for i, name in enumerate(ROWS)}
    got: dict[str, list[Any]] = {name: [] for name in ROWS}
    while scans:
        for name, scan in list(scans.items()):
            entry = next(scan, None)
            if entry is None:
                del scans[name]
            else:
                got[name].append(entry)
    for i, name in enumerate(ROWS):
        assert got[name] == (world.entries[name][::-1] if i % 2 else world.entries[name])


def test_filters_spare_the_blocks_of_unknown_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = [f"{key}{i}" for key in KEYS for i in range(5)]

    def cost() -> int:
        world.store.reset()
        assert world.snapshot().lookup("records", unknown) == {}
        return world.store.requests.total()

    filtered = cost()
    monkeypatch.setattr("bucketdex.views.loader.Loader.excluded", lambda *_: False)
    assert filtered < cost() - 5
