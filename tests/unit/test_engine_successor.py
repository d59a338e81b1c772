"""Tables that are read again beside themselves: whatever happens meanwhile, the one that takes over is what a rebuild gives."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from enginekit import DEFINITION, TINY, Bench, InterleavingStore, TestRuntime, contents, documents, interrupted

from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event, Settings
from bucketdex.engine.collect import referenced
from bucketdex.engine.commit import replacement
from bucketdex.engine.promote import promoted
from bucketdex.engine.successor import Successors
from bucketdex.errors import AccessDeniedError, BucketdexError, CommitGaveUpError, SnapshotExpiredError, StorageError
from bucketdex.storage import (
    ManifestStore,
    ObjectStore,
    is_successor,
    open_index_store,
    successors_prefix,
    table_prefix,
)
from bucketdex.storage.entries import ANY_GENERATION, Manifest
from bucketdex.views import BlockCache, Snapshot

PLAIN = DEFINITION.to_dict()
KEYS = [f"orders/{i}" for i in range(6)]


def changed(**parts: Any) -> TableDefinition:
    return TableDefinition.from_dict("orders", {**PLAIN, **parts})


FEWER_VIEWS = changed(indexes={"by_tag": PLAIN["indexes"]["by_tag"]})
NEW = changed(
    fields={**PLAIN["fields"], "place": {"type": "string", "path": "country"}},
    indexes={**PLAIN["indexes"], "by_place": ["place", "amount"]},
    summaries={"places": {"group_by": ["place"], "measures": {"n": "count()", "top": "max(amount)"}}},
)
NEW_FEWER = changed(
    fields=NEW.to_dict()["fields"], indexes={"by_place": ["place", "amount"]}, summaries=NEW.to_dict()["summaries"]
)
NARROW = changed(source={"prefix": "orders/1", "format": "ndjson"}, summaries={})
DEFINITIONS = [DEFINITION, FEWER_VIEWS, NEW, NEW_FEWER, NARROW]


class Crossing(InterleavingStore):
    """Calls somebody else right before each GET and PUT of a manifest, with the kind of request and its path."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.crossed: Callable[[str, str], None] | None = None

    def get_many(self, requests: Any) -> Any:
        for request in requests:
            self._cross("get", request.key)
        return self.inner.get_many(requests)

    def put(self, key: str, body: bytes, **conditions: Any) -> str:
        self._cross("put", key)
        return self.inner.put(key, body, **conditions)

    def _cross(self, kind: str, key: str) -> None:
        if key.endswith("manifest.json") and self.crossed is not None:
            self.crossed(kind, key)

    def at(self, place: int, kind: str, action: Callable[[], object], *, of: str = "tables/orders") -> list[str]:
        """Runs the action once, before the request of that number (from 0) to a path that starts so; what it saw."""
        seen: list[str] = []

        def crossed(found: str, key: str) -> None:
            if found != kind or not key.startswith(of):
                return
            seen.append(key)
            if len(seen) == place + 1:
                self.crossed = None
                action()

        self.crossed = crossed
        return seen


def bench_of(seed: int = 0, settings: Settings = TINY, *, objects: int = 4) -> tuple[Bench, Crossing, Engine]:
    """A table with some objects in it, and a second engine on the same buckets."""
    store = Crossing(open_index_store("memory://"))
    bench = Bench(seed, settings, index=store)
    r = random.Random(seed)
    for key in KEYS[:objects]:
        bench.put(key, documents(r, 3))
    bench.put("orders/1/stays", documents(r, 1))  # a table without objects needs no successor
    bench.apply(*KEYS[:objects], "orders/1/stays")
    return bench, store, Engine(store, bench.data, bench.runtime, settings=settings)


def live_contents(bench: Bench) -> dict[str, Any]:
    manifest = bench.engine.load("orders").manifest
    definition = TableDefinition.from_dict("orders", manifest.definition)
    return contents(Snapshot(bench.index, manifest, definition, BlockCache()))


def rebuilt(bench: Bench, definition: TableDefinition) -> dict[str, Any]:
    """What an index made from nothing out of the bucket as it is now holds."""
    index = open_index_store("memory://")
    fresh = Engine(index, bench.data, TestRuntime(99))
    fresh.define(definition)
    fresh.backfill("orders")
    return contents(Snapshot(index, fresh.load("orders").manifest, definition, BlockCache()))


def leftovers(bench: Bench) -> list[str]:
    """Files that the table doesn't list, after two sweeps past the grace period."""
    for _ in range(2):
        bench.runtime.clock += 2 * bench.settings.grace_seconds
        bench.engine.collect("orders")
        bench.engine.sweep("orders")
    manifest = bench.engine.load("orders").manifest
    kept = referenced(manifest)
    files = [f.key for p in (table_prefix("orders"), successors_prefix("orders")) for f in bench.index.list(p)]
    lived_in = {key.split("/")[1] for key in (*kept, "tables/orders/manifest.json")}
    tombstones = {f"tables/{name}/manifest.json" for name in lived_in}
    return [key for key in files if key not in kept and key not in tombstones]


# The way it goes


@pytest.mark.parametrize("definition", [NEW, NARROW])
def test_a_table_answers_as_before_until_its_successor_takes_over(definition: TableDefinition) -> None:
    bench, _, _ = bench_of(1)
    before = live_contents(bench)
    revision = bench.engine.load("orders").manifest.revision
    defined = bench.engine.define(definition).manifest
    assert defined.successor is not None and defined.definition == PLAIN and defined.revision == revision
    assert live_contents(bench) == before
    bench.put("orders/1", documents(random.Random(5), 2))
    bench.put("orders/5", documents(random.Random(6), 40))  # streamed
    bench.apply("orders/1", "orders/5")
    assert live_contents(bench) == (during := rebuilt(bench, DEFINITION))
    reading = bench.snapshot()
    bench.engine.build_successor("orders")
    bench.engine.sweep("orders")
    assert contents(reading) == during  # whoever reads it can end
    manifest = bench.engine.load("orders").manifest
    assert (manifest.successor, manifest.definition, manifest.revision) == (None, definition.to_dict(), revision + 1)
    assert live_contents(bench) == rebuilt(bench, definition)
    assert leftovers(bench) == []
    bench.engine.compact("orders", mode="full")
    assert live_contents(bench) == rebuilt(bench, definition)


def test_create_table_reads_the_objects_again_before_it_returns() -> None:
    bench, _, _ = bench_of(2)
    assert bench.engine.create_table(NEW).manifest.definition == NEW.to_dict()
    assert live_contents(bench) == rebuilt(bench, NEW)
    bench.engine.build_successor("orders")  # nothing to do


def test_a_rebuild_heals_what_is_wrong_without_a_word_of_it_in_between() -> None:
    bench, _, _ = bench_of(3)
    bench.put("orders/2", documents(random.Random(9), 2))  # its event is lost
    name = bench.engine.rebuild("orders")
    assert bench.engine.rebuild("orders") == name == bench.engine.successor("orders")
    assert is_successor(name)
    assert ManifestStore(bench.index, bench.runtime).tables() == ["orders"]
    bench.engine.define(DEFINITION)
    assert bench.engine.successor("orders") == name  # a deployment doesn't give it up
    bench.engine.define(FEWER_VIEWS)
    assert bench.engine.successor("orders") == name  # it takes part
    bench.engine.build_successor("orders")
    assert live_contents(bench) == rebuilt(bench, FEWER_VIEWS)


def test_defining_again_goes_on_with_a_successor_gives_it_up_or_replaces_it() -> None:
    bench, _, _ = bench_of(4)
    name = bench.engine.define(NEW).manifest.successor
    assert name is not None
    bench.engine.backfill(name)
    assert bench.engine.define(NEW_FEWER).manifest.successor == name
    bench.engine.define(NEW)
    assert not bench.engine.promote("orders", name)  # an index is still being built
    bench.engine.compact(name, "by_customer", mode="tiered")
    assert bench.engine.define(NARROW).manifest.successor not in (None, name)
    tombstone = bench.engine.load(name).manifest
    assert tombstone.state == "dropped" and not referenced(tombstone)
    assert bench.engine.define(FEWER_VIEWS).manifest.successor is None
    bench.engine.define(NEW)
    assert bench.engine.abandon("orders") and not bench.engine.abandon("orders")
    assert bench.engine.successor("orders") is None
    assert live_contents(bench) == rebuilt(bench, FEWER_VIEWS)
    bench.engine.define(NEW)
    bench.engine.drop_table("orders")
    assert bench.engine.successor("orders") is None
    assert leftovers(bench) == []


def test_generations_before_the_swap_are_past_and_those_after_it_are_not() -> None:
    bench, _, _ = bench_of(5)
    bench.engine.define(NEW)
    name = bench.engine.successor("orders")
    assert name is not None
    bench.engine.backfill(name, rate=1)  # a commit an object
    bench.engine.compact(name, "by_tag", mode="tidy")
    bench.engine.compact(name, "records", mode="tidy", in_time=interrupted(1))
    bench.apply("orders/1")
    assert bench.engine.promote("orders", name)
    after = live_contents(bench)
    generation = bench.engine.load("orders").manifest.generation
    for key in KEYS:
        bench.put(key, documents(random.Random(7), 2))
        bench.apply(key)
        bench.engine.compact("orders", random.Random(key).choice(sorted(after)), mode="full")
    manifest = bench.engine.load("orders").manifest
    assert contents(Snapshot(bench.index, manifest, NEW, BlockCache(), at=generation)) == after
    for at in (1, generation - 1):
        snapshot = Snapshot(bench.index, manifest, NEW, BlockCache(), at=at)
        for view in manifest.views:
            with pytest.raises(SnapshotExpiredError):
                list(snapshot.scan(view, None, None))


def test_more_unfolded_deltas_than_there_were_generations() -> None:
    bench, _, _ = bench_of(6, msgspec.structs.replace(TINY, debt_deltas=1000, debt_rows=10**6))
    bench.engine.drop_table("orders")
    bench.index.delete_many([f.key for f in bench.index.list("tables/")])
    bench.engine.define(DEFINITION)
    bench.apply(*KEYS)
    bench.engine.define(NEW)
    name = bench.engine.successor("orders")
    assert name is not None
    for seed in range(8):
        bench.put("orders/1", documents(random.Random(seed), 1))
        assert not bench.engine.apply(name, [Event("orders/1")]).failed
    bench.engine.compact(name, "by_amount", mode="tidy")
    bench.engine.build_successor("orders")
    manifest = bench.engine.load("orders").manifest
    assert min(delta.added for delta in manifest.deltas) < 0
    assert live_contents(bench) == rebuilt(bench, NEW)
    bench.engine.compact("orders", "by_customer", mode="tidy")
    bench.apply("orders/2")
    bench.engine.compact("orders", mode="full")
    assert live_contents(bench) == rebuilt(bench, NEW)


def test_what_is_promoted_keeps_its_order() -> None:
    """Of commits, folds and what runs may hold: compaction and erasure compare them."""
    bench, _, _ = bench_of(7, msgspec.structs.replace(TINY, delta_rows_max=9))
    bench.engine.define(NEW)
    name = bench.engine.successor("orders")
    assert name is not None
    for seed in range(6):
        bench.put("orders/1", documents(random.Random(seed), 2 if seed % 2 else 12))
        bench.apply("orders/1")
        if seed % 3 == 1:
            bench.engine.compact(name, "by_tag", mode="tidy")
    bench.engine.backfill(name)
    successor, live = bench.engine.load(name).manifest, bench.engine.load("orders").manifest
    before, after = places(successor), places(promoted(live, successor, bench.runtime, TINY))
    assert [[a <= b for b in before] for a in before] == [[a <= b for b in after] for a in after]
    assert max(after) <= live.generation + 1


def places(manifest: Manifest) -> list[int]:
    runs = [run for state in manifest.views.values() for run in state.runs]
    known = [run for run in runs if run.through != ANY_GENERATION]
    assert known
    numbers = [number for run in known for number in (run.since, run.through)]
    numbers += [delta.added for delta in manifest.deltas] + [state.folded for state in manifest.views.values()]
    return numbers


# What each rule is for


@pytest.mark.parametrize("place", range(3))
def test_a_promotion_between_the_commits_of_a_batch_loses_nothing(place: int) -> None:
    bench, store, rival = bench_of(10)
    bench.engine.define(NEW)
    name = bench.engine.successor("orders")
    assert name is not None
    bench.engine.backfill(name)
    bench.put("orders/1", documents(random.Random(1), 3))
    store.at(place, "put", lambda: rival.promote("orders", name))
    bench.apply("orders/1")
    store.crossed = None
    rival.promote("orders", name)
    assert live_contents(bench) == rebuilt(bench, NEW)


@pytest.mark.parametrize("place", range(3))
def test_a_batch_between_the_loads_of_a_promotion_is_in_it(place: int) -> None:
    bench, store, rival = bench_of(11)
    bench.engine.define(NEW)
    name = bench.engine.successor("orders")
    assert name is not None
    bench.engine.backfill(name)
    bench.put("orders/1", documents(random.Random(1), 3))
    store.at(place, "get", lambda: rival.apply("orders", [Event("orders/1")]))
    assert bench.engine.promote("orders", name)
    if store.crossed is None:
        assert live_contents(bench) == rebuilt(bench, NEW)
    store.crossed = None


@pytest.mark.parametrize("builds", [False, True])
def test_whoever_meets_a_new_successor_at_the_swap_need_not_commit_there(builds: bool) -> None:
    """What changed before the announcement, the successor's backfill reads after it."""
    bench, store, rival = bench_of(12)
    bench.put("orders/1", documents(random.Random(1), 3))

    def cross() -> None:
        rival.define(NEW)
        if builds:
            rival.backfill(bench.engine.successor("orders") or "")

    store.at(0, "put", cross)
    bench.apply("orders/1")
    bench.engine.build_successor("orders")
    assert live_contents(bench) == rebuilt(bench, NEW)


@pytest.mark.parametrize("by", ["promotion", "abandonment"])
def test_a_build_that_meets_the_end_of_its_successor_between_two_loads_is_over(by: str) -> None:
    bench, store, rival = bench_of(22)
    name = bench.engine.rebuild("orders")
    rival.backfill(name)
    ends = {"promotion": lambda: rival.promote("orders", name), "abandonment": lambda: rival.abandon("orders")}
    store.at(0, "get", ends[by], of=f"tables/{name}")
    bench.engine.build_successor("orders")
    assert store.crossed is None and bench.engine.successor("orders") is None


def test_an_announcement_that_the_log_has_forgotten_is_one() -> None:
    """It landed, its answer was lost, and many commits came before it was looked for."""
    bench, store, rival = bench_of(23, msgspec.structs.replace(TINY, log_entries_max=2, log_bytes_max=16))
    lost = [True]

    def put(key: str, body: bytes, **conditions: Any) -> str:
        etag = store.inner.put(key, body, **conditions)
        if lost and key == "tables/orders/manifest.json" and b'"successor":"' in body:
            lost.clear()
            for _ in range(4):
                rival.sweep("orders")
            raise StorageError("no answer")
        return etag

    bench.index.put = put  # type: ignore[method-assign]
    name = bench.engine.rebuild("orders")
    assert not lost
    manifest = bench.engine.load("orders").manifest
    assert manifest.successor == name and bench.engine.load(name).manifest.state == "live"
    assert list(bench.index.list(successors_prefix("orders"))) == list(bench.index.list(table_prefix(name)))


def test_an_object_that_the_successor_cannot_read_leaves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, _, _ = bench_of(13)
    bench.engine.define(NEW)
    before = live_contents(bench)
    open_, refused = bench.data.open, ["orders/1"]

    def opened(key: str, **options: Any) -> Any:
        if key in refused:
            refused.remove(key)
            raise AccessDeniedError("not now")
        return open_(key, **options)

    monkeypatch.setattr(bench.data, "open", opened)
    for key in ("orders/1", "orders/2"):
        bench.put(key, documents(random.Random(2), 3))
    result = bench.engine.apply("orders", [Event("orders/1"), Event("orders/2")])
    assert set(result.failed) == {"orders/1"} and result.applied == {"orders/2"}
    changed_lines = set(live_contents(bench)["objects"]) - set(before["objects"])
    assert len(changed_lines) == 1
    bench.apply("orders/1")
    bench.engine.build_successor("orders")
    assert live_contents(bench) == rebuilt(bench, NEW)


def test_a_table_whose_objects_cannot_all_be_read_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, _, _ = bench_of(14)
    before = live_contents(bench)
    open_ = bench.data.open

    def opened(key: str, **options: Any) -> Any:
        if key == "orders/2":
            raise AccessDeniedError("never")
        return open_(key, **options)

    monkeypatch.setattr(bench.data, "open", opened)
    with pytest.raises(BucketdexError, match="'orders/2' first: never"):
        bench.engine.create_table(NEW)
    assert live_contents(bench) == before
    monkeypatch.undo()
    bench.engine.create_table(NEW)
    assert live_contents(bench) == rebuilt(bench, NEW)


def test_a_definition_that_meets_a_promotion_is_not_lost() -> None:
    """The promotion has loaded the successor, and its definition changes before the swap."""
    bench, store, rival = bench_of(15)
    bench.engine.define(NEW_FEWER)
    name = bench.engine.successor("orders")
    assert name is not None
    bench.engine.backfill(name)
    store.at(0, "put", lambda: rival.define(NEW), of="tables/orders/")
    assert not bench.engine.promote("orders", name)  # it has to be built first
    bench.engine.build_successor("orders")
    assert bench.engine.load("orders").manifest.definition == NEW.to_dict()
    assert live_contents(bench) == rebuilt(bench, NEW)


def test_a_definition_that_meets_the_end_of_its_successor_is_made_on_the_table() -> None:
    """It was given up, and its manifest swept, after it was loaded to be redefined."""
    bench, store, rival = bench_of(24)
    bench.engine.define(NEW_FEWER)
    name = bench.engine.successor("orders")
    assert name is not None

    def end() -> None:
        rival.abandon("orders")
        bench.runtime.clock += 2 * TINY.grace_seconds
        rival.sweep("orders")
        assert not list(bench.index.list(table_prefix(name)))

    store.at(0, "put", end, of=f"tables/{name}")
    announced = bench.engine.define(NEW).manifest.successor
    assert store.crossed is None and announced not in (None, name)
    bench.engine.build_successor("orders")
    assert live_contents(bench) == rebuilt(bench, NEW)


def test_files_that_a_successor_compacted_away_while_it_was_promoted_are_not_missed() -> None:
    bench, store, rival = bench_of(16)
    bench.engine.define(NEW)
    name = bench.engine.successor("orders")
    assert name is not None
    bench.engine.backfill(name)

    def collect() -> None:
        rival.compact(name, mode="full")
        bench.runtime.clock += 2 * TINY.grace_seconds
        rival.collect(name)
        rival.sweep(name)

    bench.engine.compact(name, mode="full")
    bench.put("orders/1", documents(random.Random(1), 3))
    bench.apply("orders/1")
    store.at(0, "put", collect, of="tables/orders/")
    assert bench.engine.promote("orders", name)
    assert live_contents(bench) == rebuilt(bench, NEW)


def test_a_late_maintainer_of_a_successor_deletes_nothing_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has made its tombstone yet."""
    bench, _, rival = bench_of(17)
    bench.engine.define(NEW)
    name = bench.engine.successor("orders")
    assert name is not None
    bench.engine.backfill(name, rate=1)
    bench.engine.compact(name, "records", mode="tidy", in_time=interrupted(1))
    bench.put("orders/1", documents(random.Random(1), 3))
    bench.apply("orders/1")
    monkeypatch.setattr(Successors, "bury", lambda *_: None)
    assert bench.engine.promote("orders", name)
    monkeypatch.undo()
    rival.compact(name, mode="full")
    for _ in range(2):
        bench.runtime.clock += 2 * TINY.grace_seconds
        rival.collect(name)
        rival.sweep(name)
    assert live_contents(bench) == rebuilt(bench, NEW)
    assert leftovers(bench) == []
    assert live_contents(bench) == rebuilt(bench, NEW)


def test_a_fold_does_not_land_on_a_rebuilt_table_whose_views_are_at_the_same_generation() -> None:
    settings = msgspec.structs.replace(TINY, debt_deltas=1000, debt_rows=10**6)
    bench, store, rival = bench_of(18, settings, objects=2)
    bench.engine.drop_table("orders")
    bench.engine.define(DEFINITION)
    bench.apply(*KEYS[:2], "orders/1/stays")
    folded = bench.engine.load("orders").manifest.views["by_tag"].folded
    bench.put("orders/1", documents(random.Random(1), 3))  # its event is lost
    name = bench.engine.rebuild("orders")
    bench.engine.backfill(name, rate=1)
    bench.engine.compact(name, "objects", mode="tidy")
    before, live = bench.engine.load(name).manifest, bench.engine.load("orders").manifest
    ahead = before.generation - before.views["by_tag"].folded - (live.generation + 1 - folded)
    assert ahead >= 0
    for _ in range(ahead):
        bench.engine.sweep("orders")  # a generation of the live table alone
    meanwhile: list[int] = []

    def promote() -> None:
        assert rival.promote("orders", name)
        meanwhile.append(rival.load("orders").manifest.views["by_tag"].folded)

    store.at(0, "put", promote, of="tables/orders/")
    bench.engine.compact("orders", "by_tag", mode="tidy", in_time=interrupted(1))
    assert meanwhile == [folded]  # or this test shows nothing
    assert live_contents(bench) == rebuilt(bench, DEFINITION)


def test_a_sweep_that_takes_a_new_successor_for_forsaken_makes_its_announcer_start_over() -> None:
    bench, store, rival = bench_of(19)

    def sweep() -> None:
        bench.runtime.clock += 2 * TINY.grace_seconds
        rival.sweep("orders")

    store.at(0, "put", sweep, of="tables/orders/")
    name = bench.engine.define(NEW).manifest.successor
    assert name is not None
    assert bench.engine.load(name).manifest.state == "live"
    bench.engine.build_successor("orders")
    assert live_contents(bench) == rebuilt(bench, NEW)


@pytest.mark.parametrize("looks_after", ["announcer", "define", "rebuild"])
@pytest.mark.parametrize(("place", "kind"), [(0, "get"), (0, "put"), (1, "put")])
def test_a_sweep_leaves_a_successor_alone_that_is_announced_meanwhile(place: int, kind: str, looks_after: str) -> None:
    """Before it looked at it, or before it looked at the table, or after both."""
    bench, store, rival = bench_of(20)
    manifests = ManifestStore(store, bench.runtime)
    store.at(0, "put", crash, of="tables/orders/")
    with pytest.raises(Crash):
        rival.define(NEW)
    [listed] = list(bench.index.list(successors_prefix("orders")))
    name = listed.key.split("/")[1]

    def announce() -> None:  # what was left to do
        base = manifests.load("orders")
        new = replacement(base.manifest, "definition", bench.runtime, TINY)
        new.successor = name
        manifests.swap(base, new)
        if looks_after == "announcer":
            assert Successors(manifests, bench.runtime, TINY).hold(name)
        elif looks_after == "define":
            assert rival.define(NEW).manifest.successor == name
        else:
            assert rival.rebuild("orders") == name
        bench.runtime.clock += 2 * TINY.grace_seconds

    bench.runtime.clock += 2 * TINY.grace_seconds
    store.at(place, kind, announce, of=successors_prefix("orders") if kind == "get" else "tables/")
    bench.engine.sweep("orders")
    assert store.crossed is None
    assert bench.engine.load(name).manifest.state == "live"
    bench.engine.build_successor("orders")
    assert live_contents(bench) == rebuilt(bench, NEW)


def test_a_table_dropped_while_its_successor_is_announced_is_defined_from_nothing() -> None:
    bench, store, rival = bench_of(22)
    store.at(0, "put", lambda: rival.drop_table("orders"), of="tables/orders/")
    manifest = bench.engine.define(NEW).manifest
    assert (manifest.state, manifest.definition, manifest.successor) == ("live", NEW.to_dict(), None)
    assert leftovers(bench) == []


def test_a_tombstone_stays_one() -> None:
    bench, store, rival = bench_of(23)
    name = bench.engine.define(NEW_FEWER).manifest.successor
    assert name is not None
    store.at(0, "put", lambda: rival.abandon("orders"), of=successors_prefix("orders"))
    bench.engine.define(NEW)
    assert bench.engine.load(name).manifest.state == "dropped"
    assert bench.engine.successor("orders") not in (None, name)


# Crashes


class Crash(BaseException):
    """Nobody catches it: the process is gone."""


def crash() -> None:
    raise Crash


class Dying(InterleavingStore):
    """Dies at one of its calls, before its effect or after it."""

    def __init__(self, inner: ObjectStore, place: int, *, after: bool) -> None:
        super().__init__(inner)
        self.left, self.after = place, after

    def _call(self, call: Callable[[], Any]) -> Any:
        self.left -= 1
        if self.left == -1 and not self.after:
            raise Crash
        result = call()
        if self.left == -1:
            raise Crash
        return result

    def get_many(self, requests: Any) -> Any:
        return self._call(lambda: self.inner.get_many(requests))

    def put(self, key: str, body: bytes, **conditions: Any) -> str:
        done: str = self._call(lambda: self.inner.put(key, body, **conditions))
        return done

    def delete_many(self, keys: Any) -> None:
        self._call(lambda: self.inner.delete_many(keys))

    def list(self, prefix: str, *, start_after: str | None = None) -> Any:
        return self._call(lambda: self.inner.list(prefix, start_after=start_after))


def built(bench: Bench) -> str:
    name = bench.engine.define(NEW).manifest.successor
    assert name is not None
    bench.engine.backfill(name)
    bench.engine.compact(name, "records", mode="tidy")
    return name


def promote(engine: Engine) -> None:
    name = engine.successor("orders")
    assert name is None or engine.promote("orders", name)


def swapped(bench: Bench) -> None:
    bench.engine.promote("orders", built(bench))
    bench.engine.define(DEFINITION)
    bench.engine.rebuild("orders")
    bench.engine.define(NARROW)
    bench.runtime.clock += 2 * TINY.grace_seconds


WORK: dict[str, tuple[Callable[[Bench], object], Callable[[Engine], object], TableDefinition]] = {
    "define": (lambda bench: None, lambda engine: engine.define(NEW), NEW),
    "define another": (lambda bench: bench.engine.define(NARROW), lambda engine: engine.define(NEW), NEW),
    "define back": (lambda bench: bench.engine.define(NARROW), lambda engine: engine.define(DEFINITION), DEFINITION),
    "go on": (lambda bench: bench.engine.define(NEW_FEWER), lambda engine: engine.define(NEW), NEW),
    "rebuild": (lambda bench: None, lambda engine: engine.rebuild("orders"), DEFINITION),
    "promote": (built, promote, NEW),
    "abandon": (built, lambda engine: engine.abandon("orders"), DEFINITION),
    "sweep": (swapped, lambda engine: engine.sweep("orders"), NARROW),
}


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("after", [False, True])
def test_what_crashed_anywhere_is_done_by_doing_it_again(name: str, after: bool) -> None:
    before, work, definition = WORK[name]
    for place in range(100):
        bench, _, _ = bench_of(21, objects=2)
        before(bench)
        dying = Dying(bench.index, place, after=after)
        try:
            work(Engine(dying, bench.data, bench.runtime, settings=TINY))
            died = False
        except Crash:
            died = True
        bench.put("orders/1", documents(random.Random(3), 2))
        bench.apply("orders/1")
        work(bench.engine)
        bench.engine.build_successor("orders")
        assert live_contents(bench) == rebuilt(bench, definition), place
        assert leftovers(bench) == [], place
        assert live_contents(bench) == rebuilt(bench, definition), place
        if not died:
            assert place > 2
            return
    raise AssertionError("it never ends")


# All of it at once


class Crowd:
    """Other engines on the same buckets, which act between any two requests that somebody makes for a manifest."""

    def __init__(self, bench: Bench, store: Crossing, r: random.Random) -> None:
        self.bench, self.r = bench, r
        self.engine = Engine(store, bench.data, bench.runtime, settings=bench.settings)
        self.depth = self.left = 0
        self.failed: set[str] = set()
        self.acted: dict[str, int] = {}

    def __call__(self, kind: str, key: str) -> None:
        if self.depth >= 2 or not self.left or self.r.random() > 0.25:
            return
        self.left -= 1
        self.depth += 1
        try:
            self.act()
        finally:
            self.depth -= 1

    def act(self) -> None:
        actions = [self.change] * 4 + [self.build] * 3 + [self.promote] + [self.compact] * 2
        action = self.r.choice(
            [*actions, self.define, self.define, self.rebuild, self.abandon, self.collect, self.sweep]
        )
        try:
            action()
            self.acted[action.__name__] = self.acted.get(action.__name__, 0) + 1
        except (CommitGaveUpError, BucketdexError):
            self.acted["refused"] = self.acted.get("refused", 0) + 1

    def change(self) -> None:
        keys = self.r.sample(KEYS, self.r.randrange(1, 4))
        for key in keys:
            if self.r.random() < 0.25:
                self.bench.data.delete_many([key])
            else:
                self.bench.put(key, documents(self.r, self.r.choice([0, 1, 2, 5, 30])))
        self.failed |= set(keys)
        self.failed -= set(keys) - set(self.engine.apply("orders", [Event(key) for key in keys]).failed)

    def build(self) -> None:
        self.engine.build_successor("orders")

    def promote(self) -> None:
        """As whoever has seen a whole pass without failures."""
        name = self.engine.successor("orders")
        if name is not None and not self.engine.backfill(name).failures:
            self.engine.promote("orders", name)

    def compact(self) -> None:
        table = self.r.choice(["orders", self.engine.successor("orders") or "orders"])
        views = sorted(self.engine.load(table).manifest.views)
        for name in self.r.sample(views, min(2, len(views))):
            mode = self.r.choice(["tidy", "full", "tiered"])
            self.engine.compact(table, name, mode=mode, in_time=interrupted(4))

    def define(self) -> None:
        self.engine.define(self.r.choice(DEFINITIONS))

    def rebuild(self) -> None:
        self.engine.rebuild("orders")

    def abandon(self) -> None:
        self.engine.abandon("orders")

    def collect(self) -> None:
        self.bench.runtime.clock += 150
        self.engine.collect("orders")
        self.engine.collect(self.engine.successor("orders") or "orders")

    def sweep(self) -> None:
        self.engine.sweep(self.engine.successor("orders") or "orders")
        self.engine.sweep("orders")


@pytest.mark.parametrize("seed", range(6))
def test_whatever_crosses_the_table_is_what_a_rebuild_gives(seed: int) -> None:
    r = random.Random(seed)
    bench, store, _ = bench_of(seed)
    crowd = Crowd(bench, store, r)
    for _ in range(12):
        crowd.left = 8
        store.crossed = crowd
        crowd.act()
        store.crossed = None
        if crowd.failed:
            bench.apply(*crowd.failed)
            crowd.failed.clear()
        bench.engine._build_views("orders")
        definition = TableDefinition.from_dict("orders", bench.engine.load("orders").manifest.definition)
        assert live_contents(bench) == rebuilt(bench, definition)
    bench.engine.create_table(r.choice(DEFINITIONS))
    definition = TableDefinition.from_dict("orders", bench.engine.load("orders").manifest.definition)
    assert live_contents(bench) == rebuilt(bench, definition)
    assert leftovers(bench) == []
    assert live_contents(bench) == rebuilt(bench, definition)
