"""Commits, compactions, collections and definition changes that come between a load and its swap lose nothing."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from enginekit import DEFINITION, TINY, Bench, InterleavingStore, documents, interrupted, read_in_blocks

from bucketdex.engine import Engine, Event
from bucketdex.errors import CommitGaveUpError
from bucketdex.storage import open_index_store

KEYS = [f"orders/{i}" for i in range(7)]


class Rivals:
    """Other engines on the same buckets, that act at the worst moment."""

    def __init__(self, bench: Bench, store: InterleavingStore, r: random.Random, chance: float) -> None:
        self.bench, self.store, self.r, self.chance = bench, store, r, chance
        self.engine = Engine(store, bench.data, bench.runtime, settings=bench.settings)
        self.depth = 0
        self.left = 0  # what they may still do: a compaction of tiny steps would chase their commits for ever
        self.acted: dict[str, int] = {}
        self.failed: set[str] = set()

    def __call__(self) -> None:
        if self.depth >= 2 or not self.left or self.r.random() > self.chance:
            return
        self.left -= 1
        self.depth += 1
        try:
            name = self.r.choice(["change", "change", "change", "compact", "collect", "sweep", "define"])
            self.acted[name] = self.acted.get(name, 0) + 1
            getattr(self, name)()
        finally:
            self.depth -= 1

    def change(self) -> None:
        keys = self.r.sample(KEYS, self.r.randrange(1, 4))
        mutate(self.bench, self.r, keys)
        try:
            self.failed |= set(self.engine.apply("orders", [Event(key) for key in keys]).failed)
        except CommitGaveUpError:
            self.failed |= set(keys)  # a queue would send them again

    def compact(self) -> None:
        for name in self.r.sample(sorted(self.engine.load("orders").manifest.views), 4):
            mode = self.r.choice(["tidy", "full", "tiered"])
            self.engine.compact("orders", name, mode=mode, in_time=interrupted(5))

    def collect(self) -> None:
        self.bench.runtime.clock += 150
        self.engine.collect("orders")

    def sweep(self) -> None:
        self.engine.sweep("orders")

    def define(self) -> None:
        plain = DEFINITION.to_dict()
        fewer: dict[str, Any] = {**plain, "indexes": dict(list(plain["indexes"].items())[:-1])}
        current = self.engine.load("orders").manifest.definition
        wanted = DEFINITION if current != plain else type(DEFINITION).from_dict("orders", fewer)
        self.engine.create_table(wanted)


def mutate(bench: Bench, r: random.Random, keys: list[str]) -> None:
    for key in keys:
        if r.random() < 0.25:
            bench.data.delete_many([key])
        else:
            bench.put(key, documents(r, r.choice([0, 1, 2, 5, 40])))


@pytest.fixture(params=["whole files", "blocks"], autouse=True)
def way_of_reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are read whole, others by footer, filter and blocks."""
    if request.param == "blocks":
        read_in_blocks(monkeypatch)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_between_load_and_swap(seed: int) -> None:
    r = random.Random(seed)
    store = InterleavingStore(open_index_store("memory://"))
    bench = Bench(seed, index=store)
    rivals = Rivals(bench, store, r, 0.5)
    for _ in range(10):
        keys = r.sample(KEYS, r.randrange(1, 5))
        mutate(bench, r, keys)
        store.before_swap, rivals.left = rivals, 12
        result = bench.engine.apply("orders", [Event(key) for key in keys])
        if r.random() < 0.3:
            bench.engine.compact("orders", mode=r.choice(["tidy", "full", "tiered"]))
        store.before_swap = None
        for key in {*result.failed, *rivals.failed}:
            bench.apply(key)
        rivals.failed.clear()
    bench.engine.create_table(DEFINITION)
    assert bench.contents() == bench.rebuilt()


def test_a_batch_that_always_loses_gives_up_with_nothing_changed() -> None:
    store = InterleavingStore(open_index_store("memory://"))
    bench = Bench(1, settings=msgspec.structs.replace(TINY, attempts_max=4), index=store)
    rival = Engine(store, bench.data, bench.runtime, settings=bench.settings)
    bench.put("orders/1", documents(random.Random(3), 2))
    bench.put("orders/2", documents(random.Random(4), 2))
    active = False

    def before_swap() -> None:
        nonlocal active
        if not active:
            active = True
            rival.apply("orders", [Event("orders/2")])
            active = False

    store.before_swap = before_swap
    with pytest.raises(CommitGaveUpError):
        bench.engine.apply("orders", [Event("orders/1")])
    store.before_swap = None
    assert not [line for line in bench.contents()["objects"] if b"orders/1" in line]
    bench.apply("orders/1")
    assert bench.contents() == bench.rebuilt()


@pytest.mark.parametrize("known", [True, False])
def test_a_key_that_looks_unchanged_or_was_never_known_is_touched_all_the_same(known: bool) -> None:
    """A slow writer has read what was there for a moment; who comes first finds nothing to change, and consumes the event."""
    store = InterleavingStore(open_index_store("memory://"))
    bench = Bench(2, index=store)
    rival = Engine(store, bench.data, bench.runtime, settings=bench.settings)
    lasting, passing = documents(random.Random(5), 2), documents(random.Random(6), 3)
    if known:
        bench.put("orders/1", lasting)
        bench.apply("orders/1")

    def before_swap() -> None:
        store.before_swap = None
        if known:
            bench.put("orders/1", lasting)
        else:
            bench.data.delete_many(["orders/1"])
        assert rival.apply("orders", [Event("orders/1")]).commits == 1

    bench.put("orders/1", passing)
    store.before_swap = before_swap
    assert bench.engine.apply("orders", [Event("orders/1")]).redone == 1
    assert bench.contents() == bench.rebuilt()


def test_a_delta_file_that_a_sweep_took_for_an_orphan_is_written_anew() -> None:
    store = InterleavingStore(open_index_store("memory://"))
    bench = Bench(3, settings=msgspec.structs.replace(TINY, inline_bytes_max=0), index=store)
    rival = Engine(store, bench.data, bench.runtime, settings=bench.settings)

    def before_swap() -> None:
        store.before_swap = None
        bench.put("orders/2", documents(random.Random(8), 1))
        rival.apply("orders", [Event("orders/2")])
        assert rival.sweep("orders").orphans == 1

    bench.put("orders/1", documents(random.Random(7), 2))
    store.before_swap = before_swap
    bench.apply("orders/1")
    assert bench.contents() == bench.rebuilt()


@pytest.mark.parametrize("view", ["records", "by_tag", "revenue"])
def test_of_two_compactors_at_one_view_one_lands(view: str) -> None:
    store = InterleavingStore(open_index_store("memory://"))
    bench = Bench(6, index=store)
    rival = Engine(store, bench.data, bench.runtime, settings=bench.settings)
    for i in range(6):
        bench.put(f"orders/{i % 4}", documents(random.Random(i), 3))
        bench.apply(f"orders/{i % 4}")

    def before_swap() -> None:
        store.before_swap = None
        rival.compact("orders", view, mode="full", in_time=interrupted(1))
        bench.put("orders/5", documents(random.Random(9), 2))
        rival.apply("orders", [Event("orders/5")])
        store.before_swap = again

    seconds: list[int] = []

    def again() -> None:
        seconds.append(1)
        store.before_swap = None
        rival.compact("orders", view, mode="full", in_time=interrupted(2))

    store.before_swap = before_swap
    bench.engine.compact("orders", view, mode="full")
    assert seconds
    assert bench.contents() == bench.rebuilt()
